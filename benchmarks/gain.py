"""What fine-tuning gains over the probe, as both come, image by image, on several sets and seeds.

Each row is one `headstart compare`, so that its verdict is seen too. Another seed divides the train images otherwise,
and draws another set where sets are drawn. See README.md.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import common
import made_sets
from common import percent, print_table

FEW = 20  # images a class of the set with few
HEADER = (
    "set, seed", "learnt from", "measured", "probe", "its log loss", "fine-tuned", "its loss", "right alone",
    "difference of log loss", "epochs", "seconds", "load of others", "verdict",
)  # fmt: skip


def digits(folder: Path, seed: int) -> Path:
    """The demo's digits: the images are the same for every seed."""
    from headstart.core.progress import Silent
    from headstart.data.demo import write_digits

    return write_digits(folder, Silent())


def few_digits(folder: Path, seed: int) -> Path:
    """Twenty digits of each class to learn from, drawn by the seed; the same are measured on as of all digits."""
    every = digits(folder.with_name(f"{folder.name}-all"), seed)
    shutil.copytree(every / "test", folder / "test", dirs_exist_ok=True)
    rng = np.random.default_rng(seed)
    for label in sorted(path.name for path in (every / "train").iterdir()):
        images = sorted((every / "train" / label).iterdir())
        (folder / "train" / label).mkdir(parents=True, exist_ok=True)
        for place in rng.choice(len(images), FEW, replace=False):
            shutil.copy(images[place], folder / "train" / label)
    return folder


def made(name: str, train: int, test: int) -> Callable[[Path, int], Path]:
    """A set that `made_sets.py` draws, with so many images of each class."""
    return lambda folder, seed: made_sets.write(name, folder, train=train, test=test, seed=seed)


SETS: dict[str, Callable[[Path, int], Path]] = {
    "digits": digits,
    "few-digits": few_digits,
    "characters": made("characters", 30, 20),
    "textures": made("textures", 30, 25),
    "dots": made("dots", 60, 40),
}


def main() -> None:
    """Compare on each set and seed, and print a row for each as soon as it is known."""
    arguments = parse(None)
    sets = SETS | {path.name: lambda folder, seed, path=path: path for path in arguments.folders}
    rows, records = [], []
    with tempfile.TemporaryDirectory() as scratch:
        for name in [*arguments.sets, *(path.name for path in arguments.folders)]:
            for seed in arguments.seeds:
                source = sets[name](Path(scratch) / f"{name}-{seed}", seed)
                out = Path(scratch) / f"run-{name}-{seed}"
                process = common.run(command_of(source, out, seed, arguments.options))
                record = record_of(name, seed, process, out)
                records.append(record)
                rows.append(row_of(record))
                print(dict(zip(HEADER, rows[-1], strict=True)), file=sys.stderr, flush=True)
                if arguments.json:
                    text = {"machine": common.machine(("headstart", "torch", "timm")), "rows": records}
                    arguments.json.write_text(json.dumps(text, indent=2) + "\n", encoding="utf-8")
    print_table(HEADER, rows)


def parse(words: Sequence[str] | None) -> argparse.Namespace:
    """The arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", type=Path, nargs="*", help="sets of your own, beside those that are drawn")
    parser.add_argument("--sets", nargs="*", choices=list(SETS), default=list(SETS), help="default: all")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="default 0 1 2")
    parser.add_argument("--options", default="", help="of `headstart compare`, for all: '--epochs 4 --lr 1e-3'")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all raw figures to a file")
    return parser.parse_args(words)


def command_of(source: Path, out: Path, seed: int, options: str) -> list[str]:
    """The comparison, as a person would type it."""
    program = [sys.executable, "-m", "headstart", "compare", str(source), "--strategies", "probe,finetune"]
    return [*program, "--seed", str(seed), "--out", str(out), "--overwrite", "--json", *options.split()]


def record_of(name: str, seed: int, process: common.Process, out: Path) -> dict[str, Any]:
    """What came out of a comparison, and how the training went."""
    said = process.said
    metrics = json.loads((out / "finetune" / "metrics.json").read_text(encoding="utf-8"))
    return {
        "set": name, "seed": seed, "seconds": process.seconds, "other_load": process.other_load,
        "probe": said["rows"][0], "finetune": said["rows"][1], "pair": said["pairs"][0], "verdict": said["verdict"],
        "chosen": said["chosen"], "counts": metrics["counts"], "details": metrics["details"],
        "seconds_of_stages": metrics["seconds"],
    }  # fmt: skip


def row_of(record: dict[str, Any]) -> tuple[str, ...]:
    """A row of the table."""
    pair, details = record["pair"], record["details"]
    low, high = pair["log_loss_difference_interval"]
    cells = []
    for kind in ("probe", "finetune"):
        cells += [f"{100 * record[kind]['accuracy']:.1f} %", f"{record[kind]['log_loss']:.3f}"]
    best = details["best_epoch"]
    return (
        f"{record['set']}, {record['seed']}", str(sum(record["counts"]["train"].values())), str(pair["n"]), *cells,
        f"{pair['only_a']} : {pair['only_b']}",
        f"{-pair['log_loss_difference']:+.3f} ({-high:+.3f} to {-low:+.3f})",
        f"{best} of {details['epochs']}" if best else f"the start, of {details['epochs']}",
        f"{record['seconds']:.0f}", percent(record["other_load"]), record["chosen"],
    )  # fmt: skip


if __name__ == "__main__":
    main()
