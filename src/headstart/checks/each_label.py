"""Likely missing and likely wrong labels, where an image has any number of them.

The method is that of `headstart.checks.labels`, for each label by itself: models that have not seen an image judge it,
the suspects are taken out, and the models are fitted again. The shares of labels that are missing and that are wrong
are fitted together with the temperature of each label, by maximum likelihood; by Bayes' rule they give the probability
that an image has a label that it is not said to have, or lacks one that it is said to have.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from headstart.checks import outoffold
from headstart.checks.findings import CheckReport, Finding
from headstart.checks.labels import DEALS, FOLDS, MANY_CLASSES, MANY_FOLDS, MANY_IMAGES, percent
from headstart.checks.proposals import Proposal
from headstart.checks.subject import Subject
from headstart.core.text import quoted
from headstart.core.thinning import evenly
from headstart.data.several import Said
from headstart.heads import logistic
from headstart.targets.labels import FALSE, TRUE, Labels
from headstart.targets.labels.sigmoid import temperature_of_label, to_probabilities

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Different images that have a label, and that lack it, which are needed to judge it.
MIN_IMAGES = 6
# A label is reported if what is said of it is not so with at least this probability. In fact more are then not so: with
# 5 % of the labels missing, 81 % of those reported on canvases of digits, 86 % on pairs of photos. At 0.25 these were
# 92 and 95 %, and recall 0.06 and 0.08 lower.
CHANCE = 0.15
# The share of labels that are missing, among those that are true, where the data do not show that there are any; see
# `headstart.checks.labels.LEAST_RATE`. As many labels are wrong, which are a far smaller share of those not true.
LEAST_RATE = 0.01
_MOST_RATE, _STEPS = 0.4, 16
_BETA, _GAIN = 10.0, 1.0
_ROUNDS = 2  # in which the two shares are fitted in turn
# At most this share of the images with, and of those without a label is left out of the second round.
MAX_PRUNED = 0.25
_SURE = 3.0  # standard errors by which images that have a label must rank higher than others


class Rates(NamedTuple):
    """Shares of labels, each in 0..1.

    Attributes:
        missing: Of the labels that are true, those that are not said.
        wrong: Of the labels that are not true, those that are said.
    """

    missing: float
    wrong: float


@dataclass(frozen=True)
class Judged:
    """What out-of-fold models say about labels.

    Attributes:
        names: Places of the labels that could be judged, (L,).
        probabilities: That an image has each, float64 (N, L).
        chances: That what is said of it is not so, float64 (N, L); 0 where nothing is said.
    """

    names: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    chances: NDArray[np.float64]


def find(subject: Subject) -> list[Finding]:
    """The likely missing and wrong labels; none where there are no embeddings, or no label can be judged."""
    judged = judge(subject)
    if judged is None:
        return []
    findings = []
    for row, place in np.argwhere(judged.chances >= CHANCE):
        one = subject.data.table.rows[row]
        label, likely = subject.classes[judged.names[place]], float(judged.probabilities[row, place])
        missing, chance = bool(subject.truth[row, judged.names[place]] == FALSE), float(judged.chances[row, place])
        said = f"is not labelled {quoted(label)} and looks as if it should be" if missing else (
            f"is labelled {quoted(label)} and does not look like it")  # fmt: skip
        todo = "add the label if it is missing" if missing else "take the label away if it is wrong"
        findings.append(Finding(
            "label",
            f"{quoted(one.path)} {said}: the probability is {percent(likely)}, according to a model that was not "
            f"trained on it; that the label is {'missing' if missing else 'wrong'} has a probability of "
            f"{percent(chance)}. Look at it, and {todo}.",
            (one.path,),
            {"label": label, "problem": "missing" if missing else "wrong", "labels": one.label or "",
             "chance": round(chance, 4), "probability": round(likely, 4), "split": one.split},
            severity=chance,
        ))  # fmt: skip
    return findings


def propose(finding: Finding, report: CheckReport) -> Iterable[Proposal]:
    """All labels of the image as its findings would have them."""
    path = finding.paths[0]
    said = Said.of(str(finding.facts["labels"]))
    concerned = [one.facts for one in report.of("label") if one.paths == (path,)]
    added = {str(one["label"]) for one in concerned if one["problem"] == "missing"}
    taken = {str(one["label"]) for one in concerned if one["problem"] == "wrong"}
    return (Proposal(path, "relabel", Said((said.true | added) - taken, said.unknown - added).text),)


def judge(subject: Subject) -> Judged | None:
    """Judge the labels; None if that is impossible."""
    if not subject.embedded or not len(subject):
        return None
    z, names = outoffold.centred(subject.compressed), _enough(subject)
    if not len(names) or not z.any():
        return None
    truth = subject.truth[:, names]
    folds = FOLDS if len(names) < MANY_CLASSES else MANY_FOLDS

    def scores(learn: NDArray[np.bool_], seed: int) -> NDArray[np.float64]:
        rarest = Labels((), truth).rarest()
        return _out_of_fold(z, truth, learn, outoffold.deal(
            subject.groups, rarest, subject.data.digests, folds=folds, seed=seed))  # fmt: skip

    known = truth >= 0
    first = scores(known, seed=0)
    kept = np.flatnonzero([_tells_apart(first[own, i], truth[own, i]) for i, own in enumerate(known.T)])
    if not len(kept):
        return None
    names, truth, known, first = names[kept], truth[:, kept], known[:, kept], first[:, kept]
    suspects = chances(*_fitted(first, truth), truth)
    learn = known & ~_worst(truth, suspects)
    rounds = []
    for deal in range(DEALS if len(subject) < MANY_IMAGES else 1):
        rounds.append(_fitted(scores(learn, seed=1 + deal), truth, learn))
    probabilities = np.mean([found for found, _ in rounds], axis=0)
    rates = Rates(*np.mean([found for _, found in rounds], axis=0).tolist())
    return Judged(names, probabilities, chances(probabilities, rates, truth))


def chances(probabilities: NDArray[np.float64], rates: Rates, truth: NDArray[np.int8]) -> NDArray[np.float64]:
    """The chance that what is said of each label is not so, (N, L), by Bayes' rule; 0 where nothing is said.

    Args:
        probabilities: That an image has a label, (N, L).
        rates: Shares of missing and of wrong labels.
        truth: What is said, (N, L).
    """
    there, not_there = probabilities, 1 - probabilities
    missing = rates.missing * there / np.maximum(rates.missing * there + (1 - rates.wrong) * not_there, 1e-300)
    wrong = rates.wrong * not_there / np.maximum(rates.wrong * not_there + (1 - rates.missing) * there, 1e-300)
    return np.asarray(np.where(truth == FALSE, missing, np.where(truth == TRUE, wrong, 0.0)))


def fit_rates(probabilities: NDArray[np.float64], truth: NDArray[np.bool_]) -> Rates:
    """The shares of missing and wrong labels under which labels are likeliest.

    Args:
        probabilities: That an image has a label, (P,), of all pairs that are known.
        truth: Whether that is said, (P,).
    """
    have, lack = probabilities[truth], probabilities[~truth]
    if not len(have):
        return Rates(LEAST_RATE, 0.0)

    def likelihood(missing: float, wrong: float) -> float:
        return float(
            np.log((1 - missing) * have + wrong * (1 - have)).sum()
            + np.log(missing * lack + (1 - wrong) * (1 - lack)).sum()
        )

    def likeliest(values: dict[float, float]) -> float:
        """Of the values of some shares, of which the first is the least."""
        believed = {rate: value + (_BETA - 1) * np.log1p(-rate) for rate, value in values.items()}
        best = max(believed, key=believed.__getitem__)
        return best if values[best] - none >= _GAIN else next(iter(values))

    odds = len(have) / max(len(lack), 1)
    rates = [
        np.geomspace(least, _MOST_RATE, _STEPS).tolist() for least in (LEAST_RATE, LEAST_RATE * min(odds, 1.0))
    ]  # fmt: skip
    missing = wrong = none_at = 1e-3
    for _ in range(_ROUNDS):
        none = likelihood(none_at, wrong)
        missing = likeliest({rate: likelihood(rate, wrong) for rate in rates[0]})
        none = likelihood(missing, none_at)
        wrong = likeliest({rate: likelihood(missing, rate) for rate in rates[1]})
    return Rates(missing, wrong)


def _fitted(
    scores: NDArray[np.float64], truth: NDArray[np.int8], learn: NDArray[np.bool_] | None = None
) -> tuple[NDArray[np.float64], Rates]:
    """Probabilities (N, L) after a temperature for each label, fitted on those that are learnt from; and the shares."""
    known = truth >= 0
    some = known if learn is None else learn
    probabilities = np.empty(scores.shape)
    for i, own in enumerate(some.T):
        temperature = temperature_of_label(scores[own, i], truth[own, i])
        probabilities[:, i] = to_probabilities(scores[:, i] / temperature)
    return probabilities, fit_rates(probabilities[known], truth[known] == TRUE)


def _out_of_fold(
    z: NDArray[np.float32], truth: NDArray[np.int8], learn: NDArray[np.bool_], folds: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Scores (N, L) of every image, by models that were fitted on the other folds, on the labels to be learnt from."""
    scores, start = np.zeros(truth.shape), None
    for fold in np.unique(folds):
        inside = np.flatnonzero(folds != fold)
        inside = inside[evenly(len(inside), outoffold.MAX_FIT)]
        weights = learn[inside].astype(np.float32)
        weights[:, ~weights.any(0)] = np.float32(1e-6)  # a label of which nothing is known there
        start = logistic.solve(
            z[inside], (truth[inside] == TRUE).astype(np.float32), c=np.full(truth.shape[1], outoffold.C),
            weights=weights, start=start,
        )  # fmt: skip
        scores[folds == fold] = start.scores(z[folds == fold])
    return scores


