"""Manifests: labels stay the strings that they are, each contradiction is named with its lines, nothing is fetched."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import headstart
from headstart.core.errors import ImageError, SourceError
from headstart.data.readers import Columns
from headstart.data.readers.manifest import parse
from headstart.data.table import ImageTable, Row
from helpers import headstart_cli, write_images


def read(folder: Path, content: str | bytes, name: str = "list.csv", **columns: object) -> ImageTable:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return headstart.read(path, columns=Columns(**columns))  # type: ignore[arg-type]


def reasons(table: ImageTable) -> dict[str, str]:
    return {skip.path: skip.reason for skip in table.skipped}


TWO = (Row("a.jpg", "cat"), Row("b.jpg", "dog"))


@pytest.mark.parametrize(
    "content",
    [
        b"path,label\na.jpg,cat\nb.jpg,dog\n",
        b"\xef\xbb\xbfpath,label\r\na.jpg,cat\r\nb.jpg,dog\r\n",
        b"path;label\na.jpg;cat\nb.jpg;dog",
        b"path\tlabel\na.jpg\tcat\nb.jpg\tdog\n",
        b"path,label\ra.jpg,cat\rb.jpg,dog\r",
        b' path , label \n"a.jpg", cat \n\n./b.jpg,"dog"\n',
        b"label,note,path\ncat,x,a.jpg\ndog,,x/../b.jpg\n",
    ],
    ids=["plain", "bom-crlf", "semicolon", "tab", "cr", "blanks", "columns"],
)
def test_ways_to_write_the_same(tmp_path: Path, content: bytes) -> None:
    table = read(tmp_path, content)
    assert table.rows == TWO
    assert not table.skipped
    assert not table.notes


def test_other_suffixes(tmp_path: Path) -> None:
    assert read(tmp_path, "path\tlabel\na.jpg\tcat\nb.jpg\tdog\n", "x.TSV").rows == TWO
    lines = '\ufeff{"path": "a.jpg", "label": "cat"}\r\n\r\n{"label": "dog", "path": "b.jpg", "split": null}'
    assert read(tmp_path, lines, "x.jsonl").rows == TWO
    numbers = '{"path": "a.jpg", "label": 1, "group": 7}\n{"path": "b.jpg", "label": "01", "group": "7"}'
    assert read(tmp_path, numbers, "x.jsonl").rows == (Row("a.jpg", "1", None, "7"), Row("b.jpg", "01", None, "7"))


def test_quoted_values(tmp_path: Path) -> None:
    table = read(tmp_path, 'path,label\n"a, b.jpg","cat, ""the"""\n"two\nlines.jpg",dog\nc.jpg,\n')
    assert table.rows == (Row("a, b.jpg", 'cat, "the"'), Row("two\nlines.jpg", "dog"))
    assert reasons(table) == {"c.jpg": "no label (line 5)"}  # lines of the file, not rows


def test_labels_are_never_numbers(tmp_path: Path) -> None:
    labels = ("NaN", "1", "01", "1.0", "None", "null", "True", "1e3", "-")
    content = "path,label\n" + "".join(f"{i}.jpg,{label}\n" for i, label in enumerate(labels))
    assert tuple(row.label for row in read(tmp_path, content).rows) == labels


@pytest.mark.parametrize(
    ("content", "name", "words"),
    [
        ("", "x.csv", "is empty"),
        ("\n\n", "x.csv", "No labelled image|is empty"),
        ("path,label\n", "x.csv", "No labelled image found.*a line for each image"),
        ("", "x.jsonl", "No labelled image found.*a line for each image"),
        (
            "path,lable,x\na.jpg,cat,\n",
            "x.csv",
            "line 1 has no column 'label', nor one of another known name; found 'path', 'lable', 'x'.*mean 'lable'.*"
            "headstart train .*x.csv --label-column lable",
        ),
        ("pth,label\na.jpg,cat\n", "x.csv", "no column 'path'.*mean 'pth'.*--path-column pth"),
        ("path,label,label\na,b,c\n", "x.csv", "names 'label' more than once"),
        ('path,label\na.jpg,cat\nb.jpg,"dog\n', "x.csv", "line 3 is not valid CSV.*quotation marks"),
        ('path,label\n"a"b.jpg,cat\n', "x.csv", "line 2 is not valid CSV"),
        ('{"path": "a", "label": "b"}\n{"path": }\n', "x.jsonl", "line 2 is not JSON"),
        ('\n["a", "b"]\n', "x.jsonl", "line 2 is not a JSON object"),
        ('\n{"path": "a", "u": "b", "v": "c"}\n', "x.jsonl", "has no column 'label', .*; found 'path', 'u', 'v'"),
        ("[" * 200_000, "x.jsonl", "line 1 is not JSON"),
        ('{"a":' * 200_000, "x.jsonl", "line 1 is not JSON"),
        ('{"path": ' + "1" * 5000 + "}", "x.jsonl", "line 1 is not JSON"),
        (b"path,label\na.jpg,caf\xe9\n", "x.csv", r"not UTF-8 \(line 2\).*Save it as UTF-8.*--encoding cp1252 reads"),
        (b"PK\x03\x04\xff\xfe", "x.csv", "not UTF-8"),
    ],
)
def test_manifests_that_are_none(tmp_path: Path, content: str | bytes, name: str, words: str) -> None:
    with pytest.raises(SourceError, match=words) as caught:
        read(tmp_path, content, name)
    assert len(str(caught.value)) < 1000
    assert caught.value.hint


