"""The recipe: one flat, typed, frozen record of all choices that determine a result."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from headstart.settings import toml
from headstart.settings.backbones import BackboneSpec, backbone_spec_of, named, with_precision
from headstart.settings.defaults import defaults_of
from headstart.settings.heads import HEADS, HeadSpec, described_heads, head_spec_of
from headstart.settings.rules import check_together
from headstart.settings.setting import MEASURING, MODEL, RUNNING, SOURCE, documented, setting, settings_of, training
from headstart.settings.strategies import StrategySpec, described, spec_of
from headstart.settings.validation import checked, refuse_unknown

Fit = Literal["crop", "squash", "pad", "auto"]
MeasureBy = Literal["auto", "holdout", "folds"]
Precision = Literal["int8", "float32"]
ClassWeight = Literal["none", "balanced"]
Unfreeze = Literal["head", "last", "half", "all"]
Start = Literal["probe", "random", "weights"]
Optimizer = Literal["adamw", "sgd"]
Schedule = Literal["constant", "cosine", "step", "one-cycle"]
Augment = Literal["none", "rand", "trivial"]
BatchNorm = Literal["train", "frozen"]
BestBy = Literal["accuracy", "loss", "calibrated"]
MixedPrecision = Literal["auto", "no", "bf16", "fp16"]
MAX_MEGAPIXELS = 178  # Pillow itself refuses more
FULL_RANGE = 65535  # the largest value of 16 bits


@documented
@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All choices that determine a result; stored in the artifact and in ``recipe.toml``.

    A field holds everything about a setting: its default, range, help and group. One that is None takes the strategy's
    default; a setting of a training is for strategies and heads that train by gradients.
    """

    strategy: str = setting("probe", MODEL, f"How to learn: {described()}.", first=True, metavar="NAME")
    backbone: str = setting(
        "lite0",
        MODEL,
        f"Pretrained network: {named()}, file:PATH, or auto.",
        more="auto chooses by cross-validation on the train images among those whose weights are on this computer.",
        first=True,
        metavar="NAME",
    )
    pretrained: bool = setting(
        None,
        MODEL,
        "Start from the backbone's own weights, or from random ones.",
        more="Every strategy but scratch does.",
    )
    weights: str = setting("", MODEL, "Start from this weights file instead.", metavar="PATH")
    precision: Precision = setting(
        None,
        MODEL,
        "Arithmetic of the backbone.",
        more=f"int8 exists for a probe on {', '.join(with_precision('int8'))} with their own weights, where it is the "
        "default.",
    )
    fit: Fit = setting(
        "crop",
        MODEL,
        "How images are made square.",
        more="crop keeps the proportions and cuts off the borders, squash keeps everything and changes the "
        "proportions, pad keeps both and adds borders; auto chooses by cross-validation on the train images.",
        first=True,
    )
    head: str = setting(
        "linear",
        MODEL,
        f"Classification layer: {described_heads()}.",
        more="own is one of yours, from Python (see headstart.Own).",
        choices=HEADS,
        metavar="|".join(name for name, spec in HEADS.items() if not spec.brought),
    )
    hidden: int = setting(256, MODEL, "Width of the hidden layer of mlp.", range=(1, 65536))
    dropout: float = setting(0.4, MODEL, "Dropout rate of the hidden layer of mlp.", range=(0, 0.99))
    class_weight: ClassWeight = setting("none", MODEL, "balanced gives every class the same total weight.", first=True)
    threshold: str = setting(
        "f1",
        MODEL,
        "How the threshold of each label is chosen: f1, a number such as 0.5, precision=0.9, or recall=0.9.",
        more="Only where an image has several labels. f1 takes the one with the largest F1 out of fold; precision=0.9 "
        "finds as much as it can with at least that precision.",
        metavar="RULE",
    )
    holdout: float = setting(
        0.2, MEASURING, "Fraction of the images held out if the source has no splits.", range=(0.01, 0.5), first=True
    )
    validation: float = training(
        0.2,
        "Fraction of the train images that are set aside as val, to choose the best epoch.",
        group=MEASURING,
        range=(0, 0.5),
        more="For a source without both val and test. 0 lets the held-out images choose, as the tutorials do, which "
        "makes their numbers too good.",
    )
    folds: int = setting(
        5,
        MEASURING,
        "Number of cross-validation folds; giving it asks for cross-validation.",
        range=(2, 100),
        metavar="K",
        first=True,
    )
    measure_by: MeasureBy = setting(
        "auto",
        MEASURING,
        "Measure on held-out images or by cross-validation.",
        more="auto holds out, unless the probe has too few images for that. In cross-validation each image is measured "
        "by a model that has not seen it. Giving folds on the command line asks for cross-validation.",
    )
    budget: float = setting(
        0.0,
        RUNNING,
        "Time that fine-tuning may take, such as 90s, 10m, 1h; 0: no limit.",
        more="In a recipe, seconds. For the strategies finetune and auto.",
        range=(0, 1e9),
        metavar="TIME",
        first=True,
    )
    seed: int = setting(0, RUNNING, "Seed of every random choice.", range=(0, 2**63 - 1), first=True)
    max_megapixels: int = setting(
        64,
        SOURCE,
        "Larger images are skipped.",
        range=(1, MAX_MEGAPIXELS),
        more="They are refused before they are decoded, which bounds the memory; a JPEG counts at the reduced size "
        "that is decoded.",
    )
    white_level: int = setting(
        0,
        SOURCE,
        "Value of 16-bit images that is white, such as 4095; 0: the whole range.",
        range=(0, FULL_RANGE),
        more="For PNG, TIFF and PNM: 4095 if they hold 12 bits. When training starts from a model, 0 stands for the "
        "model's level. 8-bit images stay as they are.",
        metavar="LEVEL",
    )
    epochs: int | Literal["auto"] = training(
        60,
        "Passes over the train images.",
        range=(1, 100_000),
        metavar="N|auto",
        first=True,
        more="auto: more for fewer images, and no more than fit into the budget; see headstart.training.plan.",
    )
    batch_size: int = training(32, "Images per gradient step, over all processes.", range=(1, 65536))
    accumulate: int = training(1, "Gradients that are summed before each step.", range=(1, 1024))
    optimizer: Optimizer = training("adamw", "Optimizer.")
    lr: float | Literal["auto"] = training(
        1e-3,
        "Learning rate of the head; auto finds it by a range test.",
        range=(1e-8, 100),
        metavar="RATE|auto",
        more="The range test is that of Smith 2017.",
    )
    momentum: float = training(0.9, "Momentum of sgd.", range=(0, 0.9999))
    weight_decay: float = training(
        0.01, "Weight decay of matrices and kernels, not of biases and norms.", range=(0, 10)
    )
    layer_decay: float = training(
        1.0, "Learning rate of each stage of the backbone, as a fraction of the next stage's.", range=(0.01, 1)
    )
    schedule: Schedule = training(
        "cosine", "Learning-rate schedule.", more="cosine goes to zero; one-cycle is that of Smith and Topin 2019."
    )
    step_epochs: int = training(7, "Epochs between two steps of the schedule step.", range=(1, 100_000))
    step_factor: float = training(0.1, "Factor of the learning rate at each of these steps.", range=(0, 1))
    warmup_epochs: float = training(1.0, "Epochs over which the learning rate rises from zero.", range=(0, 100_000))
    label_smoothing: float = training(0.0, "Share of each label that is spread over all classes.", range=(0, 0.99))
    ema: float = training(0.0, "Decay per step of the moving average of the weights; 0: none.", range=(0, 0.99999))
    mixup: float = training(0.0, "Alpha of mixup; 0: none.", range=(0, 10), more="Zhang et al. 2018.")
    cutmix: float = training(0.0, "Alpha of CutMix; 0: none.", range=(0, 10), more="Yun et al. 2019.")
    augment: Augment = training("none", "Augmentation policy: RandAugment, TrivialAugment, or none.")
    crop_scale: float = training(
        1.0, "Smallest fraction of the area that a random crop keeps; 1: no random crops.", range=(0.01, 1)
    )
    crop_px: int = training(
        0, "Side of the random crop in pixels, of which the centre is used; 0: the backbone's.", range=(0, 2048)
    )
    flip: bool | Literal["auto"] = training(
        True,
        "Mirror images left to right, each with probability one half.",
        more="auto does, unless the train images show that it is harmful; it is the default if backbone or fit is "
        "auto.",
    )
    rotation: float = training(0.0, "Largest rotation in degrees, in either direction.", range=(0, 180))
    train_px: int | Literal["auto"] = training(
        0,
        "Image side in pixels in the first two thirds of the epochs; 0: the backbone's.",
        range=(0, 2048),
        metavar="PX|auto",
        more="Smaller images save time (Tan and Le 2021, progressive learning) and cost accuracy if size matters; "
        "auto is about 0.7 of the backbone's own. The last third, validation and prediction use the backbone's own.",
    )
    retries: int = training(
        0, "Restarts at a tenth of the learning rate if no epoch beats the starting point.", range=(0, 10)
    )
    patience: int = training(
        0, "Early stopping: epochs without improvement before training stops; 0: never.", range=(0, 100_000)
    )
    best_by: BestBy = training(
        "loss",
        "What chooses the best epoch, on the validation images.",
        more="calibrated is the loss after temperature scaling, so that an epoch is not passed over because it is "
        "overconfident.",
    )
    unfreeze: Unfreeze = training(
        "all", "What is trained: the head, the last stage too, the last half of the stages, or all."
    )
    start: Start = training(
        "random",
        "How the head starts: with the probe's solution, at random, or from a weights file.",
        more="probe follows Kumar et al. 2022; weights takes the head from the weights file of a run.",
    )
    batch_norm: BatchNorm = training(
        "train", "Whether batch norms of trained layers use the batch's statistics or frozen ones."
    )
    views: int = training(
        0, "Augmented views of each image whose frozen outputs are cached; 0: new ones each epoch.", range=(0, 1000)
    )
    amp: MixedPrecision = training("auto", "Mixed precision; auto: if the GPU supports it.")

    def __post_init__(self) -> None:
        for name, value in defaults_of(self, {name: SETTINGS[name] for name in TRAINING}).items():
            object.__setattr__(self, name, value)
        for name, value in checked(self).items():
            object.__setattr__(self, name, value)
        check_together(self)

    @property
    def spec(self) -> StrategySpec:
        """What is known of the strategy; `UNKNOWN` where there is none of this name."""
        return spec_of(self.strategy)

    @property
    def head_spec(self) -> HeadSpec:
        """What is known of the head."""
        return head_spec_of(self.head)

    @property
    def backbone_spec(self) -> BackboneSpec:
        """What the name of the backbone tells of it."""
        return backbone_spec_of(self.backbone)

    @property
    def is_open(self) -> bool:
        """Whether a choice is left to be made from the images: see `headstart.strategies.choices`."""
        return "auto" in (self.backbone, self.fit, self.flip)

    def as_dict(self) -> dict[str, object]:
        """The choices that the strategy follows, as JSON values; `from_dict` reads them back."""
        return {key: value for key, value in dataclasses.asdict(self).items() if value is not None}

    def to_toml(self) -> str:
        """The recipe as a TOML document; `from_toml` reads it back."""
        return toml.text_of(self.as_dict())

    @classmethod
    def from_toml(cls, text: str) -> Recipe:
        """Read a recipe; keys that are left out take their defaults.

        Raises:
            OptionError: The text is no TOML, or has an unknown key or a value that does not exist.
        """
        return cls.from_dict(toml.parse(text))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        """Make a recipe from a mapping.

        Raises:
            OptionError: An unknown key, or a value that does not exist.
        """
        refuse_unknown(cls, values)
        return cls(**values)

    def differences(self, other: Recipe) -> list[str]:
        """What differs between two recipes, as ``name: this, then that``."""
        mine, theirs = self.as_dict(), other.as_dict()
        return [f"{key}: {mine.get(key)!r}, then {theirs.get(key)!r}" for key in {**mine, **theirs}
                if mine.get(key) != theirs.get(key)]  # fmt: skip


SETTINGS = settings_of(Recipe)
TRAINING = tuple(name for name, one in SETTINGS.items() if one.trains)
