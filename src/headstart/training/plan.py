"""How far fine-tuning goes: epochs and image size, by the number of images and the time available.

Without a budget the plan follows from the number of images alone, so that every machine makes the same. With one, a few
batches are timed, and of the plans below the first that fits is taken. What comes out is a recipe in which nothing is
left open; it gives the same training again, on a machine of any speed.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from headstart.core.errors import BudgetError
from headstart.core.progress import Silent
from headstart.core.runtime import Runtime
from headstart.core.text import counted
from headstart.settings.recipe import Recipe
from headstart.training import loop
from headstart.training.pixel_feed import Images
from headstart.training.rates import SMALL_SHARE, side_px
from headstart.training.task import Task

# Epochs = PASSES / images ** EXPONENT within the bounds: steps grow with the set, and fewer passes do where there is
# more to see in each (as in BiT-HyperRule, Kolesnikov et al. 2020). 200 images get 8 epochs, 500 6, 5,000 3.
PASSES, EXPONENT = 40.0, 0.3
LEAST_EPOCHS, MOST_EPOCHS = 3, 12
# Of the backbone's own side, and a multiple of what networks halve five times.
SMALL_SIDE, MULTIPLE_PX, LEAST_PX = 0.7, 32, 96
# The export of a trained network takes about as long as it takes to embed as many images, and some seconds at least.
EXPORT_IMAGES, EXPORT_SECONDS = 300, 15.0
PILOT_BATCHES = 2


@dataclass(frozen=True)
class Plan:
    """What will be done.

    Attributes:
        recipe: The recipe, nothing left open.
        seconds: What it will take, with export and evaluation; None where that was not asked.
        notes: Remarks for the user.
    """

    recipe: Recipe
    seconds: float | None
    notes: tuple[str, ...]


def plan(task: Task, runtime: Runtime, left: float | None) -> Plan:
    """Settle the epochs and the size of the images.

    Args:
        task: What is to be trained; it is left as it is.
        runtime: Cache, device.
        left: Seconds that there are for the training, the export and the evaluation; None for no limit.

    Raises:
        BudgetError: Not even the shortest plan fits, or the epochs that were asked for do not.
    """
    recipe = _usual(task)
    settled = (task.recipe.epochs, task.recipe.train_px) == (recipe.epochs, recipe.train_px)
    if left is None:
        return Plan(recipe, None, () if settled else (f"Planned for {_images(task)}: {_words(recipe)}.",))
    shortest = float("inf")
    for one in _shorter(recipe, _side(task)):
        pace = measure(dataclasses.replace(task, recipe=one), runtime)
        least = int(one.epochs) if task.recipe.epochs != "auto" else min(LEAST_EPOCHS, int(one.epochs))
        for epochs in range(int(one.epochs), least - 1, -1):
            seconds = pace.seconds(dataclasses.replace(one, epochs=epochs))
            if seconds <= left:
                # Where there is no time to begin again, a first training that is no better leaves the start.
                again = one.retries if (1 + one.retries) * seconds <= left else 0
                taken = dataclasses.replace(one, epochs=epochs, retries=again, budget=0.0)
                words = f"about {seconds:.0f} of the {left:.0f} s left"
                return Plan(taken, seconds, (f"Planned for {_images(task)} and {words}: {_words(taken)}.",))
            shortest = min(shortest, seconds)
    if task.recipe.epochs == "auto":
        raise _too_long(
            "The shortest fine-tuning", shortest, left, "Give a larger --budget, or choose the strategy probe."
        )
    raise _too_long(
        f"The {counted(int(recipe.epochs), 'epoch')} that were asked for", shortest, left,
        "Leave --epochs out, so that as many are trained as fit; or give a larger --budget.",
    )  # fmt: skip


def _too_long(what: str, seconds: float, left: float, hint: str) -> BudgetError:
    return BudgetError(
        f"{what} would take about {seconds:.0f} s, estimated from {PILOT_BATCHES} timed batches, but "
        f"{max(left, 0):.0f} s of the budget are left.",
        hint,
    )


def usual_epochs(images: int) -> int:
    """Epochs for a number of train images, if none are given."""
    return round(float(min(max(PASSES / images**EXPONENT, LEAST_EPOCHS), MOST_EPOCHS)))


def usual_px(own_px: int) -> int:
    """Side of the smaller squares for a backbone's own side, in pixels; 0 where smaller ones would not pay."""
    side: int = int(SMALL_SIDE * own_px / MULTIPLE_PX + 0.5) * MULTIPLE_PX
    return side if LEAST_PX <= side < own_px else 0


