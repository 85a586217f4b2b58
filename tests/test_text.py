"""Untrusted names: shown without harm, and written so that every reader takes them."""

from __future__ import annotations

import csv
import io
import json
import os
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.core.text import csv_cell, from_csv_cell, json_text, listed, nearest, portable, printable, quoted

# All of Unicode with lone surrogates, which stand for bytes that are not UTF-8; and what does harm, often.
harm = st.sampled_from(
    "\0\a\b\t\n\r\x1b\x7f\x9b\u200b\u200f\u202e\u2028\u2029\ufeff\ud800\udc80\udcff\U000e0001=+-@'\"\\"
)
texts = st.text(st.one_of(harm, st.characters()), max_size=30)


@given(texts)
def test_printable_holds_nothing_hidden(text: str) -> None:
    assert not {unicodedata.category(character) for character in printable(text)} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert printable(text).isascii() or not text.isascii()


@given(texts)
def test_portable_is_utf8_and_stays(text: str) -> None:
    assert portable(text).encode("utf-8").decode("utf-8") == portable(portable(text))


@given(st.binary(max_size=20))
def test_portable_shows_each_broken_byte(name: bytes) -> None:
    assert portable(os.fsdecode(name)) == name.decode("utf-8", "backslashreplace")


@pytest.mark.slow
@given(st.recursive(texts | st.integers() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(texts, inner)))
def test_json_parses_strictly_to_what_it_was(document: object) -> None:
    def plain(value: object) -> object:
        if isinstance(value, str):
            return portable(value)
        if isinstance(value, list):
            return [plain(one) for one in value]
        return {plain(k): plain(v) for k, v in value.items()} if isinstance(value, dict) else value

    for indent in (None, 2):
        text = json_text(document, indent=indent)
        assert not {unicodedata.category(c) for c in text if c != "\n"} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
        read = json.loads(text.encode("utf-8"))
        if "\\ud" not in ascii(document):
            assert read == plain(document)


def test_json_of_a_broken_byte() -> None:
    assert json.loads(json_text({"a\udcff": "\ud800\\"})) == {"a\\xff": "\\xed\\xa0\\x80\\"}


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_json_refuses_what_is_no_number(number: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_text({"accuracy": number})


@given(st.lists(texts, min_size=1, max_size=4))
def test_csv_cells_are_one_line_no_formula_and_read_back(names: list[str]) -> None:
    cells = [csv_cell(name) for name in names]
    buffer = io.StringIO(newline="")
    csv.writer(buffer, lineterminator="\n").writerow([*cells, "end"])
    (read,) = csv.reader(io.StringIO(buffer.getvalue(), newline=""), strict=True)
    assert read == [*cells, "end"]
    assert [from_csv_cell(cell) for cell in cells] == names
    for cell in cells:
        assert cell[:1] not in tuple("=+-@\t\r\n＝＋－＠") or not cell
        assert cell == cell.strip()
        assert len(cell.splitlines()) <= 1
        cell.encode("utf-8")


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("a=b.jpg", "a=b.jpg"), ("-1", '"-1"'), ("'-1", "'-1"), ("=a.jpg", '"=a.jpg"'), ("cat ", '"cat "'),
        ("a\tb\nc", '"a\\tb\\nc"'), ("caf\udce9", '"caf\\udce9"'), ('"cat"', '"\\"cat\\""'), ("", ""),
        ("\u2028\x7f", '"\\u2028\\u007f"'), ("\U0001f600", "\U0001f600"),
    ],
)  # fmt: skip
def test_how_a_csv_cell_is_spelled(name: str, cell: str) -> None:
    assert csv_cell(name) == cell
    assert from_csv_cell(cell) == name


@pytest.mark.parametrize("cell", ['"cat"', '"', '"a', "1", "null", '"a" ', '["a"]', '"\\u0061"', '"' + "[" * 9999])
def test_cells_that_headstart_did_not_write_stay(cell: str) -> None:
    assert from_csv_cell(cell) == cell


def test_names_in_sentences() -> None:
    assert quoted("a\nb") == "'a\\nb'"
    assert listed("abc", limit=2) == "'a', 'b' and 1 more"
    assert nearest("lable", ["path", "label"]) == "Did you mean 'label'? "
    assert nearest("x", ["path", "label"]) == ""
