"""The options of `headstart train` that are settings of its recipe, named as its fields; None leaves them to it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from headstart.settings.recipe import Recipe

# Enough that fresh crops would add little, and few enough to keep: 8 x 1,280 float32 values are 41 kB an image.
FAST_VIEWS = 8
_UNITS = {"s": 1, "m": 60, "h": 3600}


def _rate(text: str) -> float | str:
    """A number where it is one; what else it may be, the recipe says."""
    try:
        return float(text)
    except ValueError:
        return text


def _count(text: str) -> int | str:
    """A whole number where it is one; what else it may be, the recipe says."""
    try:
        return int(text)
    except ValueError:
        return text


def _seconds(text: str) -> float:
    """Seconds of a time such as ``90s``, ``10m``, ``1.5h``; a bare number counts seconds."""
    number, unit = (text[:-1], text[-1]) if text[-1:] in _UNITS else (text, "s")
    try:
        return float(number) * _UNITS[unit]
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no time; expected one such as 90s, 10m or 1h.") from None


# Choices and ranges are checked by the recipe, whose errors name the nearest one.
Strategy = Annotated[
    str | None,
    typer.Option(
        help="How to learn: probe (a head on a frozen backbone; the default), finetune, scratch, or auto, which begins "
        "with the probe and fine-tunes where that can pay."
    ),
]
Backbone = Annotated[
    str | None,
    typer.Option(
        help="Network: lite0 (the default), torchvision:NAME, timm:NAME, file:PATH; auto: the best that is here."
    ),
]
Pretrained = Annotated[
    bool | None,
    typer.Option("--pretrained/--no-pretrained", help="Start from the backbone's own weights, or from random ones."),
]
Weights = Annotated[str | None, typer.Option(metavar="PATH", help="Start from this weights file instead.")]
Precision = Annotated[str | None, typer.Option(help="Arithmetic of the backbone: int8 or float32.")]
Fit = Annotated[str | None, typer.Option(help="Bring images to a square: crop, squash, pad, or auto.")]
Head = Annotated[str | None, typer.Option(help="linear, or mlp with one hidden layer.")]
Hidden = Annotated[int | None, typer.Option(help="Width of the hidden layer of mlp.")]
Dropout = Annotated[float | None, typer.Option(help="Share of the hidden layer that is dropped in training.")]
ClassWeight = Annotated[str | None, typer.Option(help="none, or balanced for classes of unlike size.")]
Holdout = Annotated[float | None, typer.Option(help="Share held out where the source has no splits.")]
Validation = Annotated[
    float | None,
    typer.Option(help="Share of the train images that choose the best epoch; 0 lets the held-out ones choose."),
]
Folds = Annotated[int | None, typer.Option(help="Measure by cross-validation with as many folds.")]
MeasureBy = Annotated[
    str | None,
    typer.Option(
        help="Measure on held-out images (holdout), by cross-validation (folds; --folds asks for it), or auto."
    ),
]
Seed = Annotated[int | None, typer.Option(help="Seed of every random choice.")]
Budget = Annotated[
    float | None,
    typer.Option(parser=_seconds, metavar="TIME", help="How long --strategy finetune or auto may take: 90s, 10m, 1h."),
]
Epochs = Annotated[
    str | None,
    typer.Option(
        parser=_count, metavar="N|auto", help="Passes over the train images; auto: by their number and budget."
    ),
]
BatchSize = Annotated[int | None, typer.Option(help="Images of one gradient, over all processes.")]
Accumulate = Annotated[int | None, typer.Option(help="Gradients that are added up before a step.")]
Optimizer = Annotated[str | None, typer.Option(help="adamw or sgd.")]
Lr = Annotated[
    str | None,
    typer.Option(parser=_rate, metavar="RATE|auto", help="Learning rate of the head; auto finds it by a range test."),
]
Momentum = Annotated[float | None, typer.Option(help="Of sgd.")]
WeightDecay = Annotated[float | None, typer.Option(help="Of matrices and kernels, not of biases and norms.")]
LayerDecay = Annotated[
    float | None, typer.Option(help="Each stage of the backbone learns at this fraction of the rate of the next.")
]
Schedule = Annotated[str | None, typer.Option(help="Of the rate: constant, cosine, step or one-cycle.")]
StepEpochs = Annotated[int | None, typer.Option(help="Epochs between two steps of the schedule step.")]
StepFactor = Annotated[float | None, typer.Option(help="What each of these steps multiplies the rate by.")]
WarmupEpochs = Annotated[float | None, typer.Option(help="Epochs over which the rate rises from zero.")]
LabelSmoothing = Annotated[float | None, typer.Option(help="Share of a label that is spread over all classes.")]
Ema = Annotated[float | None, typer.Option(help="Decay of the running average of the weights; 0 for none.")]
Mixup = Annotated[float | None, typer.Option(help="Alpha of mixup; 0 for none.")]
Cutmix = Annotated[float | None, typer.Option(help="Alpha of CutMix; 0 for none.")]
Augment = Annotated[str | None, typer.Option(help="none, rand (RandAugment) or trivial (TrivialAugment).")]
CropScale = Annotated[float | None, typer.Option(help="Smallest share of the area that a random crop keeps; 1: none.")]
CropPx = Annotated[int | None, typer.Option(help="Side of the random crop, of which the centre is used; 0: as usual.")]
Flip = Annotated[
    bool | None,
    typer.Option(
        "--flip/--no-flip", help="Mirror every second image; auto, the default of finetune: the train images decide."
    ),
]
Rotation = Annotated[float | None, typer.Option(help="Largest turn in degrees to each side.")]
TrainPx = Annotated[
    str | None,
    typer.Option(
        parser=_count,
        metavar="PX|auto",
        help="Side of the images in the first two thirds of the epochs; 0: as predicted.",
    ),
]
Retries = Annotated[
    int | None,
    typer.Option(help="Times to begin again at a tenth of the rate where no epoch was better than the start."),
]
Patience = Annotated[int | None, typer.Option(help="Stop after as many epochs without a better one; 0: never.")]
BestBy = Annotated[
    str | None, typer.Option(help="What chooses the best epoch on the validation images: accuracy, loss, calibrated.")
]
Unfreeze = Annotated[
    str | None, typer.Option(help="What is trained: head, last stage, half of the stages, or all (the default).")
]
Start = Annotated[str | None, typer.Option(help="What the head begins as: as the probe, random, or as in the weights.")]
BatchNorm = Annotated[str | None, typer.Option(help="train: on the batch's statistics; frozen: keep those they have.")]
Views = Annotated[
    int | None,
    typer.Option(help="Augmented views of each image whose outputs of the frozen part are kept; 0: anew each epoch."),
]
Amp = Annotated[str | None, typer.Option(help="Mixed precision: auto (where a GPU has it), no, bf16 or fp16.")]
RecipeName = Annotated[
    str | None, typer.Option("--recipe", metavar="NAME|FILE", help="Settings to begin with; see `headstart recipes`.")
]
Fast = Annotated[
    bool, typer.Option("--fast", help=f"Keep the outputs of the frozen part for {FAST_VIEWS} views of each image.")
]


def chosen(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that were given as options.

    Args:
        parameters: All parameters of the command, by name.
    """
    from headstart.settings.recipe import Recipe

    names = [field.name for field in dataclasses.fields(Recipe)]
    found = {name: parameters[name] for name in names if parameters[name] is not None}
    return ({"measure_by": "folds"} if "folds" in found else {}) | found


