"""The numbers behind what a recipe left open: ``metrics.json`` has them, and an interrupted training keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

Verdict = Literal["harmless", "harmful", "unresolved"]


@dataclass(frozen=True, kw_only=True)
class Scored:
    """How a cross-validated probe fares with one candidate.

    Attributes:
        name: Of the candidate.
        accuracy: Share of the images that it classifies correctly.
        log_loss: Mean, in nats.
        p_value: How often chance alone would make it look that much better than the first, corrected; None for the
            first.
        parameters: Of a backbone; else None.
        licence: Of its weights; else None.
        ms: Time of an image on one core of this computer, in milliseconds; None where it was not measured.
    """

    name: str
    accuracy: float
    log_loss: float
    p_value: float | None = None
    parameters: int | None = None
    licence: str | None = None
    ms: float | None = None

    def as_dict(self) -> dict[str, object]:
        """The candidate as JSON values."""
        facts = {"parameters": self.parameters, "licence": self.licence, "ms": self.ms}
        return {
            "name": self.name, "accuracy": self.accuracy, "log_loss": self.log_loss, "p_value": self.p_value,
            **{name: value for name, value in facts.items() if value is not None},
        }  # fmt: skip


@dataclass(frozen=True)
class Chosen:
    """What was chosen, and why.

    Attributes:
        name: Of the candidate that was chosen.
        candidates: All that were tried, in the order of preference among equals.
        skipped: Names of those that could not be tried, with reasons.
        reasons: Sentences that a person should read.
    """

    name: str
    candidates: tuple[Scored, ...]
    skipped: tuple[tuple[str, str], ...]
    reasons: tuple[str, ...]

    @property
    def price(self) -> str:
        """What the choice costs, as a sentence; empty where the times of the candidates are not known.

        The clock measured it, so that it is no reason: those are in the model file, which is the same every time.
        """
        first, times = self.candidates[0], {one.name: one.ms for one in self.candidates if one.ms}
        if first.name not in times or self.name not in times or len(times) < 2:
            return ""
        told = ", ".join(
            f"{name} {ms:.1f} ms" + (f" ({ms / times[first.name]:.1f} times)" if name != first.name else "")
            for name, ms in times.items()
        )
        return f"What the network takes for an image on one core: {told}. Chosen: {self.name}."

    def as_dict(self) -> dict[str, object]:
        """The choice as JSON values."""
        return {
            "chosen": self.name,
            "candidates": [one.as_dict() for one in self.candidates],
            "skipped": [{"name": name, "reason": reason} for name, reason in self.skipped],
            "reasons": list(self.reasons),
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Chosen:
        """Read `as_dict` back."""
        return cls(
            record["chosen"],
            tuple(Scored(**one) for one in record["candidates"]),
            tuple((one["name"], one["reason"]) for one in record["skipped"]),
            tuple(record["reasons"]),
        )


@dataclass(frozen=True, kw_only=True)
class Changed:
    """How predictions fare on images that were flipped or turned; None where there were too few to ask.

    Attributes:
        verdict: ``harmful`` where it costs accuracy or log loss beyond noise, ``harmless`` where it is shown to cost
            next to nothing.
        accuracy: On the changed images.
        accuracy_lost: By how much lower that is.
        interval: Of that, 95 %.
        log_loss: On the changed images.
        log_loss_added_at_most: Upper end of the 95 % interval of what is added.
        p_value: That it became worse, corrected.
    """

    verdict: Verdict
    accuracy: float | None = None
    accuracy_lost: float | None = None
    interval: tuple[float, float] | None = None
    log_loss: float | None = None
    log_loss_added_at_most: float | None = None
    p_value: float | None = None


@dataclass(frozen=True, kw_only=True)
class Flips:
    """Which flips and turns leave the class of an image as it is.

    Attributes:
        images: How many were asked about.
        accuracy: On them as they are; None where they are too few, as is the next.
        log_loss: The same for the mean log loss.
        transforms: What became of each.
        reason: A sentence.
    """

    images: int
    accuracy: float | None
    log_loss: float | None
    transforms: Mapping[str, Changed]
    reason: str

    def as_dict(self) -> dict[str, object]:
        """The judgement as JSON values."""
        changed = {name: asdict(one) for name, one in self.transforms.items()}
        for one in changed.values():
            one["interval"] = list(one["interval"]) if one["interval"] else None
        return {
            "images": self.images, "accuracy": self.accuracy, "log_loss": self.log_loss, "transforms": changed,
            "reason": self.reason,
        }  # fmt: skip

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Flips:
        """Read `as_dict` back."""
        transforms = {
            name: Changed(**{**one, "interval": tuple(one["interval"]) if one["interval"] else None})
            for name, one in record["transforms"].items()
        }
        return cls(**{**record, "transforms": transforms})


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What decided what a recipe left open; None for what it did not."""

    backbone: Chosen | None = None
    fit: Chosen | None = None
    flip: Flips | None = None

    def as_dict(self) -> dict[str, object]:
        """The evidence as JSON values."""
        found = {one.name: getattr(self, one.name) for one in fields(self)}
        return {name: one.as_dict() for name, one in found.items() if one is not None}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Evidence:
        """Read `as_dict` back."""
        backbone, fit, flip = (record.get(name) for name in ("backbone", "fit", "flip"))
        return cls(
            backbone=None if backbone is None else Chosen.from_dict(backbone),
            fit=None if fit is None else Chosen.from_dict(fit),
            flip=None if flip is None else Flips.from_dict(flip),
        )
