"""Golden images: generated pictures that travel in the model with the outputs that are expected of them."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from headstart.core.errors import ImageError, ModelError
from headstart.data.decode import decode
from headstart.modelfile.golden_records import Golden
from headstart.modelfile.schema import DISTANCE, OUTPUTS, Metadata
from headstart.modelfile.session import LazySession, Session

if TYPE_CHECKING:
    from numpy.typing import NDArray

# (height, width): one that is shrunk, wide and odd; one that is enlarged; one upright and tiny.
SHAPES = ((301, 420), (96, 64), (33, 20))
RECTANGLES = 24
# Float sums may be ordered differently on another processor. Int8 sums are exact, but a value that lies on the edge
# between two levels may fall to the other side, and one level is about 1 % of a typical activation.
TOLERANCES = {
    "float32": {"probability": 0.001, "embedding": 0.001, "distance": 0.001},
    "int8": {"probability": 0.03, "embedding": 0.05, "distance": 0.05},
}


@dataclass(frozen=True)
class Verification:
    """What running the golden images again gave.

    Attributes:
        images: Number of golden images.
        probability_difference: Largest absolute difference of a probability.
        embedding_difference: Largest difference of an embedding, relative to its length.
        distance_difference: Largest absolute difference of a distance; 0 where the model has none.
        allowed: The largest of each that passes: the model's tolerance, and never more than this version's.
        passed: All are within it.
    """

    images: int
    probability_difference: float
    embedding_difference: float
    distance_difference: float
    allowed: dict[str, float]
    passed: bool


def make(session: Session) -> tuple[Golden, ...]:
    """Generate the golden images and record what a model makes of them."""
    names = [*OUTPUTS, DISTANCE] if DISTANCE in session.outputs else OUTPUTS
    goldens = []
    for number, (height, width) in enumerate(SHAPES):
        pixels = picture(height, width, seed=number)
        probabilities, embedding, *distance = session.run(pixels, names)
        goldens.append(Golden(_png(pixels), probabilities, embedding, *(float(one[0]) for one in distance)))
    return tuple(goldens)


def verify(session: Session | LazySession, metadata: Metadata) -> Verification:
    """Run the golden images and compare; nothing to compare never passes.

    Raises:
        ModelError: A golden image cannot be decoded.
    """
    names = [*OUTPUTS, DISTANCE] if metadata.familiarity else OUTPUTS
    probability, embedding, distance = [0.0], [0.0], [0.0]
    for golden in metadata.golden:
        try:
            pixels = decode(golden.png, max_megapixels=1).pixels
            got_probabilities, got_embedding, *got_distance = session.run(pixels, names)
        except ImageError as error:
            raise ModelError(f"A golden image of the model cannot be used: {error.message}.") from error
        probability.append(_largest(got_probabilities - golden.probabilities))
        length = max(float(np.linalg.norm(golden.embedding)), 1e-12)
        embedding.append(_largest(np.linalg.norm(got_embedding - golden.embedding) / length))
        expected = np.float32(np.nan if golden.distance is None else golden.distance)
        distance += [_largest(one - expected) for one in got_distance]
    # A file may ask for less than what this version allows, never for more.
    most = TOLERANCES.get(metadata.precision, TOLERANCES["float32"])
    allowed = {key: min(value, most[key]) for key, value in metadata.tolerance.items()}
    found = {"probability": max(probability), "embedding": max(embedding), "distance": max(distance)}
    return Verification(
        images=len(metadata.golden),
        probability_difference=found["probability"],
        embedding_difference=found["embedding"],
        distance_difference=found["distance"],
        allowed=allowed,
        passed=bool(metadata.golden) and all(value <= allowed.get(key, 0) for key, value in found.items()),
    )


def _largest(difference: NDArray[np.float32] | np.floating) -> float:
    """The largest absolute difference; infinite where one is not a number, which no comparison would notice."""
    return float(np.nan_to_num(np.abs(difference), nan=np.inf, posinf=np.inf).max())


def picture(height: int, width: int, seed: int) -> NDArray[np.uint8]:
    """A picture of overlapping rectangles, uint8 (H, W, 3): edges and colours at all scales, and a small PNG."""
    rng = np.random.default_rng(seed)
    pixels = np.full((height, width, 3), rng.integers(0, 256, 3), np.uint8)
    for _ in range(RECTANGLES):
        top, left = int(rng.integers(0, height)), int(rng.integers(0, width))
        bottom, right = int(rng.integers(top, height)) + 1, int(rng.integers(left, width)) + 1
        pixels[top:bottom, left:right] = rng.integers(0, 256, 3)
    return pixels


def _png(pixels: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
