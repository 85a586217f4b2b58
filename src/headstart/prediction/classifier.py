"""The classifier: a model file at work."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from headstart.core.arguments import must_be, must_be_count, must_be_flags, must_be_path, refused
from headstart.core.errors import ImageError, InputError, ModelError, OptionError
from headstart.core.runtime import Runtime
from headstart.core.text import counted, listed, printable, quoted
from headstart.modelfile import golden, guard, prediction_sets, wire
from headstart.modelfile.location import model_path
from headstart.modelfile.schema import DISTANCE, FEATURE_MAP, OUTPUTS, Metadata
from headstart.modelfile.session import LazySession
from headstart.prediction import images as kinds
from headstart.prediction.answers import Prediction, Result, classifier_html, describe, told
from headstart.prediction.batch import all_of, results_of
from headstart.settings.recipe import Recipe

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headstart.prediction.images import ImageLike


class Classifier:
    """A model file at work. Any thread may use it; pickling or copying keeps the model file, not its sessions.

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
        must_be("content", content, bytes, "the bytes of a model file", "Of a path: headstart.load(path).", ModelError)
        self.content = content
        self.metadata: Metadata = guard.check(content, name)
        if max_megapixels is not None:
            Recipe(max_megapixels=max_megapixels)  # refuses what is no such limit
        self.max_megapixels: int = max_megapixels or self.metadata.max_megapixels
        self._session = LazySession(content)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, max_megapixels: int | None = None) -> Classifier:
        """Load a model file; no code in it is ever run.

        Args:
            path: The model file, or the run folder that it is in.
            max_megapixels: Images of more are refused; None for the limit that the model was trained with.

        Raises:
            ModelError: There is no such file, or it is refused.
            OptionError: The limit is not in 1..178.
        """
        must_be_path("path", path, ModelError)
        file = model_path(Path(path))
        return cls(wire.read_model(file), quoted(str(file)), max_megapixels=max_megapixels)

    def __repr__(self) -> str:
        count = counted(len(self.classes), "class", "classes")
        facts = printable(", ".join(told(self.metadata, len(self.content))))
        return f"Classifier({count}: {listed(self.classes)}; {facts})"

    def _repr_html_(self) -> str:
        """Shown in a notebook: the classes, how the model was made, and its accuracy."""
        return classifier_html(self.classes, told(self.metadata, len(self.content)))

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
        self, images: Iterable[ImageLike], *, top: int = ..., coverage: float | None = ..., allow_empty: bool = ...
    ) -> list[Prediction]: ...
    def predict(
        self,
        images: ImageLike | Iterable[ImageLike],
        *,
        top: int = 5,
        coverage: float | None = None,
        allow_empty: bool = False,
    ) -> Prediction | list[Prediction]:
        """Predict the class of an image, or of each image of a list.

        Args:
            images: A path, the bytes of an image file, a file that is open for reading bytes (all of it, wherever it
                stands), a PIL image, uint8 pixels (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) of an array or a torch
                tensor; or a list, a generator or a pandas Series of these, or pixels (N, H, W, 3).
            top: How many classes to name.
            coverage: Give sets of classes, each of which holds the true class with this probability if the images are
                like the held-out ones; above 0 and below 1, such as 0.9. `measured_coverage` says how often they did.
            allow_empty: Leave out the most probable class too where it is too uncertain, so that some sets have none
                and no more coverage is given than asked for.

        Raises:
            ImageError: An image cannot be read; nothing is returned for the others.
            InputError: A value has an unsupported type.
            OptionError: The model file holds nothing to make such sets with, there is no such coverage, or empty sets
                are allowed where none were asked for.

        Examples:
            >>> headstart.load("runs/pets/model.onnx").predict("cat.jpg").label  # doctest: +SKIP
            'cat'
        """
        words = self._words(top, coverage, allow_empty=allow_empty)
        items = kinds.several(images)
        if items is None:
            return words(self._run(images))
        return [words(result) for result in self._run_all(items)]

    @overload
    def predict_iter(
        self, images: Iterable[ImageLike], *, top: int = ..., coverage: float | None = ..., allow_empty: bool = ...,
        errors: Literal["raise"] = ..., workers: int | None = ...,
    ) -> Iterator[Prediction]: ...  # fmt: skip
    @overload
    def predict_iter(
        self, images: Iterable[ImageLike], *, top: int = ..., coverage: float | None = ..., allow_empty: bool = ...,
        errors: Literal["yield"], workers: int | None = ...,
    ) -> Iterator[Prediction | ImageError]: ...  # fmt: skip
    def predict_iter(
        self,
        images: Iterable[ImageLike],
        *,
        top: int = 5,
        coverage: float | None = None,
        allow_empty: bool = False,
        errors: Literal["raise", "yield"] = "raise",
        workers: int | None = None,
    ) -> Iterator[Prediction | ImageError]:
        """Predict the classes of any number of images, one by one as they are ready, in the order of the images.

        A few images are read ahead of the predictions, so that all workers are busy; memory does not grow with the
        number of images.

        Args:
            images: A list, a generator or another iterable of what `predict` takes.
            top: As in `predict`.
            coverage: As in `predict`.
            allow_empty: As in `predict`.
            errors: An image that cannot be read ends it (``raise``), or has its `ImageError` in its place (``yield``),
                which names it by its number, from 0.
            workers: Threads; None for one for each core.

        Raises:
            ImageError: An image cannot be read, and `errors` is ``raise``.
            InputError: A value is of no kind that `predict` takes; its number is named.
            OptionError: As for `predict`, or there is no such value of `errors`.

        Examples:
            >>> model = headstart.load("runs/pets/model.onnx")  # doctest: +SKIP
            >>> for prediction in model.predict_iter(pathlib.Path("new").glob("*.jpg")):  # doctest: +SKIP
            ...     print(prediction.label)
        """
        words = self._words(top, coverage, allow_empty=allow_empty)
        if errors not in {"raise", "yield"}:
            raise refused("errors", errors, "'raise' or 'yield'")
        if workers is not None:
            must_be_count("workers", workers)
        items = kinds.several(images)
        if items is None:
            raise InputError(f"A single value of type {type(images).__name__}; expected several images.",
                             "Give one image to predict.")  # fmt: skip

        def predictions() -> Iterator[Prediction | ImageError]:
            with closing(self._results(items, workers)) as results:
                for result in results:
                    if isinstance(result, ImageError) and errors == "raise":
                        raise result
                    yield result if isinstance(result, ImageError) else words(result)

        return predictions()

    def predict_proba(self, images: ImageLike | Iterable[ImageLike]) -> NDArray[np.float32]:
        """Probabilities, float32 (C,) of an image or (N, C) of a list, in the order of `classes`; see `predict`."""
        items = kinds.several(images)
        if items is None:
            return self._run(images).probabilities
        return np.stack([result.probabilities for result in self._run_all(items)])

    def embed(self, images: ImageLike | Iterable[ImageLike]) -> NDArray[np.float32]:
        """Embeddings, float32 (D,) of an image or (N, D) of a list; see `predict`."""
        items = kinds.several(images)
        if items is None:
            return self._run(images).embedding
        return np.stack([result.embedding for result in self._run_all(items)])

    def verify(self) -> golden.Verification:
        """Run the golden images stored in the model, and compare with the results of the machine that trained it."""
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
        return describe(result, self.metadata, top, most, allow_empty=allow_empty)

    def set_limit(self, coverage: float | None) -> float | None:
        """The largest score of a class in the sets of a coverage; infinite where the sets hold all classes.

        Raises:
            OptionError: The model file holds nothing to make such sets with, or there is no such coverage.
        """
        if coverage is None:
            return None
        return prediction_sets.limit(prediction_sets.required(self.metadata.conformal, self.metadata.task), coverage)

    def measured_coverage(self, coverage: float) -> prediction_sets.Measured:
        """How often sets of a coverage held the true class of held-out images, where empty ones are not allowed.

        Args:
            coverage: What is asked for, above 0 and below 1.

        Raises:
            OptionError: The model file holds nothing to make such sets with, or there is no such coverage.
        """
        return prediction_sets.measured(prediction_sets.required(self.metadata.conformal, self.metadata.task), coverage)

    def _words(self, top: int, coverage: float | None, *, allow_empty: bool) -> Callable[[Result], Prediction]:
        """What makes a prediction of a result, where that can be asked for; see `predict`."""
        must_be_count("top", top)
        must_be_flags(allow_empty=allow_empty)
        if allow_empty and coverage is None:
            raise OptionError("Empty sets are allowed, but no sets are asked for.", "Give a coverage too, such as 0.9.")
        return partial(self.prediction, top=top, most=self.set_limit(coverage), allow_empty=allow_empty)

    def _run(self, image: Any) -> Result:
        with kinds.naming(image, 0, of_several=False):
            return self.run_pixels(self.pixels(image))

    def _run_all(self, images: Iterable[object]) -> list[Result]:
        return all_of(self._results(images))

    def _results(self, images: Iterable[object], workers: int | None = None) -> Generator[Result | ImageError]:
        return results_of(images, self.pixels, self.run_pixels, workers or Runtime(cache=None).workers)

    def pixels(self, image: ImageLike) -> NDArray[np.uint8]:
        """The pixels of an image that the model is run on: uint8 (H, W, 3), upright.

        Raises:
            ImageError: It cannot be read.
            InputError: The value is of no kind that `predict` takes.
        """
        return kinds.pixels(image, self.metadata.preprocess, self.max_megapixels)
