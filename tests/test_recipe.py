"""The recipe: what it fills in, what it refuses, and that it survives TOML."""

from __future__ import annotations

import dataclasses
import math
import tomllib
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.core.errors import OptionError
from headstart.settings.recipe import SETTINGS, TRAINING, Recipe

FIELDS = [field.name for field in dataclasses.fields(Recipe)]
HINTS = get_type_hints(Recipe)
# Every kind of training, with what has no meaning for it.
KINDS = [{"strategy": "finetune"}, {"strategy": "scratch"}, {"strategy": "probe", "head": "mlp"},
         {"strategy": "finetune", "head": "mlp"}]  # fmt: skip
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def values_of(name: str) -> st.SearchStrategy[Any]:
    """Any value that a field takes by itself."""
    if name == "threshold":
        return st.sampled_from(["f1", "0.5", ".25", "precision=0.9", "recall=0.75"])
    parts = get_args(HINTS[name]) or (HINTS[name],)
    if get_origin(HINTS[name]) is Literal:
        return st.sampled_from(parts)
    low, high = SETTINGS[name].range or (0, 1)
    whole = st.integers(math.ceil(low), int(high)) if math.ceil(low) <= high else st.nothing()
    kinds = {bool: st.booleans(), str: TEXTS, int: whole, float: st.floats(low, high) | whole}
    return st.one_of([kinds[part] if part in kinds else st.sampled_from(get_args(part)) for part in parts])


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    """A recipe that trains a network, with any settings that go together."""
    kind = draw(st.sampled_from(KINDS))
    # Those that exclude each other have tests of their own.
    free = [name for name in FIELDS if name not in {"strategy", "head", "precision", "pretrained", "weights", "views",
                                                    "unfreeze", "start", "mixup", "cutmix", "budget",
                                                    "measure_by", "train_px"}]  # fmt: skip
    names = draw(st.lists(st.sampled_from(free), unique=True))
    if kind["strategy"] == "finetune":
        names.append("weights")
    return Recipe(**kind, **{name: draw(values_of(name)) for name in names})


@given(recipes())
def test_toml_round_trip(recipe: Recipe) -> None:
    text = recipe.to_toml()
    again = Recipe.from_toml(text.encode("utf-8").decode("utf-8"))
    assert again == recipe
    assert again.to_toml() == text
    assert recipe.differences(again) == []
    assert set(tomllib.loads(text)) == {name for name in FIELDS if getattr(recipe, name) is not None}


@given(recipes())
def test_dict_round_trip(recipe: Recipe) -> None:
    assert Recipe.from_dict(recipe.as_dict()) == recipe
    assert None not in recipe.as_dict().values()


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_defaults_are_complete(kind: dict[str, Any]) -> None:
    recipe = Recipe(**kind)
    assert [name for name in FIELDS if getattr(recipe, name) is None] == []


def test_a_linear_probe_has_no_settings_of_training() -> None:
    recipe = Recipe()
    assert {name for name in FIELDS if getattr(recipe, name) is None} == set(TRAINING)
    assert not set(TRAINING) & set(recipe.as_dict())
    assert "null" not in recipe.to_toml()


@pytest.mark.parametrize("name", TRAINING)
def test_a_linear_probe_refuses_settings_of_training(name: str) -> None:
    value = getattr(Recipe(strategy="finetune"), name)
    with pytest.raises(OptionError, match=rf"{name} = .* has no meaning for the strategy 'probe'"):
        Recipe(**{name: value})


def test_an_unknown_strategy_is_not_blamed_on_another_setting() -> None:
    assert Recipe(strategy="finetun", epochs=3).epochs == 3


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name, one in SETTINGS.items() if one.range for value in (one.range[0] - 1, one.range[1] + 1)],
)
def test_outside_of_a_range(name: str, value: float) -> None:
    with pytest.raises(OptionError, match=rf"{name} = .* is outside its range"):
        Recipe(strategy="finetune", **{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [name for name in FIELDS if "Literal" in str(HINTS[name])])
def test_a_choice_that_does_not_exist(name: str) -> None:
    with pytest.raises(OptionError, match=name):
        Recipe(strategy="finetune", **{name: "nonsense"})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", FIELDS)
def test_a_value_of_another_type(name: str) -> None:
    with pytest.raises(OptionError, match=f"^{name} "):
        Recipe(**{"strategy": "finetune", name: b"bytes"})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, -math.inf, True, "fast", 10**400, None], ids=lambda one: str(one)[:9]
)
def test_values_that_are_no_numbers(value: object) -> None:
    with pytest.raises(OptionError, match="holdout must be float"):
        Recipe(holdout=value)  # type: ignore[arg-type]
    if value is not None:
        with pytest.raises(OptionError, match="lr must be float or 'auto'"):
            Recipe(strategy="scratch", lr=value)  # type: ignore[arg-type]


