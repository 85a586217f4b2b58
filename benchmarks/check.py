"""How long `headstart check` takes where the embeddings come from the cache: pictures that are drawn here, any number.

    python benchmarks/check.py --images 10000 --classes 10 100

The pictures are waves with noise, each class with waves of its own; one in fifty is a copy of another, and one label in
twenty is wrong. The first check fills the cache and is not told. CPU seconds stand beside those of the clock, which
others lengthen.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from common import Process, least_disturbed, percent, print_table, run

SIDE_PX = 64


def main() -> None:
    """Draw, check twice, tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--classes", type=int, nargs="+", default=[10, 100])
    parser.add_argument("--attempts", type=int, default=3, help="until one is not disturbed by others")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as place:
        os.environ["HEADSTART_CACHE"] = str(Path(place) / "cache")
        for classes in options.classes:
            folder = draw(Path(place) / str(classes), options.images, classes)
            command = [sys.executable, "-m", "headstart", "check", str(folder), "--json", "--quiet"]
            run(command)
            done = least_disturbed(partial(again, command), options.attempts, lambda: None)
            counts = done.said["counts"]
            rows.append((
                str(classes), f"{counts['images']:,}", f"{done.seconds:.1f}", f"{done.cpu_seconds:.1f}",
                f"{done.peak_mb:.0f}", percent(done.other_load), f"{counts['label']:,}", f"{counts['duplicate']:,}",
            ))  # fmt: skip
    print_table(
        ("classes", "images", "seconds", "CPU seconds", "peak MB", "load of others", "wrong labels", "duplicates"), rows
    )


def again(command: list[str], _: int) -> Process:
    """One more run of the same command."""
    return run(command)


def draw(folder: Path, images: int, classes: int) -> Path:
    """Write pictures into a folder for each class."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:SIDE_PX, :SIDE_PX] / SIDE_PX
    waves = rng.uniform(1, 12, (classes, 2))
    colours = rng.uniform(40, 215, (classes, 2, 3))
    previous = Image.new("RGB", (SIDE_PX, SIDE_PX))
    for number in range(images):
        label = number % classes
        place = folder / f"{rng.integers(classes) if rng.random() < 0.05 else label:04}"
        place.mkdir(parents=True, exist_ok=True)
        if rng.random() >= 0.02:
            phase = np.sin(2 * np.pi * (waves[label, 0] * x + waves[label, 1] * y + rng.random()))[:, :, None]
            pixels = colours[label, 0] * (1 + phase) / 2 + colours[label, 1] * (1 - phase) / 2
            pixels = pixels + rng.normal(0, 25, pixels.shape) + rng.normal(0, 15, 3)
            previous = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
        previous.save(place / f"{number:06}.png")
    return folder


if __name__ == "__main__":
    main()
