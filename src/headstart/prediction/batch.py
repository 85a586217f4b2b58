"""A model run on any number of images by several threads, in the order of the images."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from headstart.core.errors import ImageError, InputError
from headstart.core.runtime import Runtime
from headstart.core.work import Threads
from headstart.data.storage import Storage
from headstart.data.table import ImageTable
from headstart.features.passes import in_turn
from headstart.prediction import images as kinds

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from headstart.features.look import Located
    from headstart.prediction.answers import Prediction, Result
    from headstart.prediction.classifier import Classifier
    from headstart.prediction.record import Wanted


@dataclass(frozen=True)
class Predict:
    """The unit of work on a table: what the model says of an image.

    Attributes:
        classifier: The model.
        wanted: What is asked of each prediction.
        storage: Where the images are.
    """

    classifier: Classifier
    wanted: Wanted
    storage: Storage

    def reading(self, storage: Storage, /) -> Predict:
        """See `headstart.features.sharded.work.Ask`."""
        return replace(self, storage=storage)

    def __call__(self, row: Located, /) -> Prediction:
        """The prediction of one image.

        Raises:
            ImageError: It cannot be read.
        """
        return self.wanted.predict(self.classifier, self.storage.read(row.path))


def predict_table(
    classifier: Classifier, table: ImageTable, wanted: Wanted, runtime: Runtime
) -> Iterator[tuple[str, Prediction | ImageError]]:
    """What a model says of each image of a table, or why it cannot be read, with the path; in order, as it comes.

    Args:
        classifier: The classifier.
        table: The images; files that were skipped come first, with their reasons.
        wanted: What is asked of each prediction.
        runtime: Pool, progress, strictness.

    Raises:
        SourceError: An image cannot be read, and the runtime is strict.
    """
    for skip in table.skipped:
        yield skip.path, ImageError(skip.reason)
    for row, result in in_turn(Predict(classifier, wanted, table.storage), table, runtime, "Predicting"):
        yield row.path, result


@dataclass(frozen=True)
class _Run:
    """The unit of work on images of all kinds: what the model computes of one; see `results_of`."""

    pixels: Callable[[Any], NDArray[np.uint8]]
    run: Callable[[NDArray[np.uint8]], Result]

    def __call__(self, item: tuple[int, object, object], /) -> Result:
        index, image, kept = item
        if isinstance(kept, ImageError):
            raise kept
        with kinds.naming(image, index, of_several=True):
            return self.run(self.pixels(kept))


def results_of(
    images: Iterable[object],
    pixels: Callable[[Any], NDArray[np.uint8]],
    run: Callable[[NDArray[np.uint8]], Result],
    workers: int,
) -> Generator[Result | ImageError]:
    """The result of each image in turn, or why there is none, with the number of the image.

    Args:
        images: Of kinds that a classifier takes.
        pixels: Reads one.
        run: Runs the model on its pixels.
        workers: Threads.
    """
    passing = isinstance(images, Iterator)

    def taken() -> Iterator[tuple[int, object, object]]:
        """Each image with its number, and as a worker takes it.

        What a generator gives may change or close as soon as the next one is asked for: it is read before.
        """
        for index, image in enumerate(images):
            try:
                with kinds.naming(image, index, of_several=True):
                    kept = _kept(image, pixels) if passing else image
            except ImageError as error:
                kept = error
            yield index, image, kept

    return Threads(workers).run(_Run(pixels, run), taken())


def all_of(results: Generator[Result | ImageError]) -> list[Result]:
    """The results of several images, at least one.

    Raises:
        ImageError: The first that cannot be read.
        InputError: There is no image.
    """
    found = []
    with closing(results):
        for result in results:
            if isinstance(result, ImageError):
                raise result
            found.append(result)
    if not found:
        raise InputError("An empty list of images; expected at least one.")
    return found


def _kept(image: object, pixels: Callable[[Any], NDArray[np.uint8]]) -> object:
    """An image that stays what it is when its source goes on."""
    if isinstance(image, str | os.PathLike | bytes):
        return image
    if isinstance(image, bytearray | memoryview):
        return bytes(image)
    return kinds.content(image) if kinds.is_file(image) else pixels(image).copy()
