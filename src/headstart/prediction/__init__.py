"""A model file at work: predictions, explanations, neighbours."""