def make_recipe(name: str | None, options: Mapping[str, Any], *, fast: bool) -> Recipe:
    """The recipe of a training: an option counts before the recipe's file, and that before the strategy's default.

    Args:
        name: What `headstart.recipes.load` takes; None for no file.
        options: What `chosen` gave.
        fast: Keep the outputs of the frozen part.

    Raises:
        OptionError: There is no such recipe, or its settings do not go together.
    """
    from headstart import recipes
    from headstart.core.errors import OptionError
    from headstart.settings.recipe import Recipe

    settings = {**(recipes.load(name) if name else {}), **options}
    recipe = Recipe.from_dict(settings)
    if not fast:
        return recipe
    if recipe.unfreeze == "all" and ("unfreeze" in settings or not recipe.spec.partly):
        raise OptionError(
            "--fast keeps the outputs of the frozen part, and with unfreeze = all nothing is frozen.",
            "Choose --unfreeze last, or leave --fast out.",
        )
    if recipe.unfreeze is None:
        raise OptionError("A linear probe keeps its embeddings anyway.", "Leave --fast out.")
    return Recipe.from_dict({**settings, **fast_views(options)})


def fast_views(options: Mapping[str, Any]) -> dict[str, int]:
    """The setting that --fast stands for.

    Raises:
        OptionError: --views 0 was given too.
    """
    from headstart.core.errors import OptionError

    if options.get("views") == 0:
        raise OptionError("--fast keeps outputs, and --views 0 keeps none.", "Leave one of them out.")
    return {"views": options.get("views", FAST_VIEWS)}
