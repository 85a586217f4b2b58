"""Zip files: read in place, in bounded memory, and hostile entries are skipped with the reason."""

from __future__ import annotations

import contextlib
import io
import stat
import struct
import subprocess
import sys
import textwrap
import time
import warnings
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import headstart
from headstart.core.errors import ImageError, SourceError
from headstart.data import storage
from headstart.data.table import ImageTable
from helpers import draw, headstart_cli, write_images

Entry = str | zipfile.ZipInfo


def pack(
    path: Path, entries: dict[Entry, bytes] | list[tuple[Entry, bytes]], method: int = zipfile.ZIP_DEFLATED
) -> Path:
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", method) as file:
        warnings.simplefilter("ignore", UserWarning)  # entries of the same name
        for name, content in entries.items() if isinstance(entries, dict) else entries:
            file.writestr(name, content)
    return path


def reasons(table: ImageTable) -> dict[str, str]:
    return {skip.path: skip.reason for skip in table.skipped}


def info(name: str, mode: int = stat.S_IFREG | 0o644) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)
    entry.external_attr = mode << 16
    return entry


GOOD: dict[Entry, bytes] = {"cats/1.jpg": b"one", "dogs/1.jpg": b"two"}


def pictures(folder: Path, path: Path, prefix: str = "") -> Path:
    files = sorted(write_images(folder, {"disc": 6, "noise": 6}).rglob("*.png"))
    return pack(path, {prefix + file.relative_to(folder).as_posix(): file.read_bytes() for file in files})


@pytest.mark.parametrize("prefix", ["", "photos/", "a/b/c/", "./"])
def test_a_folder_around_all_is_looked_through(tmp_path: Path, prefix: str) -> None:
    table = headstart.read(pack(tmp_path / "x.zip", {f"{prefix}{name}": data for name, data in GOOD.items()}))
    assert {row.path: row.label for row in table.rows} == GOOD_LABELS
    assert table.storage.read("dogs/1.jpg") == b"two"


@pytest.mark.parametrize("prefix", ["photos/"])
def test_a_zip_trains_in_place(tmp_path: Path, prefix: str) -> None:
    archive = pictures(tmp_path / "in", tmp_path / "photos.zip", prefix)
    (tmp_path / "work").mkdir()
    done = headstart_cli("train", archive, "--out", tmp_path / "out", "--json", cwd=tmp_path / "work")
    assert done.code == 0, done.err
    assert done.json["classes"] == ["disc", "noise"]
    assert done.json["counts"]["images"] == 12
    assert not list((tmp_path / "work").iterdir())  # nothing was extracted
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "analysis.json", "metrics.json", "model.onnx", "predictions.csv", "recipe.toml", "report.html", "splits.csv",
    ]  # fmt: skip


def test_a_zip_gives_what_its_folder_gives(tmp_path: Path) -> None:
    archive = pictures(tmp_path / "in", tmp_path / "photos.zip", "photos/")
    zipped, plain = headstart.read(archive), headstart.read(tmp_path / "in")
    assert [(row.path, row.label) for row in zipped.rows] == [(row.path, row.label) for row in plain.rows]
    assert all(zipped.storage.read(row.path) == plain.storage.read(row.path) for row in plain.rows)


def test_split_folders_in_a_zip(tmp_path: Path) -> None:
    table = headstart.read(
        pack(tmp_path / "x.zip", {f"d/{s}/{c}/1.jpg": b"x" for s in ("Train", "valid") for c in "ab"})
    )
    assert {(row.split, row.label) for row in table.rows} == {(s, c) for s in ("train", "val") for c in "ab"}


