"""The parts of a table: what is learnt from, and what is held out to measure on.

Copies, near duplicates and the user's groups stay on one side of every split that is drawn here. Where the source
brings splits that divide them, the measured images of which there is another in train are `leaked`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from headstart.core.errors import SourceError
from headstart.core.text import counted
from headstart.data.table import MIN_IMAGES, SPLITS, ImageTable
from headstart.partition import soundness
from headstart.partition.draw import deal_folds, holdout, join_groups
from headstart.partition.duplicates import Pairs, alike
from headstart.settings.recipe import Recipe

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headstart.data.traits import Traits

# With fewer held-out images the interval of an accuracy is wider than 15 points; then every image is held out once.
MIN_HELD_OUT = 50
FOLDS = "cross-validation"


@dataclass(frozen=True)
class Parts:
    """Who learns and who is held out.

    Attributes:
        names: The part of each row, (N,).
        fit: Rows that the final model learns from, (F,).
        folds: For each of these, its fold in the choice of the head's strength, (F,).
        held_out: Rows that are measured on; empty when that is done by cross-validation over `folds`.
        split: What the evaluation calls the held-out images.
        labels: Class index of each row, (N,).
        groups: Number of the group of each row that stays on one side.
        near: The near duplicates, by their fingerprints alone.
        leaked: Whether a row is measured by a model that has learnt from a copy or near duplicate of it, or from an
            image of its group, bool (N,).
        notes: Sentences that a person should read.
    """

    names: tuple[str, ...]
    fit: NDArray[np.int64]
    folds: NDArray[np.int64]
    held_out: NDArray[np.int64]
    split: str
    labels: NDArray[np.int64]
    groups: tuple[int, ...]
    near: Pairs
    leaked: NDArray[np.bool_]
    notes: tuple[str, ...]

    @property
    def cross_validated(self) -> bool:
        """Whether each image is measured by a model that has not seen it, and none is held out from all."""
        return not len(self.held_out)


def divide(
    table: ImageTable,
    digests: Sequence[str],
    classes: tuple[str, ...],
    recipe: Recipe,
    *,
    traits: Sequence[Traits],
    cross_validate: bool = True,
) -> Parts:
    """Divide a table by the splits that it brings, or by a stratified draw that keeps together what belongs together.

    With ``measure_by = folds`` the images of train and val are pooled and dealt into folds. Those of test are left
    alone: they are neither learnt from nor measured, so that they stay what they were set aside for.

    Args:
        table: The images.
        digests: SHA-256 of each image file.
        classes: Names of the classes, in the order of their numbers.
        recipe: Shares, folds and seed.
        traits: What else is known of each image, for its near duplicates.
        cross_validate: With ``measure_by = auto``, where few images would be held out: measure on all of them, each by
            a model of its own.

    Raises:
        SourceError: The source's splits cannot be used, or nothing of them can be measured soundly.
    """
    index = {label: i for i, label in enumerate(classes)}
    labels = np.array([index[row.label or ""] for row in table.rows], np.int64)
    named, near = [row.group for row in table.rows], alike(traits)
    plain, together = join_groups(digests, named), join_groups(digests, named, near.rows.tolist())
    names, split = _given(table, recipe)
    notes = soundness.of_images(table, digests, near) + soundness.of_splits(table, split)
    soundness.check_learnt(names, labels, classes, split)
    drawn = split in {"", FOLDS}
    groups = _divisible(together, plain, labels, _rows(names, "train"), MIN_IMAGES if drawn else 2)
    if not split:
        held = holdout(labels, groups, digests, share=recipe.holdout, seed=recipe.seed)
        split = "val" if _enough(held, recipe, cross_validate) else FOLDS
        names = ["val" if one and split == "val" else "train" for one in held]
    fit = _rows(names, "train")
    soundness.check_copies(labels[fit], [groups[i] for i in fit], classes, MIN_IMAGES if split == FOLDS else 2)
    folds, groups = _folds(labels, fit, groups, plain, digests, recipe)
    held_out = np.setdiff1d(np.arange(len(labels)), fit)
    if split == FOLDS:
        held_out = held_out[:0]
        for row, fold in zip(fit, folds, strict=True):
            names[row] = f"fold {fold + 1}"
    leaked = _leaked(names, together)
    if drawn:
        notes += soundness.of_draw(groups, together, names, labels, classes)
    else:
        notes += soundness.of_measured(names, labels, classes, split, leaked, _leaked(names, plain))
    return Parts(tuple(names), fit, folds, held_out, split, labels, tuple(groups), near, leaked, tuple(notes))


def count(names: tuple[str, ...], labels: NDArray[np.int64], classes: tuple[str, ...]) -> dict[str, dict[str, int]]:
    """Images of each part and class; the folds of a cross-validation are one part."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for name, label in zip(names, labels, strict=True):
        counts[FOLDS if name.startswith("fold ") else name][classes[label]] += 1
    order = [name for name in (*SPLITS, FOLDS) if name in counts]
    return {name: {label: counts[name][label] for label in classes} for name in order}


