"""Sorting images into class folders by their predictions, and undoing it."""
