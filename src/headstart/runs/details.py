"""What a strategy reports about its fit besides the numbers; ``metrics.json`` has it under ``details``."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

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
    """

    temperature: float
    strength: float | None = None
    whitening: float | None = None
    log_loss: float | None = None


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
        history: Numbers of each epoch; epoch 0 is the start.
    """

    epochs: int
    best_epoch: int
    lr: float
    device: str
    mixed_precision: str
    processes: int
    images_per_second: float
    stopped: Literal["patience"] | None
    history: tuple[dict[str, float | int | None], ...]


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
            **(_json(self.training) if self.training else {}),
            "familiarity": self.familiarity.as_dict() if self.familiarity else None,
            "prediction_sets": self.prediction_sets.as_dict() if self.prediction_sets else None,
            **({"auto": _json(self.auto)} if self.auto else {}),
            **({} if self.choices is None else {"choices": self.choices.as_dict()}),
        }


def _json(record: Training | Ladder) -> dict[str, Any]:
    """A record as JSON values, whose tuples are lists."""

    def values(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        return {key: list(value) if isinstance(value, tuple) else value for key, value in pairs}

    return asdict(record, dict_factory=values)
