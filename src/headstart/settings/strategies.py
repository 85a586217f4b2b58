"""The strategies. A new one is a file in `headstart.strategies` and a row here, which says all that others ask."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from headstart.core.errors import OptionError
from headstart.core.text import quoted

if TYPE_CHECKING:
    from headstart.settings.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class StrategySpec:
    """What the others know of a strategy.

    Attributes:
        fit: Its function, as ``module:function(ImageTable, Recipe, Runtime, Origin) -> Fitted``; one that trains the
            network also takes ``own=Own``.
        help: How it learns, in a few words.
        label: What becomes of the network, for the report; empty for a strategy that only chooses another.
        trains: What it trains: the ``head`` on embeddings of a frozen backbone, the ``network``, or ``either``, as the
            images decide. All but ``network`` begin with a probe: they may embed in int8, and cross-validate few
            images.
        resumes: Whether an interrupted training goes on from its last epoch.
        compared: Whether it stands in comparisons, unless others are named.
        continues: Whether it can start from the network of a finished run.
        processes: Whether several processes can train together.
        takes_budget: Whether it can keep to a time budget.
        pretrained: Whether it starts from pretrained weights.
        defaults: How its settings of a training differ from the usual defaults; None leaves all of them open.
        random_head: How they differ further where the head begins with random weights.
        partly: The same, where a part of the network is frozen; empty where nothing can be.
        check: What refuses a recipe that it cannot follow, as ``module:function(Recipe)``; empty for nothing.
        extra: The extra of the package that it needs; empty for none.
    """

    fit: str = ""
    help: str = ""
    label: str = ""
    trains: Literal["head", "network", "either"] = "network"
    resumes: bool = False
    compared: bool = True
    continues: bool = False
    processes: bool = True
    takes_budget: bool = False
    pretrained: bool = True
    defaults: Mapping[str, object] | None = field(default_factory=dict, hash=False)
    random_head: Mapping[str, object] = field(default_factory=dict, hash=False)
    partly: Mapping[str, object] = field(default_factory=dict, hash=False)
    check: str = ""
    extra: str = ""

    @property
    def probes(self) -> bool:
        """Whether it begins with a probe on a frozen backbone."""
        return self.trains != "network"


# In the order of `--help` and of a comparison.
STRATEGIES = {
    "probe": StrategySpec(
        fit="headstart.strategies.probe:fit",
        help="a new head on the frozen backbone",
        label="the pretrained network stays as it is, only a new last layer is trained (feature extraction)",
        trains="head",
        check="headstart.settings.strategies:check_probe",
    ),
    # High learning rates rather than cautious ones, since the probe's solution is epoch 0 and is kept if no epoch is
    # better: at 1e-3 over all layers the first epochs undo it, and the last are far better if ImageNet's features do
    # not suit the task. At rates that never did harm (3e-5) fine-tuning stayed where it began. Training the batch norms
    # gives other features than those that the probe was fitted on, and was worse in every comparison.
    "finetune": StrategySpec(
        fit="headstart.training.finetune:fit",
        help="train the pretrained backbone further",
        label="the pretrained network is trained further (fine-tuning)",
        resumes=True,
        continues=True,
        takes_budget=True,
        defaults={
            "epochs": "auto", "layer_decay": 0.9, "crop_scale": 0.8, "start": "probe", "batch_norm": "frozen",
            "flip": "auto", "retries": 1, "best_by": "calibrated",
        },
        # A head with random weights is not a starting point worth going back to.
        random_head={"start": "random", "retries": 0},
        # What is frozen runs once for as many augmented views of each image, at the backbone's own size.
        partly={"unfreeze": "last", "views": 4},
        extra="torch",
    ),
    "scratch": StrategySpec(
        fit="headstart.training.finetune:fit",
        help="train all layers from random weights",
        label="a network without pretrained weights is trained",
        resumes=True,
        pretrained=False,
        defaults={"weight_decay": 0.05, "warmup_epochs": 3.0, "label_smoothing": 0.1, "crop_scale": 0.25},
        check="headstart.settings.strategies:check_scratch",
        extra="torch",
    ),
    # It takes the settings that are given, and leaves the others to the strategies that it tries.
    "auto": StrategySpec(
        fit="headstart.strategies.auto:fit",
        help="the probe first, then fine-tuning if that can pay off",
        trains="either",
        compared=False,
        processes=False,
        takes_budget=True,
        defaults=None,
    ),
}  # fmt: skip
# A name without a row is refused when the strategy is called; until then nothing is known about it.
UNKNOWN = StrategySpec(compared=False)


def spec_of(name: object) -> StrategySpec:
    """The row of a strategy; `UNKNOWN` where there is none."""
    return STRATEGIES.get(name, UNKNOWN) if isinstance(name, str) else UNKNOWN


def names(fact: str, value: object = True) -> tuple[str, ...]:
    """The strategies whose rows have a value for a fact, such as ``names("resumes")``."""
    return tuple(name for name, spec in STRATEGIES.items() if getattr(spec, fact) == value)


def described() -> str:
    """All strategies, for a sentence: each name, and how it learns."""
    return ", ".join(f"{name} ({spec.help})" for name, spec in STRATEGIES.items())


def either(strategies: tuple[str, ...]) -> str:
    """Names for a sentence: ``finetune or scratch``."""
    return " or ".join(strategies)


def check_probe(recipe: Recipe) -> None:
    """Refuse what a probe cannot follow."""
    if recipe.unfreeze not in {None, "head"}:
        raise OptionError(
            f"The strategy {recipe.strategy} trains the head alone, and unfreeze = {quoted(str(recipe.unfreeze))} was "
            "asked for.",
            "Choose the strategy finetune.",
        )


def check_scratch(recipe: Recipe) -> None:
    """Refuse what a training from random weights cannot follow."""
    if recipe.pretrained or recipe.weights:
        raise OptionError(
            f"The strategy {recipe.strategy} begins with random weights, and weights were asked for.",
            "Leave them out, or choose the strategy finetune.",
        )
    if recipe.unfreeze != "all" or recipe.start != "random":
        raise OptionError(
            f"The strategy {recipe.strategy} trains all layers from random weights: unfreeze is all, and start is "
            "random."
        )
