"""Names of classes that differ only in spelling: how they are found, and where a person is told."""

from __future__ import annotations

import unicodedata
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import headstart
from headstart.core.errors import SourceError
from headstart.core.spellings import twin_hint, twin_notes, twins
from helpers import headstart_cli, write_images

NFC, NFD = "caf\u00e9", "cafe\u0301"
RUNTIME = headstart.Runtime(cache=None)
# Letters whose two cases are each other's, accents that compose, a blank, digits.
TEXT = st.text(st.sampled_from("abzéöñçÅ日本 019_-."), min_size=1, max_size=8)
WAYS = {
    "Unicode form": lambda text: unicodedata.normalize("NFD", text),
    "case": str.swapcase,
    "blanks": lambda text: " " + text.replace(" ", "\u00a0 ") + "\t",
    "invisible characters": lambda text: "\u200b".join(["\ufeff", *text, ""]),
}


@pytest.mark.parametrize(
    ("names", "differ"),
    [
        (["Cat", "cat"], "case"),
        (["cat", " cat", "cat "], "blanks"),
        (["a  b", "a b"], "blanks"),
        ([NFC, NFD], "Unicode form"),
        (["cat", "c\u200bat", "\ufeffcat"], "invisible characters"),
        (["0", "0.0", "00", "-0"], "how a number is written"),
        (["1.50", "1.5", "01.5"], "how a number is written"),
        (["1", "\uff11"], "Unicode form"),
    ],
)
def test_in_what_they_differ(names: list[str], differ: str) -> None:
    (found,) = twins([*reversed(names), "dog", "10", "1.05"])
    assert found.differ == (differ,)
    assert found.names == tuple(sorted(names))
    assert f"differ only in {differ}" in str(found)


def test_names_that_look_the_same_are_told_apart() -> None:
    assert str(twins([NFC, NFD])[0]) == f"'{NFD}' (cafe\\u0301) and '{NFC}' (caf\\xe9) differ only in Unicode form"


@given(TEXT, st.sets(st.sampled_from(sorted(WAYS)), min_size=1))
def test_every_way_of_spelling_is_seen_through(name: str, ways: set[str]) -> None:
    other = name
    for way in sorted(ways):
        other = WAYS[way](other)
    assume(other != name)
    (found,) = twins([name, other, "quite another"])
    assert set(found.names) == {name, other}
    assert found.differ
    assert set(found.differ) <= ways


@given(st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-999, max_value=999),
       st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-999, max_value=999),
       st.integers(0, 3), st.integers(0, 3))  # fmt: skip
def test_numbers_are_twins_where_they_are_equal(one: Decimal, other: Decimal, before: int, behind: int) -> None:
    def written(number: Decimal) -> str:
        sign, text = ("-" if number < 0 else ""), f"{abs(number):.3f}"
        return f"{sign}{'0' * before}{text}{'0' * behind}"

    for second in (one, other):
        names = {str(one), written(second), f"{second:f}"}
        groups = {frozenset(found.names) for found in twins(names)}
        expected: dict[Decimal, set[str]] = {}
        for name in names:
            expected.setdefault(Decimal(name), set()).add(name)
        assert groups == {frozenset(group) for group in expected.values() if len(group) > 1}


@given(st.sets(st.text(max_size=6), max_size=12))
def test_a_name_is_in_one_group_at_most_and_none_is_alone(names: set[str]) -> None:
    found = twins(names)
    grouped = [name for one in found for name in one.names]
    assert len(grouped) == len(set(grouped))
    assert set(grouped) <= names
    assert all(len(one.names) > 1 and one.differ and str(one) for one in found)
    assert found == twins(sorted(names, reverse=True))


@given(st.integers(0, 10**30), st.integers(0, 10**30))
def test_long_numbers_are_not_rounded(one: int, other: int) -> None:
    assume(one != other)
    assert not twins([str(one), str(other)])


def test_other_names_are_left_alone() -> None:
    assert not twins(["cat", "cats", "ant", "bee", "1", "10", "01a", "1a", "resume", "résumé", "v1.0", "v1", "nan"])


