"""The verdict of a comparison, in words that claim no more than its tests have shown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from headstart.core.text import counted
from headstart.evaluation.comparison import Pair
from headstart.evaluation.power import MAX_IMAGES


@dataclass(frozen=True)
class Candidate:
    """One of those that were compared.

    Attributes:
        name: What to call it.
        quality: What the comparison goes by, such as the accuracy on its images, in 0..1.
        cost: Compares as less where it is cheaper.
        cost_words: The cost for people, such as ``trained in 2.8 s, 4.4 ms an image``.
    """

    name: str
    quality: float
    cost: tuple[float, ...]
    cost_words: str


@dataclass(frozen=True)
class Verdict:
    """What to use.

    Attributes:
        chosen: Number of the candidate.
        alike: Numbers of those that none is shown to be better than, from the cheapest; `chosen` is the first.
        sentence: What to use and why; or that the images cannot separate the candidates, and about how many more would.
    """

    chosen: int
    alike: tuple[int, ...]
    sentence: str


def judge(
    candidates: Sequence[Candidate], pairs: Sequence[Pair], images: str, more: str = "more held-out image"
) -> Verdict:
    """Choose the cheapest of those that no other is shown to be better than.

    Args:
        candidates: All that were compared, at least one.
        pairs: Each pair of them, by their places in `candidates`.
        images: What they were compared on, such as ``153 held-out images``.
        more: What to call one more of them.
    """
    better = {_loser_last(pair): pair.p_corrected for pair in pairs if pair.resolved}  # (better, worse)
    beaten = {worse for _, worse in better}
    # The best one is among them: no difference speaks against it.
    alike = tuple(sorted(set(range(len(candidates))) - beaten, key=lambda i: (candidates[i].cost, i)))
    chosen = alike[0]
    name = candidates[chosen].name
    reasons = []
    if len(alike) > 1:
        reasons.append(
            f"it is the cheapest ({candidates[chosen].cost_words}) of {_all(candidates[i].name for i in alike)}, "
            f"which {images} cannot separate"
        )
    else:
        images = f" on {images}"
    if lost := [(i, better[chosen, i]) for i in sorted(beaten) if (chosen, i) in better]:
        words = _all(f"{candidates[i].name} ({_p(p)})" for i, p in lost)
        reasons.append(f"{'' if reasons else 'it is '}better than {words}{'' if reasons else images}")
    sentence = f"Use {name}" + (": " + ", and ".join(reasons) if reasons else "")
    for i in sorted(beaten - {i for i, _ in lost}):  # by another than the chosen one
        winner, p = min((p, one) for (one, worse), p in better.items() if worse == i)[::-1]
        sentence += f"; {candidates[i].name} is worse than {candidates[winner].name} ({_p(p)})"
    if beaten and len(pairs) > 1:
        sentence += f" (p-values corrected for {len(pairs)} pairs)"
    wanted = _more(candidates, pairs, chosen, alike, more)
    return Verdict(chosen, alike, f"{sentence}.{f' {wanted}' if wanted else ''}")


def _loser_last(pair: Pair) -> tuple[int, int]:
    return (pair.first, pair.second) if pair.difference > 0 else (pair.second, pair.first)


def _more(candidates: Sequence[Candidate], pairs: Sequence[Pair], chosen: int, alike: Sequence[int], more: str) -> str:
    """How many images would separate the chosen one from the best of those that it cannot be separated from."""
    if len(alike) < 2:
        return ""
    other = max(alike[1:], key=lambda i: candidates[i].quality)
    pair = next(one for one in pairs if {one.first, one.second} == {chosen, other})
    names = [candidates[i].name for i in _loser_last(pair)]
    if pair.same:
        return f"{names[0]} and {names[1]} classify exactly the same images correctly."
    if not pair.difference:
        return f"{names[0]} and {names[1]} are equally good here, so that no number of images can be estimated."
    if pair.more_images is None:
        return f"More than {MAX_IMAGES:,} images would be needed to show a difference as small as theirs."
    return (
        f"If {names[0]} is as much better than {names[1]} as it was here ({100 * abs(pair.difference):.1f} points), "
        f"about {counted(_round(pair.more_images), more)} would be needed to show it."
    )


def _round(number: int) -> int:
    """Two digits: the estimate is no better than that."""
    step = int(10 ** max(len(str(number)) - 2, 0))
    return -(-number // step) * step


def _p(p: float) -> str:
    if p < 0.001:
        return "p < 0.001"
    return f"p = {p:.2g}" if p < 0.045 else f"p = {p:.4f}"  # a p of 0.0496 must not be shown as 0.05


def _all(names: Iterable[str]) -> str:
    words = list(names)
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
