"""Which images are trained on, choose and are measured: splits, folds, and what must stay on one side."""
