"""What the settings of a recipe are where none was given: the defaults of its strategy and its head."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from headstart.core.errors import OptionError
from headstart.core.text import quoted
from headstart.settings.setting import Setting
from headstart.settings.strategies import UNKNOWN, either, names

if TYPE_CHECKING:
    from headstart.settings.recipe import Recipe


def defaults_of(recipe: Recipe, training: Mapping[str, Setting]) -> dict[str, object]:
    """The values of the settings that are None, by name; of those alone that apply to the recipe.

    Args:
        recipe: As it was given.
        training: The settings of a training by gradients.

    Raises:
        OptionError: One was given that does not apply.
    """
    spec, found = recipe.spec, _of_training(recipe, training)
    for name in training:
        if name not in found and getattr(recipe, name) is not None and spec is not UNKNOWN:
            raise OptionError(
                f"{name} = {quoted(str(getattr(recipe, name)))} has no meaning for the strategy "
                f"{quoted(recipe.strategy)} with the head {quoted(recipe.head)}: it trains no network.",
                f"Leave it out, or choose the strategy {either(names('trains', 'network'))}.",
            )
    pretrained = spec.pretrained if recipe.pretrained is None else recipe.pretrained
    found["pretrained"] = pretrained
    if recipe.precision is None and recipe.backbone != "auto":  # which arithmetic that has is known when it is chosen
        frozen = spec.probes and pretrained and not recipe.weights
        found["precision"] = recipe.backbone_spec.precisions[0] if frozen else "float32"
    return {name: value for name, value in found.items() if getattr(recipe, name) is None}


def _of_training(recipe: Recipe, training: Mapping[str, Setting]) -> dict[str, object]:
    """The settings of a training and what they begin as; empty where nothing is trained by gradients."""
    spec, head = recipe.spec, recipe.head_spec
    own = head.probe if spec.trains == "head" else spec.defaults
    if spec is UNKNOWN or (spec.trains == "head" and own is None):
        return {}
    usual = {name: None if own is None else one.usual for name, one in training.items()}
    defaults = usual | dict(own or {})
    if recipe.start == "random" or (recipe.start is None and not head.linear):  # no closed solution to start from
        defaults |= spec.random_head
    if recipe.views or recipe.unfreeze not in {None, "all"}:
        defaults |= spec.partly
    if recipe.mixup or recipe.cutmix:  # then there is nothing that could be kept
        defaults["views"] = 0
    if recipe.backbone_spec.brought and defaults["flip"] == "auto":  # its embeddings are not there to ask
        defaults["flip"] = True
    if "auto" in (recipe.backbone, recipe.fit) and defaults["flip"]:  # who lets the images choose, lets them choose
        defaults["flip"] = "auto"
    return defaults