@dataclass(frozen=True)
class Pace:
    """What a training takes on this machine.

    Attributes:
        small: Seconds of a train image on the smaller squares, in an epoch.
        full: The same at the backbone's own size.
        forward: Seconds of an image that the network only predicts.
        learn: Images to learn from.
        choose: Images that choose the epoch.
        every: All images, which are embedded at the end.
    """

    small: float
    full: float
    forward: float
    learn: int
    choose: int
    every: int

    def seconds(self, recipe: Recipe) -> float:
        """What a training by this recipe takes, where it need not begin again, with all that follows it."""
        epochs = int(recipe.epochs)
        small = sum(side_px(recipe, epoch) > 0 for epoch in range(1, epochs + 1))
        images = self.learn * (small * self.small + (epochs + (recipe.lr == "auto") - small) * self.full)
        validation = (epochs + 1) * self.choose * self.forward
        # Kept outputs of the frozen part are computed once a view, by a pass that is part of `forward`.
        kept = min(recipe.views, epochs) * self.learn * self.forward
        after = max(EXPORT_SECONDS, EXPORT_IMAGES * self.forward) + self.every * self.forward
        return images + validation + kept + after


def measure(task: Task, runtime: Runtime) -> Pace:
    """Time a copy of the network on a few batches, one epoch on each size after one that is not counted.

    Args:
        task: What is to be trained; it is left as it is.
        runtime: Cache, device.
    """
    recipe, rows = task.recipe, task.train[: PILOT_BATCHES * task.recipe.batch_size]
    rate = 1e-5 if recipe.lr == "auto" else recipe.lr
    # Three epochs: where sizes grow the third is at the full one; where outputs are kept the first computes them.
    short = dataclasses.replace(
        recipe, epochs=3, views=min(recipe.views, 1), lr=rate, patience=0, retries=0, warmup_epochs=0.0
    )
    pilot = dataclasses.replace(
        task, network=copy.deepcopy(task.network), train=rows, validation=task.validation[: len(rows)], recipe=short
    )
    quiet = dataclasses.replace(runtime, folder=None, resume=False, tracker="none", progress=Silent())
    trained = loop.fit(pilot, quiet)
    seconds = [one.seconds for one in trained.history]
    start = seconds[0] if recipe.start != "random" else 0.0
    first, second, third = seconds[-3:]
    forward = start / len(pilot.validation)
    if recipe.views:
        forward = max((first - second) / len(rows), forward)
    if not forward:  # about a third of a step
        forward = third / (3 * len(rows) + len(pilot.validation))
    checked = len(pilot.validation) * forward if not recipe.views else 0.0
    small, full = (max(one - checked, one / 4) / len(rows) for one in (second, third))
    return Pace(small, full, forward, len(task.train), len(task.validation), len(task.labels))


def _usual(task: Task) -> Recipe:
    """The recipe with the epochs and the size that this number of images gets."""
    recipe = task.recipe
    if recipe.epochs == "auto":
        recipe = dataclasses.replace(recipe, epochs=usual_epochs(len(task.train)))
    if recipe.train_px == "auto":
        recipe = dataclasses.replace(recipe, train_px=_side(task))
    return recipe


def _side(task: Task) -> int:
    """Side of the smaller squares for this backbone; 0 for one that takes none but its own."""
    if not isinstance(task.images, Images):
        return 0
    side = usual_px(task.images.preprocess.size_px)
    try:
        with torch.no_grad():
            # In evaluation mode, as it comes; on zeros, since only the shapes matter.
            task.network.eval()(torch.zeros(1, 3, side, side)) if side else None
    except Exception:  # noqa: BLE001  a network's own code refuses other sizes with any error it likes
        return 0
    return side


def _shorter(usual: Recipe, small: int) -> Iterator[Recipe]:
    """Plans in the order of preference: as usual, fewer layers, smaller images, then the last stage on what is kept.

    Fewer layers cost little, smaller images more: of stripes of two periods nothing was learnt while sizes changed.
    """
    yield usual
    if usual.unfreeze != "all":
        return
    half = dataclasses.replace(usual, unfreeze="half")
    yield half
    if not usual.train_px and small:
        yield dataclasses.replace(half, train_px=small)
    if not (usual.mixup or usual.cutmix):
        for views in (4, 1):
            yield dataclasses.replace(usual, unfreeze="last", train_px=0, views=views)


def _images(task: Task) -> str:
    return counted(len(task.train), "train image")


def _words(recipe: Recipe) -> str:
    what = {"head": "the head", "last": "the last stage", "half": "half of the stages", "all": "all layers"}
    sizes = (
        f", the first {round(100 * SMALL_SHARE)} % of them on images of {recipe.train_px} px" if recipe.train_px else ""
    )
    return f"{counted(int(recipe.epochs), 'epoch')} of {what[recipe.unfreeze]}{sizes}"