def test_whole_numbers_are_numbers() -> None:
    recipe = Recipe(strategy="finetune", lr=1, weight_decay=0)
    assert (recipe.lr, recipe.weight_decay) == (1.0, 0.0)
    assert 'lr = 1.0\n' in recipe.to_toml()  # fmt: skip
    with pytest.raises(OptionError, match="epochs must be int"):
        Recipe(strategy="finetune", epochs=2.5)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"strategy": "finetune", "precision": "int8"}, "no int8 form"),
        ({"backbone": "timm:resnet18", "precision": "int8"}, "no int8 form of 'timm:resnet18'"),
        ({"weights": "w.pth", "precision": "int8"}, "no int8 form"),
        ({"strategy": "scratch", "pretrained": True}, "begins with random weights"),
        ({"strategy": "scratch", "weights": "w.pth"}, "begins with random weights"),
        ({"strategy": "scratch", "unfreeze": "last"}, "trains all layers"),
        ({"strategy": "scratch", "start": "probe"}, "start is random"),
        ({"strategy": "finetune", "unfreeze": "all", "views": 4}, "nothing is frozen"),
        ({"strategy": "finetune", "mixup": 0.2, "views": 4}, "choose one"),
        ({"strategy": "finetune", "views": 4, "train_px": 160}, "own size"),
        ({"strategy": "scratch", "budget": 60}, "cannot keep to one"),
        ({"strategy": "finetune", "pretrained": False, "weights": "w.pth"}, "choose one"),
        ({"strategy": "finetune", "head": "mlp", "start": "probe"}, "hidden layer"),
        ({"head": "mlp", "unfreeze": "last"}, "trains the head alone"),
        ({"strategy": "finetune", "weights": "caf\udce9.pth"}, "not valid text"),
    ],
    ids=str,
)
def test_settings_that_exclude_each_other(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        Recipe(**settings)


@pytest.mark.parametrize("settings", [{"unfreeze": "all"}, {"mixup": 0.2}, {"cutmix": 1.0}], ids=str)
def test_nothing_is_kept_where_nothing_can_be(settings: dict[str, Any]) -> None:
    assert Recipe(strategy="finetune", unfreeze="last").views > 0
    assert Recipe(strategy="finetune", views=2).unfreeze == "last"
    assert Recipe(strategy="finetune", **settings).views == 0


def test_defaults_that_follow_from_others() -> None:
    assert Recipe().precision == "int8"
    assert Recipe(pretrained=False).precision == "float32"
    assert Recipe(strategy="finetune").precision == "float32"
    assert Recipe(strategy="finetune").pretrained is True
    assert Recipe(strategy="scratch").pretrained is False
    assert Recipe(strategy="finetune").start == "probe"
    assert Recipe(strategy="finetune", head="mlp").start == "random"


def test_differences_name_what_differs() -> None:
    one, two = Recipe(strategy="finetune", epochs=3), Recipe(strategy="finetune", epochs=5, flip=False)
    assert one.differences(two) == ["epochs: 3, then 5", "flip: 'auto', then False"]
    assert "strategy: 'probe', then 'finetune'" in Recipe().differences(one)
    assert "epochs: None, then 3" in Recipe().differences(one)
    assert "epochs: 3, then None" in one.differences(Recipe())


def test_unknown_keys_and_broken_toml() -> None:
    with pytest.raises(OptionError, match=r"unknown key 'epoch'.*Did you mean 'epochs'"):
        Recipe.from_toml('strategy = "finetune"\nepoch = 3\n')
    with pytest.raises(OptionError, match="not valid TOML"):
        Recipe.from_toml("epochs = \n")
