"""Random changes of the train images, with torchvision's transforms."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from headstart.preprocess.spec import Preprocess
from headstart.settings.recipe import Recipe
from headstart.training.draws import seeded

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray


class Augment:
    """Turns decoded pixels into the pixels of one training step.

    Args:
        recipe: What is changed, and by how much.
        preprocess: Size, interpolation and normalisation of the backbone.
    """

    def __init__(self, recipe: Recipe, preprocess: Preprocess) -> None:
        self.plain = recipe.crop_scale == 1 and not recipe.crop_px and not recipe.rotation and recipe.augment == "none"
        self.flip = recipe.flip
        self._recipe = recipe
        self._preprocess = preprocess
        self._steps: Callable[[Image.Image], torch.Tensor] | None = None

    def __call__(self, image: NDArray[np.uint8], plain: Callable[[], torch.Tensor], seed: list[int]) -> torch.Tensor:
        """One augmented view, float32 (3, S, S).

        Args:
            image: Decoded pixels, uint8 (H, W, 3).
            plain: Gives the pixels as they are prepared for prediction, float32 (3, S, S).
            seed: The same numbers give the same view.
        """
        with seeded(int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0])):
            if self.plain:
                pixels = plain()
                return pixels.flip(-1) if self.flip and torch.rand(()) < 0.5 else pixels
            if self._steps is None:
                self._steps = _steps(self._recipe, self._preprocess)
            return self._steps(Image.fromarray(image))


def _steps(recipe: Recipe, spec: Preprocess) -> Callable[[Image.Image], torch.Tensor]:
    from torchvision.transforms import InterpolationMode, v2

    mode = InterpolationMode.BICUBIC if spec.interpolation == "bicubic" else InterpolationMode.BILINEAR
    side = recipe.crop_px or spec.size_px
    steps: list[Callable[..., object]]
    if recipe.crop_scale < 1:
        steps = [v2.RandomResizedCrop(side, (recipe.crop_scale, 1.0), interpolation=mode)]
    elif spec.fit == "squash":
        steps = [v2.Resize((side, side), mode)]
    elif spec.fit == "pad":
        steps = [v2.Resize(None, mode, max_size=side), _Square(side, spec)]
    else:
        steps = [v2.Resize(round(side / spec.crop_fraction), mode)]
    if recipe.rotation:
        steps.append(v2.RandomRotation(recipe.rotation, InterpolationMode.BILINEAR))
    if recipe.flip:
        steps.append(v2.RandomHorizontalFlip())
    steps.append(v2.CenterCrop(spec.size_px))
    if recipe.augment == "rand":
        steps.append(v2.RandAugment(interpolation=InterpolationMode.BILINEAR))
    elif recipe.augment == "trivial":
        steps.append(v2.TrivialAugmentWide(interpolation=InterpolationMode.BILINEAR))
    steps += [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(list(spec.mean), list(spec.std))]
    return v2.Compose(steps)


class _Square:
    """Pads to a square with the mean colour, as at prediction."""

    def __init__(self, side: int, spec: Preprocess) -> None:
        self.side = side
        self.colour = tuple(round(255 * value) for value in spec.mean)

    def __call__(self, image: Image.Image) -> Image.Image:
        square = Image.new("RGB", (self.side, self.side), self.colour)
        square.paste(image, ((self.side - image.width) // 2, (self.side - image.height) // 2))
        return square
