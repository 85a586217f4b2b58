"""What a network is trained by where an image has any number of labels: the binary cross-entropy of each of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from headstart.core.errors import OptionError
from headstart.heads.balance import balanced as weights_of_counts
from headstart.targets.labels import TRUE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headstart.settings.recipe import Recipe


class BinaryCrossEntropy:
    """The mean over the labels that are known of an image; see `headstart.training.losses.Loss`.

    Raises:
        OptionError: The recipe mixes images, which is made for one class an image.
    """

    def __init__(self, labels: NDArray[np.int8], classes: int, recipe: Recipe, device: torch.device) -> None:
        if recipe.mixup or recipe.cutmix:
            raise OptionError(
                "mixup and cutmix mix images of one class each, and these images have several labels.",
                "Leave mixup and cutmix out.",
            )
        self._smoothing = recipe.label_smoothing
        self._balance = _balance(labels, balanced=recipe.class_weight == "balanced").to(device)

    def weights(self, labels: NDArray[np.int8]) -> torch.Tensor:
        """1 for each image of which a label is known, (N,): weights are those of labels."""
        return torch.from_numpy((labels >= 0).any(1).astype(np.float32))

    def learnt(self, scores: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """The sum over a batch, weighted and smoothed."""
        return self._each(scores, targets, self._smoothing, self._balance).sum()

    def tried(self, scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The mean over a batch, smoothed."""
        return self._each(scores, labels, self._smoothing, None).mean()

    def validated(self, scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The sum over a batch."""
        return self.each(scores, labels).sum()

    def each(self, scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The loss of each image, (n,)."""
        return self._each(scores, labels, 0.0, None)

    def right(self, scores: torch.Tensor, labels: torch.Tensor) -> int:
        """How many images have all their labels and no other, as far as they are known, by a probability of a half."""
        return int((((scores > 0) == (labels == TRUE)) | (labels < 0)).all(1).sum())

    @staticmethod
    def _each(
        scores: torch.Tensor, labels: torch.Tensor, smoothing: float, balance: torch.Tensor | None
    ) -> torch.Tensor:
        truth = (labels == TRUE).to(scores.dtype)
        losses = functional.binary_cross_entropy_with_logits(
            scores, truth * (1 - smoothing) + smoothing / 2, reduction="none"
        )
        if balance is not None:
            losses = losses * torch.where(labels == TRUE, balance[0], balance[1])
        known = (labels >= 0).to(scores.dtype)
        return (losses * known).sum(1) / known.sum(1).clamp(min=1)


def _balance(labels: NDArray[np.int8], *, balanced: bool) -> torch.Tensor:
    """The weight of images with and of those without each label, (2, C); with ``balanced`` both sum to the same."""
    if not balanced:
        return torch.ones(2, labels.shape[1])
    counts = np.stack([(labels == TRUE).sum(0), (labels == 0).sum(0)])
    return torch.from_numpy(weights_of_counts(counts)).float()