def test_many_are_summed_up() -> None:
    names = [name for number in range(40) for name in (f"class {number}", f"Class {number}")]
    notes = twin_notes(names)
    assert len(notes) == 4
    assert notes[-1].startswith("37 more names")
    assert "(and 37 more such names)" in twin_hint(names, names)
    assert twin_hint(["dog"], ["dog", "cat", "Cat"]) == ""


def source_of(folder: Path, counts: dict[str, int]) -> Path:
    """Folders of these names, with pictures of two kinds in turn."""
    folder.mkdir(parents=True)
    for place, (name, count) in enumerate(counts.items()):
        kind = ("disc", "noise")[place % 2]
        write_images(folder, {kind: count}, seed=100 * place)
        (folder / kind).rename(folder / name)
    return folder


@pytest.mark.slow
def test_check_finds_them_first_and_train_tells_them_first(tmp_path: Path) -> None:
    source = source_of(tmp_path / "in", {"Cat": 12, "dog": 12, "cat ": 5})
    said = "'Cat' and 'cat ' differ only in blanks and case: most likely one class."
    done = headstart_cli("check", source, "--json")
    (found,) = [one for one in done.json["findings"] if one["kind"] == "spelling"]
    assert done.json["findings"][0] == found
    assert (found["labels"], found["images"], found["differ"]) == (["Cat", "cat "], [12, 5], ["blanks", "case"])
    assert found["message"].startswith(said)
    assert done.json["counts"]["spelling"] == 1
    assert not any("differ only" in note for note in done.json["notes"])
    done = headstart_cli("check", source)
    assert done.out.index(said) < done.out.index("\nClasses (")
    assert "differ only" not in done.err
    done = headstart_cli("train", source, "--out", tmp_path / "run")
    assert done.code == 0
    assert done.err.startswith(f"Note: {said}")
    assert done.err.count("differ only") == 1
    assert done.err.index("differ only") < done.err.index("Data check: 1 class in several spellings")


def test_an_error_that_comes_of_it_says_so(tmp_path: Path) -> None:
    source = source_of(tmp_path / "in", {"Cat": 12, "dog": 12, "cat": 2})
    done = headstart_cli("train", source, "--out", tmp_path / "run", "--json")
    assert done.code == 2
    assert "'cat (2)'" in done.json["error"]
    assert done.json["hint"].startswith("'Cat' and 'cat' differ only in case: most likely one class; give it one name.")
    assert done.err.startswith("Note: 'Cat' and 'cat' differ only in case")
    (told,) = [one for one in headstart.check(source).findings if one.facts.get("problem") == "refused"]
    assert "'Cat' and 'cat' differ only in case" in told.message


def test_two_unicode_forms_in_two_splits(tmp_path: Path) -> None:
    source_of(tmp_path / "in" / "train", {NFC: 8, "dog": 8})
    source_of(tmp_path / "in" / "val", {NFD: 4, "dog": 4})
    if len({path.name for path in (tmp_path / "in").rglob("caf*")}) < 2:
        pytest.skip("a file system that has one form alone")
    with pytest.raises(SourceError) as caught:
        headstart.train(tmp_path / "in", runtime=RUNTIME)
    assert "without an image in train" in caught.value.message
    assert f"'{NFD}' (cafe\\u0301) and '{NFC}' (caf\\xe9) differ only in Unicode form" in caught.value.hint


def test_evaluate_names_the_spelling_that_the_model_knows(model: Path, tmp_path: Path) -> None:
    source = write_images(tmp_path, {"disc": 2, "stripes": 2, "noise": 2})
    (source / "disc").rename(source / "Disc")
    with pytest.raises(SourceError) as caught:
        headstart.evaluate(headstart.load(model), source)
    assert caught.value.hint.startswith("'Disc' and 'disc' differ only in case")


def test_a_decision_that_joins_them_ends_the_note(tmp_path: Path) -> None:
    source = source_of(tmp_path / "in", {"Cat": 3, "dog": 3, "cat": 1})
    (tmp_path / "fix.csv").write_text("path,decision,new_label\ncat/000.png,relabel,Cat\n")
    assert any("differ only" in note for note in headstart.read(source).notes)
    assert not any("differ only" in note for note in headstart.read(source, decisions=tmp_path / "fix.csv").notes)
