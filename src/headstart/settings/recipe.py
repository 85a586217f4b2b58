"""The recipe: one flat, typed, frozen record of all choices that determine a result."""

from __future__ import annotations

import dataclasses
import json
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from headstart.core.arguments import must_be
from headstart.core.errors import OptionError
from headstart.core.text import listed, nearest, quoted

Fit = Literal["crop", "squash", "pad", "auto"]
MeasureBy = Literal["auto", "holdout", "folds"]
Precision = Literal["int8", "float32"]
ClassWeight = Literal["none", "balanced"]
Head = Literal["linear", "mlp", "own"]
Unfreeze = Literal["head", "last", "half", "all"]
Start = Literal["probe", "random", "weights"]
Optimizer = Literal["adamw", "sgd"]
Schedule = Literal["constant", "cosine", "step", "one-cycle"]
Augment = Literal["none", "rand", "trivial"]
BatchNorm = Literal["train", "frozen"]
BestBy = Literal["accuracy", "loss", "calibrated"]
MixedPrecision = Literal["auto", "no", "bf16", "fp16"]
OWN = "own"  # the name of a backbone or head that is the user's
MAX_MEGAPIXELS = 178  # Pillow itself refuses more
FULL_RANGE = 65535  # the largest value of 16 bits

# What a field without a default of its own starts as; `Recipe` puts the strategy's value in its place.
_BY_STRATEGY: Any = None


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All choices that determine a result; stored in the artifact and in ``recipe.toml``.

    Attributes:
        strategy: How to learn: ``probe`` fits a head on the embeddings of a frozen backbone, ``finetune`` trains the
            head and the last part of the backbone, ``scratch`` trains all from random weights. ``auto`` begins with the
            probe and fine-tunes only where that can pay; settings of a training are those of its fine-tuning.
        backbone: Name of the network: ``lite0``, ``timm:NAME``, ``torchvision:NAME`` or ``file:PATH``; ``auto`` chooses
            by cross-validation on the train images among those whose weights are on this computer.
        pretrained: Start from the backbone's own weights.
        weights: Path of a weights file to start from instead; empty for none.
        precision: Arithmetic of the backbone; ``int8`` exists for a probe on ``lite0``, where it is the default.
        fit: How an image is brought to the square that the backbone takes: ``crop`` keeps the shape and cuts
            the borders, ``squash`` keeps all and bends the shape, ``pad`` keeps both and adds borders; ``auto``
            chooses by cross-validation on the train images.
        head: ``linear``, ``mlp`` with one hidden layer, or the user's ``own`` (from Python, see `headstart.Own`).
        hidden: Width of the hidden layer of ``mlp``.
        dropout: Share of its values that are dropped while it is trained, in [0, 1).
        class_weight: ``balanced`` gives every class the same total weight.
        holdout: Share of the images that is held out when the source brings no splits, in (0, 0.5].
        validation: Share of the train images that choose the best epoch, in [0, 0.5], where the source has not both
            val and test; 0 lets the held-out images choose it, as the tutorials do, which makes their numbers too good.
        folds: Folds of cross-validation, at least 2.
        measure_by: ``holdout`` measures on images that are held out, ``folds`` by cross-validation over all images,
            each by a model that has not seen it; ``auto`` holds out, unless the probe has too few images for that.
        budget: Seconds that the strategies ``auto`` and ``finetune`` may take; 0 for no limit.
        seed: Seeds every random choice.
        max_megapixels: Images of more are refused before they are decoded, which bounds the memory.
        white_level: The value of 16-bit images (PNG, TIFF, PNM) that becomes white, such as 4095 where they hold 12
            bits; 0 for the whole range, or that of the model that is started from. Images of 8 bits stay as they are.
        epochs: Passes over the train images; ``auto``, the default of ``finetune``, takes more for fewer images, and no
            more than the budget has time for; see `headstart.training.plan`.
        batch_size: Images of one gradient, over all processes.
        accumulate: Gradients that are added up before a step.
        optimizer: ``adamw`` or ``sgd``.
        lr: Learning rate of the head; ``auto`` finds it by a range test (Smith 2017).
        momentum: Of ``sgd``.
        weight_decay: Of matrices and kernels, not of biases and norms.
        layer_decay: Each stage of the backbone learns at this fraction of the rate of the stage after it, in (0, 1].
        schedule: ``constant``, ``cosine`` to zero, ``step``, or ``one-cycle`` (Smith and Topin 2019).
        step_epochs: Epochs between two steps of ``step``.
        step_factor: What each multiplies the rate by.
        warmup_epochs: Epochs over which the rate rises from zero.
        label_smoothing: Share of a label that is spread over all classes, in [0, 1).
        ema: Decay of the running average of the weights, a step, in [0, 1); 0 for none.
        mixup: Alpha of mixup (Zhang et al. 2018); 0 for none.
        cutmix: Alpha of CutMix (Yun et al. 2019); 0 for none.
        augment: ``rand`` for RandAugment, ``trivial`` for TrivialAugment, ``none``.
        crop_scale: Smallest share of the area that a random crop keeps, in (0, 1]; 1 crops as at prediction.
        crop_px: Side of the random crop, of which the centre is used; 0 for the backbone's own.
        flip: Mirror every second image; ``auto`` does, unless the train images show that it is harmful, and is the
            default beside another ``auto``.
        rotation: Largest turn in degrees to each side, in [0, 180].
        train_px: Side in pixels of the images that the network learns from in the first two thirds of the epochs, which
            saves time (Tan and Le 2021, progressive learning) and costs accuracy where size matters; 0 (the default) is
            the backbone's own, ``auto`` about 0.7 of it. The last third, validation and prediction keep its own.
        retries: How often training begins again from the start, at a tenth of the rate, where no epoch was better than
            the start.
        patience: Epochs without a better one after which training stops; 0 for never.
        best_by: Validation ``accuracy`` or ``loss`` that chooses the best epoch; ``calibrated`` is the loss after the
            temperature that makes it least, so that an epoch is not passed over because it is too sure of itself.
        unfreeze: What is trained: the ``head`` alone, the ``last`` stage too, the last ``half`` of the stages, ``all``.
        start: What the head begins as: the solution of ``probe`` (Kumar et al. 2022), ``random``, or that of the
            ``weights`` file of a run.
        batch_norm: Whether trained layers ``train`` on the batch's statistics or keep the ``frozen`` ones.
        views: Augmented views of each image for which the output of the frozen part is computed once and kept;
            0 augments and computes anew each epoch.
        amp: Mixed precision: ``auto`` takes bf16 or fp16 where a GPU has it.
    """

    strategy: str = "probe"
    backbone: str = "lite0"
    pretrained: bool = _BY_STRATEGY
    weights: str = ""
    precision: Precision = _BY_STRATEGY
    fit: Fit = "crop"
    head: Head = "linear"
    hidden: int = 256
    dropout: float = 0.4
    class_weight: ClassWeight = "none"
    holdout: float = 0.2
    validation: float = _BY_STRATEGY
    folds: int = 5
    measure_by: MeasureBy = "auto"
    budget: float = 0.0
    seed: int = 0
    max_megapixels: int = 64
    white_level: int = 0
    epochs: int | Literal["auto"] = _BY_STRATEGY
    batch_size: int = _BY_STRATEGY
    accumulate: int = _BY_STRATEGY
    optimizer: Optimizer = _BY_STRATEGY
    lr: float | Literal["auto"] = _BY_STRATEGY
    momentum: float = _BY_STRATEGY
    weight_decay: float = _BY_STRATEGY
    layer_decay: float = _BY_STRATEGY
    schedule: Schedule = _BY_STRATEGY
    step_epochs: int = _BY_STRATEGY
    step_factor: float = _BY_STRATEGY
    warmup_epochs: float = _BY_STRATEGY
    label_smoothing: float = _BY_STRATEGY
    ema: float = _BY_STRATEGY
    mixup: float = _BY_STRATEGY
    cutmix: float = _BY_STRATEGY
    augment: Augment = _BY_STRATEGY
    crop_scale: float = _BY_STRATEGY
    crop_px: int = _BY_STRATEGY
    flip: bool | Literal["auto"] = _BY_STRATEGY
    rotation: float = _BY_STRATEGY
    train_px: int | Literal["auto"] = _BY_STRATEGY
    retries: int = _BY_STRATEGY
    patience: int = _BY_STRATEGY
    best_by: BestBy = _BY_STRATEGY
    unfreeze: Unfreeze = _BY_STRATEGY
    start: Start = _BY_STRATEGY
    batch_norm: BatchNorm = _BY_STRATEGY
    views: int = _BY_STRATEGY
    amp: MixedPrecision = _BY_STRATEGY

    def __post_init__(self) -> None:
        self._fill()
        hints = get_type_hints(type(self))
        for field in dataclasses.fields(self):
            value, hint = getattr(self, field.name), hints[field.name]
            if value is None and field.default is _BY_STRATEGY:
                continue  # the strategy has no use for it
            _check(field.name, value, hint)
            if _is_a(value, int) and float in _kinds(hint):  # so that equal recipes are equal as JSON and TOML too
                object.__setattr__(self, field.name, float(value))
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if isinstance(value, int | float) and not low <= value <= high:
                raise OptionError(f"{name} = {value} is outside its range, {low} to {high}.")
        self._check_together()

    def _fill(self) -> None:
        """Put the strategy's values where none was given, and refuse those that it has no use for."""
        defaults = _defaults(self.strategy, self.head, self.start)
        if self.strategy == "finetune" and (self.views or self.unfreeze not in {None, "all"}):
            defaults = defaults | _PARTLY
        if self.mixup or self.cutmix:  # then there is nothing that could be kept
            defaults = defaults | ({"views": 0} if defaults else {})
        if self.backbone == OWN and defaults.get("flip") == "auto":  # its embeddings are not there to ask
            defaults = defaults | {"flip": True}
        if "auto" in (self.backbone, self.fit) and defaults.get("flip"):  # who lets the images choose, lets them choose
            defaults = defaults | {"flip": "auto"}
        for name in TRAINING:
            if name not in defaults:
                # Another strategy than the probe does not exist, which is said where the strategies are known.
                if getattr(self, name) is not None and self.strategy == "probe":
                    raise OptionError(
                        f"{name} = {quoted(str(getattr(self, name)))} has no meaning for the strategy "
                        f"{quoted(self.strategy)} with the head {quoted(self.head)}: it trains no network.",
                        "Leave it out, or choose the strategy finetune or scratch.",
                    )
            elif getattr(self, name) is None:
                object.__setattr__(self, name, defaults[name])
        if self.pretrained is None:
            object.__setattr__(self, "pretrained", self.strategy != "scratch")
        # Which arithmetic a backbone has is known when it is chosen.
        if self.precision is None and self.backbone != "auto":
            small = self.strategy in _PROBING and self.backbone == "lite0" and self.pretrained and not self.weights
            object.__setattr__(self, "precision", "int8" if small else "float32")

    @property
    def is_open(self) -> bool:
        """Whether a choice is left to be made from the images: see `headstart.strategies.choices`."""
        return "auto" in (self.backbone, self.fit, self.flip)

    def _check_together(self) -> None:
        if self.backbone == "auto" and (self.weights or not self.pretrained):
            raise OptionError(
                "backbone = auto chooses among networks with their own pretrained weights, and "
                f"{'a weights file was given' if self.weights else 'random weights were asked for'}.",
                "Name the backbone, lite0 say.",
            )
        if self.precision == "int8" and (self.strategy not in _PROBING or self.backbone != "lite0" or self.weights):
            raise OptionError(
                f"There is no int8 form of {quoted(self.backbone)} for the strategy {quoted(self.strategy)}.",
                "Only the probe on lite0 with its own weights has one: leave precision out.",
            )
        if self.budget and self.strategy not in {"auto", "finetune"}:
            raise OptionError(
                f"budget = {self.budget:g} s was given, and the strategy {quoted(self.strategy)} takes what it takes.",
                "Choose the strategy finetune or auto, or leave budget out.",
            )
        if self.strategy == "scratch" and (self.pretrained or self.weights):
            raise OptionError(
                "The strategy scratch begins with random weights, and weights were asked for.",
                "Leave them out, or choose the strategy finetune.",
            )
        if self.strategy == "scratch" and (self.unfreeze != "all" or self.start != "random"):
            raise OptionError(
                "The strategy scratch trains all layers from random weights: unfreeze is all, and start is random."
            )
        if self.strategy == "probe" and self.unfreeze not in {None, "head"}:
            raise OptionError(
                f"The strategy probe trains the head alone, and unfreeze = {quoted(str(self.unfreeze))} was asked for.",
                "Choose the strategy finetune.",
            )
        if self.head == "mlp" and self.start == "probe":
            raise OptionError(
                "A head with a hidden layer cannot start as the solution of a probe, which has none.",
                "Choose start = random, or head = linear.",
            )
        if self.views and self.unfreeze == "all":
            raise OptionError(
                "views keeps the output of the frozen part, and with unfreeze = all nothing is frozen.",
                "Choose unfreeze = last, or views = 0.",
            )
        if self.views and self.train_px:
            raise OptionError(
                "views keeps the output of the frozen part for images of the backbone's own size, and train_px = "
                f"{self.train_px} asks for others.",
                "Choose train_px = 0, or views = 0.",
            )
        if self.views and (self.mixup or self.cutmix):
            raise OptionError("mixup and cutmix mix fresh pixels; with views the kept outputs are used: choose one.")
        if self.measure_by == "folds" and self.validation == 0 and self.strategy != "probe":
            raise OptionError(
                "validation = 0 lets the held-out images choose the best epoch, and measure_by = folds holds none out "
                "from all.",
                "Choose validation = 0.2, or measure_by = holdout.",
            )
        if self.weights and not self.pretrained:
            raise OptionError("A weights file was given together with pretrained = false: choose one.")

    def as_dict(self) -> dict[str, Any]:
        """The choices that the strategy follows, as JSON values; `from_dict` reads them back."""
        return {key: value for key, value in dataclasses.asdict(self).items() if value is not None}

    def to_toml(self) -> str:
        """The recipe as a TOML document; `from_toml` reads it back."""
        return "".join(f"{key} = {_toml(value)}\n" for key, value in self.as_dict().items())

    @classmethod
    def from_toml(cls, text: str) -> Recipe:
        """Read a recipe; keys that are left out take their defaults.

        Raises:
            OptionError: The text is no TOML, or has an unknown key or a value that does not exist.
        """
        return cls.from_dict(parse_toml(text))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        """Make a recipe from a mapping.

        Raises:
            OptionError: An unknown key, or a value that does not exist.
        """
        must_be("values", values, Mapping, "a mapping, such as {'epochs': 5}")
        known = [field.name for field in dataclasses.fields(cls)]
        for key in values:
            must_be("A key of the recipe", key, str, "a name")
            if key not in known:
                raise OptionError(
                    f"The recipe has an unknown key {quoted(key)}.",
                    f"{nearest(key, known)}Known keys: {listed(known, len(known))}.",
                )
        return cls(**values)

    def differences(self, other: Recipe) -> list[str]:
        """What differs between two recipes, as ``name: this, then that``."""
        mine, theirs = self.as_dict(), other.as_dict()
        return [f"{key}: {mine.get(key)!r}, then {theirs.get(key)!r}" for key in {**mine, **theirs}
                if mine.get(key) != theirs.get(key)]  # fmt: skip


