"""Images in class folders, as a model sorts them; and back."""
