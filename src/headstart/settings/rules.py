"""Which settings of a recipe go together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headstart.core.errors import OptionError
from headstart.core.tables import resolve
from headstart.core.text import quoted
from headstart.settings.backbones import with_precision
from headstart.settings.strategies import either, names
from headstart.settings.thresholds import threshold_rule

if TYPE_CHECKING:
    from headstart.settings.recipe import Recipe


def check_together(recipe: Recipe) -> None:
    """Refuse settings that exclude each other.

    Raises:
        OptionError: Which do, and what to choose.
    """
    if recipe.backbone == "auto" and (recipe.weights or not recipe.pretrained):
        raise OptionError(
            "backbone = auto chooses among networks with their own pretrained weights, but "
            f"{'a weights file was given' if recipe.weights else 'random weights were asked for'}.",
            "Name the backbone, such as lite0.",
        )
    threshold_rule(recipe.threshold)
    known = recipe.backbone_spec.precisions
    if recipe.precision == "int8" and ("int8" not in known or not recipe.spec.probes or recipe.weights):
        raise OptionError(
            f"There is no int8 form of {quoted(recipe.backbone)} for the strategy {quoted(recipe.strategy)}.",
            f"Only the probe on {either(with_precision('int8'))} with its own weights has one: leave precision out.",
        )
    if recipe.budget and not recipe.spec.takes_budget:
        raise OptionError(
            f"budget = {recipe.budget:g} s was given, but the strategy {quoted(recipe.strategy)} cannot keep to one.",
            f"Choose the strategy {either(names('takes_budget'))}, or leave budget out.",
        )
    if recipe.spec.check:
        resolve(recipe.spec.check)(recipe)
    if recipe.head_spec.linear is False and recipe.start == "probe":
        raise OptionError(
            "A head with a hidden layer cannot start as the solution of a probe, which has none.",
            "Choose start = random, or head = linear.",
        )
    if recipe.views and recipe.unfreeze == "all":
        raise OptionError(
            "views caches the outputs of the frozen part, but with unfreeze = all nothing is frozen.",
            "Choose unfreeze = last, or views = 0.",
        )
    if recipe.views and recipe.train_px:
        raise OptionError(
            "views caches the outputs of the frozen part for images of the backbone's own size, but train_px = "
            f"{recipe.train_px} asks for another size.",
            "Choose train_px = 0, or views = 0.",
        )
    if recipe.views and (recipe.mixup or recipe.cutmix):
        raise OptionError("mixup and cutmix mix pixels, but views uses cached outputs of the frozen part: choose one.")
    if recipe.measure_by == "folds" and recipe.validation == 0 and recipe.spec.trains != "head":
        raise OptionError(
            "validation = 0 lets the held-out images choose the best epoch, but with measure_by = folds "
            "none are held out.",
            "Choose validation = 0.2, or measure_by = holdout.",
        )
    if recipe.weights and not recipe.pretrained:
        raise OptionError("A weights file was given together with pretrained = false: choose one.")