def test_litter_and_wrappers(tmp_path: Path) -> None:
    entries = {"photos/cats/1.jpg": b"1", "photos/dogs/1.jpg": b"2", "__MACOSX/photos/cats/._1.jpg": b"3",
               "photos/.DS_Store": b"4", "photos/cats/Thumbs.db": b"5", "photos/readme.txt": b"6"}  # fmt: skip
    table = headstart.read(pack(tmp_path / "x.zip", entries | {"photos/empty/": b"", "__MACOSX/": b""}))
    assert {row.path: row.label for row in table.rows} == GOOD_LABELS
    assert table.ignored == 3
    assert reasons(table) == {"readme.txt": "not inside a class folder"}
    assert table.notes == (
        "All images are inside the folder 'photos', which was read.",
        "Empty class folders, left out: 'empty'.",
    )  # fmt: skip


GOOD_LABELS = {"cats/1.jpg": "cats", "dogs/1.jpg": "dogs"}


def test_hostile_entries_are_skipped_by_name(tmp_path: Path) -> None:
    bomb = bytes(9 * 2**20)
    entries: list[tuple[Entry, bytes]] = [
        *GOOD.items(),
        ("../cats/x.jpg", b"x"),
        ("cats/../../x.jpg", b"x"),
        ("/etc/passwd", b"x"),
        ("C:/x.jpg", b"x"),
        (info("cats/link.jpg", stat.S_IFLNK | 0o777), b"/etc/passwd"),
        (info("cats/pipe.jpg", stat.S_IFIFO | 0o644), b""),
        ("cats/1.jpg", b"another"),
        ("cats/bomb.jpg", bomb),
        ("d/" * 65 + "x.jpg", b"x"),
        ("a/" * 32_000 + "x.jpg", b"x"),
    ]
    path = pack(tmp_path / "x.zip", entries)
    content = path.read_bytes().replace(b"../cats/x.jpg", b"..\\cats\\x.jpg")
    path.write_bytes(content)
    table = headstart.read(path)
    assert {row.path: row.label for row in table.rows} == GOOD_LABELS
    assert table.storage.read("cats/1.jpg") == b"one"
    found = reasons(table)
    assert {name: found[name] for name in found if len(name) < 100} == {
        "..\\cats\\x.jpg": "its path leaves the zip file",
        "cats/../../x.jpg": "its path leaves the zip file",
        "/etc/passwd": "its path leaves the zip file",
        "C:/x.jpg": "its path leaves the zip file",
        "cats/link.jpg": "a link inside the zip file",
        "cats/pipe.jpg": "not a regular file (a pipe, socket or device)",
        "cats/1.jpg": "a second entry of the same name",
        "cats/bomb.jpg": "expands more than 200 times",
    }
    assert len(found) == len(entries) - len(GOOD)
    assert {reason for name, reason in found.items() if len(name) > 100} == {"more than 64 folders deep"}


def test_backslashes_and_nested_zips(tmp_path: Path) -> None:
    inner = pack(tmp_path / "inner.zip", GOOD).read_bytes()
    path = pack(tmp_path / "x.zip", {**GOOD, "cats/inner.zip": inner, "cats_1.jpg": b"x"})
    path.write_bytes(path.read_bytes().replace(b"cats_1.jpg", b"cats\\1.jpg"))
    table = headstart.read(path)
    assert "backslash" in reasons(table)["cats\\1.jpg"]
    assert [row.path for row in table.rows] == ["cats/1.jpg", "cats/inner.zip", "dogs/1.jpg"]
    archive = pictures(tmp_path / "in", tmp_path / "photos.zip")
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr("disc/inner.zip", inner)
    run = headstart.train(archive)
    assert {skip.path: "a zip file" in skip.reason for skip in run.skipped} == {"disc/inner.zip": True}


def patched(path: Path, name: str, offset: int, local_offset: int, value: bytes) -> Path:
    """Write bytes into the directory's record, and the local header, of one entry."""
    data = bytearray(path.read_bytes())
    central = 0
    while (central := data.index(b"PK\1\2", central)) >= 0:
        length = struct.unpack_from("<H", data, central + 28)[0]
        if data[central + 46 : central + 46 + length] == name.encode():
            break
        central += 4
    local = struct.unpack_from("<I", data, central + 42)[0]
    data[central + offset : central + offset + len(value)] = value
    data[local + local_offset : local + local_offset + len(value)] = value
    path.write_bytes(data)
    return path


