"""Records as JSON values and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.core import records
from headstart.core.records import as_json, from_json


@dataclass(frozen=True)
class Ear:
    side: Literal["left", "right"]
    length: float | None


@dataclass(frozen=True)
class Dog:
    class_: str
    ears: tuple[Ear, ...]
    size: tuple[int, int]
    good: bool
    times: Mapping[str, float]
    owner: str | None = field(default=None, metadata=records.MAYBE)
    chip: int | None = None
    kin: Ear | str = ""


@dataclass(frozen=True)
class Cat:
    lives: int

    def as_dict(self) -> dict[str, object]:
        return {"lives": self.lives, "said": "miaow"}


EARS = st.builds(Ear, st.sampled_from(["left", "right"]), st.none() | st.floats(allow_nan=False))
DOGS = st.builds(
    Dog, st.text(), st.lists(EARS).map(tuple), st.tuples(st.integers(), st.integers()), st.booleans(),
    st.dictionaries(st.text(), st.floats(allow_nan=False)), st.none() | st.text(), st.none() | st.integers(),
    EARS | st.text(),
)  # fmt: skip
REX = {"class": "dog", "ears": [{"side": "left", "length": 3}], "size": [1, 2], "good": True, "times": {"run": 1}}


@settings(max_examples=50, deadline=None)
@given(DOGS)
def test_what_is_written_is_read_back(dog: Dog) -> None:
    document = as_json(dog)
    assert from_json(Dog, document, "dog") == dog
    assert ("owner" in document) == (dog.owner is not None)
    assert document["chip"] == dog.chip
    assert document["class"] == dog.class_


def test_keys_that_may_lack_and_keys_that_nobody_knows() -> None:
    rex = from_json(Dog, {**REX, "tail": 7}, "dog")
    assert rex == Dog("dog", (Ear("left", 3.0),), (1, 2), True, {"run": 1.0})
    assert all(type(time) is float for time in rex.times.values())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"ears": [{"side": "up", "length": None}]}, r"dog\.ears\[0\]\.side is 'up'; expected 'left' or 'right'"),
        ({"ears": [{"side": "left"}]}, r"dog\.ears\[0\]\.length is missing"),
        ({"ears": {}}, r"dog\.ears is {}; expected a list"),
        ({"ears": [3]}, r"dog\.ears\[0\] is 3; expected an object"),
        ({"size": [1, 2, 3]}, r"dog\.size is \[1, 2, 3\]; expected a list of 2"),
        ({"size": [1, True]}, r"dog\.size\[1\] is True; expected a number"),
        ({"size": [1, 2.5]}, r"dog\.size\[1\] is 2\.5; expected a number"),
        ({"good": 1}, r"dog\.good is 1; expected bool"),
        ({"times": {"run": "1"}}, r"dog\.times\.run is '1'; expected a number"),
        ({"times": []}, r"dog\.times is \[\]; expected an object"),
        ({"class": None}, r"dog\.class is None; expected str"),
        ({"kin": None}, r"dog\.kin is None; expected an object"),
    ],
)
def test_the_first_value_that_is_wrong_is_named(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=f"^{words}$"):
        from_json(Dog, REX | change, "dog")


@pytest.mark.parametrize("name", [one.name.strip("_") for one in fields(Dog)[:5]])
def test_a_key_that_must_be_there_is_named(name: str) -> None:
    with pytest.raises(ValueError, match=rf"^dog\.{name} is missing$"):
        from_json(Dog, {key: value for key, value in REX.items() if key != name}, "dog")


def test_a_record_that_knows_its_own_form_is_asked() -> None:
    assert as_json({"pets": (Cat(9),)}) == {"pets": [{"lives": 9, "said": "miaow"}]}
