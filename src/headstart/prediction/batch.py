"""A model run on any number of images by several threads, in the order of the images."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any

from headstart.core.errors import ImageError, InputError
from headstart.features.pool import in_order
from headstart.prediction import images as kinds

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from headstart.prediction.answers import Result


def results_of(
    images: Iterable[Any],
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

    def taken() -> Iterator[tuple[int, Any, Any]]:
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

    def work(item: tuple[int, Any, Any]) -> Result:
        index, image, kept = item
        if isinstance(kept, ImageError):
            raise kept
        with kinds.naming(image, index, of_several=True):
            return run(pixels(kept))

    return in_order(taken(), work, workers)


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


def _kept(image: Any, pixels: Callable[[Any], NDArray[np.uint8]]) -> Any:
    """An image that stays what it is when its source goes on."""
    if isinstance(image, str | os.PathLike | bytes):
        return image
    if isinstance(image, bytearray | memoryview):
        return bytes(image)
    return kinds.content(image) if kinds.is_file(image) else pixels(image).copy()
