"""Who learns, who chooses and who is measured: splits, folds, and what must stay on one side."""