def test_named_columns(tmp_path: Path) -> None:
    content = "file,class,part,patient\na.jpg,cat,train,p1\nb.jpg,dog,TEST,p2\n"
    named = {"path": "file", "label": "class", "split": "part", "group": "patient"}
    assert read(tmp_path, content, **named).rows == (
        Row("a.jpg", "cat", "train", "p1"), Row("b.jpg", "dog", "test", "p2"),
    )  # fmt: skip
    for option, wrong in (("split", "prat"), ("group", "patiens")):
        with pytest.raises(
            SourceError, match=f"no column '{wrong}'.*Did you mean '{named[option]}'.*--{option}-column"
        ):
            read(tmp_path, content, **{**named, option: wrong})


def test_each_row_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    content = (
        "path,label,split,group\n"
        "a.jpg,cat,train,\n"
        "b.jpg,dog,val,\n"
        "c.jpg,cat,train,,extra\n"
        ",cat,train,\n"
        "d.jpg, ,train,\n"
        "https://example.org/e.jpg,cat,train,\n"
        "../f.jpg,cat,train,\n"
        "/etc/passwd,cat,train,\n"
        "g.jpg,cat,training set,\n"
        "h.jpg,cat,,\n"
        "i\0.jpg,cat,train,\n"
        "j.jpg\n"
    )
    table = read(tmp_path, content)
    assert [row.path for row in table.rows] == ["a.jpg", "b.jpg"]
    assert reasons(table) == {
        "c.jpg": "more values than columns (line 4)",
        "a row without a path": "no path (line 5)",
        "d.jpg": "no label (line 6)",
        "https://example.org/e.jpg": "a web address; only files are read (line 7)",
        "../f.jpg": "its path leaves the folder of the manifest (--root names another folder) (line 8)",
        "/etc/passwd": "its path leaves the folder of the manifest (--root names another folder) (line 9)",
        "g.jpg": "unknown split 'training set'; expected train, val or test (line 10)",
        "h.jpg": "no split, where other rows have one (line 11)",
        "i\0.jpg": "its path holds a NUL character (line 12)",
        "j.jpg": "no label (line 13)",
    }


@pytest.mark.parametrize("value", ["Infinity", "NaN", "true", "[]", "{}", "null"])
def test_json_values_that_are_no_text(tmp_path: Path, value: str) -> None:
    good = '{"path": "a.jpg", "label": "cat"}\n'
    table = read(tmp_path, good + f'{{"path": "b.jpg", "label": {value}}}\n', "x.jsonl")
    assert reasons(table) == {"b.jpg": f"{'no label' if value in {'null', '[]'} else 'the label is not text'} (line 2)"}
    table = read(tmp_path, good + f'{{"path": {value}, "label": "cat"}}\n', "x.jsonl")
    assert reasons(table) == {"a row without a path": "no path (line 2)"}


def test_numbers_of_json_are_the_text_that_csv_has_for_them(tmp_path: Path) -> None:
    numbers = ["1", "1.0", "1.5", "-3"]
    lines = "".join(f'{{"path": "{i}.jpg", "label": {number}}}\n' for i, number in enumerate(numbers))
    cells = "".join(f"{i}.jpg,{number}\n" for i, number in enumerate(numbers))
    assert read(tmp_path, lines, "x.jsonl").rows == read(tmp_path, f"path,label\n{cells}", "x.csv").rows


def test_one_path_with_two_labels_names_both_lines(tmp_path: Path) -> None:
    content = (
        "path,label,group\na.jpg,cat,\n./b.jpg,dog,\na.jpg,cat,\nb.jpg,cat,\nc.jpg,cat,1\nc.jpg,cat,2\nd.jpg,dog,\n"
    )
    table = read(tmp_path, content)
    assert [row.path for row in table.rows] == ["a.jpg", "d.jpg"]
    assert reasons(table) == {
        "b.jpg": "listed as 'dog' (line 3), and listed as 'cat' (line 5)",
        "c.jpg": "listed as 'cat' '1' (line 6), and listed as 'cat' '2' (line 7)",
    }
    assert table.notes == ("1 row repeats an earlier one, counted once.",)


