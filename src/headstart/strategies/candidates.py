"""Which strategies, backbones and recipes are compared, and with what settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from headstart import recipes as kept
from headstart.core.errors import HeadstartError, OptionError
from headstart.core.text import listed, quoted
from headstart.settings.heads import head_spec_of
from headstart.settings.recipe import TRAINING, Recipe
from headstart.settings.strategies import STRATEGIES, UNKNOWN, names, spec_of
from headstart.strategies import refuse_unknown

DEFAULT = names("compared")
# Settings that say who learns and who is held out: all that is compared must share them.
SHARED = ("holdout", "folds", "measure_by", "seed", "max_megapixels", "white_level")
# Of the train images, where a recipe would let the held-out ones choose its epoch: then they could not judge it.
VALIDATION = 0.2


@dataclass(frozen=True)
class Plan:
    """One of those that are to be compared.

    Attributes:
        name: What to call it: unlike all others.
        recipe: What it follows; None where its settings do not go together.
        problem: Why there is none.
        notes: What was changed of it, in sentences.
    """

    name: str
    recipe: Recipe | None
    problem: HeadstartError | None = None
    notes: tuple[str, ...] = ()


def plan(
    strategies: Sequence[str] | None,
    backbones: Sequence[str] | None,
    recipes: Sequence[str] | None,
    settings: Mapping[str, object],
) -> tuple[Plan, ...]:
    """What to run: each strategy on each backbone, and each recipe.

    Args:
        strategies: Names; None for all three, or for the probe where backbones are named, or none where recipes are.
        backbones: Names; None for each one's default.
        recipes: Names or files, as `headstart.recipes.load` takes them.
        settings: Fields of the recipe for all. Those of a training are for those that train.

    Raises:
        OptionError: There is no such strategy or recipe, the same is named twice, or nothing is left to compare.
    """
    if strategies is None:
        strategies = ("probe",) if backbones else () if recipes else DEFAULT
    found = [
        _plan(f"{strategy} {backbone}" if backbone else strategy, _of_strategy(strategy, backbone), settings)
        for strategy in strategies
        for backbone in backbones or ("",)
    ]
    found += [_plan(_recipe_name(name), kept.load(name), settings) for name in recipes or ()]
    names = [one.name for one in found]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise OptionError(f"{quoted(twice)} would be compared with itself.", "Name each once.")
    if len(found) < 2:
        raise OptionError(
            f"A comparison needs at least two candidates, and {'none' if not found else quoted(names[0])} was named.",
            "Name several with --strategies, --backbones or --recipes; a single one is trained with headstart train.",
        )
    return tuple(found)


def _of_strategy(strategy: str, backbone: str) -> dict[str, str]:
    refuse_unknown(strategy)
    if not STRATEGIES[strategy].compared:
        raise OptionError(
            f"The strategy {strategy} compares the others itself.", f"Name those to compare: {listed(DEFAULT)}."
        )
    return {"strategy": strategy, **({"backbone": backbone} if backbone else {})}


def _recipe_name(name: str) -> str:
    return name if name in kept.names() else PurePath(name).stem


def _plan(name: str, own: Mapping[str, object], settings: Mapping[str, object]) -> Plan:
    spec, head = spec_of(own.get("strategy", Recipe.strategy)), head_spec_of(own.get("head", Recipe.head))
    trains = spec.trains != "head" or head.probe is not None
    values = {**own, **{key: value for key, value in settings.items() if trains or key not in TRAINING}}
    values = {key: value for key, value in values.items() if key not in SHARED or key in settings}
    values["measure_by"] = settings.get("measure_by", "holdout")
    notes = []
    if trains and values.get("validation") == 0:
        values["validation"] = VALIDATION
        notes.append(
            f"{name} would let the images that are measured on choose its epoch; here {100 * VALIDATION:.0f} % of the "
            "train images do, where there is no val split beside a test split."
        )
    if spec is not UNKNOWN and spec.trains == "network" and "flip" not in values:
        values["flip"] = "auto"
    try:
        return Plan(name, Recipe.from_dict(values), notes=tuple(notes))
    except OptionError as error:
        return Plan(name, None, error)
