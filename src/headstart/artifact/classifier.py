"""The classifier: a model file at work."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from headstart.artifact import golden, guard, prediction_sets, wire
from headstart.artifact.schema import DISTANCE, FEATURE_MAP, OUTPUTS, Metadata
from headstart.core.errors import ImageError, InputError, OptionError
from headstart.core.options import Runtime
from headstart.core.recipe import Recipe
from headstart.core.text import quoted
from headstart.data.decode import decode, from_pil
from headstart.data.storage import read_file
from headstart.features.pool import each
from headstart.features.session import LazySession

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

    # A path, the bytes of an image file, a PIL image, or uint8 pixels (H, W), (H, W, 3) or (H, W, 4).
    ImageLike = str | os.PathLike[str] | bytes | Image | NDArray[np.uint8]


@dataclass(frozen=True)
class Prediction:
    """What the classifier says of one image.

    Attributes:
        label: The most probable class.
        probability: Its calibrated probability, in 0..1.
        top: The most probable classes with their probabilities, from the highest.
        familiar: Whether the image is like the training images; None where the model cannot tell.
        distance: Mean cosine distance to the nearest training images, in 0..2; None where the model has none.
        labels: The classes of which one is the true one with the probability that was asked for (``coverage``), from
            the most probable, which is always one of them unless empty sets are allowed; see
            `headstart.artifact.prediction_sets`. None where nothing was asked for.
    """

    label: str
    probability: float
    top: tuple[tuple[str, float], ...]
    familiar: bool | None = None
    distance: float | None = None
    labels: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Result:
    """What the model computes of one image.

    Attributes:
        probabilities: float32 (C,), which sum to 1.
        embedding: float32 (D,).
        distance: Mean cosine distance to the nearest training images, in 0..2; None where the model has none.
        feature_map: float32 (h, w, D), rows from the top and columns from the left of the square that the network
            sees; its mean over h and w is the embedding. None where it was not asked for, or the network has none.
    """

    probabilities: NDArray[np.float32]
    embedding: NDArray[np.float32]
    distance: float | None = None
    feature_map: NDArray[np.float32] | None = None


# An image that was opened and not loaded yet reads its file, which two threads must not do at once.
_LOADING = threading.Lock()


class Classifier:
    """A model file at work. Any thread may use it.

    Args:
        content: The model file.
        name: What to call it in messages.
        max_megapixels: Images of more are refused, see `headstart.data.decode.decode`; None for the limit of the
            recipe that the model was trained with.

    Raises:
        ModelError: The file is refused.
        OptionError: The limit is not in 1..178.
    """

    def __init__(self, content: bytes, name: str = "The model", *, max_megapixels: int | None = None) -> None:
        self.content = content
        self.metadata: Metadata = guard.check(content, name)
        if max_megapixels is not None:
            Recipe(max_megapixels=max_megapixels)  # refuses what is no such limit
        self._max_megapixels: int = max_megapixels or self.metadata.recipe["max_megapixels"]
        self._session = LazySession(content)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, max_megapixels: int | None = None) -> Classifier:
        """Load a model file; no code in it is ever run.

        Args:
            path: The model file.
            max_megapixels: Images of more are refused; None for the limit that the model was trained with.

        Raises:
            ModelError: There is no such file, or it is refused.
            OptionError: The limit is not in 1..178.
        """
        return cls(wire.read_model(Path(path)), quoted(os.fspath(path)), max_megapixels=max_megapixels)

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names, in the order of the probabilities."""
        return self.metadata.classes

    @overload
    def predict(  # type: ignore[overload-overlap]
        self, images: ImageLike, *, top: int = ..., coverage: float | None = ..., allow_empty: bool = ...
    ) -> Prediction: ...
    @overload
    def predict(
        self, images: Sequence[ImageLike], *, top: int = ..., coverage: float | None = ..., allow_empty: bool = ...
    ) -> list[Prediction]: ...
    def predict(
        self,
        images: ImageLike | Sequence[ImageLike],
        *,
        top: int = 5,
        coverage: float | None = None,
        allow_empty: bool = False,
    ) -> Prediction | list[Prediction]:
        """The class of an image, or of each image of a list.

        Args:
            images: A path, the bytes of an image file, a PIL image, uint8 pixels (H, W, 3), or a list of these.
            top: How many classes to name.
            coverage: Give sets of classes, each of which holds the true class with this probability if the images are
                like the held-out ones; above 0 and below 1, such as 0.9. `measured_coverage` tells how often they did.
            allow_empty: Leave out the most probable class too where it is too uncertain, so that some sets have none
                and no more coverage is given than asked for.

        Raises:
            ImageError: An image cannot be read; nothing is returned for the others.
            InputError: A value is of no such kind.
            OptionError: The model file holds nothing to make such sets with, there is no such coverage, or empty sets
                are allowed where none were asked for.

        Example:
            >>> headstart.load("runs/pets/model.onnx").predict("cat.jpg").label  # doctest: +SKIP
            'cat'
        """
        if allow_empty and coverage is None:
            raise OptionError("Empty sets are allowed, but no sets are asked for.", "Give a coverage too, such as 0.9.")
        most = self.set_limit(coverage)
        predictions = [self.prediction(result, top, most, allow_empty=allow_empty) for result in self._run(images)]
        return predictions if is_list(images) else predictions[0]

    def predict_proba(self, images: ImageLike | Sequence[ImageLike]) -> NDArray[np.float32]:
        """Probabilities, float32 (C,) of an image or (N, C) of a list, in the order of `classes`; see `predict`."""
        stacked = np.stack([result.probabilities for result in self._run(images)])
        return stacked if is_list(images) else stacked[0]

    def embed(self, images: ImageLike | Sequence[ImageLike]) -> NDArray[np.float32]:
        """Embeddings, float32 (D,) of an image or (N, D) of a list; see `predict`."""
        stacked = np.stack([result.embedding for result in self._run(images)])
        return stacked if is_list(images) else stacked[0]

    def verify(self) -> golden.Verification:
        """Run the golden images that travel in the model, and compare with what the training machine computed."""
        return golden.verify(self._session, self.metadata)

    def run_file(self, data: bytes) -> Result:
        """Run the model on the bytes of one image file.

        Raises:
            ImageError: It cannot be decoded, or the model's answer is not a probability.
        """
        return self.run_pixels(self.pixels(data))

    def run_pixels(self, pixels: NDArray[np.uint8], *, feature_map: bool = False) -> Result:
        """Run the model on uint8 (H, W, 3); see `run_file`.

        Args:
            pixels: The image.
            feature_map: Give the feature map too, where the network has one.
        """
        names = [*OUTPUTS, DISTANCE] if self.metadata.familiarity else list(OUTPUTS)
        if feature_map and FEATURE_MAP in self._session.outputs:
            names.append(FEATURE_MAP)
        values = dict(zip(names, self._session.run(pixels, names), strict=True))
        if not all(np.isfinite(value).all() for value in values.values()):
            raise ImageError("the model gives values that are not finite")
        channels_first = values.get(FEATURE_MAP)
        return Result(
            probabilities=values["probabilities"],
            embedding=values["embedding"],
            distance=float(values[DISTANCE][0]) if DISTANCE in values else None,
            feature_map=None if channels_first is None else channels_first.transpose(1, 2, 0),
        )

    def prediction(
        self, result: Result, top: int = 5, most: float | None = None, *, allow_empty: bool = False
    ) -> Prediction:
        """What the model computed, in words.

        Args:
            result: What it computed of an image.
            top: How many classes to name.
            most: What `set_limit` gave.
            allow_empty: See `predict`.
        """
        probabilities, distance = result.probabilities, result.distance
        best = np.argsort(-probabilities, kind="stable")[: max(1, top)]
        named = tuple((self.classes[i], float(probabilities[i])) for i in best)
        threshold = self.metadata.familiarity["threshold"] if self.metadata.familiarity else None
        labels = None
        if most is not None:
            inside = prediction_sets.members(probabilities, most, allow_empty=allow_empty)
            labels = tuple(self.classes[i] for i in inside)
        return Prediction(
            *named[0],
            named,
            familiar=None if distance is None or threshold is None else distance <= threshold,
            distance=distance,
            labels=labels,
        )

    def set_limit(self, coverage: float | None) -> float | None:
        """The largest score of a class in the sets of a coverage; infinite where the sets hold all classes.

        Raises:
            OptionError: The model file holds nothing to make such sets with, or there is no such coverage.
        """
        return None if coverage is None else prediction_sets.limit(self._conformal(), coverage)

    def measured_coverage(self, coverage: float) -> prediction_sets.Measured:
        """How often sets of a coverage held the true class of held-out images, where empty ones are not allowed.

        Args:
            coverage: What is asked for, above 0 and below 1.

        Raises:
            OptionError: The model file holds nothing to make such sets with, or there is no such coverage.
        """
        return prediction_sets.measured(self._conformal(), coverage)

    def _conformal(self) -> dict[str, Any]:
        if self.metadata.conformal is None:
            raise OptionError(
                "The model file holds no scores of held-out images, which sets of a chosen coverage are made with.",
                "Train it again, with images that are held out.",
            )
        return self.metadata.conformal

    def _run(self, images: ImageLike | Sequence[ImageLike]) -> Iterable[Result]:
        items: list[Any] = list(images) if is_list(images) else [images]  # type: ignore[arg-type]
        if not items:
            raise InputError("An empty list of images; expected at least one.")

        def work(index: int) -> Result:
            return self.run_pixels(self.pixels(items[index]))

        results = []
        for index, result in each(len(items), work, Runtime(cache=None), "Predicting"):
            if isinstance(result, ImageError):
                item = items[index]
                name = quoted(os.fspath(item)) if isinstance(item, str | os.PathLike) else f"Image {index}"
                raise ImageError(f"{name}: {result.message}.", result.hint) from result
            results.append(result)
        return results

    def pixels(self, image: ImageLike) -> NDArray[np.uint8]:
        """The pixels of an image that the model is run on: uint8 (H, W, 3), upright.

        Raises:
            ImageError: It cannot be read.
            InputError: The value is of no kind that `predict` takes.
        """
        if isinstance(image, str | os.PathLike):
            image = read_file(os.fspath(image))
        spec = self.metadata.preprocess
        if isinstance(image, bytes | bytearray | memoryview):
            return decode(
                bytes(image),
                max_megapixels=self._max_megapixels,
                enough_px=spec.enough_px,
                white_level=spec.white_level,
            ).pixels
        from PIL import Image

        if isinstance(image, Image.Image):
            with _LOADING:
                return from_pil(image, max_megapixels=self._max_megapixels, white_level=spec.white_level)
        if isinstance(image, np.ndarray):
            shaped = image.ndim == 2 or (image.ndim == 3 and image.shape[2] in {3, 4})
            if image.dtype != np.uint8 or not shaped or not image.size:
                raise InputError(
                    f"An array of {image.dtype} {image.shape}; expected uint8 (H, W), (H, W, 3) or (H, W, 4), "
                    "with values 0 to 255 in RGB order.",
                    "Do not resize or normalise: the model does that itself.",
                )
            return from_pil(Image.fromarray(np.ascontiguousarray(image)))
        raise InputError(
            f"A value of type {type(image).__name__}; expected a path, bytes, a PIL image or a uint8 array."
        )


def is_list(images: Any) -> bool:
    """Whether several images were given: a list or tuple, or pixels (N, H, W, 3)."""
    return isinstance(images, list | tuple) or (isinstance(images, np.ndarray) and images.ndim == 4)