def test_encrypted_entries(tmp_path: Path) -> None:
    path = patched(pack(tmp_path / "x.zip", {**GOOD, "cats/2.jpg": b"secret"}), "cats/2.jpg", 8, 6, b"\1\0")
    assert reasons(headstart.read(path)) == {
        "cats/2.jpg": "encrypted; unpack it with its password, and pack it again without one"
    }


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_without_a_bound_are_refused(tmp_path: Path, method: int) -> None:
    """4 KiB of bzip2 are gigabytes in one step of Python's reader, whatever size was asked for."""
    path = pack(tmp_path / "x.zip", GOOD)
    with zipfile.ZipFile(path, "a", method) as file:
        file.writestr("cats/2.jpg", bytes(2**20))
    assert reasons(headstart.read(path)) == {
        "cats/2.jpg": f"compressed by method {method}; pack it again with the usual one (deflate)"
    }


@pytest.mark.parametrize("promised", [10, 100_000, 2**31])
def test_lying_sizes(tmp_path: Path, promised: int) -> None:
    content = np.random.default_rng(0).bytes(50_000)
    path = pack(tmp_path / "x.zip", {**GOOD, "cats/2.jpg": content}, zipfile.ZIP_STORED)
    table = headstart.read(patched(path, "cats/2.jpg", 24, 22, struct.pack("<I", promised)))
    if promised > storage.MAX_FILE_BYTES:
        assert "more than the limit" in reasons(table)["cats/2.jpg"]
        return
    with pytest.raises(ImageError, match=r"damaged in the zip file|declares"):
        table.storage.read("cats/2.jpg")
    assert table.storage.read("cats/1.jpg") == b"one"


def test_a_damaged_byte_is_noticed(tmp_path: Path) -> None:
    source = write_images(tmp_path / "in", {"disc": 4, "noise": 4})
    files = sorted(source.rglob("*.png"))
    path = pack(
        tmp_path / "x.zip", {f.relative_to(source).as_posix(): f.read_bytes() for f in files}, zipfile.ZIP_STORED
    )
    data = bytearray(path.read_bytes())
    data[data.index(files[0].read_bytes()) + 500] ^= 1
    path.write_bytes(data)
    run = headstart.train(path)
    assert [skip.path for skip in run.skipped] == ["disc/000.png"]
    assert "CRC" in run.skipped[0].reason