def parse_toml(text: str) -> dict[str, Any]:
    """The values of a TOML document.

    Raises:
        OptionError: The text is no TOML.
    """
    must_be("The recipe", text, str, "the text of a TOML document")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise OptionError(f"The recipe is not valid TOML: {error}.") from error


def _toml(value: object) -> str:
    """A value as TOML, which takes JSON's but for two: escapes of half characters, and a bare DEL."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


_RANGES: dict[str, tuple[float, float]] = {
    "holdout": (0.01, 0.5), "validation": (0, 0.5), "folds": (2, 100), "max_megapixels": (1, MAX_MEGAPIXELS),
    "white_level": (0, FULL_RANGE),
    "budget": (0, 1e9), "seed": (0, 2**63 - 1), "hidden": (1, 65536), "dropout": (0, 0.99), "epochs": (1, 100_000),
    "batch_size": (1, 65536), "accumulate": (1, 1024), "lr": (1e-8, 100), "momentum": (0, 0.9999),
    "weight_decay": (0, 10), "layer_decay": (0.01, 1), "step_epochs": (1, 100_000), "step_factor": (0, 1),
    "warmup_epochs": (0, 100_000), "label_smoothing": (0, 0.99), "ema": (0, 0.99999), "mixup": (0, 10),
    "cutmix": (0, 10), "crop_scale": (0.01, 1), "crop_px": (0, 2048), "rotation": (0, 180), "patience": (0, 100_000),
    "views": (0, 1000), "train_px": (0, 2048), "retries": (0, 10),
}  # fmt: skip

# Settings of the training loop, for strategies that train a network or a head by gradients.
_COMMON: dict[str, Any] = {
    "validation": 0.2, "accumulate": 1, "momentum": 0.9, "step_epochs": 7, "step_factor": 0.1, "ema": 0.0,
    "mixup": 0.0, "cutmix": 0.0, "augment": "none", "crop_px": 0, "flip": True, "rotation": 0.0, "patience": 0,
    "best_by": "loss", "batch_norm": "train", "amp": "auto", "optimizer": "adamw", "schedule": "cosine",
    "train_px": 0, "retries": 0,
}  # fmt: skip
# Far rather than gentle, since the probe's solution is epoch 0 and is kept where no epoch is better: at 1e-3 over all
# layers the first epochs undo it, and the last are better by far where ImageNet's features do not answer the question.
# At rates that never hurt (3e-5) fine-tuning stayed where it began. Batch norms that train give other features than the
# ones that the probe was fitted on, and lost in every comparison.
_FINETUNE: dict[str, Any] = _COMMON | {
    "epochs": "auto", "batch_size": 32, "lr": 1e-3, "weight_decay": 0.01, "layer_decay": 0.9, "warmup_epochs": 1.0,
    "label_smoothing": 0.0, "crop_scale": 0.8, "unfreeze": "all", "start": "probe", "views": 0,
    "batch_norm": "frozen", "flip": "auto", "retries": 1, "best_by": "calibrated",
}  # fmt: skip
# What is frozen runs once for as many augmented views of each image, at the backbone's own size.
_PARTLY: dict[str, Any] = {"unfreeze": "last", "views": 4}
# A head that begins with random weights has no start worth going back to.
_RANDOM_HEAD: dict[str, Any] = {"start": "random", "retries": 0}
_SCRATCH: dict[str, Any] = _COMMON | {
    "epochs": 60, "batch_size": 32, "lr": 1e-3, "weight_decay": 0.05, "layer_decay": 1.0, "warmup_epochs": 3.0,
    "label_smoothing": 0.1, "crop_scale": 0.25, "unfreeze": "all", "start": "random", "views": 0,
}  # fmt: skip
# A probe whose head has a hidden layer: trained by gradients on embeddings of the images as they are.
_MLP: dict[str, Any] = _COMMON | {
    "epochs": 60, "batch_size": 32, "lr": 1e-3, "weight_decay": 0.01, "layer_decay": 1.0, "warmup_epochs": 1.0,
    "label_smoothing": 0.0, "crop_scale": 1.0, "flip": False, "unfreeze": "head", "start": "random", "views": 1,
}  # fmt: skip
TRAINING = tuple(_FINETUNE)
_PROBING = ("probe", "auto")  # strategies with a probe, of which there is a form in int8


def _defaults(strategy: str, head: str, start: str | None) -> dict[str, Any]:
    if strategy == "auto":  # it takes those that are given, and leaves the others to the strategies that it tries
        return dict.fromkeys(TRAINING)
    if strategy == "scratch":
        return _SCRATCH
    if strategy == "finetune":
        # A hidden layer has no closed solution to start from.
        random = start == "random" or (start is None and head != "linear")
        return _FINETUNE | (_RANDOM_HEAD if random else {})
    return _MLP if head == "mlp" else {}


def _kinds(hint: Any) -> tuple[Any, ...]:
    """The parts of a type hint: a type, a `Literal`, or a union of them."""
    return get_args(hint) if get_origin(hint) in {Union, UnionType} else (hint,)


def _check(name: str, value: object, hint: Any) -> None:
    """Refuse a value that is not of its field's type, or none of its choices."""
    choices = [choice for part in _kinds(hint) if get_origin(part) is Literal for choice in get_args(part)]
    kinds = [part for part in _kinds(hint) if get_origin(part) is not Literal]
    if isinstance(value, str) and not _is_utf8(value):
        raise OptionError(f"{name} = {quoted(value)} is not valid text (UTF-8).", "Give the file another name.")
    if value in choices or any(_is_a(value, kind) for kind in kinds):
        return
    if kinds:
        wanted = " or ".join([*(kind.__name__ for kind in kinds), *map(repr, choices)])
        raise OptionError(f"{name} must be {wanted}, not {type(value).__name__} {value!r:.50}.")
    raise OptionError(
        f"{name} = {quoted(str(value))} does not exist.",
        f"{nearest(str(value), choices)}Choose one of {listed(choices)}.",
    )


def _is_a(value: object, kind: type) -> bool:
    if isinstance(value, bool):
        return kind is bool
    if kind is float:
        return isinstance(value, int | float) and abs(value) <= sys.float_info.max
    return isinstance(value, kind)


def _is_utf8(text: str) -> bool:
    """Whether a file can hold it: Python has halves of characters where a path's bytes are no UTF-8."""
    return not any("\ud800" <= character <= "\udfff" for character in text)
