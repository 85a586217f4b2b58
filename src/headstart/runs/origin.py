"""Where the recipe of a training comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What was chosen and planned before a training: it is told with the result, and kept where that is interrupted.

    Attributes:
        reasons: Sentences that say why the recipe is what it is; the model file has them.
        evidence: The numbers behind them, as JSON values; None where the recipe left nothing open.
        plan: Notes on how far a network is trained.
        began: When the work began that a budget counts from, as `time.perf_counter` tells; None for when it is asked.
    """

    reasons: tuple[str, ...] = ()
    evidence: dict[str, Any] | None = None
    plan: tuple[str, ...] = ()
    began: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """What an interrupted training keeps, as JSON values."""
        chosen = {} if self.evidence is None else {"reasons": list(self.reasons), "evidence": self.evidence}
        return {**chosen, "plan": list(self.plan)}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Origin:
        """That of an interrupted training."""
        return cls(
            reasons=tuple(record.get("reasons", ())),
            evidence=record.get("evidence"),
            plan=tuple(record.get("plan", ())),
        )


GIVEN = Origin()  # of a recipe that somebody wrote as it is
