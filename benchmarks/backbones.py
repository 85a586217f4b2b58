"""The backbones that need no PyTorch, side by side: a cross-validated probe on the same train images of each set.

What is measured is what ``--backbone auto`` sees, so that its choice is printed too. The joined embedding of lite0 and
lite2 is measured to know whether it would pay. See README.md.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from common import print_table
from gain import SETS
from headstart import Recipe, Runtime, read
from headstart.features.dataset import Dataset
from headstart.settings.recipe import Precision
from headstart.strategies.choices.basis import Basis, embed_basis, find_basis
from headstart.strategies.choices.evidence import Outcome, choose, try_out
from headstart.strategies.embed import embed

NAMES = ("lite0", "lite1", "lite2")
HEADER = ("set", "images", "backbone", "arithmetic", "accuracy", "log loss", "p against lite0", "ms an image", "chosen")


@dataclass(frozen=True)
class Measured:
    """One backbone on one set."""

    set: str
    images: int
    backbone: str
    precision: str
    accuracy: float
    log_loss: float
    p_value: float | None
    ms: float | None
    chosen: bool


def measure(name: str, source: Path, precision: Precision, workers: int) -> list[Measured]:
    """All backbones on the train images of a set, in one arithmetic; nothing comes from a cache."""
    runtime = Runtime(cache=None, workers=workers)
    recipe = Recipe(precision=precision)
    basis = find_basis(embed(read(source), recipe, runtime), recipe)
    outcomes, kept, speeds = [], {}, []
    for backbone in NAMES:
        candidate = replace(recipe, backbone=backbone)
        started = time.perf_counter()
        data = embed_basis(basis, candidate, runtime, backbone).data
        speeds.append(1000 * (time.perf_counter() - started) / len(basis))
        kept[backbone] = data
        outcomes.append(try_out(backbone, basis, data, candidate, runtime))
    place, p_values = choose(outcomes)
    rows = [
        _measured(name, one, precision, p, ms, place == number)
        for number, (one, p, ms) in enumerate(zip(outcomes, (None, *p_values), speeds, strict=True))
    ]
    both = _joined(basis, kept["lite0"], kept["lite2"], recipe, runtime)
    return [*rows, _measured(name, both, precision, choose([outcomes[0], both])[1][0], None, False)]


def _joined(basis: Basis, one: Dataset, other: Dataset, recipe: Recipe, runtime: Runtime) -> Outcome:
    """The embeddings of two backbones side by side, (N, 2 D), each in units of its own spread."""
    parts = [data.matrix / np.float32(np.sqrt(data.matrix.var(0).mean())) for data in (one, other)]
    return try_out("lite0+lite2", basis, replace(one, features=np.hstack(parts)), recipe, runtime)


def _measured(
    name: str, one: Outcome, precision: str, p_value: float | None, ms: float | None, chosen: bool
) -> Measured:
    return Measured(name, len(one.right), one.name, precision, one.accuracy, one.log_loss, p_value, ms, chosen)


def row_of(one: Measured) -> Sequence[str]:
    """A line of the table."""
    return (
        one.set, f"{one.images:,}", one.backbone, one.precision, f"{100 * one.accuracy:.1f} %", f"{one.log_loss:.3f}",
        "" if one.p_value is None else f"{one.p_value:.3f}", "" if one.ms is None else f"{one.ms:.1f}",
        "yes" if one.chosen else "",
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
