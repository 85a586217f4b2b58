"""What a strategy reports about its fit besides the numbers; ``metrics.json`` has it under ``details``."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

from headstart.evaluation.conformal import Reported
from headstart.modelfile.familiarity import Familiarity
from headstart.runs.chosen import Evidence


@dataclass(frozen=True)
class Embedding:
    """The one pass of all images through a frozen backbone.

    Attributes:
        embedded: Images that were embedded now.
        from_cache: Those whose embeddings were known.
        engine: What ran the network.
    """

    embedded: int
    from_cache: int
    engine: str


@dataclass(frozen=True)
class HeadFit:
    """How a head was fitted on embeddings.

    Attributes:
        temperature: What its scores are divided by.
        strength: C, the inverse strength of the penalty; None for a head without it, as are the next two.
        whitening: How far the axes of the embeddings were made equally long, in 0..1.
        log_loss: Of the cross-validation that chose both.
        strengths: C of each label, where an image can have several; else None, as is the next one.
        whitenings: The whitening of each label.
    """

    temperature: float
    strength: float | None = None
    whitening: float | None = None
    log_loss: float | None = None
    strengths: tuple[float, ...] | None = None
    whitenings: tuple[float, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """The results of one epoch.

    Attributes:
        epoch: Its number, from 1; 0 is the start, before any step.
        train_loss: Mean loss on the train images, in nats; None at the start.
        train_accuracy: In 0..1; None at the start.
        validation_loss: Mean loss on the validation images, in nats.
        validation_accuracy: In 0..1.
        validation_calibrated: Their mean loss after temperature scaling; None where that does not choose the epoch.
        lr: Learning rate of the head at its end; None at the start.
        seconds: Time that it took.
    """

    epoch: int
    train_loss: float | None = None
    train_accuracy: float | None = None
    validation_loss: float
    validation_accuracy: float
    validation_calibrated: float | None = None
    lr: float | None = None
    seconds: float

    def as_dict(self) -> dict[str, float | None]:
        """The same as JSON values."""
        record = asdict(self)
        if self.validation_calibrated is None:
            del record["validation_calibrated"]
        return record


@dataclass(frozen=True, kw_only=True)
class Training:
    """How a network was trained.

    Attributes:
        epochs: Number of epochs; 0 where the start was all.
        best_epoch: The epoch whose weights were kept; 0 for the start.
        lr: Learning rate of the head.
        device: Where it was trained.
        mixed_precision: ``no``, ``bf16`` or ``fp16``.
        processes: Number of processes.
        images_per_second: Train images a second.
        stopped: ``patience`` where that ran out before the last epoch.
        history: The results of each epoch; epoch 0 is the start.
    """

    epochs: int
    best_epoch: int
    lr: float
    device: str
    mixed_precision: str
    processes: int
    images_per_second: float
    stopped: Literal["patience"] | None
    history: tuple[Epoch, ...]

    def as_dict(self) -> dict[str, object]:
        """The same as JSON values."""
        return {**asdict(self), "history": [one.as_dict() for one in self.history]}


@dataclass(frozen=True, kw_only=True)
class Tried:
    """A strategy that `auto` tried.

    Attributes:
        name: For sentences.
        strategy: Which.
        images: Images that choose.
        correct: Those that it predicts correctly.
        accuracy: Their share.
        accuracy_interval: Wilson's, 95 %.
        log_loss: Their mean.
        seconds: What it took.
    """

    name: str
    strategy: str
    images: int
    correct: int
    accuracy: float
    accuracy_interval: tuple[float, float]
    log_loss: float
    seconds: float


@dataclass(frozen=True)
class Ladder:
    """How `auto` chose.

    Attributes:
        reasons: Sentences.
        tried: What was compared, from the cheapest.
    """

    reasons: tuple[str, ...]
    tried: tuple[Tried, ...]

    def as_dict(self) -> dict[str, object]:
        """The same as JSON values."""
        tried = [{**asdict(one), "accuracy_interval": list(one.accuracy_interval)} for one in self.tried]
        return {"reasons": list(self.reasons), "tried": tried}


@dataclass(frozen=True, kw_only=True)
class Details:
    """What a strategy reports about its fit; None for what it does not do.

    Attributes:
        embedding: The pass through a frozen backbone.
        head: The head that was fitted on its embeddings.
        validation_images: Images that chose the epoch of a network.
        training: How that was trained.
        familiarity: What the model file says of unfamiliar images.
        prediction_sets: What was measured of prediction sets.
        auto: How the strategy was chosen.
        choices: The numbers behind what a recipe left open.
    """

    embedding: Embedding | None = None
    head: HeadFit | None = None
    validation_images: int | None = None
    training: Training | None = None
    familiarity: Familiarity | None = None
    prediction_sets: Reported | None = None
    auto: Ladder | None = None
    choices: Evidence | None = None

    def as_dict(self) -> dict[str, object]:
        """The details as JSON values."""
        head = asdict(self.head) if self.head else {}
        return {
            **(asdict(self.embedding) if self.embedding else {}),
            **({"head": {key: value for key, value in head.items() if value is not None}} if head else {}),
            **({} if self.validation_images is None else {"validation_images": self.validation_images}),
            **(self.training.as_dict() if self.training else {}),
            "familiarity": self.familiarity.as_dict() if self.familiarity else None,
            "prediction_sets": self.prediction_sets.as_dict() if self.prediction_sets else None,
            **({"auto": self.auto.as_dict()} if self.auto else {}),
            **({} if self.choices is None else {"choices": self.choices.as_dict()}),
        }
