"""Parquet: lists of images, and images inside the file as Hugging Face keeps them."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import headstart
from headstart.core.errors import ExtraError, ImageError, SourceError
from headstart.data.readers import Columns
from headstart.data.table import ImageTable
from helpers import headstart_cli, write_images

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

CLASSES = ["disc", "noise"]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write_images(tmp_path / "photos", dict.fromkeys(CLASSES, 4))


def files(photos: Path) -> list[Path]:
    return sorted(photos.rglob("*.png"))


def write(path: Path, columns: dict[str, Sequence[Any]], *, names: bool = False, rows: int = 3) -> Path:
    """A Parquet file of groups of three rows; with the names of the classes, as the package datasets writes them."""
    table = pa.table(columns)
    if names:
        features = {"image": {"_type": "Image"}, "label": {"names": CLASSES, "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=rows)
    return path


def embedded(photos: Path, part: slice = slice(None)) -> dict[str, Sequence[Any]]:
    chosen = files(photos)[part]
    return {
        "image": [{"bytes": path.read_bytes(), "path": path.name} for path in chosen],
        "label": [CLASSES.index(path.parent.name) for path in chosen],
    }


def same_as_the_folder(table: ImageTable, photos: Path) -> None:
    plain = headstart.read(photos)
    assert [row.label for row in table.rows] == [row.label for row in plain.rows]
    assert [table.storage.read(row.path) for row in table.rows] == [plain.storage.read(row.path) for row in plain.rows]


def test_a_list(photos: Path) -> None:
    paths = [path.relative_to(photos).as_posix() for path in files(photos)]
    content = {"file_name": paths, "label": [path.split("/")[0] for path in paths], "width": [80.5] * len(paths)}
    table = headstart.read(write(photos / "list.parquet", content))
    same_as_the_folder(table, photos)
    # Numbers with names are classes with these names, and a list in a folder of its images is found there.
    other = write_images(photos.parent / "other/images", dict.fromkeys(CLASSES, 4)).parent
    numbers = {"image": [f"images/{path}" for path in paths], "label": [CLASSES.index(p.split("/")[0]) for p in paths]}
    write(other / "metadata.parquet", numbers, names=True)
    same_as_the_folder(headstart.read(other), photos)


@pytest.mark.parametrize("names", [False, True])
def test_images_inside_the_file(photos: Path, tmp_path: Path, names: bool) -> None:
    path = write(tmp_path / "set/data.parquet", embedded(photos), names=names)
    for source in (path, path.parent):
        table = headstart.read(source)
        if names:
            same_as_the_folder(table, photos)
        else:
            assert {row.label for row in table.rows} == {"0", "1"}
        assert [row.path for row in table.rows][:2] == ["data.parquet/000000-000.png", "data.parquet/000001-001.png"]
        assert table.splits == ()
        assert not table.skipped


def test_shards_with_splits(photos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "hub/data"
    for name, part in (("train-00000-of-00002", slice(0, 2)), ("train-00001-of-00002", slice(4, 6)),
                       ("validation-00000-of-00001", slice(2, 4)), ("test-00000-of-00001", slice(6, 8))):  # fmt: skip
        write(folder / f"{name}.parquet", embedded(photos, part), names=True, rows=1)
    table = headstart.read(folder.parent)
    assert {(row.split, row.label) for row in table.rows} == {
        ("train", "disc"), ("train", "noise"), ("val", "disc"), ("test", "noise"),
    }  # fmt: skip
    assert len(table) == 8
    with ThreadPoolExecutor(4) as pool:
        found = set(pool.map(table.storage.read, [row.path for row in table.rows] * 5))
    assert found == {path.read_bytes() for path in files(photos)}
    again = table.storage.reopened()
    assert again.read(table.rows[-1].path) == table.storage.read(table.rows[-1].path)


def test_bytes_without_a_name_and_rows_without_an_image(photos: Path, tmp_path: Path) -> None:
    contents = [path.read_bytes() for path in files(photos)]
    path = write(tmp_path / "x.parquet", {"png": [*contents[:-1], None], "thumb": contents, "class": ["a", "b"] * 4})
    table = headstart.read(path)
    assert table.storage.read(table.rows[0].path) == contents[0]
    with pytest.raises(ImageError, match="no image in this row"):
        table.storage.read(table.rows[-1].path)
    named = headstart.read(path, columns=Columns(path="thumb"))
    assert named.storage.read(named.rows[-1].path) == contents[-1]
    with pytest.raises(ImageError, match="has no row 99"):
        table.storage.read("x.parquet/000099")
    two = write(tmp_path / "two.parquet", {"a": contents, "b": contents, "label": ["a", "b"] * 4})
    with pytest.raises(SourceError, match="holds images in 'a', 'b'") as caught:
        headstart.read(two)
    assert "--path-column a" in (caught.value.hint or "")


@pytest.mark.slow
def test_the_program_trains_and_reads_again(photos: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "set.parquet", embedded(photos), names=True)
    done = headstart_cli("train", path, "--out", tmp_path / "run", "--json")
    assert done.code == 0, done.err
    assert done.json["counts"]["images"] == 8
    plain = headstart_cli("train", photos, "--out", tmp_path / "plain", "--json")
    assert done.json["evaluation"]["log_loss"] == plain.json["evaluation"]["log_loss"]
    assert headstart_cli("report", tmp_path / "run", "--out", tmp_path / "page.html").code == 0


@pytest.mark.parametrize("content", [b"", b"PAR1", b"x" * 500, b"PAR1" + bytes(200) + b"PAR1"])
def test_damaged_files(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.parquet").write_bytes(content)
    with pytest.raises(SourceError, match="not a readable Parquet file"):
        headstart.read(tmp_path / "x.parquet")


def test_any_flipped_byte_ends_in_words(photos: Path, tmp_path: Path) -> None:
    whole = write(tmp_path / "x.parquet", embedded(photos), names=True).read_bytes()
    for place in range(0, len(whole), max(1, len(whole) // 200)):
        (tmp_path / "x.parquet").write_bytes(whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :])
        try:
            table = headstart.read(tmp_path / "x.parquet")
        except SourceError:
            continue
        for row in table.rows:
            with contextlib.suppress(ImageError):
                table.storage.read(row.path)


def test_without_pyarrow_the_extra_is_named(photos: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "set.parquet", embedded(photos))
    script = textwrap.dedent(f"""
        import sys
        sys.modules["pyarrow"] = None
        import headstart
        try:
            headstart.read({str(path)!r})
        except headstart.ExtraError as error:
            print(error.message, error.hint)
        (table := headstart.read({str(photos)!r}))
        print(len(table))
    """)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "needs the package pyarrow" in done.stdout
    assert "headstart[parquet]" in done.stdout
    assert done.stdout.endswith("8\n")
    assert issubclass(ExtraError, headstart.HeadstartError)
