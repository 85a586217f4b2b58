"""Rows of strategies and heads, and the settings: what each says, others ask, and no other module knows by name."""

from __future__ import annotations

import ast
import dataclasses
import re
import sys
import types
from pathlib import Path
from typing import Any

import pytest

import headstart
from headstart import strategies
from headstart.core.errors import OptionError
from headstart.settings import describe
from headstart.settings import recipe as recipes
from headstart.settings.heads import HEADS, HeadSpec
from headstart.settings.recipe import SETTINGS, TRAINING, Recipe
from headstart.settings.strategies import STRATEGIES, StrategySpec, names
from headstart.strategies import candidates
from helpers import headstart_cli

SOURCE = Path(headstart.__file__).parent
ROWS = {"settings/strategies.py", "settings/heads.py"}


def _last_name(node: ast.AST) -> str:
    """The last name of ``recipe.strategy``, ``strategy``, ``values["strategy"]`` or ``values.get("strategy")``."""
    match node:
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return name
        case ast.Subscript(slice=ast.Constant(value=str(name))):
            return name
        case ast.Call(func=ast.Attribute(attr="get"), args=[ast.Constant(value=str(name)), *_]):
            return name
    return ""


def _texts(node: ast.AST) -> set[object]:
    """The texts that are compared with; a set, a tuple or a list of them counts."""
    parts = getattr(node, "elts", [node])
    return {one.value for one in parts if isinstance(one, ast.Constant) and isinstance(one.value, str)}


def _named(tree: ast.AST) -> list[str]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            asked = {name for one in sides for name in ("strategy", "head") if _last_name(one).endswith(name)}
            if asked and set().union(*map(_texts, sides)) - {"strategy", "head"}:
                found.append(ast.unparse(node))
        if isinstance(node, ast.Match) and _last_name(node.subject).endswith(("strategy", "head")):
            found.append(ast.unparse(node.subject))
    return found


def test_no_module_compares_the_name_of_a_strategy_or_head() -> None:
    """They ask its row."""
    found = {
        f"{path.relative_to(SOURCE)}: {one}"
        for path in SOURCE.rglob("*.py") if path.relative_to(SOURCE).as_posix() not in ROWS
        for one in _named(ast.parse(path.read_text(encoding="utf-8")))
    }  # fmt: skip
    assert found == set()


@pytest.mark.parametrize(
    "text",
    ["recipe.strategy == 'probe'", "strategy in {'probe', 'auto'}", "own.get('strategy', 'probe') != 'probe'",
     "values['head'] != 'linear'", "'mlp' == self.head", "kind_of_head in ('mlp',)"],
)  # fmt: skip
def test_comparisons_are_found(text: str) -> None:
    assert _named(ast.parse(text))


@pytest.mark.parametrize("row", [*STRATEGIES.values(), *HEADS.values()], ids=[*STRATEGIES, *HEADS])
def test_defaults_of_rows_are_settings_of_a_training(row: StrategySpec | HeadSpec) -> None:
    for defaults in (getattr(row, name, None) for name in ("defaults", "random_head", "partly", "probe")):
        assert set(defaults or ()) <= set(TRAINING)


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_strategy_does_what_its_row_says(name: str) -> None:
    spec, recipe = STRATEGIES[name], Recipe(strategy=name)
    assert recipe.precision == ("int8" if spec.probes else "float32")
    assert recipe.pretrained is spec.pretrained
    assert (recipe.epochs is not None) == (spec.trains == "network")
    if spec.takes_budget:
        assert Recipe(strategy=name, budget=5).budget == 5
    else:
        with pytest.raises(OptionError, match=f"Choose the strategy {' or '.join(names('takes_budget'))},"):
            Recipe(strategy=name, budget=5)


@pytest.fixture
def own_strategy(monkeypatch: pytest.MonkeyPatch) -> StrategySpec:
    """A strategy that nobody has heard of: a file with a function, and a row."""
    module: Any = types.ModuleType("headstart.strategies.nearest")
    module.fit = lambda table, recipe, runtime: (table, recipe)
    module.check = _refuse_balanced
    monkeypatch.setitem(sys.modules, module.__name__, module)
    spec = StrategySpec(
        fit="headstart.strategies.nearest:fit", check="headstart.strategies.nearest:check",
        help="the class of the nearest embeddings", trains="head", compared=False,
    )  # fmt: skip
    monkeypatch.setitem(STRATEGIES, "nearest", spec)
    return spec


def _refuse_balanced(recipe: Recipe) -> None:
    if recipe.class_weight == "balanced":
        raise OptionError("Neighbours have no weights.")


def test_a_new_strategy_is_a_file_and_a_row(own_strategy: StrategySpec) -> None:
    recipe = Recipe(strategy="nearest")
    assert (recipe.spec, recipe.precision, recipe.epochs) == (own_strategy, "int8", None)
    fit: Any = strategies.find("nearest")
    assert fit("table", recipe, None) == ("table", recipe)
    with pytest.raises(OptionError, match="'nearest' with the head 'linear': it trains no network"):
        Recipe(strategy="nearest", epochs=3)
    with pytest.raises(OptionError, match="no weights"):
        Recipe(strategy="nearest", class_weight="balanced")
    with pytest.raises(OptionError, match="cannot keep to one"):
        Recipe(strategy="nearest", budget=3)
    with pytest.raises(OptionError, match="nearest compares the others itself"):
        candidates.plan(["probe", "nearest"], None, None, {})
    assert Recipe.from_toml(recipe.to_toml()) == recipe


def test_a_new_head_is_a_file_and_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(HEADS, "cosine", HeadSpec(linear=False, probe={"epochs": 7, "unfreeze": "head", "views": 1}))
    assert Recipe(head="cosine").epochs == 7
    assert Recipe(strategy="finetune", head="cosine").start == "random"
    with pytest.raises(OptionError, match="cannot start as the solution of a probe"):
        Recipe(strategy="finetune", head="cosine", start="probe")
    (one, _) = candidates.plan(["probe", "finetune"], None, None, {"epochs": 3})
    assert one.recipe is not None
    assert one.recipe.epochs is None


def test_every_setting_says_what_it_is() -> None:
    assert [field.name for field in dataclasses.fields(recipes.Recipe)] == list(SETTINGS)
    for name, one in SETTINGS.items():
        assert one.help.endswith("."), name
        assert f"    {name}: {one.help}" in (Recipe.__doc__ or "")
    assert 8 <= sum(one.first for one in SETTINGS.values()) <= 12


def test_ranges_hold_the_defaults() -> None:
    for recipe in (Recipe(strategy=name) for name in STRATEGIES):
        for name, one in SETTINGS.items():
            value = getattr(recipe, name)
            if one.range and isinstance(value, int | float):
                assert one.range[0] <= value <= one.range[1]


def test_the_table_of_the_documentation_is_up_to_date() -> None:
    page = Path(__file__).parent.parent / "docs" / "settings.md"
    assert page.read_text(encoding="utf-8") == describe.page(), "run: python scripts/list_settings.py"


def test_the_help_of_train_names_every_head_that_needs_no_code_of_ones_own() -> None:
    line = " ".join(headstart_cli("train", "--help").out.split())
    named = re.search(r"--head ([\w|-]+) (Classification layer: .*?\.) ", line)
    assert named, line
    heads = [name for name, spec in HEADS.items() if not spec.brought]
    assert named[1].split("|") == heads
    assert [name for name, _ in re.findall(r"([\w-]+) \(([^)]+)\)", named[2])] == heads
