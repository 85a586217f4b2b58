"""What every other part stands on: errors, recipe, options, files, text. Imports nothing of the package."""
