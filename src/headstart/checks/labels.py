"""Likely wrong labels: confident learning (Northcutt, Jiang and Chuang 2021) on out-of-fold predictions.

As there, images are judged by models that have not seen them, the suspects are taken out, and the models are fitted
again. What makes an image a suspect is another rule. Theirs, that another class has at least its average probability,
makes every third image of a hard set a suspect: 540 of 1,797 correctly labelled digits, with so much noise added that
the accuracy was 43 %. Here the share of wrong labels and the temperature of the probabilities are fitted together, by
maximum likelihood, which distinguishes a set that is merely hard from one that is mislabelled; together they give the
probability that the label of an image is wrong. On those digits no image is reported.

Measured with 5 % of the labels of 1,797 digits changed at random (10 draws): precision 0.93 and recall 0.94; more is in
``docs/checking.md``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from headstart.checks import outoffold
from headstart.checks.findings import CheckReport, Finding
from headstart.checks.proposals import Proposal
from headstart.checks.subject import UNLABELLED, Subject
from headstart.core.text import quoted
from headstart.core.thinning import evenly
from headstart.targets.classes.temperature import fit_temperature, to_probabilities

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Different images of a class that are needed to judge its labels, or to suspect that an image is of it.
MIN_IMAGES = 6
# Over how many assignments to folds the second round is averaged if there are few images, and the folds of each; many
# classes, whose fits take long, get fewer.
DEALS, FOLDS = 3, 5
MANY_IMAGES, MANY_CLASSES, MANY_FOLDS = 3000, 300, 3
# At most this share of a class is left out of the second round: with more, the model would only learn its own opinion
# again.
MAX_PRUNED = 0.25
# An image is reported if its label is wrong with at least this probability: three looks at right labels for each wrong
# one are a fair price. At a half, precision was 0.05 higher on digits and on photos, and recall up to 0.2 lower on
# photos.
CHANCE = 0.25
# The share of wrong labels where the data do not show that there are any: the least that hand-made sets were found to
# hold is a percent or so (Northcutt, Athalye and Mueller 2021).
LEAST_RATE = 0.01
_RATES = np.geomspace(LEAST_RATE, 0.4, 24)
# The prior of the share of wrong labels is Beta(1, 10); more than the least share is assumed only if it makes the
# labels likelier by this factor, as a logarithm.
_BETA, _GAIN = 10.0, 1.0
_TEMPERATURES = np.geomspace(0.05, 10.0, 41)
MAX_FITTED = 5000  # images that temperature and rate are fitted on, and of many classes fewer:
MAX_FITTED_SCORES = 2_000_000
# And only if the model is confident enough of another class.
LEAST_SURE = 0.5


@dataclass(frozen=True)
class Judged:
    """What out-of-fold models say about the labels.

    Attributes:
        rows: The images whose class is large enough to be judged, (M,).
        classes: These classes, sorted, (K,).
        best: The likeliest of these classes, (M,).
        likely: Its probability, float64 (M,).
        unlikely: That of the class that the image is labelled with, float64 (M,).
        chances: That the label is wrong, float64 (M,).
        rate: Estimated share of wrong labels.
    """

    rows: NDArray[np.int64]
    classes: NDArray[np.int64]
    best: NDArray[np.int64]
    likely: NDArray[np.float64]
    unlikely: NDArray[np.float64]
    chances: NDArray[np.float64]
    rate: float


def find(subject: Subject) -> list[Finding]:
    """The likely wrong labels; none where there are no embeddings, or fewer than two classes of `MIN_IMAGES`."""
    judged = judge(subject)
    if judged is None:
        return []
    own = np.searchsorted(judged.classes, subject.labels[judged.rows])
    sure = judged.likely >= LEAST_SURE
    findings = []
    for place in np.flatnonzero((judged.chances >= CHANCE) & sure & (judged.best != own)):
        row = subject.data.table.rows[judged.rows[place]]
        suggested = subject.classes[judged.classes[judged.best[place]]]
        likely, unlikely = float(judged.likely[place]), float(judged.unlikely[place])
        label, chance = row.label or "", float(judged.chances[place])
        findings.append(Finding(
            "label",
            f"{quoted(row.path)} is labelled {quoted(label)} and looks like {quoted(suggested)}: {percent(likely)} "
            f"against {percent(unlikely)}, according to a model that was not trained on it; the "
            f"probability that the label is wrong is {percent(chance)}. Look at it, and correct the label if it is "
            "wrong.",
            (row.path,),
            {"label": label, "suggested": suggested, "chance": round(chance, 4), "probability": round(likely, 4),
             "probability_of_label": round(unlikely, 4), "split": row.split},
            severity=chance,
        ))  # fmt: skip
    return findings


def propose(finding: Finding, report: CheckReport) -> Iterable[Proposal]:
    """The likelier class; or to leave out what is an outlier too, and so of no class."""
    path = finding.paths[0]
    if path in report.paths("outlier"):
        return (Proposal(path, "drop"),)
    return (Proposal(path, "relabel", str(finding.facts["suggested"])),)


def judge(subject: Subject) -> Judged | None:
    """Judge the labels; None if that is impossible, for example if the classes cannot be distinguished."""
    if not subject.embedded:
        return None
    labelled = np.flatnonzero(subject.labels != UNLABELLED)
    pairs = np.unique(np.stack([subject.labels[labelled], subject.different[labelled]]), axis=1)
    numbers, sizes = np.unique(pairs[0], return_counts=True)
    classes = numbers[sizes >= MIN_IMAGES]
    if len(classes) < 2:
        return None
    rows = labelled[np.isin(subject.labels[labelled], classes)]
    z, labels = outoffold.centred(subject.compressed[rows]), np.searchsorted(classes, subject.labels[rows])
    if not z.any():
        return None
    groups, digests = subject.groups[rows], [subject.data.digests[row] for row in rows]
    fits = outoffold.OutOfFold(z, labels, classes=len(classes))
    folds = FOLDS if len(classes) < MANY_CLASSES else MANY_FOLDS

    def scores(learn: NDArray[np.bool_], seed: int) -> outoffold.Scores:
        return fits.scores(outoffold.deal(groups, labels, digests, folds=folds, seed=seed), learn)

    some = _fitted_on(len(rows), len(classes))
    first = scores(np.ones(len(rows), bool), seed=0)
    temperature, rate = fit_rate(first.of(some), labels[some])
    found = _compared([(first, temperature)], labels, rate)
    if not _tells_apart(found.best, labels):
        return None
    learn = _without_worst(labels, found.chances)
    rounds, rates = [], []
    for deal in range(DEALS if len(rows) < MANY_IMAGES else 1):
        second = scores(learn, seed=1 + deal)
        learnt = np.flatnonzero(learn)
        if len(rows) * len(classes) > outoffold.MAX_HELD:
            learnt = some[learn[some]]
        temperature = fit_temperature(second.of(learnt), labels[learnt])
        rounds.append((second, temperature))
        rates.append(fit_rate(second.of(some), labels[some], temperature)[1])
    rate = float(np.mean(rates))
    return Judged(rows, classes, *_compared(rounds, labels, rate), rate)


class _Compared(NamedTuple):
    """See `Judged`."""

    best: NDArray[np.int64]
    likely: NDArray[np.float64]
    unlikely: NDArray[np.float64]
    chances: NDArray[np.float64]


def _compared(rounds: Sequence[tuple[outoffold.Scores, float]], labels: NDArray[np.int64], rate: float) -> _Compared:
    """What the mean of some models, each with its temperature, says of each label."""
    parts = []
    for block in rounds[0][0].blocks():
        probabilities = np.mean([to_probabilities(one.of(block) / warmth) for one, warmth in rounds], axis=0)
        own, place = labels[block], np.arange(len(block))
        parts.append(_Compared(
            probabilities.argmax(1), probabilities.max(1), probabilities[place, own], chances(probabilities, own, rate)
        ))  # fmt: skip
    return _Compared(*map(np.concatenate, zip(*parts, strict=True)))


def _fitted_on(count: int, classes: int) -> NDArray[np.int64]:
    """The images that temperature and rate are fitted on: all, or some that are evenly spaced."""
    most = min(MAX_FITTED, max(500, MAX_FITTED_SCORES // classes))
    return evenly(count, most)


def fit_rate(
    scores: NDArray[np.float64], labels: NDArray[np.int64], temperature: float | None = None
) -> tuple[float, float]:
    """The temperature and the share of wrong labels under which the labels are likeliest.

    A right label is drawn from the probabilities, and a wrong one from all other classes alike. Where wrong labels do
    not make the labels clearly likelier, the share is `LEAST_RATE`.

    Args:
        scores: Out of fold, (N, C).
        labels: Class index of each image, (N,).
        temperature: Use this one, and the likeliest share.
    """
    some = _fitted_on(len(labels), scores.shape[1])
    scores, labels = scores[some], labels[some]
    count, classes = scores.shape
    temperatures = _TEMPERATURES if temperature is None else np.array([temperature])
    own = np.stack([to_probabilities(scores / one)[np.arange(count), labels] for one in temperatures])  # (T, N)
    likelihood = np.stack([_log_likelihood(own, rate, classes) for rate in _RATES])  # (E, T)
    belief = likelihood + (_BETA - 1) * np.log1p(-_RATES)[:, None]
    place, which = np.unravel_index(belief.argmax(), belief.shape)
    least = _log_likelihood(own, 1e-3, classes)
    if temperature is None and likelihood[place, which] - least.max() < _GAIN:
        return float(temperatures[least.argmax()]), LEAST_RATE
    return float(temperatures[which]), float(_RATES[place])


def chances(probabilities: NDArray[np.float64], labels: NDArray[np.int64], rate: float) -> NDArray[np.float64]:
    """The chance that each label is wrong, (N,), by Bayes' rule.

    Args:
        probabilities: Of each class, out of fold, (N, C).
        labels: Class index of each image, (N,).
        rate: Share of wrong labels.
    """
    count, classes = probabilities.shape
    own = probabilities[np.arange(count), labels]
    wrong = rate * (1 - own) / (classes - 1)
    result: NDArray[np.float64] = wrong / np.maximum(wrong + (1 - rate) * own, 1e-300)
    return result


def _log_likelihood(own: NDArray[np.float64], rate: float, classes: int) -> NDArray[np.float64]:
    """Log likelihood (T,) of labels that have the probabilities `own` (T, N), where a share of them is wrong."""
    result: NDArray[np.float64] = np.log((1 - rate) * own + rate * (1 - own) / (classes - 1)).sum(axis=1)
    return result


def _without_worst(labels: NDArray[np.int64], wrong: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which images train the second round, bool (N,): all but the suspects, at most `MAX_PRUNED` of a class."""
    learn = np.ones(len(labels), bool)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        worst = rows[wrong[rows] > 0.5]
        learn[worst[np.argsort(-wrong[worst], kind="stable")][: int(MAX_PRUNED * len(rows))]] = False
    return learn


def _tells_apart(best: NDArray[np.int64], labels: NDArray[np.int64]) -> bool:
    """Whether the mean recall is better than by guessing, by three standard errors."""
    images = np.bincount(labels)
    recalls = np.bincount(labels, best == labels, len(images)) / images
    chance = 1 / len(images)
    error = float(np.sqrt((chance * (1 - chance) / images).sum())) / len(images)
    return float(recalls.mean()) > chance + 3 * error


def percent(share: float) -> str:
    """A probability in words, which is never called certain."""
    return f"{100 * share:.0f} %" if 0.01 <= share <= 0.99 else ("under 1 %" if share < 0.5 else "over 99 %")
