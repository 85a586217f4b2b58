"""Numbers with intervals, from held-out images only."""

from headstart.evaluation.evaluate import ClassResult, Evaluation, evaluate

__all__ = ["ClassResult", "Evaluation", "evaluate"]
