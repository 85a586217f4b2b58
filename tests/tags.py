"""A throw-away task, as one file and one row: any number of tags is true of an image, none included."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from headstart.core.errors import SourceError
from headstart.core.minimum import lowest
from headstart.core.text import listed
from headstart.data.table import ImageTable
from headstart.heads.calibrated import Calibrated
from headstart.heads.linear import LinearHead
from headstart.targets import TargetSpec

if TYPE_CHECKING:
    import torch

    from headstart.core.graph import Graph
    from headstart.core.runtime import Runtime
    from headstart.modelfile.schema import Metadata
    from headstart.prediction.answers import Result
    from headstart.runs.result import Fitted
    from headstart.settings.recipe import Recipe

TASK = "tags"
ROW = TargetSpec(
    record="tags:Tags",
    calibration="tags:Sigmoid",
    linear="tags:fit_linear",
    loss="tags:BinaryCrossEntropy",
    measure="tags:measure",
    judge="tags:judge",
    compare="headstart.evaluation.comparison:BY_ACCURACY",
    guesses="headstart.report.guesses:of_classes",
    describe="tags:describe",
    predictions="tags:predictions",
)


@dataclass(frozen=True, eq=False)
class Tags:
    """The tags of each image, written as ``a+b``; labels are bool (N, C)."""

    task: ClassVar[str] = TASK
    notes: ClassVar[tuple[str, ...]] = ()
    names: tuple[str, ...]
    labels: np.ndarray

    @classmethod
    def read(cls, table: ImageTable) -> Tags:
        return cls._of(table, tuple(sorted(set().union(*map(set, _tags(table))))))

    @classmethod
    def known(cls, table: ImageTable, names: Sequence[str], *, allow_missing: bool) -> Tags:
        if unknown := set().union(*map(set, _tags(table))) - set(names):
            raise SourceError(f"The model does not know {listed(sorted(unknown))}.")
        return cls._of(table, tuple(names))

    @classmethod
    def _of(cls, table: ImageTable, names: tuple[str, ...]) -> Tags:
        return cls(names, np.array([[name in one for name in names] for one in _tags(table)]))

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: Any) -> Tags:
        return dataclasses.replace(self, labels=self.labels[rows])

    def count(self) -> np.ndarray:
        return self.labels.sum(0)

    def strata(self) -> list[tuple[int, ...]]:
        return [tuple(np.flatnonzero(row).tolist()) for row in self.labels]


def _tags(table: ImageTable) -> list[list[str]]:
    return [[one for one in (row.label or "").split("+") if one] for row in table.rows]


@dataclass(frozen=True)
class Sigmoid:
    """Each tag has a probability of its own."""

    thresholds: ClassVar[tuple[float, ...]] = ()
    temperature: float

    @classmethod
    def fit(
        cls, scores: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None, *, threshold: str = ""
    ) -> Sigmoid:
        power = lowest(lambda one: float(_losses(scores / np.exp(one), labels).mean()), -3, 3, precision=1e-5)
        return cls(float(np.exp(power)))

    def scaled(self, scores: np.ndarray) -> np.ndarray:
        return scores / self.temperature

    def probabilities(self, scores: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-scores.astype(np.float64) / self.temperature))

    def add_nodes(self, graph: Graph, scores: str) -> str:
        divisor = graph.constant("head.temperature", np.float32(self.temperature))
        return graph.node("Sigmoid", [graph.node("Div", [scores, divisor], "head.calibrated")], "probabilities")


def _losses(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Mean loss of each image over its tags, (N,)."""
    result: np.ndarray = np.logaddexp(0, np.where(labels, -1, 1) * scores.astype(np.float64)).mean(1)
    return result


def fit_linear(
    features: np.ndarray, targets: Tags, folds: np.ndarray, recipe: Recipe, runtime: Runtime
) -> Calibrated[LinearHead]:
    """One logistic regression for each tag; the temperature is fitted out of fold."""
    from sklearn.linear_model import LogisticRegression

    def fit(rows: np.ndarray) -> LinearHead:
        fits = [LogisticRegression(C=0.01, max_iter=1000).fit(features[rows], one[rows]) for one in targets.labels.T]
        weights = np.concatenate([one.coef_ for one in fits]).T.astype(np.float32)
        return LinearHead(weights, np.concatenate([one.intercept_ for one in fits]).astype(np.float32))

    scores = np.empty(targets.labels.shape)
    for fold in np.unique(folds):
        scores[folds == fold] = fit(folds != fold).scores(features[folds == fold])
    return Calibrated(fit(folds >= 0), Sigmoid.fit(scores, targets.labels))


class BinaryCrossEntropy:
    """See `headstart.training.losses.Loss`."""

    def __init__(self, labels: np.ndarray, classes: int, recipe: Recipe, device: torch.device) -> None:
        self._classes = classes

    def weights(self, labels: np.ndarray) -> torch.Tensor:
        import torch

        return torch.ones(len(labels))

    def learnt(self, scores: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return self.each(scores, targets).sum()

    def tried(self, scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return self.each(scores, labels).mean()

    def validated(self, scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return self.each(scores, labels).sum()

    def each(self, scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        from torch.nn import functional

        labels = labels.to(scores.dtype)
        return functional.binary_cross_entropy_with_logits(scores, labels, reduction="none").mean(1)

    def right(self, scores: torch.Tensor, labels: torch.Tensor) -> int:
        return int(((scores > 0) == labels.bool()).all(1).sum())


@dataclass(frozen=True)
class Evaluation:
    """Images whose tags are all predicted right."""

    split: str
    n: int
    exact: int
    log_loss: float

    @property
    def headline(self) -> str:
        return f"exact match {self.exact / self.n:.3f}"

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def measure(
    probabilities: np.ndarray, labels: np.ndarray, names: Sequence[str], *, split: str, calibrations: Any
) -> Evaluation:
    right, losses = judge(probabilities, labels)
    return Evaluation(split, len(right), int(right.sum()), float(losses.mean()))


def judge(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    losses = -np.log(np.maximum(np.where(labels, probabilities, 1 - probabilities), 1e-15)).mean(1)
    return ((probabilities > 0.5) == labels).all(1), losses


@dataclass(frozen=True)
class Prediction:
    """The tags that are more probable than not."""

    tags: tuple[str, ...]
    probabilities: dict[str, float]
    familiar: bool | None
    doubt: None = None

    def as_dict(self, *, named: bool = True) -> dict[str, Any]:
        return {"tags": list(self.tags), "probabilities": self.probabilities, "familiar": self.familiar}


def describe(result: Result, metadata: Metadata, top: int, most: float | None, *, allow_empty: bool) -> Prediction:
    named = dict(zip(metadata.classes, result.probabilities.tolist(), strict=True))
    known = metadata.familiarity
    familiar = None if known is None or result.distance is None else result.distance <= known.threshold
    return Prediction(tuple(name for name, value in named.items() if value > 0.5), named, familiar)


def predictions(fitted: Fitted) -> tuple[Sequence[str], list[Sequence[object]]]:
    names, held_out = fitted.data.targets.names, fitted.held_out
    return ("path", *names), [
        (fitted.data.table.rows[row].path, *(f"{value:.6f}" for value in probabilities))
        for row, probabilities in zip(held_out.rows, held_out.probabilities, strict=True)
    ]