def test_truncated_and_foreign_files(tmp_path: Path) -> None:
    whole = pack(tmp_path / "x.zip", GOOD).read_bytes()
    for content in (b"", b"no zip", whole[:-10], whole[: len(whole) // 2], b"\x1f\x8b" + whole[:20]):
        (tmp_path / "y.zip").write_bytes(content)
        with pytest.raises(SourceError, match=r"is not a readable zip file.*pack it again"):
            headstart.read(tmp_path / "y.zip")
    assert len(headstart.read(pack(tmp_path / "x.zip", GOOD))) == 2
    with pytest.raises(SourceError, match="No labelled image"):
        headstart.read(pack(tmp_path / "z.zip", {}))


def test_any_flipped_byte_ends_in_words(tmp_path: Path) -> None:
    """No damage gives wrong bytes or another exception than ours."""
    whole = pack(tmp_path / "x.zip", {**GOOD, "é/1.jpg": b"abc" * 30}).read_bytes()
    truth = {b"one", b"two", b"abc" * 30}
    rng = np.random.default_rng(1)
    path = tmp_path / "y.zip"
    for position in range(len(whole)):
        data = bytearray(whole)
        data[position] ^= int(rng.choice([1, 0x80, 0xFF]))
        path.write_bytes(data)
        try:
            table = headstart.read(path)
        except SourceError:
            continue
        for row in table.rows:
            with contextlib.suppress(ImageError):
                assert table.storage.read(row.path) in truth


def test_a_manifest_in_a_zip(tmp_path: Path) -> None:
    lines = "path,label\nx/1.jpg,cat\n./x/2.jpg,dog\nx/gone.jpg,cat\n../x/1.jpg,cat\nx/link.jpg,dog\nx/3.jpg,\n"
    entries: list[tuple[Entry, bytes]] = [
        ("set/list.csv", lines.encode()), ("set/x/1.jpg", b"1"), ("set/x/2.jpg", b"2"), ("set/x/3.jpg", b"3"),
        ("set/x/4.jpg", b"4"), (info("set/x/link.jpg", stat.S_IFLNK | 0o777), b"1.jpg"),
    ]  # fmt: skip
    table = headstart.read(pack(tmp_path / "x.zip", entries))
    assert {row.path: row.label for row in table.rows} == {"x/1.jpg": "cat", "x/2.jpg": "dog"}
    assert table.storage.read("x/2.jpg") == b"2"
    assert reasons(table) == {
        "x/gone.jpg": "file not found",
        "../x/1.jpg": "its path leaves the source (line 5)",
        "x/link.jpg": "a link inside the zip file",
        "x/3.jpg": "no label (line 7)",
        "x/4.jpg": "not in the list",
    }
    assert len(table.skipped) == 5
    with pytest.raises(SourceError, match=r"several lists of images: 'a.csv', 'b.csv'"):
        headstart.read(
            pack(tmp_path / "y.zip", {**dict.fromkeys(("a.csv", "b.csv"), b"path,label\nx/1.jpg,a\n"), "x/1.jpg": b"1"})
        )
    with pytest.raises(SourceError, match="not UTF-8"):
        headstart.read(pack(tmp_path / "z.zip", {"a.csv": b"\xff", "x/1.jpg": b"1"}))


def test_many_threads_read_one_zip(tmp_path: Path) -> None:
    contents = {f"c{i % 2}/{i}.jpg": np.random.default_rng(i).bytes(3000) for i in range(64)}
    table = headstart.read(pack(tmp_path / "x.zip", contents))  # type: ignore[arg-type]
    paths = [row.path for row in table.rows] * 8
    with ThreadPoolExecutor(8) as pool:
        assert all(
            data == contents[path] for path, data in zip(paths, pool.map(table.storage.read, paths), strict=True)
        )


def test_twenty_thousand_entries_are_listed_in_seconds(tmp_path: Path) -> None:
    path = pack(tmp_path / "x.zip", {f"photos/{i % 100}/{i // 500}/{i}.jpg": b"x" for i in range(20_000)}, 0)
    start = time.process_time()
    table = headstart.read(path)
    assert time.process_time() - start < 5
    assert (len(table), len(table.classes)) == (20_000, 100)


MEMORY = textwrap.dedent("""
    import resource, sys
    import headstart
    table = headstart.read(sys.argv[1])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for row in table.rows:
        try:
            table.storage.read(row.path)
        except headstart.ImageError:
            pass
    print(len(table.rows), len(table.skipped), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
""")


@pytest.mark.slow
def test_memory_is_bounded(tmp_path: Path) -> None:
    """A gigabyte of zeros behind a header that promises 8 MiB, and one that says what it is."""
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        file.writestr("cats/1.jpg", b"x")
        for name in ("cats/honest.jpg", "cats/liar.jpg"):
            with file.open(name, "w") as entry:
                for _ in range(40):
                    entry.write(bytes(2**23))
    patched(path, "cats/liar.jpg", 24, 22, struct.pack("<I", 2**23))
    done = subprocess.run([sys.executable, "-c", MEMORY, str(path)], capture_output=True, text=True, check=True)
    used, skipped, mebibytes = map(int, done.stdout.split())
    assert (used, skipped) == (2, 1)
    assert mebibytes < 64


def test_an_image_of_a_zip_is_an_image(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    draw("disc", 1).save(buffer, "PNG")
    table = headstart.read(pack(tmp_path / "x.ZIP", {"a/1.png": buffer.getvalue(), "b/1.png": b"x"}))
    assert table.storage.read("a/1.png") == buffer.getvalue()
    with pytest.raises(ImageError, match="not in the zip file"):
        table.storage.read("a/2.png")
