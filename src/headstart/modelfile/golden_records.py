"""Golden images in the metadata of a model file."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart.core.equality import ByValue
from headstart.core.errors import ModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_GOLDEN = 16


@dataclass(frozen=True, eq=False)
class Golden(ByValue):
    """A generated image with what the model made of it on the machine that trained it.

    Attributes:
        png: The image, a PNG file.
        probabilities: float32 (C,).
        embedding: float32 (D,).
        distance: To the nearest references; None where the model has none.
    """

    png: bytes
    probabilities: NDArray[np.float32]
    embedding: NDArray[np.float32]
    distance: float | None = None

    def as_dict(self) -> dict[str, object]:
        """The image as JSON values: what is binary in Base64."""
        return {
            "png": base64.b64encode(self.png).decode("ascii"),
            "probabilities": [float(f"{value:.9g}") for value in self.probabilities],
            "embedding": base64.b64encode(self.embedding.astype("<f4").tobytes()).decode("ascii"),
            **({} if self.distance is None else {"distance": float(f"{self.distance:.9g}")}),
        }


def parse(golden: object) -> tuple[Golden, ...]:
    """The golden images of a model file, which are untrusted.

    Raises:
        ModelError: They are damaged, or there are too many.
    """
    if not isinstance(golden, list) or len(golden) > MAX_GOLDEN:
        raise ModelError("The model's metadata has no valid golden images.")
    return tuple(_golden(one) for one in golden)


def _golden(record: Any) -> Golden:
    try:
        probabilities = [float(value) for value in record["probabilities"]]
        if not all(0 <= value <= 1 for value in probabilities):
            raise ValueError("a probability outside 0 to 1")
        embedding = np.frombuffer(base64.b64decode(record["embedding"], validate=True), "<f4")
        if not np.isfinite(embedding).all():
            raise ValueError("an embedding that is not finite")
        png = base64.b64decode(record["png"], validate=True)
        distance = record.get("distance")
        if distance is not None and type(distance) not in {int, float}:
            raise ValueError("a distance that is not a number")
    except (KeyError, TypeError, ValueError, binascii.Error) as error:
        raise ModelError(f"A golden image of the model is damaged ({str(error)[:100]}).") from error
    return Golden(png, np.array(probabilities, np.float32), embedding, None if distance is None else float(distance))