def test_a_path_with_and_without_a_label_is_one_skip(tmp_path: Path) -> None:
    table = read(tmp_path, "path,label\na.jpg,cat\na.jpg,\nb.jpg,\nb.jpg,dog\nc.jpg,dog\nd.jpg,\nd.jpg,\n")
    assert [row.path for row in table.rows] == ["c.jpg"]
    assert reasons(table) == {
        "a.jpg": "listed as 'cat' (line 2), and no label (line 3)",
        "b.jpg": "no label (line 4), and listed as 'dog' (line 5)",
        "d.jpg": "no label (line 7), and no label (line 8)",
    }


def test_root(tmp_path: Path) -> None:
    images = write_images(tmp_path / "images", {"disc": 1})
    (tmp_path / "lists").mkdir()
    inside = os.fspath(images / "disc" / "000.png")
    content = f"path,label\ndisc/000.png,cat\n{tmp_path}/images2/x.png,dog\n"
    table = read(tmp_path / "lists", content, root=images)
    assert table.rows == (Row("disc/000.png", "cat"),)
    assert table.storage.read("disc/000.png") == Path(inside).read_bytes()
    assert read(tmp_path / "lists", f"path,label\n{inside},cat\n", root=images).rows == table.rows  # absolute, inside
    assert list(reasons(table)) == [f"{tmp_path}/images2/x.png"]  # a name that only begins like the root's


def test_half_a_character_does_no_harm(tmp_path: Path) -> None:
    content = '{"path": "\\ud800.jpg", "label": "\\ud800"}\n{"path": "b.jpg", "label": "\\udcff"}\n'
    table = read(tmp_path, content, "x.jsonl")
    assert table.classes == ("\\xed\\xa0\\x80", "\\xff")
    with pytest.raises(ImageError):
        table.storage.read("\ud800.jpg")


cells = st.text(st.sampled_from('ab,;"\n\r\t \0./\\:é'), max_size=8)


@given(st.lists(st.lists(cells, max_size=5), max_size=6), st.sampled_from(["x.csv", "x.tsv", "x.jsonl"]))
def test_any_text_is_read_or_refused_in_words(rows: list[list[str]], name: str) -> None:
    body = "\n".join(json.dumps(dict(zip(("path", "label", "split", "group", "x"), row, strict=False)))
                     if name.endswith("l") else ",".join(row) for row in rows)  # fmt: skip
    try:
        kept, skipped, *_ = parse(
            f"path,label\n{body}".encode() if name[2] != "j" else body.encode(), name, Columns(), "/r"
        )
    except SourceError:
        return
    used, gone = [row.path for row in kept], [skip.path for skip in skipped]
    assert len(used) == len(set(used))
    assert not set(used) & set(gone)
    assert all(row.label and ".." not in row.path.split("/") and "\0" not in row.path for row in kept)


def test_a_manifest_trains_with_its_splits_and_groups(tmp_path: Path) -> None:
    write_images(tmp_path, {"disc": 14, "noise": 14})
    lines = [f"{label}/{i:03}.png,{label},{'test' if i < 4 else 'train'},{label}{i // 2}"
             for label in ("disc", "noise") for i in range(14)]  # fmt: skip
    (tmp_path / "list.csv").write_text("\n".join(["path,label,split,group", *lines, "gone.png,disc,train,"]))
    done = headstart_cli("train", tmp_path / "list.csv", "--out", tmp_path / "out", "--json")
    assert done.code == 3, done.err
    assert done.json["counts"]["test"] == {"disc": 4, "noise": 4}
    assert done.json["counts"]["train"] == {"disc": 10, "noise": 10}
    assert done.json["skipped"] == [{"path": "gone.png", "reason": "file not found"}]
    assert headstart_cli("train", tmp_path / "list.csv", "--out", tmp_path / "no", "--strict").code == 2


@pytest.mark.slow
def test_groups_stay_on_one_side(tmp_path: Path) -> None:
    write_images(tmp_path, {"disc": 40, "noise": 40})
    lines = [f"{label}/{i:03}.png,{label},{label}{i // 4}" for label in ("disc", "noise") for i in range(40)]
    (tmp_path / "list.csv").write_text("\n".join(["path,label,group", *lines]))
    run = headstart.train(tmp_path / "list.csv", headstart.Recipe(holdout=0.5))
    sides: dict[str | None, set[str]] = {}
    for row, part in zip(run.fitted.data.table.rows, run.fitted.partition.names(), strict=True):
        sides.setdefault(row.group, set()).add(part)
    assert len(sides) == 20
    assert all(len(parts) == 1 for parts in sides.values())


@pytest.mark.slow
def test_two_hundred_thousand_rows_are_read_in_seconds() -> None:
    content = "path,label,split,group\n" + "".join(f"{i % 100}/{i}.jpg,{i % 100},,{i // 3}\n" for i in range(200_000))
    start = time.process_time()
    rows, skipped, *_ = parse(content.encode(), "x.csv", Columns(), "/images")
    assert time.process_time() - start < 8
    assert (len(rows), len(skipped)) == (200_000, 0)
