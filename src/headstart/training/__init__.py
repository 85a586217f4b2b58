"""Training networks with PyTorch: one readable loop, augmentation, freezing, rates, checkpoints."""
