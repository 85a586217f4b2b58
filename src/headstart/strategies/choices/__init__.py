"""What a recipe leaves open is chosen here, from the train images alone, before a strategy runs.

``backbone = auto``, ``fit = auto``, and ``flip = auto`` where a network is trained. What comes out is a recipe without
any of them, which gives the same run again, and sentences that say why.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from headstart import targets
from headstart.core.errors import OptionError
from headstart.core.runtime import Runtime
from headstart.data.table import ImageTable
from headstart.runs.chosen import Evidence
from headstart.settings.recipe import Recipe
from headstart.strategies.choices import advice, transforms
from headstart.strategies.choices.backbone import DEFAULT, choose_backbone, with_backbone
from headstart.strategies.choices.basis import evidence_recipe, find_basis
from headstart.strategies.choices.fit import choose_fit
from headstart.strategies.embed import embed

AUTO = "auto"

__all__ = ["AUTO", "Choices", "advice", "decide", "resolve", "transforms"]


@dataclass(frozen=True)
class Choices:
    """A recipe in which nothing is left open.

    Attributes:
        recipe: The recipe.
        reasons: Sentences that say why.
        evidence: The numbers behind them; None where nothing was open.
    """

    recipe: Recipe
    reasons: tuple[str, ...] = ()
    evidence: Evidence | None = None


def decide(table: ImageTable, recipe: Recipe, runtime: Runtime) -> Choices:
    """Choose what a recipe leaves open: the backbone first, then the fit with it, then the flip with both.

    Args:
        table: The images; those that will be held out choose nothing.
        recipe: What is given stays as it is.
        runtime: Cache, workers, progress, device.

    Raises:
        SourceError: The images cannot be learnt from.
        OptionError: The task can choose nothing.
        HeadstartError: The backbone cannot be had; see `headstart.strategies.embed.embed`.
    """
    if not recipe.is_open:
        return Choices(recipe)
    targets.read(table)
    if not targets.TARGETS[table.task].cross_validate:
        raise OptionError(
            f"The task {table.task} chooses no backbone, fit or flip by itself.",
            "Name them: --backbone, --fit crop, --no-flip.",
        )
    reasons: list[str] = []
    evidence = Evidence()
    known = with_backbone(recipe, DEFAULT, runtime) if recipe.backbone == AUTO else recipe
    probe = evidence_recipe(known)
    embedded = embed(table, probe, runtime)
    basis = find_basis(embedded, known)
    if recipe.backbone == AUTO:
        choice = choose_backbone(basis, evidence_recipe(recipe), runtime)
        reasons += choice.reasons
        evidence = replace(evidence, backbone=choice.told())
        known = with_backbone(recipe, choice.chosen, runtime)
    if known.fit == AUTO:
        choice = choose_fit(basis, evidence_recipe(known), runtime)
        reasons += choice.reasons
        evidence = replace(evidence, fit=choice.told())
        known = replace(known, fit=choice.chosen)  # type: ignore[arg-type]  # one of `FITS`
    if known.flip == AUTO:
        if evidence_recipe(known) != probe:
            probe = evidence_recipe(known)
            embedded = embed(table, probe, runtime)
            basis = find_basis(embedded, known)
        found = transforms.judge(basis, embedded, probe, runtime, ("hflip",))
        harmful = found.transforms["hflip"].verdict == "harmful"
        reasons.append(f"{'No flips' if harmful else 'Flips'} in training. {found.reason}")
        evidence = replace(evidence, flip=found)
        known = replace(known, flip=not harmful)
    return Choices(known, tuple(reasons), evidence)
