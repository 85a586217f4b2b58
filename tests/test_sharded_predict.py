"""`predict --out DIR`: the records of `predict`, in shards that are gone on with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import headstart as hs
from headstart.core.errors import SourceError, StorageError
from headstart.data.inputs import expand
from headstart.features.sharded.folder import ShardFolder, part_name
from headstart.prediction.record import Wanted
from helpers import draw, headstart_cli, write_images

pytest.importorskip("pyarrow")
ASKED = ("--coverage", "0.9", "--abstain")


@pytest.fixture(scope="module")
def new(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight images, of which one cannot be read and one has a name that no cell holds as it is."""
    folder = write_images(tmp_path_factory.mktemp("new"), {"disc": 3, "noise": 3}, seed=40)
    (folder / "broken.jpg").write_bytes(b"no image")
    draw("stripes", 41).save(folder / "=1,\n.png")
    return folder


def rows(out: Path) -> list[dict[str, Any]]:
    folder = ShardFolder.open(out, "predictions")
    folder.refuse_unfinished()
    return [row for batch in folder.batches() for row in batch.to_pylist()]


def test_shards_hold_the_records(new: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    printed = headstart_cli("predict", model, new, "--format", "jsonl", *ASKED)
    done = headstart_cli("predict", model, new, "--out", out, "--shard-rows", "3", *ASKED, "--json")
    assert (done.code, done.json["images"], done.json["errors"], done.json["shards"]) == (3, 7, 1, 3)
    assert done.json["model"] == ShardFolder.open(out, "predictions").description.made["model"]
    assert any("coverage" in note for note in done.json["notes"])
    expected = sorted((json.loads(line) for line in printed.out.splitlines()), key=lambda record: record["path"])
    keys = {key for record in expected for key in record}
    assert rows(out) == [{key: record.get(key) for key in keys} for record in expected]
    headstart_cli("predict", model, new, "--out", tmp_path / "file.parquet", *ASKED)
    import pyarrow.parquet as pq

    file = pq.read_schema(tmp_path / "file.parquet")
    assert pq.read_schema(out / part_name(0)).equals(file)  # all but the metadata
    said = headstart_cli("predict", model, new, "--out", out, *ASKED)
    assert (said.code, "7 predictions, in 3 shards. 8 rows were there already." in said.out) == (3, True), said.out


def test_what_is_there_is_kept_and_what_is_not_is_made_again(new: Path, model: Path, tmp_path: Path) -> None:
    out, classifier = tmp_path / "out", hs.load(model)
    hs.predict_into(classifier, new, out, shard_rows=3)
    before = {path.name: path.read_bytes() for path in out.glob("part-*")}
    (out / part_name(1)).unlink()
    (out / part_name(2)).write_bytes(before[part_name(2)][:-40])
    with pytest.raises(SourceError, match="not finished: 2 of 3 shards"):
        rows(out)
    assert hs.predict_into(classifier, new, out).computed == 5
    assert {path.name: path.read_bytes() for path in out.glob("part-*")} == before
    table = expand([str(new)])
    assert (
        hs.predict_into(classifier, table, tmp_path / "other", shard_rows=3, runtime=hs.Runtime(workers=3)).errors == 1
    )
    assert {path.name: path.read_bytes() for path in (tmp_path / "other").glob("part-*")} == before


def test_another_content_is_refused(new: Path, model: Path, tmp_path: Path) -> None:
    out, classifier = tmp_path / "out", hs.load(model)
    hs.predict_into(classifier, new, out)
    with pytest.raises(StorageError, match=r"made with another top \(3, now 1\)"):
        hs.predict_into(classifier, new, out, wanted=Wanted.of(classifier, 1, coverage=None))
    with pytest.raises(StorageError, match=r"holds other files: .*'predictions\.json'"):
        hs.embed_into(new, out)
    with pytest.raises(SourceError, match="is no folder of embeddings"):
        ShardFolder.open(out)
    about = json.loads((out / "predictions.json").read_text())
    (out / "predictions.json").write_text(json.dumps({**about, "version": 99}))
    with pytest.raises(StorageError, match="has the form 99; this version of Headstart reads forms up to 1"):
        hs.predict_into(classifier, new, out)
    assert hs.predict_into(classifier, new, out, overwrite=True).computed == 8


def test_bad_input(new: Path, model: Path, tmp_path: Path) -> None:
    def refused(*command: object) -> str:
        done = headstart_cli("predict", model, new, *command)
        assert done.code == 2, done.err
        return done.err

    assert "--sort-into goes with a file" in refused("--out", tmp_path / "out", "--sort-into", tmp_path / "sorted")
    assert "--on is about a folder of shards" in refused("--out", tmp_path / "p.csv", "--on", "ray")
    assert "--shard-rows is about a folder of shards" in refused("--shard-rows", "5")
    assert "Shards of 0 images" in refused("--out", tmp_path / "out", "--shard-rows", "0")
    assert "Give --on ray too" in refused("--out", tmp_path / "out", "--address", "auto")
    assert not (tmp_path / "out").exists()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "1.jpg").write_bytes(b"no")
    done = headstart_cli("predict", model, tmp_path / "bad", "--out", tmp_path / "none")
    assert (done.code, "None of the 1 file" in done.err) == (2, True), done.err