def _given(table: ImageTable, recipe: Recipe) -> tuple[list[str], str]:
    """The part of each row as the source has it, and what is measured: a split, the folds, or nothing yet."""
    names = [str(row.split or "train") for row in table.rows]
    if recipe.measure_by == "folds":
        return ["train" if name == "val" else name for name in names], FOLDS
    measured = [split for split in table.splits if split != "train"]
    return names, measured[-1] if measured else ""


def _rows(names: Sequence[str], part: str) -> NDArray[np.int64]:
    return np.flatnonzero(np.array(names) == part)


def _enough(held: NDArray[np.bool_], recipe: Recipe, cross_validate: bool) -> bool:
    """Whether to measure on these held-out images, and not by cross-validation.

    Raises:
        SourceError: That was asked for, and there is none.
    """
    if recipe.measure_by == "holdout" and not held.any():
        raise SourceError(
            f"Of {counted(len(held), 'image')} none can be held out: what is left of a class would be too little.",
            "Add images; or measure by cross-validation, with --measure-by folds.",
        )
    auto = recipe.measure_by == "auto"
    return bool(held.any()) and not (auto and cross_validate and held.sum() < MIN_HELD_OUT)


def _divisible(
    together: list[int], plain: list[int], labels: NDArray[np.int64], learnt: NDArray[np.int64], least: int
) -> list[int]:
    """The groups, of which those are taken apart again that would leave a class too few to divide.

    Near duplicates stay together, unless a class consists of hardly anything else: the frames of one video, say. Then
    a model can be trained all the same, and a note tells what its numbers are worth.

    Args:
        together: Group number of each row, with the near duplicates.
        plain: The same without them.
        labels: Class index of each row, (N,).
        learnt: Rows that are divided.
        least: Groups that each class needs.
    """
    groups = list(together)
    while True:
        left = Counter(label for label, _ in {(int(labels[row]), groups[row]) for row in learnt})
        small = {groups[row] for row in range(len(groups)) if left[int(labels[row])] < least} & set(together)
        if not small:
            return groups
        apart = len(groups)  # numbers that no other group has
        groups = [apart + plain[row] if group in small else group for row, group in enumerate(groups)]


def _folds(
    labels: NDArray[np.int64],
    fit: NDArray[np.int64],
    groups: list[int],
    plain: list[int],
    digests: Sequence[str],
    recipe: Recipe,
) -> tuple[NDArray[np.int64], list[int]]:
    """The folds, and the groups that they keep together: without near duplicates where those mix the classes."""

    def deal(by: list[int]) -> NDArray[np.int64]:
        own = [by[i] for i in fit]
        return deal_folds(labels[fit], own, [digests[i] for i in fit], folds=recipe.folds, seed=recipe.seed)

    try:
        return deal(groups), groups
    except SourceError:
        return deal(plain), plain


def _leaked(names: list[str], groups: list[int]) -> NDArray[np.bool_]:
    """Which measured rows have one of their group among those that their model has learnt from, bool (N,)."""
    by_folds = "train" not in names

    def learnt(name: str) -> bool:
        return name.startswith("fold ") if by_folds else name == "train"

    sides: dict[int, set[str]] = defaultdict(set)
    for name, group in zip(names, groups, strict=True):
        if learnt(name):
            sides[group].add(name)
    measured = [learnt(name) == by_folds for name in names]
    found = [bool(sides[group] - {name}) for name, group in zip(names, groups, strict=True)]
    return np.logical_and(measured, found)