def _enough(subject: Subject) -> NDArray[np.int64]:
    """The labels that enough different images have, and lack."""
    have, lack = (
        np.array([len(np.unique(subject.different[one])) for one in (subject.truth == value).T], np.int64)
        for value in (TRUE, FALSE)
    )
    return np.flatnonzero((have >= MIN_IMAGES) & (lack >= MIN_IMAGES))


def _worst(truth: NDArray[np.int8], suspects: NDArray[np.float64]) -> NDArray[np.bool_]:
    """What the second round does not learn from, (N, L): the suspects, of those that say the same at most a share."""
    worst = np.zeros(truth.shape, bool)
    for i in range(truth.shape[1]):
        for value in (TRUE, FALSE):
            rows = np.flatnonzero(truth[:, i] == value)
            likely = rows[suspects[rows, i] > CHANCE]
            order = np.argsort(-suspects[likely, i], kind="stable")
            worst[likely[order][: int(MAX_PRUNED * len(rows))], i] = True
    return worst


def _tells_apart(scores: NDArray[np.float64], truth: NDArray[np.int8]) -> bool:
    """Whether images that have a label rank higher than others, by three standard errors (Mann and Whitney 1947)."""
    have, lack = int((truth == TRUE).sum()), int((truth == FALSE).sum())
    if not have or not lack:
        return False
    falling = np.sort(scores)
    ranks = (np.searchsorted(falling, scores, "left") + np.searchsorted(falling, scores, "right") + 1) / 2
    above = (float(ranks[truth == TRUE].sum()) - have * (have + 1) / 2) / (have * lack)
    return above > 0.5 + _SURE * float(np.sqrt((have + lack + 1) / (12 * have * lack)))
