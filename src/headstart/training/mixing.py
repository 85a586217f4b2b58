"""Mixup and CutMix: images of a batch mixed with each other, and their labels too."""

from __future__ import annotations

import numpy as np
import torch

from headstart.settings.recipe import Recipe
from headstart.training.draws import seeded
from headstart.training.pixel_feed import Batch


class Mixing:
    """Mixes batches where the recipe asks for it; with both, each batch takes one of them.

    In several processes each mixes its own share of a batch.

    Args:
        recipe: The alphas and the seed.
        classes: Number C of classes.
    """

    def __init__(self, recipe: Recipe, classes: int) -> None:
        from torchvision.transforms import v2

        self._seed = recipe.seed
        self._steps = [v2.MixUp(alpha=recipe.mixup, num_classes=classes)] if recipe.mixup else []
        self._steps += [v2.CutMix(alpha=recipe.cutmix, num_classes=classes)] if recipe.cutmix else []

    def __call__(self, batch: Batch, epoch: int, number: int) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
        """Values, and targets: class indices (n,) or, where images were mixed, probabilities (n, C)."""
        if not self._steps:
            return batch.values, batch.labels
        seed = np.random.SeedSequence([self._seed, epoch, number, 1]).generate_state(1, np.uint64)[0]
        with seeded(int(seed)):
            step = self._steps[int(torch.randint(len(self._steps), ()))]
            pixels, targets = step(batch.values[0], batch.labels)
        return (pixels,), targets
