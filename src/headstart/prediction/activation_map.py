"""The class activation map (Zhou et al. 2016) of a model whose head is linear: an exact sum over places."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from headstart.modelfile.linear_head import find
from headstart.modelfile.schema import FEATURE_MAP
from headstart.targets import TARGETS
from headstart.targets.classes.temperature import to_probabilities
from headstart.targets.labels import sigmoid

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headstart.prediction.answers import Result
    from headstart.prediction.classifier import Classifier

# A linear head, put together from the model's parts, must give the model's own probabilities as closely as this.
_EXACT = 1e-3


class Head(NamedTuple):
    """The head of a model file, where it is linear.

    Attributes:
        weights: (D, C), divided by the temperature.
        bias: (C,), divided by the temperature too.
        exclusive: Whether exactly one class is true of an image; else each label is by itself.
    """

    weights: NDArray[np.float64]
    bias: NDArray[np.float64]
    exclusive: bool = True

    def gives(self, result: Result) -> bool:
        """Whether the mean of the feature map, by this head, has the probabilities that the model itself gives."""
        if result.feature_map is None or result.feature_map.shape[-1] != len(self.weights):
            return False
        scores = result.feature_map.mean((0, 1), dtype=np.float64) @ self.weights + self.bias
        probabilities = to_probabilities(scores) if self.exclusive else sigmoid.to_probabilities(scores)
        return bool(np.abs(probabilities - result.probabilities).max() < _EXACT)


def activation_map(head: Head, result: Result, number: int) -> tuple[NDArray[np.float64], float]:
    """The class activation map of a class against the others, or of a label.

    The score of a class alone does not say what distinguishes it from the others, which may share its parts. So the map
    is that of the log-odds: ``log(p / (1 - p)) = mean(map) + offset``, with each of the other classes counted by its
    share of the probability that is left. That equation is exact, and the map is also the gradient of the log-odds.
    The log-odds of a label, beside which others can be true, are its score, so that its map is that of the score.

    Args:
        head: The linear head.
        result: With a feature map.
        number: Of the class or label.

    Returns:
        The map (h, w), and the offset.
    """
    features = result.feature_map
    if features is None:
        raise ValueError("a result without a feature map")
    if not head.exclusive:
        return features @ head.weights[:, number], float(head.bias[number])
    scores = features.mean((0, 1), dtype=np.float64) @ head.weights + head.bias  # (C,)
    others = np.delete(np.arange(len(scores)), number)
    share = to_probabilities(scores[others])  # (C - 1,)
    weights = head.weights[:, number] - head.weights[:, others] @ share  # (D,)
    # log sum exp of the other scores is their mean by these shares, plus the shares' entropy
    entropy = -float(share @ np.log(np.maximum(share, np.finfo(float).tiny)))
    offset = float(head.bias[number] - head.bias[others] @ share) - entropy
    return features @ weights, offset


def has_map(classifier: Classifier) -> bool:
    """Whether a model has class activation maps: a linear head, and a feature map that its file gives out."""
    import onnx

    if linear_head(classifier) is None:
        return False
    return any(one.name == FEATURE_MAP for one in onnx.load_from_string(classifier.content).graph.output)


def linear_head(classifier: Classifier) -> Head | None:
    """The head of a model, from the constants in its file; None where it has no such one."""
    head = find(classifier.content, len(classifier.classes))
    if head is None:
        return None
    weights, bias = (part.astype(np.float64) / head.temperature for part in (head.weights, head.bias))
    return Head(weights, bias, TARGETS[classifier.metadata.task].exclusive)
