"""The rows of the README's table: what each strategy reaches on a folder with train/ and val/, and how long it takes.

Every row is a whole process of the command line, with the embedder and the libraries already on the disk and an empty
feature cache. See README.md.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import common
from common import accuracy_words, forget_embeddings, percent, print_table

ESTIMATE_IMAGES = 24  # of each class of each part in the estimating run; enough for a batch without a fifth of them
# Of the time of an epoch that trains all layers: a frozen network runs forward only.
FORWARD_SHARE = 0.35


@dataclass(frozen=True)
class Row:
    """A strategy.

    Attributes:
        title: For the table.
        choices: Arguments of `headstart train`.
        epochs: As its recipe says; what `finetune` plans for 200 images; 0 for none.
        share: Of the work of an epoch that trains all layers, for the estimate.
    """

    title: str
    choices: tuple[str, ...]
    epochs: int
    share: float


ROWS = {
    "scratch": Row("`scratch`: random weights", ("--strategy", "scratch", "--no-pretrained"), 60, 1),
    "tutorial-finetune": Row("recipe `tutorial-finetune`", ("--recipe", "tutorial-finetune"), 25, 1),
    "tutorial-feature-extraction": Row(
        "recipe `tutorial-feature-extraction`", ("--recipe", "tutorial-feature-extraction"), 25, FORWARD_SHARE
    ),
    "probe": Row("`probe` (the default)", ("--strategy", "probe"), 0, FORWARD_SHARE),
    "finetune": Row("`finetune`", ("--strategy", "finetune"), 8, 1),
}


@dataclass(frozen=True)
class Sample:
    """One run of a whole process; see `common.Process`."""

    seconds: float
    peak_mb: float
    other_load: float | None
    correct: int
    n: int


def main() -> int:
    """Run all rows; the exit code."""
    arguments = parse(None)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        os.environ["HEADSTART_CACHE"] = str(scratch / "cache")
        rows = {name: row for name, row in ROWS.items() if name not in arguments.skip}
        warm_up(arguments, scratch, rows)
        samples: dict[str, list[Sample]] = {name: [] for name in rows}
        for turn in range(arguments.repeats):
            for name, row in rows.items():
                command = command_of(row, arguments.folder, scratch / name, arguments.epochs)

                def once(attempt: int, command: Sequence[str] = command) -> Sample:
                    process = common.run(command)
                    result = process.said["evaluation"]
                    return Sample(
                        process.seconds, process.peak_mb, process.other_load, result["correct"], result["n"]
                    )  # fmt: skip

                samples[name].append(common.least_disturbed(once, arguments.attempts, forget_embeddings))
                seconds, load = samples[name][-1].seconds, percent(samples[name][-1].other_load)
                words = f"{seconds:.1f} s, load {load}"
                print(f"{row.title}, run {turn + 1} of {arguments.repeats}: {words}", file=sys.stderr, flush=True)
    report(rows, samples, arguments.epochs)
    if arguments.json:
        record = {name: [asdict(sample) for sample in some] for name, some in samples.items()}
        arguments.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return 0


def parse(words: Sequence[str] | None) -> argparse.Namespace:
    """The arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="folder with train/ and val/, each with a folder for each class")
    parser.add_argument("--epochs", type=int, help="of every row at most; default: as each recipe says")
    parser.add_argument("--repeats", type=int, default=1, help="runs of each; default 1")
    parser.add_argument("--attempts", type=int, default=1, help="repeat a run that others disturb, up to this often")
    parser.add_argument("--skip", nargs="*", choices=list(ROWS), default=[], help="leave these out")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all raw figures to a file")
    return parser.parse_args(words)


def command_of(row: Row, source: Path, out: Path, epochs: int | None) -> list[str]:
    """The training of one row."""
    program = [sys.executable, "-m", "headstart", "train", str(source), "--backbone", "lite0", *row.choices]
    short = ["--epochs", str(min(epochs, row.epochs))] if epochs and row.epochs else []
    return [*program, *short, "--device", "cpu", "--out", str(out), "--overwrite", "--json"]


def warm_up(arguments: argparse.Namespace, scratch: Path, rows: dict[str, Row]) -> None:
    """Build the embedders, bring the libraries in from the disk, and print how long all will take."""
    few = scratch / "few"
    common.same_images(arguments.folder, few, ESTIMATE_IMAGES)
    for name in ("probe", "finetune"):
        if name in rows:
            common.run(command_of(rows[name], few, scratch / "warm", 1))
    said = common.run(command_of(ROWS["tutorial-finetune"], few, scratch / "warm", 1)).said
    an_image = said["details"]["history"][-1]["seconds"] / common.count_images(few)
    images = common.count_images(arguments.folder)
    minutes = arguments.repeats * estimate(rows, an_image, images, arguments.epochs) / 60
    print(f"About {minutes:.0f} minutes for {len(rows)} rows, {images} images and {arguments.repeats} runs of each.",
          file=sys.stderr, flush=True)  # fmt: skip


def estimate(rows: dict[str, Row], an_image: float, images: int, epochs: int | None) -> float:
    """Seconds that all rows will take, roughly.

    Args:
        rows: What is run.
        an_image: Seconds an image of an epoch that trains all layers.
        images: Their number.
        epochs: Of every row at most; None for as many as its recipe says.
    """
    return sum(row.share * an_image * images * max(1, min(epochs or row.epochs, row.epochs)) for row in rows.values())


def report(rows: dict[str, Row], samples: dict[str, list[Sample]], epochs: int | None) -> None:
    """Print the Markdown rows."""
    cells = []
    for name, row in rows.items():
        some = samples[name]
        loads = [sample.other_load for sample in some if sample.other_load is not None]
        number = min(epochs or row.epochs, row.epochs)
        cells.append((
            row.title, str(number) if number else "",
            *accuracy_words(round(median(sample.correct for sample in some)), some[0].n),
            f"{median(sample.seconds for sample in some):.0f}", f"{max(sample.peak_mb for sample in some):.0f}",
            percent(median(loads)) if loads else "",
        ))  # fmt: skip
    print_table(("strategy", "epochs", "accuracy", "95 % interval", "seconds", "peak MB", "load of others"), cells)


if __name__ == "__main__":
    sys.exit(main())
