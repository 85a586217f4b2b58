"""A folder of shards: what is written is read back exactly, and what is missing, damaged or mixed is found out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from headstart.core import marks
from headstart.core.errors import SourceError
from headstart.data.traits import Traits
from headstart.features.sharded.description import Description
from headstart.features.sharded.embedding_rows import Found, schema, table_of
from headstart.features.sharded.folder import ShardFolder, embedded, part_name, traits_of
from headstart.features.sharded.plan import Plan, Reference
from headstart.features.sharded.writing import part_metadata, write_description, write_part

pytest.importorskip("pyarrow")
IMAGES, WIDTH, ROWS = 25, 8, 10
REFERENCES = [Reference(f"{'ab'[n % 2]}/{n:03}.jpg", "ab"[n % 2], group=f"g{n}") for n in range(IMAGES)]
PLAN = Plan(REFERENCES, ROWS)
FEATURES = np.random.default_rng(0).normal(size=(IMAGES, WIDTH)).astype(np.float32)


def traits(number: int) -> Traits:
    return Traits(number + 1, 20, "JPEG", 100, "Ca\u00f1on", 0.1, 2.5, 1 / 3, bytes([number]) * 1024, 5)


def unreadable(number: int) -> bool:
    return number % 7 == 0


def write(folder: Path, dtype: str = "float32", **other: object) -> ShardFolder:
    made = {"network": "lite0", "embedder": "ab" * 32, "width": WIDTH, "dtype": dtype, **other}
    description = Description(
        kind="embeddings", made=made, task="classes", classes=("a", "b"), source="photos", images=IMAGES,
        shard_rows=ROWS, references=PLAN.references_digest, headstart="0.1.0",
    )  # fmt: skip
    folder.mkdir(exist_ok=True)
    write_description(folder, description)
    for shard in PLAN:
        found = [
            "no image" if unreadable(number) else Found(f"{number:064x}", traits(number), FEATURES[number])
            for number in range(shard * ROWS, min(IMAGES, (shard + 1) * ROWS))
        ]
        form = schema(WIDTH, dtype, part_metadata(description, shard, PLAN.digests[shard]))
        write_part(folder, shard, table_of(PLAN.shard(shard), found, form))
    return ShardFolder(folder, description)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_what_is_written_is_read(dtype: str, tmp_path: Path) -> None:
    written = write(tmp_path, dtype)
    found = ShardFolder.open(tmp_path)
    found.refuse_unfinished()
    assert found == written
    number = 0
    for batch in found.batches():
        rows, matrix = embedded(batch)
        assert matrix.dtype == np.float32
        assert (rows + number).tolist() == [n for n in range(number, number + batch.num_rows) if not unreadable(n)]
        np.testing.assert_array_equal(matrix, FEATURES[rows + number].astype(dtype).astype(np.float32))
        for row in batch.to_pylist():
            reference = REFERENCES[number]
            assert [row[name] for name in ("path", "label", "split", "group")] == reference.named()[:4]
            assert row["error"] == ("no image" if unreadable(number) else None)
            expected = None if unreadable(number) else traits(number)
            assert traits_of(row["traits"], row["width"], row["height"]) == expected
            number += 1
    assert number == len(found) == IMAGES
    parts = [batch.schema.names for batch in found.batches(["path", "traits.fingerprint"], first=1, last=2)]
    assert parts == [["path", "traits"]]


def test_headstart_knows_its_own_files(tmp_path: Path) -> None:
    write(tmp_path)
    assert all(marks.is_ours(path.name, path.read_bytes()) for path in tmp_path.glob("part-*"))
    assert marks.names_in((tmp_path / marks.LIST).read_bytes()) == {"embeddings.json"}


def _without_a_part(folder: Path) -> None:
    (folder / part_name(1)).unlink()


def _cut_short(folder: Path) -> None:
    path = folder / part_name(1)
    path.write_bytes(path.read_bytes()[:-100])


def _other_embedder(folder: Path) -> None:
    content = (folder / part_name(2)).read_bytes()
    write(folder, embedder="cd" * 32)
    (folder / part_name(2)).write_bytes(content)


def _swapped(folder: Path) -> None:
    (folder / part_name(0)).write_bytes((folder / part_name(1)).read_bytes())


def _other_source(folder: Path) -> None:
    path = folder / "embeddings.json"
    path.write_text(path.read_text().replace(PLAN.references_digest, "0" * 64))


def _later(folder: Path) -> None:
    path = folder / "embeddings.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": 2}))


def _torn(folder: Path) -> None:
    (folder / "embeddings.json").write_text('{"headstart": "embeddings"')


def _of_predictions(folder: Path) -> None:
    path = folder / "embeddings.json"
    path.write_text(path.read_text().replace('"headstart": "embeddings"', '"headstart": "predictions"'))


def _none(folder: Path) -> None:
    (folder / "embeddings.json").unlink()


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (_without_a_part, "is not finished: 1 of 3 shards are missing or damaged"),
        (_cut_short, "is not finished: 1 of 3 shards"),
        (_other_embedder, "is mixed: 1 of 3 shards were made with something else"),
        (_swapped, "is mixed: 1 of 3 shards"),
        (_other_source, "another state of the source"),
        (_later, "has the form 2; this version of Headstart reads forms up to 1"),
        (_torn, "is damaged"),
        (_of_predictions, "holds predictions; expected embeddings"),
        (_none, "is no folder of embeddings"),
    ],
)
def test_what_is_wrong_with_a_folder_is_said(damage: Callable[[Path], None], says: str, tmp_path: Path) -> None:
    write(tmp_path)
    damage(tmp_path)
    with pytest.raises(SourceError, match=says):
        ShardFolder.open(tmp_path).refuse_unfinished()


def test_a_changed_byte_of_a_shard_is_found(tmp_path: Path) -> None:
    folder = write(tmp_path)
    path = tmp_path / part_name(0)
    content = bytearray(path.read_bytes())
    content[150] ^= 1
    path.write_bytes(content)
    with pytest.raises(SourceError, match="is damaged"):
        list(folder.batches())
