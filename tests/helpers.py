"""Small image sets that are drawn here, and the program in a subprocess."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from PIL import Image

# Seconds after a signal, far below the half minute and more that the work at a mark would go on. The promise of two
# seconds is of a machine of one's own: the grace that is given to the work is a constant, which a test holds to it.
ENDS_WITHIN = 10.0


def free_port() -> int:
    """A port of this machine on which nothing listens."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def draw(label: str, seed: int, size: tuple[int, int] = (80, 64)) -> Image.Image:
    """A picture of one of three easily told kinds: `disc`, `stripes`, `noise`. Each seed is another picture."""
    rng = np.random.default_rng([seed, len(label)])
    width, height = size
    y, x = np.mgrid[:height, :width]
    pixels = np.empty((height, width, 3), np.float64)
    pixels[:] = rng.uniform(90, 230, 3)
    if label == "disc":
        centre = rng.uniform(0.35, 0.65, 2) * (height, width)
        pixels[np.hypot(y - centre[0], x - centre[1]) < rng.uniform(0.2, 0.35) * height] = rng.uniform(0, 90, 3)
    elif label == "stripes":
        pixels[(x // rng.integers(3, 7)) % 2 == 0] = rng.uniform(0, 90, 3)
    else:
        pixels += rng.normal(0, 60, pixels.shape)
    return Image.fromarray(np.clip(pixels + rng.normal(0, 4, pixels.shape), 0, 255).astype(np.uint8))


def write_images(folder: Path, counts: dict[str, int], seed: int = 0) -> Path:
    """Write `counts[label]` pictures into a folder for each label."""
    for label, count in counts.items():
        (folder / label).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            draw(label, seed + number).save(folder / label / f"{number:03}.png")
    return folder


def amended(model: bytes, **changes: Any) -> bytes:
    """A model file with other metadata, by the names of the attributes, that is as good as one of ours."""
    import dataclasses

    import onnx

    from headstart.modelfile import guard
    from headstart.modelfile.writer import ModelFile

    proto = onnx.load_from_string(model)
    del proto.metadata_props[:]
    metadata = dataclasses.replace(guard.check(model), **changes)
    content = ModelFile(proto.SerializeToString(deterministic=True), metadata).content
    guard.check(content)
    return content


def strata(labels: np.ndarray) -> list[tuple[int, ...]]:
    """What splits and folds balance, where each image is of one class."""
    return [(label,) for label in labels.tolist()]


@dataclass(frozen=True)
class Result:
    """What the program did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def headstart_cli(*arguments: str | Path, cwd: Path | None = None, **env: str) -> Result:
    """Run `headstart` in this process, with streams of its own: imports and the start of Python are spared.

    What a process is the subject of (signals, streams, encodings, what is imported) takes `headstart_process`.
    """
    from headstart.cli.main import run

    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", errors="backslashreplace") for _ in range(2))
    with (
        contextlib.chdir(cwd or Path.cwd()),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        mock.patch.dict(os.environ, env),
        mock.patch("sys.stdin", io.TextIOWrapper(io.BytesIO())),
    ):
        code = run([*map(str, arguments)])
    for stream in (out, err):
        stream.flush()
    return Result(code, *(stream.buffer.getvalue().decode() for stream in (out, err)))


def headstart_process(*arguments: str | Path, cwd: Path | None = None, timeout: float = 120, **env: str) -> Result:
    """Run `headstart` in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "headstart", *map(str, arguments)],
        capture_output=True, text=True, cwd=cwd, timeout=timeout, env=os.environ | env, check=False,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    return Result(done.returncode, done.stdout, done.stderr)


def numbers_of_other_types(record: object, where: str = "") -> list[str]:
    """Where a record of dataclasses holds a number of NumPy's, which is no float to what reads records strictly."""
    if dataclasses.is_dataclass(record):
        return [
            found
            for one in dataclasses.fields(record)
            for found in numbers_of_other_types(getattr(record, one.name), f"{where}.{one.name}")
        ]
    if isinstance(record, tuple | list):
        return [found for n, one in enumerate(record) for found in numbers_of_other_types(one, f"{where}[{n}]")]
    return [f"{where}: {type(record).__name__}"] if isinstance(record, np.generic) else []
