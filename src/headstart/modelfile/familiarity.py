"""What the output ``distance`` of a model file means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from headstart.core.errors import ModelError
from headstart.core.proportions import Interval, wilson

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class FalseAlarms:
    """How many held-out images are flagged as unfamiliar.

    Attributes:
        images: Number of held-out images.
        flagged: Those that are flagged as unfamiliar.
        rate: Their share.
        interval: 95 % Wilson interval of it.
    """

    images: int
    flagged: int
    rate: float
    interval: Interval

    @classmethod
    def of(cls, flagged: NDArray[np.bool_]) -> FalseAlarms:
        """Count flags of held-out images, (M,), M at least 1."""
        return cls.counted(int(flagged.sum()), len(flagged))

    @classmethod
    def counted(cls, flagged: int, images: int) -> FalseAlarms:
        """So many flags of so many images, at least one."""
        return cls(images, flagged, flagged / images, wilson(flagged, images))


@dataclass(frozen=True)
class Familiarity:
    """What a distance means.

    Attributes:
        threshold: An image at a larger distance is unlike the training images.
        false_alarm_rate: Share of images like those that is above it, at most, on average; above 0 and below 1.
        neighbours: Nearest references that the distance is the mean to.
        references: Number of embeddings to compare with.
        calibrated_on: Images that the threshold was chosen by; None where the file does not say.
        held_out: How it fares on held-out images; None where that was not measured.
    """

    threshold: float
    false_alarm_rate: float
    neighbours: int
    references: int
    calibrated_on: int | None = None
    held_out: FalseAlarms | None = None

    def as_dict(self) -> dict[str, object]:
        """The record as JSON values."""
        record = asdict(self)
        if self.calibrated_on is None:
            del record["calibrated_on"]
        if self.held_out:
            record["held_out"]["interval"] = list(self.held_out.interval)
        return record

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Familiarity:
        """The record of a model file.

        Raises:
            ModelError: It is damaged.
        """
        found = cls(
            threshold=_positive(record, "threshold"),
            false_alarm_rate=_positive(record, "false_alarm_rate"),
            neighbours=_count(record, "neighbours"),
            references=_count(record, "references"),
            calibrated_on=None if record.get("calibrated_on") is None else _count(record, "calibrated_on"),
            held_out=_held_out(record.get("held_out")),
        )
        if found.false_alarm_rate >= 1 or found.neighbours > found.references:
            raise ModelError("The model's metadata has no valid familiarity.")
        return found


def _held_out(record: Any) -> FalseAlarms | None:
    if record is None:
        return None
    images, flagged = (record.get("images"), record.get("flagged")) if isinstance(record, dict) else (None, None)
    if type(images) is not int or type(flagged) is not int or not 0 <= flagged <= images or not images:
        raise ModelError("The model's metadata has no valid held_out of familiarity.")
    return FalseAlarms.counted(flagged, images)


def _positive(record: Mapping[str, object], key: str) -> float:
    value = record.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        raise ModelError(f"The model's metadata has no valid {key} of familiarity.")
    return float(value)


def _count(record: Mapping[str, object], key: str) -> int:
    value = record.get(key)
    if type(value) is not int or value < 1:
        raise ModelError(f"The model's metadata has no valid {key} of familiarity.")
    return value
