"""Whether the parts of a table can be trained and measured on: errors if not, notes on what weakens them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from headstart.core.errors import SourceError
from headstart.core.spellings import twin_hint
from headstart.core.text import counted, listed, quoted
from headstart.data.several import disputed
from headstart.data.table import ImageTable, more_images, nouns_of
from headstart.partition.draw import groups_of_each
from headstart.partition.duplicates import Pairs
from headstart.partition.roles import Role
from headstart.targets import TARGETS, Targets

if TYPE_CHECKING:
    from numpy.typing import NDArray

MIN_HELD_OUT_OF_A_CLASS = 3
# If more of the images than this have near duplicates, a note says that the intervals are too narrow.
MANY_ALIKE = 0.1


def of_images(table: ImageTable, digests: Sequence[str], near: Pairs) -> list[str]:
    """Notes on images that are not independent: copies, near duplicates, the user's groups."""
    notes = [*_copies(table, digests), *_near(table, digests, near)]
    if any(row.group for row in table.rows) or len(np.unique(near.rows)) > MANY_ALIKE * len(table):
        notes.append(
            "The intervals treat images as independent; if those of a group are alike, the intervals are too narrow."
        )
    return notes


def of_splits(table: ImageTable, measures: Role) -> list[str]:
    """Notes on what is measured of the splits that the source brings.

    Args:
        table: The images.
        measures: What is measured of them; `Role.TRAIN` for the folds, `Role.NONE` where none was brought.
    """
    if measures != Role.TRAIN:
        both = {"val", "test"} <= set(table.splits)
        return ["The val images are in predictions.csv; the numbers are those of the test split alone."] if both else []
    notes = {
        "val": "Measured by folds: the images of train and val are pooled, and each is measured once.",
        "test": "Measured by folds: the test images were used neither for training nor for measuring; `headstart "
        "evaluate` can.",
    }
    return [note for part, note in notes.items() if part in table.splits]


def check_learnt(roles: NDArray[np.int8], targets: Targets, measures: Role) -> None:
    """Refuse splits that cannot be trained on."""
    classes, learnt = targets.names, targets.take(roles == Role.TRAIN).count()
    one, several = nouns_of(targets.task)
    if not learnt.any():
        beside = "test" if measures == Role.TRAIN else measures.word
        raise SourceError(f"There is no train split beside {beside}.", "Add one, or give all images without splits.")
    if missing := [classes[i] for i in np.flatnonzero(learnt == 0)]:
        where = [role.word for role in Role if targets.take(roles == role).count()[learnt == 0].any()]
        raise SourceError(
            f"{counted(len(missing), one, several)} of {' and '.join(where)} without an image in train: "
            f"{listed(missing)}; train holds {listed(classes[i] for i in np.flatnonzero(learnt))}.",
            twin_hint(missing, classes)
            + f"{several.capitalize()} are matched by name: give the folders of all splits the same names, or add "
            "train images.",
        )
    if small := [classes[i] for i in np.flatnonzero(learnt < 2)]:
        raise SourceError(
            f"The train split has a single image of {listed(small)}.",
            twin_hint(small, classes)
            + f"Each {one} needs at least two in train: one to train on, and one to choose the settings with.",
        )


def of_measured(
    roles: NDArray[np.int8],
    targets: Targets,
    measures: Role,
    leaked: NDArray[np.bool_],
    same: NDArray[np.bool_],
) -> list[str]:
    """Name what weakens the splits of the source, and refuse those that measure nothing.

    Args:
        roles: The `Role` of each row, (N,).
        targets: The labels of the rows.
        measures: The role that is measured.
        leaked: Rows of which another is in train, (N,).
        same: Those of them that are exact copies, or of the same group of the user's, (N,).
    """
    notes, split = [], measures.word
    rows = roles == measures
    measured = targets.take(rows).count()
    if absent := [targets.names[i] for i in np.flatnonzero(measured == 0)]:
        notes.append(f"No {split} image of {listed(absent)}: its accuracy is unknown.")
    if not (number := int((leaked & rows).sum())):
        return notes
    how = "the same file or group" if (same & rows).sum() == number else "the same file or group, or a near duplicate"
    if number == rows.sum():
        raise SourceError(
            f"All {counted(number, f'{split} image')} are also in train ({how}): the accuracy on them says nothing "
            "about new images.",
            "Take them out of train; or give all images without splits, which are then divided with copies on one "
            "side. `headstart check` lists them.",
        )
    notes.append(
        f"{counted(number, f'{split} image is', f'{split} images are')} also in train ({how}): "
        "this leakage makes the numbers too good."
    )
    return notes


