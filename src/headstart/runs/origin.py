"""Where the recipe of a training comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from headstart.runs.chosen import Evidence


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What was chosen and planned before a training; reported with the result, and kept if that is interrupted.

    Attributes:
        reasons: Sentences that say why the recipe is what it is; the model file has them.
        evidence: The numbers behind them; None where the recipe left nothing open.
        plan: Notes on how far a network is trained.
        began: When the work began, from which a budget counts, by `time.perf_counter`; None for now.
    """

    reasons: tuple[str, ...] = ()
    evidence: Evidence | None = None
    plan: tuple[str, ...] = ()
    began: float | None = None

    def as_dict(self) -> dict[str, object]:
        """What an interrupted training keeps, as JSON values."""
        chosen = {} if self.evidence is None else {"reasons": list(self.reasons), "evidence": self.evidence.as_dict()}
        return {**chosen, "plan": list(self.plan)}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Origin:
        """That of an interrupted training."""
        return cls(
            reasons=tuple(record.get("reasons", ())),
            evidence=Evidence.from_dict(record["evidence"]) if "evidence" in record else None,
            plan=tuple(record.get("plan", ())),
        )


GIVEN = Origin()  # of a recipe that left nothing open
