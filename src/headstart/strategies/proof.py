"""One proof: the saved model computes what was measured.

An embedder is compared with the network that it was exported from, and a finished model file, run on the bytes of image
files, with what was evaluated and with the network that was trained. All differences are within `TOLERANCES`, those of
the golden images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from headstart.backbones.embedder import Embedder
from headstart.core.digest import digest_bytes
from headstart.core.errors import HeadstartError, ImageError, ModelError
from headstart.core.text import quoted
from headstart.data.decode import decode
from headstart.features.dataset import Dataset
from headstart.features.pixels import PixelSession
from headstart.heads import Head
from headstart.heads.calibrated import Calibrated
from headstart.modelfile.golden import SHAPES, TOLERANCES, picture
from headstart.modelfile.session import Session
from headstart.prediction.classifier import Classifier
from headstart.settings.recipe import FULL_RANGE, Recipe

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headstart.data.table import ImageTable

# How many images are looked at, from all over a table; the network that was trained here is worth more of them.
IMAGES, TRAINED_IMAGES = 4, 8
ENOUGH_PX = 1024
# Of an embedding's length: both sides compute in float32, in another order. The networks of the tests differ by 1e-6 to
# 1e-5, and a wrong layer by more than 1e-1.
EMBEDDING = TOLERANCES["float32"]["embedding"]


def pictures(table: ImageTable, recipe: Recipe) -> Iterator[NDArray[np.uint8]]:
    """A few images from all over a table, uint8 (H, W, 3), as many as can be read; read when they are asked for."""
    for row in _some(table, IMAGES):
        try:
            data = table.storage.read(table.rows[row].path)
            image = decode(
                data, max_megapixels=recipe.max_megapixels, enough_px=ENOUGH_PX,
                white_level=recipe.white_level or FULL_RANGE,
            )  # fmt: skip
        except ImageError:
            continue
        yield image.pixels


def embedding_difference(
    embedder: Embedder,
    network: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    images: Iterable[NDArray[np.uint8]],
) -> float:
    """The largest relative difference ``||onnx - network|| / ||network||`` of the embeddings of some images.

    The network sees the pixels that the preprocessing nodes give, so that it alone is compared.

    Args:
        embedder: What was exported.
        network: Normalised pixels (1, 3, S, S) to embeddings (1, D).
        images: uint8 (H, W, 3) each.
    """
    pixels, session = PixelSession(embedder.preprocess), Session(embedder.model)
    largest = 0.0
    for image in images:
        expected = network(pixels.run(image)[None])[0]
        (found,) = session.run(image)
        # No division by an embedding of zeros.
        distance = float(np.linalg.norm(found - expected)) / max(float(np.linalg.norm(expected)), 1e-12)
        largest = max(largest, distance if np.isfinite(distance) else np.inf)
    return largest


def refuse_difference(largest: float) -> None:
    """Refuse an embedder that computes something else than its network.

    Args:
        largest: The difference that `embedding_difference` gave.

    Raises:
        ModelError: It is above `EMBEDDING`.
    """
    if largest > EMBEDDING:
        raise ModelError(
            f"The exported network differs from the PyTorch one by {largest:.1e} of an embedding's length; "
            f"at most {EMBEDDING:.0e} is accepted.",
            "Use another backbone, and report this one.",
        )


def prove_evaluated(
    model: bytes, head: Calibrated[Head], data: Dataset, precision: str, embedder: Embedder
) -> tuple[str, ...]:
    """Compare the finished model file with what was evaluated.

    Where no image is to be found any more, as of embeddings that were moved to another machine, it is compared on
    generated pictures with its embedder and its head: that says nothing of the embeddings that were evaluated, of which
    only the digest of their embedder is known.

    Args:
        model: The model file.
        head: What was evaluated.
        data: What it was evaluated on.
        precision: The coarser arithmetic of both: ``float32``, or ``int8``, whose steps are about those of bf16.
        embedder: What the model file was made from.

    Returns:
        Sentences that a person should read.

    Raises:
        HeadstartError: They differ; the model is not handed out.
    """
    table = data.table

    def expected(row: int, file: bytes) -> NDArray[np.float64] | None:
        unchanged = digest_bytes(file) == data.digests[row]  # since it was read
        return head.probabilities(data.matrix[row]) if unchanged else None

    if _prove(
        model, table, _some(table, IMAGES), expected, "what was measured", TOLERANCES[precision]["probability"],
        "If the cache came from another machine, run `headstart cache clear`; otherwise please report this.",
    ):  # fmt: skip
        return ()
    _prove_generated(model, head, embedder)
    return (
        "None of the images could be read again: that the model file computes what was measured was proved on "
        "generated pictures alone.",
    )


def _prove_generated(model: bytes, head: Calibrated[Head], embedder: Embedder) -> None:
    """Compare a model file with its embedder and its head."""
    classifier, session, largest = Classifier(model), Session(embedder.model), 0.0
    for seed, (height, width) in enumerate(SHAPES):
        pixels = picture(height, width, seed=seed)
        wanted = head.probabilities(session.run(pixels)[0])
        largest = max(largest, float(np.abs(classifier.run_pixels(pixels).probabilities - wanted).max()))
    if not largest <= TOLERANCES["float32"]["probability"]:
        raise HeadstartError(
            f"The finished model differs from its embedder and its head by {largest:.1e} of a probability for a "
            "generated picture, and it was not saved.",
            "Please report this.",
        )


def prove_trained(
    model: bytes,
    network: Callable[[NDArray[np.float32]], NDArray[np.float64]],
    pixels: PixelSession,
    table: ImageTable,
    recipe: Recipe,
) -> None:
    """Compare the finished model file with the network that was trained.

    Args:
        model: The model file.
        network: Normalised pixels (1, 3, S, S) to calibrated probabilities (1, C).
        pixels: Prepares images for it.
        table: The images.
        recipe: All choices.

    Raises:
        HeadstartError: They differ; the model is not handed out.
    """
    spec = pixels.preprocess

    def expected(_: int, file: bytes) -> NDArray[np.float64]:
        image = decode(
            file, max_megapixels=recipe.max_megapixels, enough_px=spec.enough_px, white_level=spec.white_level
        )
        probabilities: NDArray[np.float64] = network(pixels.run(image.pixels)[None])[0]
        return probabilities

    _prove(
        model, table, _some(table, TRAINED_IMAGES), expected, "the trained network",
        TOLERANCES["float32"]["probability"], "Please report the backbone.",
    )  # fmt: skip


def _some(table: ImageTable, images: int) -> range:
    return range(0, len(table), max(1, len(table) // images))


def _prove(
    model: bytes,
    table: ImageTable,
    rows: Iterable[int],
    expected: Callable[[int, bytes], NDArray[np.float64] | None],
    what: str,
    allowed: float,
    hint: str,
) -> int:
    """Run a model file on the bytes of image files; `expected` gives None for a file that cannot be compared.

    Returns:
        How many were compared.
    """
    compared = 0
    classifier = Classifier(model)
    for row in rows:
        path = table.rows[row].path
        try:
            file = table.storage.read(path)
            wanted = expected(row, file)
            if wanted is None:
                continue
            found = classifier.run_file(file).probabilities
        except ImageError:  # it has vanished since it was read
            continue
        difference = float(np.abs(found - wanted).max())
        if not difference <= allowed:
            raise HeadstartError(
                f"The finished model differs from {what} by {difference:.1e} of a probability for {quoted(path)}; "
                f"at most {allowed:.0e} is accepted, and it was not saved.",
                hint,
            )
        compared += 1
    return compared