def of_draw(
    groups: list[int],
    together: list[int],
    roles: NDArray[np.int8],
    targets: Targets,
) -> list[str]:
    """Notes on what a draw could not do: on classes of near duplicates, of one large group, of few held-out images.

    Args:
        groups: Group number of each row, as it was drawn.
        together: The same with all near duplicates together.
        roles: The `Role` of each row, (N,).
        targets: The labels of the rows.
    """
    notes, classes = [], targets.names
    size, whole = Counter(groups), Counter(together)
    divided = [row for row, group in enumerate(groups) if size[group] < whole[together[row]]]
    if divided:
        concerned = listed(classes[i] for i in np.flatnonzero(targets.take(divided).count()))
        notes.append(
            f"So many images of {concerned} are near duplicates of one another that they could not be kept on one "
            "side: their numbers may be far too optimistic. If they are frames of a video, or photos of one thing, add "
            "images of others, or name what belongs together in a column `group`."
        )
    number = targets.count()
    own = Counter((one, group) for strata, group in zip(targets.strata(), groups, strict=True) for one in strata)
    for (label, _), count in sorted(own.items()):
        if count > number[label] / 2:
            notes.append(
                f"{count:,} of the {number[label]:,} images of {quoted(classes[label])} belong together (copies, near "
                "duplicates or a group) and stay on one side: little is known about how well others of the "
                f"{nouns_of(targets.task)[0]} are recognised."
            )
    if (held := roles == Role.TEST).any():
        measured = targets.take(held).count()
        if few := [classes[i] for i in np.flatnonzero(measured < MIN_HELD_OUT_OF_A_CLASS)]:
            notes.append(
                f"Fewer than {MIN_HELD_OUT_OF_A_CLASS} held-out images of {listed(few)}: what is measured of "
                f"{'it' if len(few) == 1 else 'them'} is very uncertain."
            )
    return notes


def check_copies(targets: Targets, groups: list[int], least: int) -> None:
    """Refuse classes of too few different images: copies and groups are never divided, so they count as one."""
    classes, different = targets.names, groups_of_each(targets.strata(), groups)
    one, several = nouns_of(targets.task)
    if small := [i for i, n in sorted(different.items()) if n < least]:
        raise SourceError(
            f"{counted(len(small), f'{one} has', f'{several} have')} fewer than {least} different images or groups to "
            f"learn from: {listed(f'{classes[i]} ({different[i]})' for i in small)}. Copies of one file, and images "
            "of one group, count once.",
            twin_hint([classes[i] for i in small], classes) + more_images(one),
        )


def _copies(table: ImageTable, digests: Sequence[str]) -> list[str]:
    """Notes on files of the same content; they stay on one side of every split that we draw."""
    labels: dict[str, set[str]] = defaultdict(set)
    for digest, row in zip(digests, table.rows, strict=True):
        labels[digest].add(row.label or "")
    notes = []
    if copies := len(digests) - len(labels):
        notes.append(f"{counted(copies, 'image is a copy', 'images are copies')} of another, byte for byte.")
    several = TARGETS[table.task].several
    conflicting = [digest for digest, names in labels.items() if len(names) > 1 and (not several or disputed(names))]
    if conflicting:
        paths = [row.path for digest, row in zip(digests, table.rows, strict=True)
                 if digest == conflicting[0]]  # fmt: skip
        where = "there several times, with different labels" if several else "in more than one class"
        notes.append(
            f"{counted(len(conflicting), 'image is', 'images are')} {where}, such as {listed(paths)}, the same file: "
            "at least one of the labels is wrong."
        )
    return notes


def _near(table: ImageTable, digests: Sequence[str], pairs: Pairs) -> list[str]:
    """The note on images that show the same in other files."""
    different = [(int(one), int(other)) for one, other in pairs.rows if digests[one] != digests[other]]
    if not different:
        return []
    rows = {row for pair in different for row in pair}
    shown = listed(table.rows[row].path for row in different[0])
    return [
        f"{len(rows):,} images are near duplicates (scaled, re-encoded or mirrored), such as {shown}: they stay on "
        "one side of each split that is drawn here."
    ]
