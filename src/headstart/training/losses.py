"""What a network is trained by: the loss, which is that of its task (`headstart.targets.TargetSpec.loss`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch.nn import functional

from headstart.heads.balance import balanced

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headstart.settings.recipe import ClassWeight, Recipe


class Loss(Protocol):
    """The loss of one training, and what it counts as right.

    Args:
        labels: The labels of the images that are learnt from, as `headstart.targets.Targets` gives them.
        classes: Number C of scores.
        recipe: Weights of the classes, and label smoothing.
        device: Where the scores are.
    """

    def __init__(
        self, labels: NDArray[np.signedinteger], classes: int, recipe: Recipe, device: torch.device
    ) -> None: ...

    def weights(self, labels: NDArray[np.signedinteger]) -> torch.Tensor:
        """The weight of each image in the loss, (N,), on the CPU."""
        ...

    def learnt(self, scores: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """The sum of the losses of a batch, weighted and smoothed.

        Args:
            scores: (n, C).
            targets: The labels (n, ...); or where images were mixed shares of each class, (n, C).
        """
        ...

    def tried(self, scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The mean of the losses of a batch, smoothed and unweighted: that of a range test."""
        ...

    def validated(self, scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The sum of the losses of a batch as they are measured: neither weighted nor smoothed."""
        ...

    def each(self, scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The same for each image, (n,)."""
        ...

    def right(self, scores: torch.Tensor, labels: torch.Tensor) -> int:
        """How many images of a batch are predicted right."""
        ...


class CrossEntropy:
    """The loss of the task `classes`; see `Loss`."""

    def __init__(self, labels: NDArray[np.int64], classes: int, recipe: Recipe, device: torch.device) -> None:
        self._of_class = _class_weights(labels, classes, recipe.class_weight)
        self._weight = self._of_class.to(device)
        self._smoothing = recipe.label_smoothing

    def weights(self, labels: NDArray[np.int64]) -> torch.Tensor:
        """The weight of each image's class, (N,)."""
        return self._of_class[torch.from_numpy(labels)]

    def learnt(self, scores: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """The sum over a batch, weighted and smoothed; targets are class indices (n,) or probabilities (n, C)."""
        return functional.cross_entropy(
            scores, targets, weight=self._weight, reduction="sum", label_smoothing=self._smoothing
        )

    def tried(self, scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The mean over a batch, smoothed."""
        return functional.cross_entropy(scores, labels, label_smoothing=self._smoothing)

    def validated(self, scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The sum over a batch."""
        return functional.cross_entropy(scores, labels, reduction="sum")

    def each(self, scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The loss of each image, (n,)."""
        return functional.cross_entropy(scores, labels, reduction="none")

    def right(self, scores: torch.Tensor, labels: torch.Tensor) -> int:
        """How many images have their highest score in their class."""
        return int((scores.argmax(1) == labels).sum())


def _class_weights(labels: NDArray[np.int64], classes: int, class_weight: ClassWeight) -> torch.Tensor:
    """The weight of each class, (C,); with ``balanced`` every class has the same total, as in scikit-learn."""
    if class_weight == "none":
        return torch.ones(classes)
    return torch.from_numpy(balanced(np.bincount(labels, minlength=classes))).float()
