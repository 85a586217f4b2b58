"""``fit = auto``: crop, squash or pad, by a cross-validated probe on the train images.

Each is an embedder of its own. ``crop`` stays unless another is significantly better.
"""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

from headstart.core.runtime import Runtime
from headstart.data.traits import Traits
from headstart.preprocess.spec import Preprocess
from headstart.settings.recipe import Fit, Recipe
from headstart.strategies.choices.basis import Basis, caveat, embed_basis
from headstart.strategies.choices.evidence import Choice, Outcome, choose, numbers, p_words, try_out

FITS: tuple[Fit, ...] = tuple(one for one in get_args(Fit) if one != "auto")  # the default first


def choose_fit(basis: Basis, recipe: Recipe, runtime: Runtime) -> Choice:
    """Try the fits that give other pixels, and choose.

    Args:
        basis: The train images.
        recipe: A probe on the backbone; its fit does not count.
        runtime: Cache, workers, progress.

    Raises:
        SourceError: An image that could be read before cannot be any more.
    """
    outcomes: list[Outcome] = []
    different = FITS
    for fit in FITS:
        if fit not in different:
            continue
        candidate = replace(recipe, fit=fit)
        embedded = embed_basis(basis, candidate, runtime, fit)
        if fit == FITS[0]:
            different = distinct(basis.traits, embedded.embedder.preprocess)
            if len(different) == 1:
                return Choice(fit, (), (), (), (f"Fit {fit}: {_same(different)}.",))
        outcomes.append(try_out(fit, basis, embedded.data, candidate, runtime))
    place, p_values = choose(outcomes)
    chosen = outcomes[place]
    compared = "; ".join(f"{one.name} {numbers(one, p)}" for one, p in zip(outcomes, (None, *p_values), strict=True))
    if place:
        why = f"significantly better than crop ({p_words(p_values[place - 1])})"
    else:
        why = "the default, and no other is significantly better"
    same = f" {_same(different)}." if len(different) < len(FITS) else ""
    reason = f"Fit {chosen.name}: {why} ({basis.words}: {compared}).{same}{caveat(basis)}"
    return Choice(chosen.name, tuple(outcomes), p_values, (), (reason,))


def distinct(traits: tuple[Traits, ...], preprocess: Preprocess) -> tuple[Fit, ...]:
    """The fits that give other pixels than those before them, for images of these shapes.

    Square images are squashed and padded alike; where the crop cuts nothing off either, all three are one.
    """
    if any(one.width != one.height for one in traits):
        return FITS
    return FITS[:1] if preprocess.crop_fraction == 1 else FITS[:2]


def _same(different: tuple[Fit, ...]) -> str:
    if len(different) == 1:
        return "all images are square, and the crop cuts nothing off, so that crop, squash and pad are the same"
    return "All images are square, so that pad gives the same pixels as squash"
