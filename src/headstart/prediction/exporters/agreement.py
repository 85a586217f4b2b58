"""The test of an export: it is loaded from its bytes, and run on images alongside the model that it was made from."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from headstart.core.proportions import Interval, wilson
from headstart.targets import TARGETS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headstart.prediction.classifier import Classifier
    from headstart.prediction.exporters import Runner


@dataclass(frozen=True)
class Allowance:
    """How far an export may differ from its model.

    Attributes:
        bound: The largest difference of a probability, in 0..1.
        beyond: The share of images, in 0..1, of which a probability may differ by more.
    """

    bound: float
    beyond: float = 0.0


# Where one of the two computes in int8 and the other does not. Rounding moves an embedding by 5 to 12 % of its length,
# and single images that lie between two classes far: measured from int8 to float32, 19 of 20 images moved by at most
# 0.01 (ants and bees), 0.05 (digits) and 0.2 (several digits on a canvas), and the one that moved most by 0.03, 0.12
# and 0.38. The largest difference says little of such a pair, and grows with the number of images.
ROUNDING = Allowance(bound=0.3, beyond=0.05)


@dataclass(frozen=True, kw_only=True)
class Proof:
    """The agreement between an export and the model that it was made from.

    Attributes:
        images: Number of images it was run on, including the golden images.
        of: Which images those are, in words.
        answer: What a model says of an image: its most probable ``class``, or the ``labels`` that reach their
            thresholds.
        same: Number of images with the same answer.
        interval: 95 % interval of that share, in 0..1.
        difference: The largest difference of a probability.
        median: The median over the images of the largest difference of a probability.
        bound: The largest allowed difference.
        beyond: Number of images that differ by more. Golden images count only where there are no others, or where no
            image may differ by more: they are drawn patterns, which the model is not made for.
        allowed: How many images may differ by more.
        milliseconds: Median time per image without decoding, on one thread.
        milliseconds_before: The same for the model, measured alternately.
    """

    images: int
    of: str
    answer: str
    same: int
    interval: Interval
    difference: float
    median: float
    bound: float
    beyond: int
    allowed: int
    milliseconds: float
    milliseconds_before: float

    @property
    def passed(self) -> bool:
        """Whether no more images than allowed differ by more than the bound; what is not a number never passes."""
        return self.beyond <= self.allowed and bool(np.isfinite(self.difference))


def prove(
    classifier: Classifier, run: Runner, images: Sequence[NDArray[np.uint8]], of: str, allowance: Allowance
) -> Proof:
    """Run an export and its model alternately on the golden images and on others.

    Args:
        classifier: The model.
        run: What runs the export.
        images: uint8 (H, W, 3) each.
        of: What to call them.
        allowance: How far it may differ.
    """
    goldens = [classifier.pixels(one.png) for one in classifier.metadata.golden]
    answer = _answer(classifier)
    same, differences, times = 0, [], []
    for pixels in chain(goldens, images):
        begun = time.perf_counter()
        expected = classifier.run_pixels(pixels).probabilities
        between = time.perf_counter()
        found = run(pixels)
        times.append((between - begun, time.perf_counter() - between))
        same += int(answer(expected) == answer(found))
        difference = float(np.abs(expected.astype(np.float64) - found).max())
        differences.append(difference if np.isfinite(difference) else np.inf)
    before, after = np.median(np.array(times), axis=0) * 1e3
    judged = differences[len(goldens) :] if allowance.beyond and len(images) else differences
    return Proof(
        images=len(times),
        of=of,
        answer="labels" if TARGETS[classifier.metadata.task].thresholds else "class",
        same=same,
        interval=wilson(same, len(times)),
        difference=max(differences),
        median=float(np.median(differences)),
        bound=allowance.bound,
        beyond=sum(one > allowance.bound for one in judged),
        allowed=int(allowance.beyond * len(judged)),
        milliseconds=float(after),
        milliseconds_before=float(before),
    )


def _answer(classifier: Classifier) -> Callable[[NDArray[np.float32]], bytes]:
    """From the probabilities of an image, (C,), to what a model says of it: its class, or its labels."""
    if not TARGETS[classifier.metadata.task].thresholds:
        return lambda probabilities: probabilities.argmax().tobytes()
    thresholds = np.array(classifier.metadata.thresholds)
    return lambda probabilities: (probabilities >= thresholds).tobytes()
