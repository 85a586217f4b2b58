"""Embedding into a folder of shards: images per second here and on Ray, and how time and memory grow with the images.

Photos are generated: 500 x 375 JPEGs of noise over a gradient, each another one. Every figure is of a whole process,
the start of Ray included; the memory is of the process that embeds here. See README.md.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from common import print_table, run

WIDTH_PX, HEIGHT_PX = 500, 375
CLASSES = 4
WORKERS = (1, 2)


def draw(folder: Path, count: int) -> Path:
    """Write generated photos into class folders; those that are there already stay."""
    y, x = np.mgrid[:HEIGHT_PX, :WIDTH_PX]
    for number in range(count):
        path = folder / f"class{number % CLASSES}" / f"{number:07}.jpg"
        if path.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(number)
        slope, colour = rng.uniform(-0.3, 0.3, 2), rng.uniform(40, 215, 3)
        plane = (slope[0] * x + slope[1] * y)[..., None] + colour
        coarse = rng.normal(0, 25, (HEIGHT_PX // 5, WIDTH_PX // 5, 1)).repeat(5, 0).repeat(5, 1)
        Image.fromarray(np.clip(plane + coarse, 0, 255).astype(np.uint8)).save(path, quality=88)
    return folder


def embed(source: Path, out: Path, *options: str) -> tuple[float, float]:
    """Seconds and peak memory (MB) of one run of `headstart embed`; workers of Ray are not in its memory."""
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "headstart", "embed", str(source), "--out", str(out), "--quiet", *options]
    process = run(command)
    return process.seconds, process.peak_mb


def contents(out: Path) -> dict[str, bytes]:
    """The shards of a folder."""
    return {path.name: path.read_bytes() for path in sorted(out.glob("part-*"))}


def main() -> None:
    """Measure all counts, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("counts", type=int, nargs="*", default=[1000, 10_000], help="numbers of images")
    parser.add_argument("--photos", type=Path, help="folder where the photos are kept")
    parser.add_argument("--json", type=Path, help="file of all figures")
    chosen = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    rows, figures = [], []
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary)
        for count in chosen.counts:
            source = draw((chosen.photos or scratch) / f"photos-{count}", count)
            expected: dict[str, bytes] = {}
            for workers in WORKERS:
                given = ("--workers", str(workers))
                here, memory = embed(source, scratch / "here", *given)
                there, _ = embed(source, scratch / "there", *given, "--on", "ray")
                expected = expected or contents(scratch / "here")
                same = contents(scratch / "here") == expected == contents(scratch / "there")
                figures.append({
                    "images": count, "workers": workers, "local_s": here, "ray_s": there, "local_peak_mb": memory,
                    "same_bytes": same,
                })  # fmt: skip
                rows.append((
                    f"{count:,}, {workers}", f"{here:.1f}", f"{count / here:.0f}", f"{there:.1f}",
                    f"{count / there:.0f}", f"{100 * (there / here - 1):+.0f} %", f"{memory:.0f}",
                    "yes" if same else "NO",
                ))  # fmt: skip
    header = ("images, workers", "local s", "images/s", "Ray s", "images/s", "Ray over local", "local MB", "same bytes")
    print_table(header, rows)
    if chosen.json:
        chosen.json.write_text(json.dumps(figures, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
