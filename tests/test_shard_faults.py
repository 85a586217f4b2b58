"""A folder of embeddings that is damaged, mixed or of a later version: one error, or mended by `embed`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from headstart.features.sharded.folder import part_name
from helpers import Result, headstart_cli, write_images
from sharding import write_embeddings

pytest.importorskip("pyarrow")
DAMAGED = part_name(1)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("drawn"), {"disc": 12, "noise": 12})


@pytest.fixture(scope="module")
def whole(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("embedded") / "whole"
    assert headstart_cli("embed", images, "--out", folder, "--shard-rows", "10").code == 0
    return folder


@pytest.fixture(scope="module")
def others(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same images, by another embedder."""
    return write_embeddings(images, tmp_path_factory.mktemp("embedded") / "others", rows=10, embedder="cd" * 32)


def missing(folder: Path, others: Path) -> None:
    (folder / DAMAGED).unlink()


def cut_short(folder: Path, others: Path) -> None:
    content = (folder / DAMAGED).read_bytes()
    (folder / DAMAGED).write_bytes(content[: len(content) // 2])


def mixed(folder: Path, others: Path) -> None:
    shutil.copy(others / DAMAGED, folder / DAMAGED)


def bit_flipped(folder: Path, others: Path) -> None:
    content = bytearray((folder / DAMAGED).read_bytes())
    content[len(content) // 2] ^= 4
    (folder / DAMAGED).write_bytes(content)


def later(folder: Path, others: Path) -> None:
    file = folder / "embeddings.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"version": 2}))


def torn(folder: Path, others: Path) -> None:
    file = folder / "embeddings.json"
    file.write_text(file.read_text()[:100])


Damage = Callable[[Path, Path], None]


def one_error(done: Result, says: str, advice: str) -> None:
    """A line of what is wrong and a line of what to do, and nothing of a traceback."""
    assert done.code == 2, done.err
    assert says in done.err
    assert advice in done.err
    assert done.err.count("Error:") == 1
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("damage", "says", "advice"),
    [
        (missing, "is not finished: 1 of 3 shards are missing or damaged", "Run the command that wrote it again"),
        (cut_short, "is not finished: 1 of 3 shards are missing or damaged", "Run the command that wrote it again"),
        (mixed, "is mixed: 1 of 3 shards were made with something else", "Run the command that wrote it again"),
        (bit_flipped, f"'{DAMAGED}' in ", "Delete this file. Run the command that wrote it again"),
        (later, "has the form 2; this version of Headstart reads forms up to 1", "pip install -U headstart"),
        (torn, "is damaged", "Write the folder again, with --overwrite"),
    ],
)
@pytest.mark.parametrize("command", ["train", "check"])
def test_train_and_check_say_what_is_wrong(
    command: str, damage: Damage, says: str, advice: str, whole: Path, others: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "embedded"
    shutil.copytree(whole, folder)
    damage(folder, others)
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    written = tmp_path / "written"
    done = headstart_cli(command, folder, *(["--out", written] if command == "train" else ["--fix-list", written]))
    one_error(done, says, advice)
    assert not written.exists()
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


@pytest.mark.parametrize("damage", [missing, cut_short, mixed])
def test_embed_mends_a_shard(damage: Damage, images: Path, whole: Path, others: Path, tmp_path: Path) -> None:
    folder = tmp_path / "embedded"
    shutil.copytree(whole, folder)
    damage(folder, others)
    done = headstart_cli("embed", images, "--out", folder, "--json")
    assert (done.code, done.json["computed"]) == (0, 10)
    for path in whole.glob("part-*"):
        assert (folder / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("damage", "says", "advice"),
    [
        (later, "has the form 2; this version of Headstart reads forms up to 1", "--overwrite"),
        (torn, "is damaged", "--overwrite"),
    ],
)
def test_embed_replaces_nothing_that_it_cannot_read(
    damage: Damage, says: str, advice: str, images: Path, whole: Path, others: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "embedded"
    shutil.copytree(whole, folder)
    damage(folder, others)
    before = {path.name: path.read_bytes() for path in folder.glob("*.*")}
    one_error(headstart_cli("embed", images, "--out", folder), says, advice)
    assert {path.name: path.read_bytes() for path in folder.glob("*.*")} == before
