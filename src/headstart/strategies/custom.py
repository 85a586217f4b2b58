"""A user's own backbone, head or loop, from Python."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from headstart.core.arguments import must_be, refused
from headstart.core.errors import ModelError, OptionError
from headstart.preprocess.spec import Preprocess
from headstart.settings.heads import OWN
from headstart.settings.recipe import Recipe
from headstart.settings.strategies import either, names

if TYPE_CHECKING:
    from torch import nn

    from headstart.core.runtime import Runtime
    from headstart.training.task import Task, Trained


@dataclass(frozen=True, kw_only=True)
class Own:
    """What takes the place of Headstart's own parts in a fine-tuning or a training from scratch.

    All that surrounds them stays: the splits, the loop where it is not replaced, calibration, evaluation, and the
    model file, for which backbone and head are exported to ONNX.

    Attributes:
        backbone: Float32 pixels (N, 3, S, S) to embeddings (N, D); needs `preprocess`.
        preprocess: How pixels are prepared for it: size, crop, mean, std.
        head: Makes a head from D and C: embeddings (N, D) to class scores (N, C).
        loop: Trains the network of a task, in place, instead of `headstart.training.loop.fit`; it may give what that
            gives, and so have its numbers in the run.
    """

    backbone: nn.Module | None = None
    preprocess: Preprocess | None = None
    head: Callable[[int, int], nn.Module] | None = None
    loop: Callable[[Task, Runtime], Trained | None] | None = None

    def __post_init__(self) -> None:
        for name, part, expected in (
            ("backbone", self.backbone, "a torch.nn.Module"),
            ("head", self.head, "a function that makes a torch.nn.Module from two widths"),
            ("loop", self.loop, "a function that trains a task"),
        ):
            if part is not None and not callable(part):
                raise refused(name, part, expected)
        if (self.backbone is None) != (self.preprocess is None):
            raise OptionError("A custom backbone and its preprocessing are given together, and one of them is missing.")
        if self.preprocess is not None:
            must_be("preprocess", self.preprocess, Preprocess, "a headstart.Preprocess")
            try:
                Preprocess.from_dict(self.preprocess.as_dict())
            except ModelError as error:
                raise OptionError(f"preprocess is out of range: {self.preprocess!r}.") from error

    def named(self, recipe: Recipe) -> Recipe:
        """The recipe, which says what is not Headstart's."""
        if recipe.spec.trains != "network":
            raise OptionError(
                f"The strategy {recipe.strategy} trains no custom network.",
                f"Choose the strategy {either(names('trains', 'network'))}.",
            )
        if self.backbone is not None:
            recipe = replace(recipe, backbone=OWN)
        if self.head is not None and not recipe.head_spec.brought:
            # What was left to the defaults takes those of a head without a closed solution to start from.
            usual = Recipe(strategy=recipe.strategy).as_dict()
            given = {name: value for name, value in recipe.as_dict().items() if value != usual.get(name)}
            recipe = Recipe.from_dict(given | {"strategy": recipe.strategy, "head": OWN})
        return recipe


def refuse_missing(recipe: Recipe, own: Own) -> None:
    """Refuse a recipe of a run that had parts of its own, without them.

    Raises:
        OptionError: A part is missing.
    """
    for part in ("backbone", "head"):
        if getattr(recipe, part) == OWN and getattr(own, part) is None:
            raise OptionError(
                f"The recipe is one with a {part} that is not Headstart's, which it cannot hold.",
                f"Give it from Python: train(..., own=Own({part}=...)).",
            )
