"""The linear head of scikit-learn's estimator: on embeddings alone, of one class an image or of several labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from headstart.core.errors import InputError
from headstart.heads import labels as several
from headstart.heads import linear
from headstart.partition.draw import deal_folds, join_groups
from headstart.settings.recipe import ClassWeight
from headstart.targets.classes.temperature import Temperature
from headstart.targets.labels.sigmoid import Sigmoid

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headstart.targets import Calibration

FOLDS = 5  # which choose C


@dataclass(frozen=True)
class Estimated:
    """A fitted head.

    Attributes:
        weights: float32 (D, C).
        bias: float32 (C,).
        strength: The inverse strength of the penalty; of labels, that of each, (C,).
        temperature: What the scores were divided by, or are to be; of labels, that of each, (C,).
        calibration: From scores to probabilities.
    """

    weights: NDArray[np.float32]
    bias: NDArray[np.float32]
    strength: float | NDArray[np.float64] | None
    temperature: float | NDArray[np.float64]
    calibration: Calibration


@dataclass(frozen=True)
class Estimation:
    """How a head is fitted.

    Attributes:
        c: Inverse strength of the penalty; None chooses it, and calibrates, by cross-validation.
        class_weight: As in a recipe.
        seed: Of the folds.
        workers: Threads.
    """

    c: float | None
    class_weight: ClassWeight
    seed: int
    workers: int

    def of_classes(
        self, features: NDArray[np.float32], labels: NDArray[np.int64], classes: int, digests: Sequence[str]
    ) -> Estimated:
        """A head for exactly one class an image.

        Args:
            features: float32 (N, D).
            labels: Class index of each, (N,).
            classes: Number of classes.
            digests: Of the images, hexadecimal, (N,): copies stay in one fold.

        Raises:
            InputError: There are too few images of a class to choose by.
        """
        if self.c is None:
            groups = join_groups(digests, [None] * len(digests))
            fewest = min(len(set(np.array(groups)[labels == one])) for one in range(classes))
            if fewest < 2:
                raise InputError(
                    "A class has a single image (copies count once): two of each are needed to choose C.",
                    "Give more images, or C=1.",
                )
            folds = deal_folds([(one,) for one in labels.tolist()], groups, digests, folds=FOLDS, seed=self.seed)
            found = linear.fit(
                features, labels, folds, classes=classes, class_weight=self.class_weight, workers=self.workers
            )
        else:
            found = linear.fit_as_chosen(
                features, labels, classes=classes, c=self.c, temperature=1.0, class_weight=self.class_weight
            )
        head = found.head
        return Estimated(head.weights, head.bias, head.c, found.temperature, Temperature(found.temperature))

    def of_labels(self, features: NDArray[np.float32], labels: NDArray[np.int8], digests: Sequence[str]) -> Estimated:
        """A head for any number of labels an image, each by itself; arguments as before, with labels (N, C) of 0 and 1.

        Raises:
            InputError: All images have a label, or none, or too few to choose by.
        """
        groups = join_groups(digests, [None] * len(digests))
        least = 2 if self.c is None else 1
        for column, have in enumerate(labels.T):
            counts = [len(set(np.array(groups)[have == one])) for one in (0, 1)]
            if min(counts) < least:
                raise InputError(
                    f"Column {column} of y is 1 for {counts[1]:,} and 0 for {counts[0]:,} images (copies count once); "
                    f"expected at least {least} of each.",
                    "Leave the column out, or give more images" + (", or C=1." if min(counts) else "."),
                )
        if self.c is None:
            strata = [tuple(np.flatnonzero(row).tolist()) for row in labels]
            folds = deal_folds(strata, groups, digests, folds=FOLDS, seed=self.seed)
            head, chosen = several.fit(features, labels, folds, class_weight=self.class_weight, workers=self.workers)
            return Estimated(head.weights, head.bias, np.power(10.0, chosen.powers), chosen.temperatures, Sigmoid(1.0))
        weights = np.empty((features.shape[1], labels.shape[1]), np.float32)
        bias = np.empty(labels.shape[1], np.float32)
        for column in range(labels.shape[1]):
            # Two classes whose weights are opposite: the penalty of their difference is half as strong.
            head = linear.fit_as_chosen(
                features, labels[:, column].astype(np.int64), classes=2, c=self.c / 2, temperature=1.0,
                class_weight=self.class_weight,
            ).head  # fmt: skip
            weights[:, column] = head.weights[:, 1] - head.weights[:, 0]
            bias[column] = head.bias[1] - head.bias[0]
        ones = np.ones(labels.shape[1])
        return Estimated(weights, bias, self.c * ones, ones, Sigmoid(1.0))
