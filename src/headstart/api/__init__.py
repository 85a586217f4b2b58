"""The verbs, a file each, and `run`, the result of a training. A verb is imported when it is first used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headstart.core.tables import public

if TYPE_CHECKING:
    from headstart.api.checking import check, check_page
    from headstart.api.compared import Comparison
    from headstart.api.comparing import compare
    from headstart.api.describing import card
    from headstart.api.embedding import embed
    from headstart.api.evaluating import evaluate
    from headstart.api.explaining import explain
    from headstart.api.exporting import Exported, export
    from headstart.api.predicting import predict_into
    from headstart.api.pushing import Pushed, push
    from headstart.api.reading import load, read
    from headstart.api.reporting import comparison_page, draw_report
    from headstart.api.run import Run
    from headstart.api.searching import Match, search
    from headstart.api.sharding import embed_into
    from headstart.api.training import resume, train
    from headstart.api.watching import watch

# Name -> its file.
_FILES = {
    "Comparison": "compared",
    "Exported": "exporting",
    "Match": "searching",
    "Pushed": "pushing",
    "Run": "run",
    "card": "describing",
    "check": "checking",
    "check_page": "checking",
    "compare": "comparing",
    "comparison_page": "reporting",
    "draw_report": "reporting",
    "embed": "embedding",
    "embed_into": "sharding",
    "evaluate": "evaluating",
    "explain": "explaining",
    "export": "exporting",
    "load": "reading",
    "predict_into": "predicting",
    "push": "pushing",
    "read": "reading",
    "resume": "training",
    "search": "searching",
    "train": "training",
    "watch": "watching",
}

__all__ = [
    "Comparison",
    "Exported",
    "Match",
    "Pushed",
    "Run",
    "card",
    "check",
    "check_page",
    "compare",
    "comparison_page",
    "draw_report",
    "embed",
    "embed_into",
    "evaluate",
    "explain",
    "export",
    "load",
    "predict_into",
    "push",
    "read",
    "resume",
    "search",
    "train",
    "watch",
]


def __getattr__(name: str) -> Any:
    return public("headstart.api", name, {one: f"headstart.api.{file}" for one, file in _FILES.items()}, globals())
