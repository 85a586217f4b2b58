"""From what the user points at to an image table, and from bytes to pixels."""
