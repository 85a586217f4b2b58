"""The test of an export: it is loaded from its bytes, and run on images alongside the model that it was made from."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from headstart.core.proportions import Interval, wilson

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headstart.prediction.classifier import Classifier
    from headstart.prediction.exporters import Runner


@dataclass(frozen=True, kw_only=True)
class Proof:
    """The agreement between an export and the model that it was made from.

    Attributes:
        images: Number of images it was run on, including the golden images.
        of: Which images those are, in words.
        same: Number of images with the same most probable class.
        interval: 95 % interval of that share, in 0..1.
        difference: The largest difference of a probability.
        bound: The largest allowed difference.
        milliseconds: Median time per image without decoding, on one thread.
        milliseconds_before: The same for the model, measured alternately.
    """

    images: int
    of: str
    same: int
    interval: Interval
    difference: float
    bound: float
    milliseconds: float
    milliseconds_before: float

    @property
    def passed(self) -> bool:
        """Whether no probability differs by more than the bound; one that is not a number never passes."""
        return self.difference <= self.bound


def prove(classifier: Classifier, run: Runner, images: Sequence[NDArray[np.uint8]], of: str, bound: float) -> Proof:
    """Run an export and its model alternately on the golden images and on others.

    Args:
        classifier: The model.
        run: What runs the export.
        images: uint8 (H, W, 3) each.
        of: What to call them.
        bound: The largest difference of a probability that is allowed.
    """
    goldens = [classifier.pixels(one.png) for one in classifier.metadata.golden]
    same, differences, times = 0, [0.0], []
    for pixels in chain(goldens, images):
        begun = time.perf_counter()
        expected = classifier.run_pixels(pixels).probabilities
        between = time.perf_counter()
        found = run(pixels)
        times.append((between - begun, time.perf_counter() - between))
        same += int(expected.argmax() == found.argmax())
        difference = float(np.abs(expected.astype(np.float64) - found).max())
        differences.append(difference if np.isfinite(difference) else np.inf)
    before, after = np.median(np.array(times), axis=0) * 1e3
    return Proof(
        images=len(times),
        of=of,
        same=same,
        interval=wilson(same, len(times)),
        difference=max(differences),
        bound=bound,
        milliseconds=float(after),
        milliseconds_before=float(before),
    )
