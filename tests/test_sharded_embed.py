"""`embed --out DIR`: the very embeddings of `embed`, in shards, of which nothing is lost and nothing computed twice."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import headstart as hs
from headstart.api.sharding import Shape
from headstart.core.digest import digest_bytes
from headstart.core.errors import OptionError, SourceError, StorageError
from headstart.features.sharded import run, work
from headstart.features.sharded.folder import ShardFolder, embedded, part_name
from headstart.features.sharded.growing import held
from helpers import headstart_cli, write_images

pytest.importorskip("pyarrow")
SMALL = Shape(shard_rows=10)


@pytest.fixture
def source(shapes: Path, tmp_path: Path) -> Path:
    """Shapes, of which one cannot be read."""
    shutil.copytree(shapes, tmp_path / "shapes")
    (tmp_path / "shapes" / "disc" / "003.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    return tmp_path / "shapes"


def rows(out: Path) -> list[dict[str, Any]]:
    folder = ShardFolder.open(out)
    folder.refuse_unfinished()
    return [row for batch in folder.batches() for row in batch.to_pylist()]


def contents(out: Path) -> dict[str, tuple[str, int]]:
    return {path.name: (digest_bytes(path.read_bytes()), path.stat().st_mtime_ns) for path in out.glob("part-*")}


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_shards_hold_what_embed_gives(dtype: str, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = headstart_cli("embed", source, "--out", out, "--shard-rows", "10", "--dtype", dtype, "--json")
    assert (done.code, done.json["images"], done.json["errors"], done.json["shards"]) == (3, 35, 1, 4)
    assert done.json["skipped"][0]["path"] == "disc/003.png"
    expected = hs.embed(source)
    matrix = np.concatenate([embedded(batch)[1] for batch in ShardFolder.open(out).batches()])
    np.testing.assert_array_equal(matrix, expected.features.astype(dtype).astype(np.float32))
    found = rows(out)
    assert [row["path"] for row in found] == sorted(row["path"] for row in found)
    assert [row["path"] for row in found if row["error"]] == ["disc/003.png"]
    assert [row["digest"] for row in found if row["error"] is None] == list(expected.digests)
    assert done.json["embedder"] == expected.embedder
    again = headstart_cli("embed", source, "--out", out, "--dtype", dtype, "--json")
    assert (again.code, again.json["computed"]) == (3, 0)
    assert "those of before are kept" in again.json["notes"][0]


def test_those_of_a_model_are_its_own(shapes: Path, model: Path, tmp_path: Path) -> None:
    hs.embed_into(shapes, tmp_path / "out", classifier=hs.load(model), shape=SMALL)
    matrix = np.concatenate([embedded(batch)[1] for batch in ShardFolder.open(tmp_path / "out").batches()])
    expected = hs.embed(shapes, classifier=hs.load(model))
    np.testing.assert_array_equal(matrix, expected.features)
    assert ShardFolder.open(tmp_path / "out").embedder == expected.embedder


def test_an_interrupted_run_goes_on(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hs.embed_into(source, tmp_path / "whole", shape=SMALL)
    out, written, write = tmp_path / "out", list[int](), work.write_part

    def interrupted(folder: Path, shard: int, table: Any) -> int:
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(shard)
        return write(folder, shard, table)

    with monkeypatch.context() as patch:
        patch.setattr(work, "write_part", interrupted)
        with pytest.raises(KeyboardInterrupt):
            hs.embed_into(source, out, shape=SMALL)
    with pytest.raises(SourceError, match="not finished: 2 of 4 shards"):
        ShardFolder.open(out).refuse_unfinished()
    before = contents(out)
    assert hs.embed_into(source, out, shape=SMALL).computed == 16
    after = contents(out)
    assert before.items() <= after.items()  # untouched
    assert {name: digest for name, (digest, _) in after.items()} == {
        name: digest for name, (digest, _) in contents(tmp_path / "whole").items()
    }


@pytest.mark.slow
def test_a_killed_process_loses_nothing(source: Path, cache: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "headstart", "embed", str(source), "--out", str(out), "--shard-rows", "2"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not list(out.glob("part-*.parquet")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = contents(out)
    (out / f".{part_name(9)}.0123456789ab.tmp").write_bytes(b"half")
    hs.embed_into(source, out, shape=Shape(shard_rows=2))
    assert before
    assert before.items() <= contents(out).items()
    assert len({row["path"] for row in rows(out)}) == len(rows(out)) == 36
    assert sorted(path.name for path in out.iterdir() if path.name.startswith(".")) == [".headstart"]


def test_one_process_writes_and_the_other_is_told_who(shapes: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with held(out), pytest.raises(StorageError, match=f"is being written by process {os.getpid()} on .*, since 20"):
        hs.embed_into(shapes, out)
    hs.embed_into(shapes, out)


def test_a_changed_source_is_noticed(shapes: Path, tmp_path: Path) -> None:
    source, out = tmp_path / "shapes", tmp_path / "out"
    shutil.copytree(shapes, source)
    hs.embed_into(source, out, shape=SMALL)
    before = contents(out)
    write_images(source, {"zebra": 3}, seed=9)
    written = hs.embed_into(source, out, shape=SMALL)
    assert written.computed == 9  # the last shard, which had six rows
    assert any("has changed since" in note and "3 shards of 4 can be kept" in note for note in written.notes)
    kept = {part_name(shard): before[part_name(shard)] for shard in range(3)}
    assert kept.items() <= contents(out).items()
    shutil.rmtree(source / "zebra")
    shutil.rmtree(source / "stripes")
    assert hs.embed_into(source, out, shape=SMALL).folder.description.shards == 3
    assert sorted(contents(out)) == [part_name(shard) for shard in range(3)]
    assert {row["label"] for row in rows(out)} == {"disc", "noise"}


def test_another_content_is_refused(shapes: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    hs.embed_into(shapes, out)
    before = contents(out)
    with pytest.raises(StorageError, match=r"made with another dtype \(float32, now float16\)"):
        hs.embed_into(shapes, out, shape=Shape("float16"))
    with pytest.raises(StorageError, match="made with another embedder"):
        hs.embed_into(shapes, out, classifier=hs.load(model))
    assert contents(out) == before
    hs.embed_into(shapes, out, shape=Shape("float16"), overwrite=True)
    assert ShardFolder.open(out).description.made["dtype"] == "float16"
    assert len(rows(out)) == 36


def test_what_does_not_fit_into_half_precision_is_an_error_of_the_image(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = work.Look.__call__
    far = lambda self, row: look(self, row)._replace(embedding=np.full(1280, 1e5, np.float32))  # noqa: E731
    huge = lambda self, row: far(self, row) if row.path == "disc/001.png" else look(self, row)  # noqa: E731
    monkeypatch.setattr(work.Look, "__call__", huge)
    written = hs.embed_into(shapes, tmp_path / "out", shape=Shape("float16"))
    assert [(skip.path, skip.reason) for skip in written.skipped] == [
        ("disc/001.png", "its embedding holds values that are not finite in float16")
    ]


def test_bad_input(shapes: Path, source: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(StorageError, match=r"holds other files: 'letter\.txt'"):
        hs.embed_into(shapes, tmp_path / "mine")
    with pytest.raises(SourceError, match=r"disc/003\.png.*without --strict"):
        hs.embed_into(source, tmp_path / "strict", runtime=hs.Runtime(strict=True))
    with pytest.raises(OptionError, match="no dtype 'int8'"):
        Shape("int8")
    with pytest.raises(OptionError, match="Shards of 0 images"):
        Shape(shard_rows=0)
    bad = tmp_path / "bad"
    for label in "ab":
        (bad / label).mkdir(parents=True)
        (bad / label / "1.jpg").write_bytes(b"\xff\xd8\xff no")
    with pytest.raises(SourceError, match="None of the 2 files"):
        hs.embed_into(bad, tmp_path / "none")
    done = headstart_cli("embed", shapes, "--out", tmp_path / "e.npz", "--dtype", "float16")
    assert (done.code, "--dtype is about a folder" in done.err) == (2, True)
    done = headstart_cli("embed", shapes, "--out", tmp_path / "e", "--address", "auto")
    assert (done.code, "Give --on ray too" in done.err) == (2, True)


def test_errors_beyond_those_shown_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "SHOWN", 2)
    source = write_images(tmp_path / "s", {"disc": 8, "noise": 2})
    for number in range(5):
        (source / "disc" / f"{number:03}.png").write_bytes(b"no")
    written = hs.embed_into(source, tmp_path / "out", shape=Shape(shard_rows=3))
    assert (written.errors, len(written.skipped), len(written)) == (5, 2, 10)


@pytest.mark.slow
def test_a_description_says_how_to_build_the_embedder_again(shapes: Path, tmp_path: Path) -> None:
    hs.embed_into(shapes, tmp_path / "out", recipe=hs.Recipe(precision="float32"))
    made = json.loads((tmp_path / "out" / "embeddings.json").read_text())["made"]
    assert hs.embed(shapes, recipe=hs.Recipe.from_dict(made["recipe"])).embedder == made["embedder"]


def test_what_the_page_says_is_run(shapes: Path, tmp_path: Path) -> None:
    page = (Path(__file__).parent.parent / "docs" / "scale.md").read_text("utf-8")
    (tmp_path / "photos").symlink_to(shapes)
    commands = re.findall(r"^headstart (embed .*?)(?: +#.*)?$", page, re.MULTILINE)
    here = [command for command in commands if "--on ray" not in command and "://" not in command]
    assert here == ["embed photos/ --out embeddings/"]
    assert headstart_cli(*shlex.split(commands[0]), cwd=tmp_path).code == 0
    (code,) = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    found: dict[str, Any] = {}
    with contextlib.chdir(tmp_path):
        exec(code, found)
    assert found["matrix"].shape == (36, 1280)
