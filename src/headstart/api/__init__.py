"""The verbs: one file each, and `run`, what a training gives."""

from headstart.api.checking import check, check_page
from headstart.api.comparing import Comparison, compare
from headstart.api.evaluating import evaluate
from headstart.api.explaining import explain
from headstart.api.reading import load, read
from headstart.api.reporting import comparison_page, draw_report
from headstart.api.run import Run, refuse_existing
from headstart.api.training import resume, train

__all__ = [
    "Comparison",
    "Run",
    "check",
    "check_page",
    "compare",
    "comparison_page",
    "draw_report",
    "evaluate",
    "explain",
    "load",
    "read",
    "refuse_existing",
    "resume",
    "train",
]
