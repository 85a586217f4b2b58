"""The parts of a table: what is learnt from, and what is held out to measure on."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from headstart.core.errors import SourceError
from headstart.core.recipe import Recipe
from headstart.core.text import counted, listed
from headstart.data.splits import deal_folds, holdout, join_groups
from headstart.data.table import MIN_IMAGES, MORE_IMAGES, SPLITS, ImageTable

if TYPE_CHECKING:
    from numpy.typing import NDArray

# With fewer held-out images the interval of an accuracy is wider than 15 points; then every image is held out once.
MIN_HELD_OUT = 50
MIN_HELD_OUT_OF_A_CLASS = 3


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
        groups: Group number of each row.
        notes: Sentences that a person should read.
    """

    names: tuple[str, ...]
    fit: NDArray[np.int64]
    folds: NDArray[np.int64]
    held_out: NDArray[np.int64]
    split: str
    labels: NDArray[np.int64]
    groups: tuple[int, ...]
    notes: tuple[str, ...]

    @property
    def cross_validated(self) -> bool:
        """Whether there was too little to hold out."""
        return not len(self.held_out)


def divide(
    table: ImageTable, digests: Sequence[str], classes: tuple[str, ...], recipe: Recipe, *, cross_validate: bool = True
) -> Parts:
    """Divide a table by the splits that it brings, or by a stratified draw that keeps groups together.

    Args:
        table: The images.
        digests: SHA-256 of each image file.
        classes: Names of the classes, in the order of their numbers.
        recipe: Shares, folds and seed.
        cross_validate: Where few images would be held out, measure on all of them, each by a model of its own.

    Raises:
        SourceError: The source's splits cannot be used.
    """
    index = {label: i for i, label in enumerate(classes)}
    labels = np.array([index[row.label or ""] for row in table.rows], np.int64)
    groups = join_groups(digests, [row.group for row in table.rows])
    notes = _duplicate_notes(table, digests)
    if any(row.group for row in table.rows):
        notes.append(
            "The intervals count each image for itself; where those of a group are alike, they are too narrow."
        )
    given = [row.split for row in table.rows]
    measured = [split for split in table.splits if split != "train"]
    if measured:
        names = [str(split) for split in given]
        split: str = measured[-1]
        if len(measured) > 1:
            notes.append("The val images are in predictions.csv; the numbers are those of the test split alone.")
        notes += _check_given(names, labels, groups, classes, split)
    else:
        split = "val"
        held = holdout(labels, groups, digests, share=recipe.holdout, seed=recipe.seed)
        if held.sum() >= MIN_HELD_OUT or (held.any() and not cross_validate):
            names = ["val" if one else "train" for one in held]
            measured_of = np.bincount(labels[held], minlength=len(classes))
            if few := [classes[i] for i in np.flatnonzero(measured_of < MIN_HELD_OUT_OF_A_CLASS)]:
                notes.append(
                    f"Fewer than {MIN_HELD_OUT_OF_A_CLASS} held-out images of {listed(few)}: "
                    "little is known of how well that is told."
                )
        else:
            names, split = ["train"] * len(labels), "cross-validation"
    fit = np.flatnonzero(np.array(names) == "train")
    _check_copies(labels[fit], [groups[i] for i in fit], classes, 2 if len(fit) < len(labels) else MIN_IMAGES)
    folds = deal_folds(
        labels[fit], [groups[i] for i in fit], [digests[int(i)] for i in fit], folds=recipe.folds, seed=recipe.seed
    )
    if split == "cross-validation":
        names = [f"fold {fold + 1}" for fold in folds]
    held_out = np.flatnonzero(~np.isin(np.arange(len(labels)), fit))
    return Parts(tuple(names), fit, folds, held_out, split, labels, tuple(groups), tuple(notes))


def count(names: tuple[str, ...], labels: NDArray[np.int64], classes: tuple[str, ...]) -> dict[str, dict[str, int]]:
    """Images of each part and class; the folds of a cross-validation are one part."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for name, label in zip(names, labels, strict=True):
        counts["cross-validation" if name.startswith("fold ") else name][classes[label]] += 1
    order = [name for name in (*SPLITS, "cross-validation") if name in counts]
    return {name: {label: counts[name][label] for label in classes} for name in order}


def _check_given(
    names: list[str], labels: NDArray[np.int64], groups: list[int], classes: tuple[str, ...], split: str
) -> list[str]:
    """Refuse splits that nothing can be learnt from, and name what weakens them."""
    part = np.array(names)
    learnt = np.bincount(labels[part == "train"], minlength=len(classes))
    if not learnt.any():
        raise SourceError(f"There is no train split beside {split}.", "Add one, or give all images without splits.")
    if missing := [classes[i] for i in np.flatnonzero(learnt == 0)]:
        where = [one for one in SPLITS if np.isin(labels[part == one], np.flatnonzero(learnt == 0)).any()]
        raise SourceError(
            f"{counted(len(missing), 'class', 'classes')} of {' and '.join(where)} without an image in train: "
            f"{listed(missing)}; train holds {listed(classes[i] for i in np.flatnonzero(learnt))}.",
            "Classes are matched by name: give the folders of all splits the same names, or add train images.",
        )
    if small := [classes[i] for i in np.flatnonzero(learnt < 2)]:
        raise SourceError(
            f"The train split has a single image of {listed(small)}.",
            "Each class needs at least two in train: one to learn from, and one to choose the settings with.",
        )
    notes = []
    measured = np.bincount(labels[part == split], minlength=len(classes))
    if absent := [classes[i] for i in np.flatnonzero(measured == 0)]:
        notes.append(f"No {split} image of {listed(absent)}: nothing is known of how well that is told.")
    train_groups = {group for group, name in zip(groups, names, strict=True) if name == "train"}
    leaked = sum(name == split and group in train_groups for group, name in zip(groups, names, strict=True))
    if leaked:
        notes.append(
            f"{counted(leaked, f'{split} image is', f'{split} images are')} also in train (the same file or group): "
            "the numbers are too good by that much."
        )
    return notes


def _check_copies(labels: NDArray[np.int64], groups: list[int], classes: tuple[str, ...], least: int) -> None:
    """Refuse classes of too few different images: copies and groups are never divided, so they count as one."""
    different = Counter(label for label, _ in set(zip(labels.tolist(), groups, strict=True)))
    if small := [f"{classes[i]} ({n})" for i, n in sorted(different.items()) if n < least]:
        raise SourceError(
            f"{counted(len(small), 'class has', 'classes have')} fewer than {least} different images or groups to "
            f"learn from: {listed(small)}. Copies of one file, and images of one group, count once.",
            MORE_IMAGES,
        )


def _duplicate_notes(table: ImageTable, digests: Sequence[str]) -> list[str]:
    """Notes on files of the same content; they stay on one side of every split that we draw."""
    labels: dict[str, set[str]] = defaultdict(set)
    for digest, row in zip(digests, table.rows, strict=True):
        labels[digest].add(row.label or "")
    notes = []
    if copies := len(digests) - len(labels):
        notes.append(f"{counted(copies, 'image is a copy', 'images are copies')} of another, byte for byte.")
    conflicting = [digest for digest, names in labels.items() if len(names) > 1]
    if conflicting:
        paths = [row.path for digest, row in zip(digests, table.rows, strict=True)
                 if digest == conflicting[0]]  # fmt: skip
        notes.append(
            f"{counted(len(conflicting), 'image is', 'images are')} in more than one class, such as {listed(paths)}, "
            "the same file: at least one of the labels is wrong."
        )
    return notes
