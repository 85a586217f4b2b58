"""The basis of choices: train images alone. What is measured later must not have chosen anything."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from headstart.core.errors import SourceError
from headstart.core.progress import Advance, Progress
from headstart.core.runtime import Runtime
from headstart.core.text import counted, quoted
from headstart.data.table import ImageTable
from headstart.data.traits import Traits
from headstart.partition.divide import divide
from headstart.partition.draw import deal_folds
from headstart.settings.recipe import Recipe
from headstart.strategies.embed import Embedded, embed

if TYPE_CHECKING:
    from numpy.typing import NDArray

# More train images hardly help to find the better of two embeddings, and each costs every candidate time.
MAX_IMAGES = 2000
MIN_OF_A_CLASS = 10  # of the sample, where there are as many


@dataclass(frozen=True)
class Basis:
    """The train images that choices are made on.

    Attributes:
        table: A row for each.
        rows: Which rows of the table that was embedded they are, int64 (N,).
        digests: SHA-256 of each image file, hexadecimal.
        classes: Names, in the order of their numbers.
        labels: Class index of each, int64 (N,).
        groups: Group number of each; images of one group are no independent evidence.
        folds: Fold of each, int64 (N,).
        traits: What else is known of each.
        train: Number of train images, of which these may be a sample.
        measured_too: Whether the same images are measured later, by cross-validation.
    """

    table: ImageTable
    rows: NDArray[np.int64]
    digests: tuple[str, ...]
    classes: tuple[str, ...]
    labels: NDArray[np.int64]
    groups: tuple[int, ...]
    folds: NDArray[np.int64]
    traits: tuple[Traits, ...]
    train: int
    measured_too: bool

    def __len__(self) -> int:
        """Number N of images."""
        return len(self.labels)

    @property
    def words(self) -> str:
        """What the evidence is, for a sentence."""
        some = f"{len(self):,} of {self.train:,} train images" if len(self) < self.train else (
            counted(self.train, "train image"))  # fmt: skip
        return f"cross-validated probe, {some}"


def evidence_recipe(recipe: Recipe) -> Recipe:
    """The probe that stands for a recipe: on its own backbone, where that begins with weights that it knows.

    A network that begins with random weights, or is the user's own, is judged by lite0: what of the pixels matters is
    much the same for both.
    """
    shared = ("folds", "measure_by", "holdout", "seed", "max_megapixels", "white_level", "class_weight")
    values: dict[str, object] = {name: getattr(recipe, name) for name in shared}
    if recipe.pretrained and not recipe.backbone_spec.brought:
        values |= {name: getattr(recipe, name) for name in ("backbone", "weights", "precision")}
        if not recipe.spec.probes:  # what trains a network begins with its float32 embeddings
            values["precision"] = "float32"
    fit = "crop" if recipe.fit == "auto" else recipe.fit
    return Recipe.from_dict(values | {"strategy": "probe", "fit": fit})


def find_basis(embedded: Embedded, recipe: Recipe) -> Basis:
    """Find the train images of a recipe: those of its own splits, or those that it will not hold out itself.

    Args:
        embedded: All images.
        recipe: The one that will be followed, whatever is left open in it.

    Raises:
        SourceError: The images cannot be learnt from.
    """
    data = embedded.data
    partition = divide(data, recipe, cross_validate=recipe.spec.probes)
    rows = partition.learnt()
    folds = partition.folds[rows]
    sampled = sample(partition.targets.labels[rows], [data.digests[row] for row in rows])
    if len(sampled) < len(rows):
        kept = rows[sampled]
        try:
            dealt = deal_folds(
                partition.targets.take(kept).strata(), partition.groups[kept].tolist(),
                [data.digests[row] for row in kept],
                folds=recipe.folds, seed=recipe.seed,
            )  # fmt: skip
        except SourceError:  # the sample has too few groups of a class
            pass
        else:
            rows, folds = kept, dealt
    return Basis(
        table=take(data.table, rows),
        rows=rows,
        digests=tuple(data.digests[row] for row in rows),
        classes=data.targets.names,
        labels=partition.targets.labels[rows],
        groups=tuple(partition.groups[rows].tolist()),
        folds=folds,
        traits=tuple(data.traits[row] for row in rows),
        train=len(partition.learnt()),
        measured_too=partition.cross_validated,
    )


def sample(
    labels: NDArray[np.int64], digests: Sequence[str], limit: int = MAX_IMAGES, least: int = MIN_OF_A_CLASS
) -> NDArray[np.int64]:
    """Rows of a stratified sample, rising: about `limit`, but `least` of each class that has as many.

    Which they are depends on the content of the images, not on their order.

    Args:
        labels: Class index of each, (N,).
        digests: SHA-256 of each, hexadecimal.
        limit: Images wanted.
        least: Of a class.
    """
    if len(labels) <= limit:
        return np.arange(len(labels))
    by_content = np.array(sorted(range(len(labels)), key=lambda row: digests[row]))
    share = limit / len(labels)
    taken = []
    for one in np.unique(labels):
        of_class = by_content[labels[by_content] == one]
        taken.append(of_class[: max(least, round(share * len(of_class)))])
    return np.sort(np.concatenate(taken))


def part(basis: Basis, some: NDArray[np.int64]) -> Basis:
    """Some images of a basis, by their places in it, (M,)."""
    return dataclasses.replace(
        basis, table=take(basis.table, some), rows=basis.rows[some], labels=basis.labels[some],
        folds=basis.folds[some], digests=tuple(basis.digests[i] for i in some),
        groups=tuple(basis.groups[i] for i in some), traits=tuple(basis.traits[i] for i in some),
    )  # fmt: skip


def take(table: ImageTable, rows: NDArray[np.int64]) -> ImageTable:
    """The table of some rows alone."""
    return dataclasses.replace(table, rows=tuple(table.rows[row] for row in rows), skipped=(), notes=())


def embed_basis(basis: Basis, recipe: Recipe, runtime: Runtime, name: str) -> Embedded:
    """Embed the basis with the recipe of a candidate, whose name the progress bears.

    Raises:
        SourceError: An image that could be read before cannot be any more.
        HeadstartError: The backbone is not available; see `embed`.
    """
    embedded = embed(basis.table, recipe, named(runtime, name))
    if skipped := embedded.data.table.skipped:
        raise SourceError(
            f"{counted(len(skipped), 'image')} failed; the first is {quoted(skipped[0].path)}: {skipped[0].reason}."
        )
    return embedded


def caveat(basis: Basis) -> str:
    """What must be said where the choice was made on images that are measured on, too."""
    if not basis.measured_too:
        return ""
    return " The choice was made on the images that are measured, so the numbers are slightly optimistic."


def named(runtime: Runtime, name: str) -> Runtime:
    """The same, with the name of a candidate behind that of each stage."""
    return dataclasses.replace(runtime, progress=_Named(runtime.progress, name))


class _Named:
    """Shows the stages of a candidate."""

    def __init__(self, progress: Progress, name: str) -> None:
        self._progress, self._name = progress, name

    def stage(self, name: str, total: int) -> AbstractContextManager[Advance]:
        """Begin a stage."""
        return self._progress.stage(f"{name} ({self._name})", total)

    def line(self, text: str) -> None:
        """Show a line."""
        self._progress.line(text)
