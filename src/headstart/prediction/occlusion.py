"""The occlusion map (Zeiler and Fergus 2014, "Visualizing and Understanding Convolutional Networks"), of any model."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from headstart.prediction import overlay
from headstart.preprocess.frame import Frame
from headstart.targets import TARGETS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headstart.prediction.classifier import Classifier

# Patches of an occlusion map along each side. Each covers two cells, so that neighbours overlap.
PATCHES = 7
_MIN_ODDS = 1e-30


def occlusion_map(
    classifier: Classifier, pixels: NDArray[np.uint8], where: Frame, number: int, workers: int
) -> NDArray[np.float64]:
    """How far the log-odds of a class fall when a region is covered with the mean colour.

    Args:
        classifier: The classifier.
        pixels: uint8 (H, W, 3).
        where: What the network sees of them.
        number: Of the class.
        workers: Threads.

    Returns:
        Float64 (2 PATCHES, 2 PATCHES), over the square that the network sees.

    Raises:
        ImageError: The model fails on the image.
    """
    pixels = _small(classifier, pixels)
    exclusive = TARGETS[classifier.metadata.task].exclusive
    seen = _pixels_of(where.seen, pixels.shape)
    colour = np.round(pixels[seen].mean((0, 1))).astype(np.uint8)

    def odds(image: NDArray[np.uint8]) -> float:
        return log_odds(classifier.run_pixels(image).probabilities, number, exclusive=exclusive)

    def covered(patch: tuple[slice, slice]) -> float:
        image = pixels.copy()
        image[patch] = colour
        return odds(image)

    patches = [(row, column) for row in range(PATCHES) for column in range(PATCHES)]
    places = {patch: _patch(where, patch, pixels.shape) for patch in patches}
    on_image = [patch for patch in patches if pixels[places[patch]].size]
    before = odds(pixels)
    with ThreadPoolExecutor(workers, thread_name_prefix="headstart") as pool:
        after = dict(zip(on_image, pool.map(lambda patch: covered(places[patch]), on_image), strict=True))
    falls, counts = np.zeros((2, 2 * PATCHES, 2 * PATCHES))
    for (row, column), value in after.items():
        cells = _half_cells(row), _half_cells(column)
        falls[cells] += before - value
        counts[cells] += 1
    return falls / np.maximum(counts, 1)


def _small(classifier: Classifier, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """No more pixels than the network's preprocessing can use: fifty runs on a large photo would take minutes."""
    spec = classifier.metadata.preprocess
    height, width = pixels.shape[:2]
    side = min(height, width) if spec.fit == "crop" else max(height, width)
    if side <= spec.enough_px:
        return pixels
    return overlay.picture(pixels, round(max(height, width) * spec.enough_px / side))


def log_odds(probabilities: NDArray[np.floating], number: int, *, exclusive: bool = True) -> float:
    """``log(p / (1 - p))`` of a class, exact also where p rounds to 1: the others are summed instead.

    Of a label, beside which others can be true (not `exclusive`), the others say nothing.
    """
    values = probabilities.astype(np.float64)
    others = float(np.delete(values, number).sum()) if exclusive else 1 - float(values[number])
    return float(np.log(max(float(values[number]), _MIN_ODDS) / max(others, _MIN_ODDS)))


def _half_cells(number: int) -> slice:
    """The half cells that a patch covers, of twice as many as there are patches."""
    return slice(max(2 * number - 1, 0), 2 * number + 3)


def _patch(where: Frame, patch: tuple[int, int], shape: tuple[int, ...]) -> tuple[slice, slice]:
    """The pixels of an image that a patch covers; empty where it lies beyond the image."""
    high, wide = where.bottom - where.top, where.right - where.left
    (row, column), step = patch, 1 / PATCHES
    covered = Frame(
        where.top + high * step * (row - 0.5),
        where.left + wide * step * (column - 0.5),
        where.top + high * step * (row + 1.5),
        where.left + wide * step * (column + 1.5),
    )
    seen = where.seen
    return _pixels_of(
        Frame(
            max(covered.top, seen.top),
            max(covered.left, seen.left),
            min(covered.bottom, seen.bottom),
            min(covered.right, seen.right),
        ),
        shape,
    )


def _pixels_of(part: Frame, shape: tuple[int, ...]) -> tuple[slice, slice]:
    """A part of an image in whole pixels: at least one where it is not empty."""

    def pixels(low: float, high: float, length: int) -> slice:
        if high <= low:
            return slice(0, 0)
        first = min(round(low * length), length - 1)
        return slice(first, max(round(high * length), first + 1))

    return pixels(part.top, part.bottom, shape[0]), pixels(part.left, part.right, shape[1])
