"""The backbones that need no PyTorch, side by side: on the same train images of each set, and on its held-out images.

A cross-validated probe on the train images is what ``--backbone auto`` sees, so that its choice is printed too; then a
head is fitted on all of them, and measured on the images that chose nothing. See README.md.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from common import print_table
from gain import SETS
from headstart import Recipe, Runtime, read
from headstart.evaluation.metrics import judge
from headstart.features.dataset import Dataset
from headstart.partition.divide import divide
from headstart.settings.recipe import Precision
from headstart.strategies.choices.backbone import ms_an_image
from headstart.strategies.choices.basis import Basis, find_basis
from headstart.strategies.choices.evidence import Outcome, better, choose, try_out
from headstart.strategies.embed import embed
from headstart.strategies.probe import fit_linear

NAMES = ("lite0", "lite1", "lite2", "lite0+lite2")
HEADER = (
    "set", "images", "backbone", "arithmetic", "accuracy", "log loss", "p against lite0", "chosen", "held out",
    "accuracy there", "log loss there", "p of better, of worse than lite0 there", "ms an image",
)  # fmt: skip


@dataclass(frozen=True)
class Measured:
    """One backbone on one set: cross-validated on the train images, and measured on the held-out ones.

    Attributes:
        p_value: That it is better than lite0 on the train images, corrected; None for lite0.
        held_out_better: P-value that it is better than lite0 on the held-out images; likewise.
        held_out_worse: That it is worse.
        ms: Time of the network for an image on one core.
    """

    set: str
    images: int
    backbone: str
    precision: str
    accuracy: float
    log_loss: float
    p_value: float | None
    chosen: bool
    held_out: int
    held_out_accuracy: float
    held_out_log_loss: float
    held_out_better: float | None
    held_out_worse: float | None
    ms: float


def measure(name: str, source: Path, precision: Precision, workers: int) -> list[Measured]:
    """All backbones on a set, in one arithmetic; nothing comes from a cache."""
    runtime, recipe, table = Runtime(cache=None, workers=workers), Recipe(precision=precision), read(source)
    found = {one: embed(table, replace(recipe, backbone=one), runtime) for one in NAMES}
    basis = find_basis(found["lite0"], recipe)
    data = {one: embedded.data for one, embedded in found.items()}
    seen = [_cross_validated(one, basis, data[one], recipe, runtime) for one in NAMES]
    place, p_values = choose(seen)
    held_out = [_held_out(one, data[one], recipe, runtime) for one in NAMES]
    return [
        Measured(
            name, len(here.right), here.name, precision, here.accuracy, here.log_loss, p, place == number,
            len(there.right), there.accuracy, there.log_loss,
            None if p is None else better(there, held_out[0]), None if p is None else better(held_out[0], there),
            ms_an_image(found[here.name].embedder),
        )
        for number, (here, there, p) in enumerate(zip(seen, held_out, (None, *p_values), strict=True))
    ]  # fmt: skip


def _cross_validated(name: str, basis: Basis, data: Dataset, recipe: Recipe, runtime: Runtime) -> Outcome:
    """What ``--backbone auto`` sees of one."""
    return try_out(name, basis, replace(data, features=data.matrix[basis.rows]), recipe, runtime)


def _held_out(name: str, data: Dataset, recipe: Recipe, runtime: Runtime) -> Outcome:
    """Its probe, fitted on all train images, on the images that are measured."""
    partition = divide(data, recipe)
    rows = partition.measured()
    probabilities = fit_linear(data, partition, recipe, runtime).probabilities(data.matrix[rows])
    return Outcome(name, *judge(probabilities, partition.targets.labels[rows]), partition.groups[rows])


def row_of(one: Measured) -> Sequence[str]:
    """A line of the table."""
    return (
        one.set, f"{one.images:,}", one.backbone, one.precision, f"{100 * one.accuracy:.1f} %", f"{one.log_loss:.3f}",
        "" if one.p_value is None else f"{one.p_value:.3f}", "yes" if one.chosen else "", f"{one.held_out:,}",
        f"{100 * one.held_out_accuracy:.1f} %", f"{one.held_out_log_loss:.3f}",
        "" if one.held_out_better is None else f"{one.held_out_better:.3f}, {one.held_out_worse:.3f}",
        f"{one.ms:.1f}",
    )  # fmt: skip


def main() -> None:
    """Measure on each set, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="*", type=Path, help="folders of images, beside the sets")
    parser.add_argument("--sets", nargs="*", default=["digits", "characters", "textures", "dots"], choices=list(SETS))
    parser.add_argument("--precisions", nargs="*", default=["int8", "float32"], choices=["int8", "float32"])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    found = []
    with tempfile.TemporaryDirectory() as scratch:
        sources = {path.name: path for path in arguments.folders}
        sources |= {name: SETS[name](Path(scratch) / name, 0) for name in arguments.sets}
        for name, source in sources.items():
            for precision in arguments.precisions:
                found += measure(name, source, precision, arguments.workers)
    print_table(HEADER, [row_of(one) for one in found])
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(one) for one in found], indent=1))


if __name__ == "__main__":
    main()
