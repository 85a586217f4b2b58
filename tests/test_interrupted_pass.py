"""An interruption between any two lines of the loops over images: what has begun is kept."""

from __future__ import annotations

import linecache
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

import headstart
from headstart.core.runtime import Runtime
from headstart.features.cache import size
from headstart.features.extract import extract
from headstart.preprocess.spec import Preprocess

WIDTH = 4  # of the embeddings of a network that is none


class Slow:
    """A network that says which images it has begun, by their only colour, and that takes its time."""

    name, workers = "slow", 2

    def __init__(self) -> None:
        self.begun: list[int] = []

    def run(self, image: np.ndarray) -> list[np.ndarray]:
        self.begun.append(int(image[0, 0, 0]))
        time.sleep(0.002)
        return [np.full(WIDTH, image[0, 0, 0], np.float32)]


@contextmanager
def interrupted_at(line: int) -> Iterator[list[str]]:
    """An exception before a line of the loops over images, in the order in which this thread comes to them.

    Not where a `with` that has ended is about to close what it holds: what Python does there cannot be made safe.
    """
    came: list[str] = []

    def follow(frame: FrameType, event: str, argument: object) -> Any:
        path = frame.f_code.co_filename
        if Path(path).name not in {"extract.py", "passes.py", "work.py"}:
            return None
        place = f"{frame.f_code.co_name}:{frame.f_lineno}"
        closes = place in came and linecache.getline(path, frame.f_lineno).lstrip().startswith("with")
        if event == "line" and not closes:
            came.append(place)
            if len(came) == line:
                raise KeyboardInterrupt
        return follow

    before = sys.gettrace()
    sys.settrace(follow)
    try:
        yield came
    finally:
        sys.settrace(before)


@pytest.mark.slow
def test_interrupted_at_any_line_what_was_begun_is_kept(tmp_path: Path) -> None:
    """The cache is not closed before the images that are under way have come to their end."""
    for number in range(4):
        (tmp_path / "a").mkdir(exist_ok=True)
        Image.new("RGB", (8, 8), (40 * number,) * 3).save(tmp_path / "a" / f"{number}.png")
    table = headstart.read(tmp_path)
    embedder = SimpleNamespace(digest="00", width=WIDTH, model=b"", preprocess=Preprocess(
        size_px=8, fit="crop", crop_fraction=1, mean=(0,) * 3, std=(1,) * 3, interpolation="bilinear",
    ))  # fmt: skip
    lines, ended = 0, False
    while not ended:
        lines += 1
        folder, network = tmp_path / f"cache-{lines}", Slow()
        with suppress(KeyboardInterrupt), interrupted_at(lines) as came:
            extract(table, embedder, Runtime(cache=folder), max_megapixels=1, engine=network)  # type: ignore[arg-type]
            ended = True
        assert size(folder)["images"] == len(network.begun), came[-1]
    assert len(network.begun) == 4
    assert lines > 80
