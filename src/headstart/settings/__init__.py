"""What can be chosen: the recipe."""
