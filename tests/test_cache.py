"""The feature cache: hits by content, damage of every kind, several processes, trouble with the folder."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import textwrap
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import headstart
from headstart.backbones.embedder import Embedder, load_embedder
from headstart.core.runtime import Runtime
from headstart.features import cache as feature_cache
from headstart.features.cache import FILE_NAME, FeatureCache
from headstart.features.dataset import Dataset
from headstart.features.extract import extract
from headstart.settings.recipe import Recipe
from helpers import headstart_cli, write_images

WIDTH = 8
EMBEDDER = "ab" * 32


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return load_embedder(Recipe(), None)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("pictures"), {"disc": 6, "noise": 6})


def embed(source: Path, embedder: Embedder, cache: Path | None, workers: int = 2, limit: int = 64) -> Dataset:
    return extract(
        headstart.read(source), embedder, Runtime(cache=cache, workers=workers), max_megapixels=limit
    )  # fmt: skip


def key(number: int) -> bytes:
    return hashlib.sha256(str(number).encode()).digest()


def vector(number: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return np.random.default_rng(number).normal(size=WIDTH).astype(np.float32)


def fill(folder: Path, count: int, embedder: str = EMBEDDER) -> Path:
    with FeatureCache(folder, embedder, WIDTH) as cache:
        for number in range(count):
            cache.put(key(number), vector(number))
    assert not cache.notes
    return folder / FILE_NAME


def found(
    folder: Path | None, count: int, embedder: str = EMBEDDER, width: int = WIDTH
) -> tuple[list[bool], list[str]]:
    """Which entries are hits; each hit has the very vector that was put."""
    hits = []
    with FeatureCache(folder, embedder, width) as cache:
        for number in range(count):
            got = cache.get(key(number))
            hits.append(got is not None)
            if got is not None:
                np.testing.assert_array_equal(got, vector(number))
                assert got.dtype == np.float32
    return hits, cache.notes


def change(path: Path, statement: str, *values: object) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement, values)


def integrity(path: Path) -> str:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return str(connection.execute("PRAGMA integrity_check").fetchone()[0])


# --- hits ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_second_run_embeds_nothing(pictures: Path, cache: Path) -> None:
    first, second = headstart.train(pictures), headstart.train(pictures)
    assert (first.fitted.details.as_dict()["embedded"], first.fitted.details.as_dict()["from_cache"]) == (12, 0)
    assert (second.fitted.details.as_dict()["embedded"], second.fitted.details.as_dict()["from_cache"]) == (0, 12)
    assert first.fitted.model == second.fitted.model
    assert sorted(path.name for path in cache.iterdir()) == ["embedders", FILE_NAME]


def test_hits_equal_misses_and_go_by_content(pictures: Path, embedder: Embedder, tmp_path: Path, cache: Path) -> None:
    fresh = embed(pictures, embedder, None)
    assert embed(pictures, embedder, cache).cached == 0
    again = embed(pictures, embedder, cache)
    assert again.cached == 12
    np.testing.assert_array_equal(again.matrix, fresh.matrix)
    assert again.digests == fresh.digests
    moved = tmp_path / "elsewhere"
    shutil.copytree(pictures, moved)
    for number, path in enumerate(sorted(moved.rglob("*.png"))):
        path.rename(path.with_name(f"renamed-{99 - number}.jpeg"))
    shutil.copy(moved / "disc" / "renamed-99.jpeg", moved / "noise" / "copy.png")
    assert embed(moved, embedder, cache).cached == 13
    # A time of modification that stays the same is no proof of content.
    target = moved / "disc" / "renamed-99.jpeg"
    status = target.stat()
    target.write_bytes((moved / "noise" / "renamed-88.jpeg").read_bytes())
    with target.open("ab") as file:
        file.write(b"\0")
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert embed(moved, embedder, cache).cached == 12


@pytest.mark.slow
def test_other_choices_do_not_collide(pictures: Path, cache: Path) -> None:
    matrices = []
    choices: list[dict[str, str]] = [{}, {"fit": "squash"}, {"fit": "pad"}, {"precision": "float32"}]
    embedders = [load_embedder(Recipe(**choice), None) for choice in choices]  # type: ignore[arg-type]
    for one in embedders:
        features = embed(pictures, one, cache)
        assert features.cached == 0
        matrices.append(features.matrix)
    for number, one in enumerate(embedders):
        again = embed(pictures, one, cache)
        assert again.cached == 12
        np.testing.assert_array_equal(again.matrix, matrices[number])
    assert len({matrix.tobytes() for matrix in matrices}) == len(choices)


def test_an_image_beyond_the_limit_is_skipped_though_it_was_embedded(
    embedder: Embedder, tmp_path: Path, cache: Path
) -> None:
    """The limit is a choice of the recipe: what was cached under another one does not change the result."""
    from PIL import Image

    source = write_images(tmp_path / "source", {"disc": 2})
    Image.new("RGB", (1500, 1000), "red").save(source / "disc" / "large.png")
    assert len(embed(source, embedder, cache, limit=64).matrix) == 3
    for _ in range(2):
        strict = embed(source, embedder, cache, limit=1)
        assert [skip.path for skip in strict.table.skipped] == ["disc/large.png"]


# --- damaged entries -----------------------------------------------------------------------------------------------


def test_each_of_200_flipped_bits_is_noticed(cache: Path) -> None:
    """One bit in each entry: in its vector, its checksum or its key; all are dropped and replaced."""
    path, rng = fill(cache, 200), random.Random(0)
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        rows = connection.execute("SELECT rowid, embedder, image, checksum, vector FROM embeddings").fetchall()
        for rowid, *columns in rows:
            column = rng.choice([1, 2, 3, 3, 3])
            value = bytearray(columns[column])
            value[rng.randrange(len(value))] ^= 1 << rng.randrange(8)
            name = ("embedder", "image", "checksum", "vector")[column]
            connection.execute(f"UPDATE embeddings SET {name} = ? WHERE rowid = ?", (bytes(value), rowid))
    hits, notes = found(cache, 200)
    assert hits == [False] * 200
    assert notes == ["A damaged entry of the feature cache was dropped and computed again."]
    with FeatureCache(cache, EMBEDDER, WIDTH) as again:
        for number in range(200):
            again.put(key(number), vector(number))
    assert found(cache, 200) == ([True] * 200, [])


ROWS: dict[str, str] = {
    "swapped vectors": "UPDATE embeddings SET vector = "
    "(SELECT vector FROM embeddings WHERE image = ?2) WHERE image = ?1",
    "another's whole entry": "UPDATE embeddings SET (vector, checksum) = "
    "(SELECT vector, checksum FROM embeddings WHERE image = ?2) WHERE image = ?1",
    "shorter": "UPDATE embeddings SET vector = substr(vector, 1, 28) WHERE image IN (?1)",
    "longer": "UPDATE embeddings SET vector = zeroblob(4000) WHERE image IN (?1)",
    "empty": "UPDATE embeddings SET vector = x'' WHERE image IN (?1)",
    "text of that length": "UPDATE embeddings SET vector = 'abcdefghijklmnopqrstuvwxyz012345' WHERE image IN (?1)",
    "number": "UPDATE embeddings SET vector = 12345 WHERE image IN (?1)",
    "checksum is text": "UPDATE embeddings SET checksum = 'abc' WHERE image IN (?1)",
    "checksum is a number": "UPDATE embeddings SET checksum = 1.5 WHERE image IN (?1)",
    "gone": "DELETE FROM embeddings WHERE image IN (?1)",
}


@pytest.mark.parametrize("statement", ROWS.values(), ids=ROWS.keys())
def test_one_bad_row_costs_one_row(cache: Path, statement: str) -> None:
    path = fill(cache, 10)
    change(path, statement, key(3), *([key(4)] if "?2" in statement else []))
    hits, notes = found(cache, 10)
    assert hits == [number != 3 for number in range(10)]
    assert all("damaged entry" in note for note in notes)


def test_entries_of_another_width_or_embedder_are_no_hits(cache: Path) -> None:
    fill(cache, 5)
    assert found(cache, 5, width=WIDTH * 2)[0] == [False] * 5
    assert found(cache, 5, embedder="cd" * 32) == ([False] * 5, [])
    change(cache / FILE_NAME, "UPDATE embeddings SET embedder = ?", bytes.fromhex("cd" * 32))
    assert found(cache, 5, embedder="cd" * 32)[0] == [False] * 5  # the checksum is over the key too


@pytest.mark.slow
def test_flipped_bits_anywhere_in_the_file(cache: Path, tmp_path: Path) -> None:
    """The whole header, and places all over: a lookup gives the right vector or none, and the next run is well."""
    sound, rng = fill(cache, 30).read_bytes(), random.Random(1)
    header = [(at, rng.randrange(8)) for at in range(100)]
    elsewhere = [(rng.randrange(100, len(sound)), rng.randrange(8)) for _ in range(100)]
    for number, (at, bit) in enumerate(header + elsewhere):
        folder = tmp_path / str(number)
        folder.mkdir()
        damaged = bytearray(sound)
        damaged[at] ^= 1 << bit
        (folder / FILE_NAME).write_bytes(damaged)
        found(folder, 30)  # asserts that hits are right
        with FeatureCache(folder, EMBEDDER, WIDTH) as again:
            for one in range(30):
                again.put(key(one), vector(one))
        found(folder, 30)
        feature_cache.size(folder)
        shutil.rmtree(folder)


BROKEN: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "one byte": lambda data: data[:1],
    "cut in the header": lambda data: data[:50],
    "cut in the first page": lambda data: data[:2000],
    "cut in the middle": lambda data: data[: len(data) // 2 + 1],
    "without its last byte": lambda data: data[:-1],
    "garbage": lambda data: random.Random(0).randbytes(20_000),
    "text": lambda data: b"no data base at all\n" * 1000,
    "zeros": lambda data: bytes(len(data)),
    "garbage after the header": lambda data: data[:100] + random.Random(0).randbytes(len(data) - 100),
    "another table": lambda data: data.replace(b"embedder BLOB", b"embeddar BLOB"),
    "no schema": lambda data: data.replace(b"CREATE TABLE", b"CREATE TABEL"),
}


@pytest.mark.parametrize("damage", BROKEN.values(), ids=BROKEN.keys())
def test_broken_file_is_built_again(cache: Path, damage: Callable[[bytes], bytes]) -> None:
    path = fill(cache, 300)
    path.write_bytes(damage(path.read_bytes()))
    sizes = feature_cache.size(cache)
    assert sizes["bytes"] == path.stat().st_size  # looking does not change it
    with FeatureCache(cache, EMBEDDER, WIDTH) as again:
        for number in range(300):
            if again.get(key(number)) is None:
                again.put(key(number), vector(number))
    assert len(again.notes) <= 1
    hits, notes = found(cache, 300)
    assert not notes
    assert sum(hits) > 290  # what was held back when the damage was met may be lost
    assert integrity(path) == "ok"


def test_damage_in_training_gives_the_same_matrix(pictures: Path, embedder: Embedder, cache: Path) -> None:
    fresh = embed(pictures, embedder, cache)
    path = cache / FILE_NAME
    path.write_bytes(path.read_bytes()[:9000])
    damaged = embed(pictures, embedder, cache)
    np.testing.assert_array_equal(damaged.matrix, fresh.matrix)
    assert sum("cache" in note for note in damaged.notes) == 1
    assert embed(pictures, embedder, cache).cached >= 11
    embedders = list((cache / "embedders").iterdir()) if (cache / "embedders").exists() else []
    assert not embedders  # `load_embedder(..., None)` keeps nothing


def test_damaged_embedder_is_built_again(pictures: Path, cache: Path) -> None:
    sound = load_embedder(Recipe(), cache)
    (path,) = (cache / "embedders").iterdir()
    for content in (path.read_bytes()[:-1], b"", b"\0" * 100):
        path.write_bytes(content)
        assert load_embedder(Recipe(), cache) == sound
        assert path.read_bytes() == sound.model


# --- trouble with the folder ---------------------------------------------------------------------------------------


def test_folder_in_the_place_of_the_file(pictures: Path, embedder: Embedder, cache: Path) -> None:
    (cache / FILE_NAME).mkdir()
    (cache / FILE_NAME / "mine").touch()
    features = embed(pictures, embedder, cache)
    assert len(features.matrix) == 12
    assert [note for note in features.notes if "working without it" in note] == list(features.notes)
    assert len(features.notes) == 1
    assert (cache / FILE_NAME / "mine").exists()
    assert feature_cache.size(cache) == {"images": 0, "embedders": 0, "bytes": 0}


def test_file_in_the_place_of_the_folder(pictures: Path, embedder: Embedder, cache: Path) -> None:
    (cache / "file").touch()
    features = embed(pictures, embedder, cache / "file")
    assert len(features.matrix) == 12
    assert len(features.notes) == 1
    assert load_embedder(Recipe(), cache / "file") == load_embedder(Recipe(), None)


def test_no_cache(pictures: Path, embedder: Embedder, cache: Path) -> None:
    features = embed(pictures, embedder, None)
    assert not features.notes
    assert not features.cached
    assert list(cache.iterdir()) == []


def as_nobody(work: Callable[[], object]) -> None:
    """Call something in a child process that has no more rights than the user `nobody` (tests may run as root)."""
    if os.getuid() != 0:
        work()
        return
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            work()
            code = 0
        except BaseException:  # noqa: BLE001  the child must not go on with the tests
            traceback.print_exc()
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.fixture
def open_folder(tmp_path: Path) -> Path:
    """A folder that `nobody` can reach."""
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.getuid() and str(folder).startswith("/tmp/"):
            folder.chmod(0o755)
    return tmp_path


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_folder_that_may_not_be_written(open_folder: Path) -> None:
    def work() -> None:
        with FeatureCache(open_folder / "cache", EMBEDDER, WIDTH) as cache:
            for number in range(5):
                assert cache.get(key(number)) is None
                cache.put(key(number), vector(number))
        assert len(cache.notes) == 1, cache.notes
        assert "working without it" in cache.notes[0]
        assert feature_cache.size(open_folder / "cache")["images"] == 0

    as_nobody(work)
    assert list(open_folder.iterdir()) == []


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_read_only_cache_still_gives_hits(open_folder: Path) -> None:
    path = fill(open_folder / "cache", 5)
    path.chmod(0o644)
    path.parent.chmod(0o755)
    before = path.read_bytes()

    def work() -> None:
        assert found(path.parent, 5) == ([True] * 5, [])
        with FeatureCache(path.parent, EMBEDDER, WIDTH) as cache:
            cache.put(key(9), vector(9))
        assert len(cache.notes) == 1
        assert "readonly" in cache.notes[0]
        assert feature_cache.size(path.parent)["images"] == 5

    as_nobody(work)
    assert path.read_bytes() == before


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_unreadable_cache(open_folder: Path) -> None:
    path = fill(open_folder / "cache", 5)
    for mode, target in ((0o000, path), (0o700, path.parent)):
        target.chmod(mode)

        def work() -> None:
            hits, notes = found(path.parent, 5)
            assert not any(hits)
            assert len(notes) == 1
            feature_cache.size(path.parent)

        as_nobody(work)
    path.parent.chmod(0o755)
    path.chmod(0o644)
    assert found(path.parent, 5)[0] == [True] * 5


@pytest.mark.slow
def test_program_without_a_home(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home that is missing and cannot be made, even for root: the work is done, and the loss is told once."""
    monkeypatch.delenv("HEADSTART_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    done = headstart_cli("train", pictures, "--out", tmp_path / "run", HOME="/dev/null")
    assert done.code == 0, done.err
    assert done.err.count("feature cache") == 1
    assert "working without it" in done.err
    assert (tmp_path / "run" / "model.onnx").exists()
    for command in ("where", "size", "clear"):
        assert headstart_cli("cache", command, HOME="/dev/null").code == 0


# --- several processes ---------------------------------------------------------------------------------------------

MANY = """
    import sys
    from pathlib import Path
    import headstart
    from headstart.backbones.embedder import load_embedder
    from headstart.features import cache as feature_cache
    from headstart.features.extract import extract
    feature_cache.FLUSH_SECONDS = 0  # as many transactions as there are images
    source, cache = sys.argv[1:]
    embedder = load_embedder(headstart.Recipe(), Path(cache))
    sys.stdin.readline()  # all begin at once
    features = extract(
        headstart.read(source), embedder, headstart.Runtime(cache=Path(cache), workers=2), max_megapixels=64
    )
    assert not features.notes, features.notes
    sys.stdout.buffer.write(features.matrix.tobytes())
"""


def start(code: str, *arguments: Path | str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.mark.slow
def test_processes_on_one_cache(tmp_path: Path, cache: Path, embedder: Embedder) -> None:
    """Eight, two of which have the same images each; all get what they would get alone."""
    count = 8
    sources = [
        write_images(tmp_path / str(number), {"disc": 3, "noise": 3}, seed=100 * (number // 2))
        for number in range(count)
    ]
    processes = [start(MANY, source, cache) for source in sources]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(b"\n")
        process.stdin.flush()
    for source, process in zip(sources, processes, strict=True):
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err.decode()
        assert out == embed(source, embedder, None).matrix.tobytes()
    assert integrity(cache / FILE_NAME) == "ok"
    assert feature_cache.size(cache)["images"] == 6 * (count // 2)
    assert not list(cache.glob("*-journal"))
    for source in sources:
        assert embed(source, embedder, cache).cached == 6


KILLED = """
    import os, signal, sys
    from pathlib import Path
    import headstart
    from headstart.backbones.embedder import load_embedder
    from headstart.features import cache as feature_cache
    from headstart.features.extract import extract
    source, cache, number, flush = sys.argv[1:]
    feature_cache.FLUSH_SECONDS = float(flush)
    put, left = feature_cache.FeatureCache.put, int(number)
    def killing(self, *arguments):
        global left
        put(self, *arguments)
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
    feature_cache.FeatureCache.put = killing
    embedder = load_embedder(headstart.Recipe(), None)
    extract(headstart.read(source), embedder, headstart.Runtime(cache=Path(cache), workers=1), max_megapixels=64)
"""


@pytest.mark.parametrize(("number", "flush", "kept"), [(7, "0", 7), (7, "100", 0)])
def test_killed_while_embedding(
    pictures: Path, embedder: Embedder, cache: Path, number: int, flush: str, kept: int
) -> None:
    """What was written is used by the next run, and its result is that of a run that was not killed."""
    process = start(KILLED, pictures, cache, str(number), flush)
    process.communicate(timeout=60)
    assert process.returncode == -9
    resumed = embed(pictures, embedder, cache)
    assert resumed.cached == kept
    assert not resumed.notes
    np.testing.assert_array_equal(resumed.matrix, embed(pictures, embedder, None).matrix)
    assert integrity(cache / FILE_NAME) == "ok"


def test_locked_for_too_long(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that never ends its transaction does not stop the others."""
    monkeypatch.setattr(feature_cache, "WAIT_SECONDS", 0.05)
    path = fill(cache, 3)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        hits, notes = found(cache, 3)
        assert not any(hits)
        assert len(notes) == 1
        assert "locked" in notes[0]
        other.execute("ROLLBACK")
    assert found(cache, 3) == ([True] * 3, [])


# --- the commands --------------------------------------------------------------------------------------------------


def test_commands(pictures: Path, cache: Path, tmp_path: Path) -> None:
    assert headstart_cli("cache", "where").out == f"{cache}\n"
    assert headstart_cli("cache", "where", HEADSTART_CACHE="~/x").out == f"{Path.home() / 'x'}\n"
    assert headstart_cli("cache", "size", "--json").json == {
        "folder": str(cache), "images": 0, "embedders": 0, "bytes": 0,
    }  # fmt: skip
    assert list(cache.iterdir()) == []  # looking makes nothing
    headstart.train(pictures)
    held = headstart_cli("cache", "size", "--json").json
    assert held["images"] == 12
    assert held["embedders"] == 1
    assert held["bytes"] == sum(path.stat().st_size for path in cache.rglob("*") if path.is_file())
    words = headstart_cli("cache", "size").out
    assert "12 embeddings and 1 embedder" in words
    mine = [cache / "notes.txt", cache / "embedders" / "my.onnx", cache / "embedders" / "notes.txt", cache / "a.sqlite"]
    for path in mine:
        path.write_text("mine")
    killed = cache / "embedders" / f".{'0' * 32}-{'1' * 32}.onnx.0123456789ab.tmp"
    killed.write_text("half")
    done = headstart_cli("cache", "clear")
    assert done.code == 0
    assert "Deleted 12 embeddings" in done.out
    assert sorted(path for path in cache.rglob("*") if path.is_file()) == sorted(mine)
    assert headstart_cli("cache", "clear").code == 0
    assert headstart_cli("cache", "clear", HEADSTART_CACHE=str(tmp_path / "none")).code == 0
    assert not (tmp_path / "none").exists()


def test_size_of_a_damaged_cache_changes_nothing(cache: Path) -> None:
    path = cache / FILE_NAME
    for content in (b"", b"garbage" * 1000, b"SQLite format 3\0" + bytes(4080)):
        path.write_bytes(content)
        done = headstart_cli("cache", "size", "--json")
        assert done.code == 0
        assert done.json["images"] == 0
        assert path.read_bytes() == content
    path.unlink()
    path.mkdir()
    assert headstart_cli("cache", "size").code == 0
    done = headstart_cli("cache", "clear")
    assert done.code == 2
    assert "Traceback" not in done.err


def test_no_cache_option_writes_nothing(pictures: Path, cache: Path, tmp_path: Path) -> None:
    done = headstart_cli("train", pictures, "--no-cache", "--out", tmp_path / "run")
    assert done.code == 0
    assert list(cache.iterdir()) == []
    assert "cache" not in done.err


def test_evaluating_and_predicting_leave_the_cache_alone(model: Path, shapes: Path, cache: Path) -> None:
    assert headstart_cli("predict", model, shapes / "disc" / "000.png").code == 0
    assert headstart_cli("evaluate", model, shapes).code == 0
    assert headstart_cli("verify", model).code == 0
    assert list(cache.iterdir()) == []
