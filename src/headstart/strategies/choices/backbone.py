"""``backbone = auto``: the backbones whose weights are on this computer, ranked by a cross-validated probe.

Nothing is downloaded. The default, lite0, stays unless another is significantly better; of several that cannot be
separated, the one with the fewest parameters is taken. Where there are more than ten, LogME on a few hundred images
makes a shortlist first (You et al. 2021).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from headstart.backbones import catalog
from headstart.backbones.embedder import Embedder
from headstart.core.errors import HeadstartError, ModelError
from headstart.core.runtime import Runtime
from headstart.core.text import counted, printable
from headstart.evaluation.paired_tests import LEVEL
from headstart.evaluation.transferability import logme
from headstart.modelfile.session import Session
from headstart.settings.backbones import BackboneSpec
from headstart.settings.recipe import Recipe
from headstart.strategies.choices.basis import Basis, caveat, embed_basis, named, part, sample
from headstart.strategies.choices.evidence import Choice, Outcome, choose, numbers, p_words, try_out

DEFAULT = "lite0"
SHORTLIST = 10  # backbones that are cross-validated
# Enough for an order, which is all that a shortlist needs.
LOGME_IMAGES = 500
MAX_TOLD = 10
_RUNS = 4  # of which the fastest counts: the first one allocates memory


def local() -> list[BackboneSpec]:
    """The backbones whose weights are on this computer: the default first, the others by their size."""
    rows = [row for row in catalog.known() if catalog.is_local(row)]
    return sorted(rows, key=lambda row: (row.name != DEFAULT, row.parameters, row.name))


def choose_backbone(
    basis: Basis,
    recipe: Recipe,
    runtime: Runtime,
    candidates: Sequence[str] | None = None,
    shortlist: int = SHORTLIST,
) -> Choice:
    """Try the backbones, and choose.

    Args:
        basis: The train images.
        recipe: A probe; its backbone and its precision do not count.
        runtime: Cache, workers, progress.
        candidates: Names in the order of preference among equals; None for all whose weights are here.
        shortlist: How many are cross-validated; LogME chooses them.

    Raises:
        ModelError: None of them is available.
    """
    rows = local() if candidates is None else [catalog.find(name) for name in candidates]
    skipped: list[tuple[str, str]] = []
    notes: list[str] = []
    if len(rows) > shortlist:
        rows, words = _shortlist(rows, shortlist, basis, recipe, runtime, skipped)
        notes.append(words)
    outcomes: list[Outcome] = []
    for row in rows:
        candidate = with_backbone(recipe, row.name, runtime)
        try:
            found = embed_basis(basis, candidate, runtime, row.short)
            ms = ms_an_image(found.embedder) if len(rows) > 1 else None
        # Whatever makes one of them unavailable, such as missing PyTorch; the others can still be tried.
        except HeadstartError as error:
            skipped.append((row.short, printable(f"{error.message} {error.hint}".strip())))
            continue
        outcome = try_out(row.short, basis, found.data, candidate, runtime)
        outcomes.append(replace(outcome, parameters=row.parameters, licence=row.licence, ms=ms))
    if not outcomes:
        raise ModelError(f"No backbone could be tried; the first is {skipped[0][0]}: {skipped[0][1]}")
    place, p_values = choose(outcomes)
    reasons = (_reason(outcomes, place, p_values, basis), *notes, *_told(skipped))
    return Choice(outcomes[place].name, tuple(outcomes), p_values, tuple(skipped), reasons)


def ms_an_image(embedder: Embedder) -> float:
    """Time of an embedder on one core, in milliseconds, without decoding: what it costs to choose it.

    Time of the processor in this thread, which is the one that the session runs in: others on the machine do not count.
    """
    session, side = Session(embedder.model), embedder.preprocess.size_px
    image = np.full((side, side, 3), 128, np.uint8)
    times = []
    for _ in range(_RUNS):
        begin = time.thread_time()
        session.run(image)
        times.append(time.thread_time() - begin)
    return 1000 * min(times)


def with_backbone(recipe: Recipe, name: str, runtime: Runtime) -> Recipe:
    """A recipe with another backbone, in the arithmetic that is usual for it, or that a GPU which was asked for takes.

    Args:
        recipe: Its backbone and, where that is auto, its precision are replaced.
        name: Of the backbone.
        runtime: Device.
    """
    precision = recipe.precision if recipe.backbone == "auto" else None
    if precision is None and runtime.device.startswith("cuda"):
        precision = "float32"
    values: dict[str, Any] = {"backbone": name, "precision": precision}  # None: what is usual for it
    return replace(recipe, **values)


def _shortlist(
    rows: Sequence[BackboneSpec],
    length: int,
    basis: Basis,
    recipe: Recipe,
    runtime: Runtime,
    skipped: list[tuple[str, str]],
) -> tuple[list[BackboneSpec], str]:
    """The first and those with the most evidence, in the order of `rows`; and a sentence on it."""
    small = part(basis, sample(basis.labels, basis.digests, LOGME_IMAGES))
    scores: dict[str, float] = {}
    for row in rows:
        try:
            candidate = with_backbone(recipe, row.name, runtime)
            data = embed_basis(small, candidate, runtime, row.short).data
        except HeadstartError as error:
            skipped.append((row.short, printable(f"{error.message} {error.hint}".strip())))
            continue
        with named(runtime, row.short).progress.stage("LogME", 1) as advance:
            scores[row.name] = logme(data.matrix, small.labels, len(small.classes))
            advance(1)
    best = sorted(scores, key=lambda name: (name != rows[0].name, -scores[name]))[:length]
    ranked = sorted(scores, key=lambda name: -scores[name])
    told = ", ".join(f"{name.removeprefix('torchvision:')} {scores[name]:.3f}" for name in ranked[:MAX_TOLD])
    more = f" and {len(ranked) - MAX_TOLD} below" if len(ranked) > MAX_TOLD else ""
    return [row for row in rows if row.name in best], (
        f"Of {len(rows)} backbones {len(best)} were cross-validated: {printable(rows[0].short)} and those with the "
        f"highest LogME on {counted(len(small), 'train image')} ({printable(told)}{more})."
    )


def _reason(outcomes: Sequence[Outcome], place: int, p_values: Sequence[float], basis: Basis) -> str:
    chosen, default = outcomes[place], outcomes[0]
    table = list(zip(outcomes, (None, *p_values), strict=True))
    told = sorted(table, key=lambda row: row[0].log_loss)[:MAX_TOLD]
    ranking = "; ".join(f"{one.name} {numbers(one, p)}" for one, p in told)
    if len(outcomes) == 1:
        why = "the only usable one whose weights are on this computer"
    elif place == 0:
        why = "no other whose weights are on this computer is significantly better"
    else:
        why = f"significantly better than {default.name} ({p_words(p_values[place - 1])})"
        others = zip(outcomes[place + 1 :], p_values[place:], strict=True)
        equal = [one.name for one, p in others if p < LEVEL]
        why += f", and the smallest of those it cannot be separated from ({', '.join(equal)})" if equal else ""
        why += f"; the licence of its weights: {printable(str(chosen.licence))}"
    return f"Backbone {printable(chosen.name)}: {why} ({basis.words}: {printable(ranking)}).{caveat(basis)}"


def _told(skipped: Sequence[tuple[str, str]]) -> Iterator[str]:
    if skipped:
        first = "; ".join(f"{printable(name)}: {reason}" for name, reason in skipped[:3])
        more = f"; and {len(skipped) - 3} more" if len(skipped) > 3 else ""
        yield f"{counted(len(skipped), 'backbone was', 'backbones were')} not tried: {first}{more}."
