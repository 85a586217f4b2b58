"""The partition of a table: what is trained on, and what is held out to measure on.

Copies, near duplicates and the user's groups stay on one side of every split that is drawn here. Where the source
brings splits that divide them, the measured images of which there is another in train are `leaked`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from headstart.core.errors import SourceError
from headstart.core.text import counted
from headstart.data.table import MIN_IMAGES, ImageTable, nouns_of
from headstart.features.dataset import Dataset
from headstart.partition import soundness
from headstart.partition.draw import Strata, deal_folds, groups_of_each, holdout, join_groups
from headstart.partition.duplicates import alike
from headstart.partition.roles import Partition, Role
from headstart.settings.recipe import Recipe

if TYPE_CHECKING:
    from numpy.typing import NDArray

# With fewer held-out images the interval of an accuracy is wider than 15 points; then every image is held out once.
MIN_HELD_OUT = 50


def divide(data: Dataset, recipe: Recipe, *, cross_validate: bool = True) -> Partition:
    """Divide images by the splits that it brings, or by a stratified draw that keeps together what belongs together.

    With ``measure_by = folds`` the images of train and val are pooled and dealt into folds. Those of test are left
    alone: they are neither trained on nor measured, so that they remain unseen.

    Args:
        data: The images.
        recipe: Shares, folds and seed.
        cross_validate: With ``measure_by = auto``, where few images would be held out: measure on all of them, each by
            a model of its own.

    Raises:
        SourceError: The source's splits cannot be used, or nothing of them can be measured soundly.
    """
    table, digests, targets = data.table, data.digests, data.targets
    strata = targets.strata()
    near = alike(data.traits)
    plain, together = join_groups(digests, data.groups), join_groups(digests, data.groups, near.rows.tolist())
    roles, measures = _given(table, recipe)
    notes = [*targets.notes, *soundness.of_images(table, digests, near), *soundness.of_splits(table, measures)]
    soundness.check_learnt(roles, targets, measures)
    drawn = measures in {Role.NONE, Role.TRAIN}
    groups = _divisible(together, plain, strata, np.flatnonzero(roles == Role.TRAIN), MIN_IMAGES if drawn else 2)
    if measures == Role.NONE:
        held = holdout(strata, groups, digests, share=recipe.holdout, seed=recipe.seed)
        measures = Role.TEST if _enough(held, recipe, cross_validate, nouns_of(targets.task)[0]) else Role.TRAIN
        roles[held & (measures == Role.TEST)] = Role.TEST
    fit, cross_validated = np.flatnonzero(roles == Role.TRAIN), measures == Role.TRAIN
    soundness.check_copies(targets.take(fit), [groups[i] for i in fit], MIN_IMAGES if cross_validated else 2)
    folds = np.full(len(data), -1, np.int64)
    folds[fit], groups = _folds(strata, fit, groups, plain, digests, recipe)
    leaked = _leaked(roles, folds, together, cross_validated)
    if drawn:
        notes += soundness.of_draw(groups, together, roles, targets)
    else:
        same = _leaked(roles, folds, plain, cross_validated)
        notes += soundness.of_measured(roles, targets, measures, leaked, same)
    choosing = np.zeros(len(data), bool)
    return Partition(roles, folds, measures, choosing, leaked, targets, np.array(groups, np.int64), tuple(notes))


def _given(table: ImageTable, recipe: Recipe) -> tuple[NDArray[np.int8], Role]:
    """The role of each row as the source has it, and what is measured: a split, the folds, or nothing yet."""
    roles = np.array([Role[(row.split or "train").upper()] for row in table.rows], np.int8)
    if recipe.measure_by == "folds":
        return np.where(roles == Role.VAL, np.int8(Role.TRAIN), roles), Role.TRAIN
    measured = Role(roles.max())  # test, or else val
    return roles, measured if measured != Role.TRAIN else Role.NONE


def _enough(held: NDArray[np.bool_], recipe: Recipe, cross_validate: bool, noun: str) -> bool:
    """Whether to measure on these held-out images, and not by cross-validation.

    Raises:
        SourceError: That was asked for, and there is none.
    """
    if recipe.measure_by == "holdout" and not held.any():
        raise SourceError(
            f"None of {counted(len(held), 'image')} can be held out: too few images of a {noun} would be left.",
            "Add images; or measure by cross-validation, with --measure-by folds.",
        )
    auto = recipe.measure_by == "auto"
    return bool(held.any()) and not (auto and cross_validate and held.sum() < MIN_HELD_OUT)


def _divisible(
    together: list[int], plain: list[int], strata: Strata, learnt: NDArray[np.int64], least: int
) -> list[int]:
    """The groups, of which those are taken apart again that would leave a class too few to divide.

    Near duplicates stay together, unless a class consists of hardly anything else: the frames of one video, say. Then
    a model can be trained all the same, and a note says what its numbers are worth.

    Args:
        together: Group number of each row, with the near duplicates.
        plain: The same without them.
        strata: What each row counts for, (N,).
        learnt: Rows that are divided.
        least: Groups that each class needs.
    """
    groups = list(together)
    while True:
        left = groups_of_each([strata[row] for row in learnt], [groups[row] for row in learnt])
        small = {group for group, own in zip(groups, strata, strict=True) if any(left[one] < least for one in own)}
        small &= set(together)
        if not small:
            return groups
        apart = len(groups)  # numbers that no other group has
        groups = [apart + plain[row] if group in small else group for row, group in enumerate(groups)]


def _folds(
    strata: Strata,
    fit: NDArray[np.int64],
    groups: list[int],
    plain: list[int],
    digests: Sequence[str],
    recipe: Recipe,
) -> tuple[NDArray[np.int64], list[int]]:
    """The folds, and the groups that they keep together: without near duplicates where those mix the classes."""

    def deal(by: list[int]) -> NDArray[np.int64]:
        own = [by[i] for i in fit]
        return deal_folds(
            [strata[i] for i in fit], own, [digests[i] for i in fit], folds=recipe.folds, seed=recipe.seed
        )

    try:
        return deal(groups), groups
    except SourceError:
        return deal(plain), plain


def _leaked(
    roles: NDArray[np.int8], folds: NDArray[np.int64], groups: Sequence[int], cross_validated: bool
) -> NDArray[np.bool_]:
    """Which held-out rows have one of their group among those that their model has learnt from, bool (N,)."""
    train, of = roles == Role.TRAIN, np.asarray(groups)
    if not cross_validated:
        return np.asarray(~train & np.isin(of, of[train]))
    sides = np.unique(np.stack([of[train], folds[train]]), axis=1)[0]
    numbers, folds_of = np.unique(sides, return_counts=True)
    return np.asarray(train & np.isin(of, numbers[folds_of > 1]))
