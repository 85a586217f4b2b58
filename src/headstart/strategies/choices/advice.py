"""The rule of thumb of transfer learning, for the user's own images: what people would try before they measure.

The rule is that of Stanford's course CS231n ("Transfer Learning", four cases: a small or a large set, similar to the
one that the backbone was trained on or different). It gives no numbers; the two here are ours, and marked as such. For
a small and different set the course advises a linear classifier on earlier layers; measured here, fine-tuning all
layers won by far on such sets (letters in many fonts: 98.5 against 68 %; stripes of two periods: 94 against 83 %).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from headstart.backbones import catalog, lite
from headstart.partition.roles import Role
from headstart.settings.recipe import Recipe
from headstart.targets import TARGETS
from headstart.targets.classes.temperature import to_probabilities

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from headstart.runs.result import Fitted

# About as many images as ImageNet has of a class (1,281,167 of 1,000): what the rule calls a large set is like it.
LARGE_IMAGES_PER_CLASS = 1000
# Mean probability of the class that lite0's own ImageNet layer finds most probable. Measured: ants and bees 0.71 (both
# are classes of ImageNet), pieces of two photos 0.22, drawn shapes 0.17 to 0.19, pure noise 0.10 to 0.12, digits 0.06
# to 0.07; int8 and float32 differ by at most 0.02. This is the geometric mean of the nearest two.
SIMILAR_CONFIDENCE = 0.4
_ROWS_AT_ONCE = 4096
RULE = "a rule of thumb (CS231n), not a measurement of your strategies"

_ADVICE = {
    ("small", "similar"): "a linear head on the frozen backbone (probe); fine-tuning is likely to overfit",
    ("large", "similar"): "fine-tune the whole network (finetune, unfreeze = all); there are enough images",
    ("small", "different"): "fine-tune the whole network (finetune), which begins with the probe's solution and "
    "keeps it where nothing is better; what the last layers know of ImageNet may not be what matters here",
    ("large", "different"): "train the whole network (finetune, unfreeze = all, begins better than scratch, which may "
    "do as well)",
    ("small", "unknown"): "start with a linear head on the frozen backbone (probe)",
    ("large", "unknown"): "fine-tune the whole network (finetune, unfreeze = all)",
}  # fmt: skip


@dataclass(frozen=True)
class RuleOfThumb:
    """What the rule says.

    Attributes:
        size: Of the set.
        similarity: To ImageNet.
        images_per_class: Mean number of train images.
        imagenet_confidence: See `imagenet_confidence`; None where it is unknown.
        advice: A sentence, which names itself a rule of thumb.
    """

    size: Literal["small", "large"]
    similarity: Literal["similar", "different", "unknown"]
    images_per_class: float
    imagenet_confidence: float | None
    advice: str

    def as_dict(self) -> dict[str, object]:
        """The same as JSON values."""
        return asdict(self)


def rule_of_thumb(
    images: Sequence[int], embeddings: NDArray[np.float32] | None = None, *, of: str = "class"
) -> RuleOfThumb:
    """What the rule says.

    Args:
        images: Number of train images of each class, (C,), at least one class.
        embeddings: lite0's embeddings of them, float32 (N, 1280), int8 or float32 arithmetic; None where they are not
            at hand, so that the similarity stays unknown.
        of: What an image has: a ``class`` or a ``label``.

    Raises:
        ModelError: The weights of lite0 are missing or damaged.
    """
    per_class = sum(images) / len(images)
    size: Literal["small", "large"] = "large" if per_class >= LARGE_IMAGES_PER_CLASS else "small"
    confidence = imagenet_confidence(embeddings) if embeddings is not None and len(embeddings) else None
    similarity: Literal["similar", "different", "unknown"]
    if confidence is None:
        similarity, seen = "unknown", "unknown similarity to ImageNet (which is measured with lite0's embeddings)"
    else:
        similarity = "similar" if confidence >= SIMILAR_CONFIDENCE else "different"
        seen = (
            f"{'like' if similarity == 'similar' else 'unlike'} ImageNet (lite0 predicts its own 1,000 classes for "
            f"them with a mean confidence of {confidence:.2f}; from {SIMILAR_CONFIDENCE:g} on they count as similar)"
        )
    return RuleOfThumb(
        size=size,
        similarity=similarity,
        images_per_class=round(per_class, 1),
        imagenet_confidence=None if confidence is None else round(confidence, 4),
        advice=f"A {size} set ({per_class:,.0f} images per {of}) {'of' if confidence is None else 'that looks'} "
        f"{seen}: {_ADVICE[size, similarity]}. This is {RULE}.",
    )


def of_run(fitted: Fitted, recipe: Recipe) -> RuleOfThumb:
    """What the rule says of the images that a run was trained on; only a probe on lite0 has what the similarity needs.

    Args:
        fitted: What a strategy gave.
        recipe: What it followed.
    """
    learnt = fitted.partition.of(Role.TRAIN)
    return rule_of_thumb(
        fitted.partition.targets.take(learnt).count().tolist(),
        fitted.data.matrix[learnt] if embeds_as_lite0(recipe) else None,
        of="class" if TARGETS[fitted.partition.targets.task].exclusive else "label",
    )


def embeds_as_lite0(recipe: Recipe) -> bool:
    """Whether the embeddings of a run are those of lite0 as it comes."""
    return recipe.spec.trains == "head" and recipe.backbone == "lite0" and recipe.pretrained and not recipe.weights


def imagenet_confidence(embeddings: NDArray[np.float32]) -> float:
    """How sure lite0's own ImageNet layer is of images on average: the mean of the largest probability, in 0..1.

    The baseline of Hendrycks and Gimpel 2017 for what a network was not trained on.

    Args:
        embeddings: lite0's, float32 (N, 1280).
    """
    weights, bias = lite.read_classifier(catalog.find("lite0"))
    total = 0.0
    for begin in range(0, len(embeddings), _ROWS_AT_ONCE):
        probabilities = to_probabilities(embeddings[begin : begin + _ROWS_AT_ONCE] @ weights + bias)
        total += float(probabilities.max(1).sum())
    return total / len(embeddings)
