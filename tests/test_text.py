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

from headstart.core.text import csv_label, csv_path, json_text, listed, nearest, portable, printable, quoted

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
def test_csv_cells_are_one_line_and_no_formula(names: list[str]) -> None:
    for escape in (csv_label, csv_path):
        cells = [escape(name) for name in names]
        buffer = io.StringIO(newline="")
        csv.writer(buffer, lineterminator="\n").writerow([*cells, "end"])
        assert list(csv.reader(io.StringIO(buffer.getvalue(), newline=""), strict=True)) == [[*cells, "end"]]
        for cell in cells:
            assert cell[:1] not in tuple("=+-@\t\r\n＝＋－＠") or not cell
            assert len(cell.splitlines()) <= 1
            cell.encode("utf-8")


def test_csv_path_is_the_same_file() -> None:
    assert csv_path("=a.jpg") == "./=a.jpg"
    assert csv_path("-x/a.jpg") == "./-x/a.jpg"
    assert csv_path("a=b.jpg") == "a=b.jpg"


def test_names_in_sentences() -> None:
    assert quoted("a\nb") == "'a\\nb'"
    assert listed("abc", limit=2) == "'a', 'b' and 1 more"
    assert nearest("lable", ["path", "label"]) == "Did you mean 'label'? "
    assert nearest("x", ["path", "label"]) == ""
