"""The pool of workers: an image that cannot be read leaves nothing in memory."""

from __future__ import annotations

import gc
import io
import weakref

import numpy as np
import pytest

from headstart.core.errors import ImageError
from headstart.core.runtime import Runtime
from headstart.data.decode import decode
from headstart.features.passes import each
from helpers import draw


@pytest.mark.slow
@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "BMP"])
def test_images_that_end_early_leave_no_garbage(form: str) -> None:
    """Each left the pixels that were read of it, 25 MB of a photo, until Python next looked for garbage."""
    content = io.BytesIO()
    draw("disc", 1).resize((300, 200)).save(content, form)
    data = content.getvalue()[: content.tell() * 2 // 3]
    runtime = Runtime(cache=None, workers=2)
    list(each(lambda _: decode(data), range(2), runtime, "warm"))
    gc.collect()
    gc.disable()
    try:
        results = list(each(lambda _: decode(data), range(20), runtime, "Reading"))
        assert all(isinstance(result, ImageError) and result.message for _, result in results)
        assert gc.collect() < 20  # of a thousand objects before
    finally:
        gc.enable()


def test_an_error_holds_nothing_of_where_it_was_raised() -> None:
    held: list[weakref.ref[np.ndarray]] = []

    def work(_: int) -> None:
        pixels = np.zeros(1000)
        held.append(weakref.ref(pixels))
        try:
            try:
                raise ValueError("first")
            except ValueError as first:
                kept = first  # the frame refers to the error, and the error to the frame
                raise OSError("second") from kept
        except OSError as second:
            raise ImageError("third") from second

    ((_, error),) = each(work, range(1), Runtime(cache=None, workers=1), "Reading")
    assert isinstance(error, ImageError)
    assert (str(error.__cause__), str(error.__cause__.__cause__)) == ("second", "first")
    assert held[0]() is None
