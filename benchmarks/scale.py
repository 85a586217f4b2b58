"""Embedding into a folder of shards: images per second here, on Ray and with Ray Data; how time and memory grow.

Photos are generated: 500 x 375 JPEGs of noise over a gradient, a few hundred pictures, of which each file has its own
bytes. Every figure is of a whole process, the start of Ray included. See README.md.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from common import print_table, run, system_seconds

WIDTH_PX, HEIGHT_PX = 500, 375
CLASSES = 4
PICTURES = 400  # that are drawn; more files are copies with another comment: another digest, the same work
MAX_OVERHEAD = 0.15  # of Ray over the same number of threads here
OVERHEAD_FROM = 10_000  # images; of fewer, Ray's start is what is measured


@dataclass(frozen=True)
class Way:
    """A way to embed a folder.

    Attributes:
        name: In tables.
        workers: Threads here, or CPUs of the Ray that it starts.
        options: Of `headstart embed`; None for plain Ray Data.
    """

    name: str
    workers: int
    options: tuple[str, ...] | None = ()

    def command(self, source: Path, out: Path) -> list[str]:
        """What is run."""
        if self.options is None:
            rival = Path(__file__).with_name("rival_ray_data.py")
            return [sys.executable, str(rival), str(source), str(out), "--cpus", str(self.workers)]
        given = ["--workers", str(self.workers), "--out", str(out), "--quiet", *self.options]
        return [sys.executable, "-m", "headstart", "embed", str(source), *given]


WAYS = (
    *(Way(f"here, {n}", n) for n in (1, 2)),
    *(Way(f"Ray, {n}", n, ("--on", "ray")) for n in (1, 2)),
    Way("here in float32, 2", 2, ("--precision", "float32")),
    Way("Ray Data and PyTorch, 2", 2, None),
)


@dataclass(frozen=True)
class Figure:
    """One run.

    Attributes:
        images: How many.
        way: See `Way.name`.
        seconds: Wall time of the process.
        cpu_seconds: Of the process and its children, those of Ray not included.
        busy_seconds: CPU time of the whole machine meanwhile: that of Ray's processes, and of others if there are any.
        peak_mb: Largest resident size of the process or of any one of its children.
        digest: Of all shards.
    """

    images: int
    way: str
    seconds: float
    busy_seconds: float | None
    cpu_seconds: float
    peak_mb: float
    digest: str


def pictures() -> Iterator[bytes]:
    """Generated photos, as JPEG."""
    y, x = np.mgrid[:HEIGHT_PX, :WIDTH_PX]
    for number in range(PICTURES):
        rng = np.random.default_rng(number)
        slope, colour = rng.uniform(-0.3, 0.3, 2), rng.uniform(40, 215, 3)
        plane = (slope[0] * x + slope[1] * y)[..., None] + colour
        coarse = rng.normal(0, 25, (HEIGHT_PX // 5, WIDTH_PX // 5, 1)).repeat(5, 0).repeat(5, 1)
        content = io.BytesIO()
        Image.fromarray(np.clip(plane + coarse, 0, 255).astype(np.uint8)).save(content, "JPEG", quality=88)
        yield content.getvalue()


def numbered(jpeg: bytes, number: int) -> bytes:
    """The same picture in other bytes: with its number as a comment (marker COM, behind the start of the image)."""
    comment = str(number).encode()
    return jpeg[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + jpeg[2:]


def draw(folder: Path, count: int) -> Path:
    """Write generated photos into class folders; a folder that is whole stays."""
    if sum(1 for _ in folder.glob("*/*.jpg")) == count:
        return folder
    drawn = list(pictures())
    for number in range(count):
        path = folder / f"class{number % CLASSES}" / f"{number:07}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(numbered(drawn[number % PICTURES], number))
    return folder


def contents(out: Path) -> str:
    """Digest of the shards of a folder."""
    from hashlib import sha256

    digest = sha256()
    for path in sorted(out.glob("part-*")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def measure(way: Way, source: Path, count: int, out: Path) -> Figure:
    """One run of a way, into a folder that is not there yet."""
    shutil.rmtree(out, ignore_errors=True)
    before = system_seconds()
    process = run(way.command(source, out))
    after = system_seconds()
    if way.options is None and process.said.get("images") != count:
        sys.exit(f"{way.name}: {process.said} of {count} images")
    return Figure(
        images=count, way=way.name, seconds=process.seconds, cpu_seconds=process.cpu_seconds,
        busy_seconds=None if before is None or after is None else after - before, peak_mb=process.peak_mb,
        digest=contents(out),
    )  # fmt: skip


def beside(figures: Sequence[Figure]) -> Iterator[tuple[Figure, Figure | None]]:
    """Each run, and that of as many threads here where there is one."""
    here = {(one.images, one.way): one for one in figures}
    for one in figures:
        name = f"here, {one.way.rpartition(' ')[2]}"
        yield one, None if one.way == name else here.get((one.images, name))


def rows_of(figures: Sequence[Figure]) -> Iterator[tuple[str, ...]]:
    """The rows of the table."""
    for one, here in beside(figures):
        took = one.cpu_seconds if one.way.startswith("here") else one.busy_seconds
        same = "" if here is None or not one.way.startswith("Ray, ") else "yes" if one.digest == here.digest else "NO"
        yield (
            f"{one.images:,}", one.way, f"{one.seconds:.1f}", f"{one.images / one.seconds:.1f}",
            "" if took is None else f"{1000 * took / one.images:.1f}",
            "" if here is None else f"{one.seconds / here.seconds:.2f}", f"{one.peak_mb:.0f}", same,
        )  # fmt: skip


def missed(figures: Sequence[Figure]) -> list[str]:
    """Which targets the figures miss: the overhead of Ray, and that its shards are the same bytes."""
    found = []
    for one, here in beside(figures):
        if here is None or not one.way.startswith("Ray, "):
            continue
        if one.digest != here.digest:
            found.append(f"{one.images:,} images, {one.way}: the shards are other bytes")
        over = one.seconds / here.seconds - 1
        if one.images >= OVERHEAD_FROM and over > MAX_OVERHEAD:
            found.append(f"{one.images:,} images, {one.way}: {100 * over:.0f} % over the same here")
    return found


def main() -> None:
    """Measure all counts, and print a table; the exit code is 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("counts", type=int, nargs="*", default=[1000, 10_000], help="numbers of images")
    parser.add_argument("--photos", type=Path, help="folder where the photos are kept")
    parser.add_argument(
        "--only", nargs="+", choices=[way.name for way in WAYS], metavar="WAY", help="such as 'here, 2'"
    )
    parser.add_argument("--draw", action="store_true", help="only write the photos")
    parser.add_argument("--json", type=Path, help="file of all figures; those that it holds are not measured again")
    chosen = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    figures: list[Figure] = []
    if chosen.json and chosen.json.exists():
        figures = [Figure(**one) for one in json.loads(chosen.json.read_bytes())]
    with tempfile.TemporaryDirectory(dir=chosen.photos) as temporary:
        for count in chosen.counts:
            source = draw((chosen.photos or Path(temporary)) / f"photos-{count}", count)
            ways = [] if chosen.draw else [way for way in WAYS if chosen.only is None or way.name in chosen.only]
            for way in ways:
                if (count, way.name) in {(one.images, one.way) for one in figures}:
                    continue
                figures.append(measure(way, source, count, Path(temporary) / "out"))
                if chosen.json:
                    chosen.json.write_text(json.dumps([asdict(one) for one in figures], indent=2), encoding="utf-8")
    header = ("images", "way, CPUs", "seconds", "images/s", "CPU ms each", "times here", "peak MB", "same bytes")
    print_table(header, rows_of(figures))
    for words in (found := missed(figures)):
        print(f"Missed: {words}.")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
