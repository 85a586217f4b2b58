"""Sources behind URLs and in tar files: what a folder of the same images gives, whatever the network does meanwhile."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import headstart as hs
from headstart.api.sharding import Shape
from headstart.core.errors import ImageError, OfflineError, SourceError
from headstart.data import urls
from headstart.data.ahead import AT_ONCE, ahead
from headstart.data.inputs import expand
from headstart.data.tarsets import TarSet
from headstart.data.urls import UrlStorage
from headstart.features.sharded.folder import ShardFolder, embedded
from helpers import headstart_cli, write_images
from s3server import VARIABLES, Server, serving

fsspec = pytest.importorskip("fsspec")
pytest.importorskip("s3fs")
pytest.importorskip("moto")
pyarrow = pytest.importorskip("pyarrow")
# aiohttp leaves its connections to the garbage collector.
pytestmark = [pytest.mark.filterwarnings("default::ResourceWarning"),
              pytest.mark.filterwarnings("default::pytest.PytestUnraisableExceptionWarning")]  # fmt: skip


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes, of which one image cannot be read, and what systems leave in folders."""
    folder = write_images(tmp_path_factory.mktemp("images"), {"disc": 5, "noise": 6})
    (folder / "disc" / "003.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    (folder / "noise" / "005.png").write_bytes(b"")
    (folder / ".DS_Store").write_bytes(b"litter")
    return folder


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as found:
        yield found


@pytest.fixture
def s3(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """The server as the environment names it, without faults before and after."""
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
    monkeypatch.setattr(urls, "WAITS_SECONDS", (0.01, 0.01))
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    faults = server.faults
    fresh = dict(vars(type(faults)()))
    vars(faults).update(fresh)
    yield server
    vars(faults).update(fresh)


@pytest.fixture
def memory() -> Iterator[Any]:
    """A filesystem of fsspec in this process."""
    found = fsspec.filesystem("memory")
    found.store.clear()
    found.pseudo_dirs[:] = [""]
    yield found
    found.store.clear()


def put(memory: Any, folder: Path, prefix: str) -> None:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            memory.pipe_file(f"/{prefix}/{path.relative_to(folder).as_posix()}", path.read_bytes())


def told(table: hs.ImageTable) -> list[tuple[Any, ...]]:
    return [(row.path, row.label, row.split, row.group) for row in table.rows]


def tar_of(files: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return content.getvalue()


def samples(images: Path, **label: str) -> dict[str, bytes]:
    """The images as samples: ``disc000.png`` beside ``disc000.cls``."""
    files: dict[str, bytes] = {}
    for path in sorted(images.glob("*/*.png")):
        key = f"{path.parent.name}{path.stem}"
        files[f"{key}.png"] = path.read_bytes()
        files[f"{key}.cls"] = path.parent.name.encode()
    return files


def test_a_prefix_is_read_as_its_folder_is(images: Path, memory: Any) -> None:
    put(memory, images, "photos")
    found, expected = hs.read("memory://photos/"), hs.read(images)
    assert told(found) == told(expected)
    assert found.ignored == expected.ignored == 1
    assert all(found.storage.read(row.path) == expected.storage.read(row.path) for row in expected.rows)
    assert hs.read("memory://photos").classes == expected.classes
    assert [row.path for row in expand(["memory://photos"]).rows] == [row.path for row in expected.rows]
    assert hs.read(f"file://{images}").rows == expected.rows
    assert expand([f"file://{images}/disc"]).rows == expand([str(images / "disc")]).rows
    with pytest.raises(SourceError, match="names another machine"):
        hs.read("file://elsewhere/photos")


def test_lists_behind_a_url(images: Path, memory: Any) -> None:
    put(memory, images, "photos")
    lines = "".join(f"{path.relative_to(images)},{path.parent.name}\n" for path in sorted(images.glob("*/*.png")))
    memory.pipe_file("/photos/labels.csv", f"path,label\n{lines}gone.png,disc\n".encode())
    found = hs.read("memory://photos/labels.csv")
    assert told(found) == [*told(hs.read(images)), ("gone.png", "disc", None, None)]
    with pytest.raises(ImageError, match="file not found"):
        found.storage.read("gone.png")
    with pytest.raises(SourceError, match="--root is about a list on a disk"):
        hs.read("memory://photos/labels.csv", columns=hs.Columns(root=images))


def test_parquet_behind_a_url_is_read_in_parts(images: Path, memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow.parquet as pq

    paths = sorted(images.glob("*/*.png"))
    rows = [{"image": {"bytes": path.read_bytes(), "path": path.name}, "label": path.parent.name} for path in paths]
    other = np.random.default_rng(0).bytes(11 * 2**20)
    table = pyarrow.Table.from_pylist([row | {"other": other[n << 20 : (n + 1) << 20]} for n, row in enumerate(rows)])
    content = io.BytesIO()
    pq.write_table(table, content, row_group_size=4, compression="none", use_dictionary=False)
    memory.pipe_file("/set/train.parquet", content.getvalue())
    fetched: list[int] = []
    part = UrlStorage.part
    counted = lambda self, *where: (fetched.append(where[2]), part(self, *where))[1]  # noqa: E731
    monkeypatch.setattr(UrlStorage, "part", counted)
    monkeypatch.setattr(UrlStorage, "read", lambda self, path: pytest.fail("read whole"))
    for source in ("memory://set/train.parquet", "memory://set"):
        found = hs.read(source, columns=hs.Columns(path="image"))
        assert [row.label for row in found.rows] == [row["label"] for row in rows]
        assert [found.storage.read(row.path) for row in found.rows[:5]] == [row["image"]["bytes"] for row in rows[:5]]
    assert sum(fetched) < 3 * 2**20  # of which two are the ends of the file, where it would say that it is ours


def test_tars_of_samples(images: Path, memory: Any, tmp_path: Path) -> None:
    files = samples(images)
    names = [name for name in files if name.endswith(".png")]
    first, second = names[:6], names[6:]
    for place, some in (("train-0.tar", first), ("val-0.tar", second)):
        held = {name: files[name] for key in some for name in (key, key.replace(".png", ".cls"))}
        content = tar_of({**held, "alone.cls": b"x", "readme.md": b"about", "._x.png": b"litter"})
        memory.pipe_file(f"/shards/{place}", content)
        (tmp_path / place).write_bytes(content)
    expected = [(f"train-0.tar/{name}", name[:-7], "train", None) for name in first]
    expected += [(f"val-0.tar/{name}", name[:-7], "val", None) for name in second]
    for source in ("memory://shards/", tmp_path):
        found = hs.read(source)
        assert told(found) == expected
        assert [found.storage.read(row.path) for row in found.rows] == [files[name] for name in names]
        assert sorted(skip.reason for skip in found.skipped) == ["a sample without an image"] * 2 + ["no image"] * 2
        assert found.ignored == 2
        assert "Read as WebDataset, of 2 tar files" in found.notes[0]
    one = hs.read("memory://shards/train-0.tar")
    assert told(one) == told(hs.read(tmp_path / "train-0.tar")) == [(*row[:2], None, None) for row in expected[:6]]
    unlabelled = expand([str(tmp_path / "val-0.tar")])
    assert [row.path for row in unlabelled.rows] == [row[0] for row in expected[6:]] + ["val-0.tar/readme.md"]


def test_labels_of_samples(images: Path, memory: Any) -> None:
    png = next(images.glob("*/*.png")).read_bytes()
    files: dict[str, bytes] = {}
    for number in range(6):
        about = {"label": "ab"[number % 2], "group": f"g{number // 2}", "size": [1, 2]}
        files |= {f"x/{number}.png": png, f"x/{number}.json": json.dumps(about).encode()}
    memory.pipe_file("/some/one.tar", tar_of(files))
    found = hs.read("memory://some/one.tar")
    assert told(found)[:2] == [("one.tar/x/0.png", "a", None, "g0"), ("one.tar/x/1.png", "b", None, "g0")]
    by_group = hs.read("memory://some/one.tar", columns=hs.Columns(label="group"))
    assert by_group.classes == ("g0", "g1", "g2")


def test_class_folders_in_a_tar_behind_a_url(images: Path, memory: Any, tmp_path: Path) -> None:
    content = tar_of({f"set/{path.relative_to(images)}": path.read_bytes() for path in images.glob("*/*.png")})
    memory.pipe_file("/some/set.tar", content)
    (tmp_path / "set.tar").write_bytes(content)
    found, expected = hs.read("memory://some/set.tar"), hs.read(tmp_path / "set.tar")
    assert told(found) == told(expected) == told(hs.read(images))
    assert all(found.storage.read(row.path) == expected.storage.read(row.path) for row in expected.rows)


def test_damaged_and_packed_tars(memory: Any, images: Path) -> None:
    import gzip

    content = tar_of(samples(images))
    memory.pipe_file("/some/packed.tar", gzip.compress(content))
    memory.pipe_file("/some/cut.tar", content[: len(content) // 2])
    memory.pipe_file("/some/empty.tar", b"")
    for name in ("packed", "cut", "empty"):
        with pytest.raises(SourceError, match=rf"'{name}\.tar' is not a readable tar file"):
            hs.read(f"memory://some/{name}.tar")
    memory.pipe_file("/some/later.tar", content)
    found = hs.read("memory://some/later.tar")
    assert isinstance(found.storage, TarSet)
    memory.pipe_file("/some/later.tar", content[:3000])
    with pytest.raises(ImageError, match=r"the tar file declares [\d,]+ bytes and holds"):
        found.storage.read(found.rows[-2].path)


def same_as_local(out: Path, images: Path) -> None:
    """That a folder holds what `embed` gives of the images."""
    expected = hs.embed(images)
    folder = ShardFolder.open(out)
    folder.refuse_unfinished()
    rows = [row for batch in folder.batches(["path", "label", "error"]) for row in batch.to_pylist()]
    assert [row["path"] for row in rows] == sorted(path.relative_to(images).as_posix() for path in images.glob("*/*"))
    assert [row["path"] for row in rows if row["error"] is None] == [row.path for row in expected.table.rows]
    matrix = np.concatenate([embedded(batch)[1] for batch in folder.batches()])
    np.testing.assert_array_equal(matrix, expected.features)


@pytest.mark.slow
def test_an_endpoint_with_faults_changes_nothing(s3: Server, images: Path, tmp_path: Path) -> None:
    s3.put_folder("faulty", images, "photos/")
    s3.put("faulty", {"photos/disc/": b""})  # as consoles mark a folder
    s3.faults.fail_every, s3.faults.cut_every, s3.faults.seconds = 10, 7, 0.02
    done = headstart_cli("embed", "s3://faulty/photos/", "--out", tmp_path / "out", "--shard-rows", "4", "--json")
    assert (done.code, done.json["images"], done.json["errors"]) == (3, 9, 2), done.err
    assert s3.faults.injected >= 3
    same_as_local(tmp_path / "out", images)
    assert {skip["path"]: skip["reason"] for skip in done.json["skipped"]}["noise/005.png"] == "empty file"


@pytest.mark.slow
def test_images_are_fetched_before_they_are_asked_for(s3: Server, images: Path, tmp_path: Path) -> None:
    s3.put_folder("far-away", images)
    s3.faults.seconds = 0.1
    runtime = hs.Runtime(workers=1)
    hs.embed_into("s3://far-away", tmp_path / "out", shape=Shape(shard_rows=11), runtime=runtime)
    assert s3.faults.most >= 8  # at once, for a single worker
    same_as_local(tmp_path / "out", images)


def test_no_more_is_fetched_than_fits() -> None:
    asked: list[str] = []

    class Far(UrlStorage):
        def read(self, path: str) -> bytes:
            asked.append(path)
            return path.encode()

    paths = [str(number) for number in range(50)]
    with ahead(Far("s3://bucket"), paths, 1) as storage:
        assert storage.read("0") == b"0"
        assert storage.read("30") == b"30"  # out of turn
        for path in paths[1:30]:
            assert storage.read(path) == path.encode()
        assert set(asked) <= set(paths[: 30 + AT_ONCE + 1])
        assert storage.read("0") == b"0"  # a second time
    assert {path for path in asked if asked.count(path) > 1} == {"0"}


@pytest.mark.slow
def test_what_one_object_does_not_give_is_its_own_row(
    s3: Server, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fsspec.get_filesystem_class("s3"), "retries", 2)
    s3.put_folder("odd-objects", images)
    s3.faults.broken, s3.faults.short = {"disc/000.png"}, {"noise/001.png"}
    table = hs.read("s3://odd-objects")
    s3.delete("odd-objects", "noise/002.png")
    written = hs.embed_into(table, tmp_path / "out", shape=Shape(shard_rows=4))
    reasons = {skip.path: skip.reason for skip in written.skipped}
    assert reasons.keys() == {"disc/000.png", "disc/003.png", "noise/001.png", "noise/002.png", "noise/005.png"}
    assert reasons["disc/000.png"].startswith("not given by the storage in 3 tries: ")
    assert reasons["noise/001.png"].startswith("not given by the storage in 3 tries: Response payload is not completed")
    assert reasons["noise/002.png"] == "file not found"
    assert len(written) == 11


@pytest.mark.slow
def test_a_storage_that_is_gone_ends_the_run_which_goes_on_later(
    s3: Server, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fsspec.get_filesystem_class("s3"), "retries", 1)
    s3.put_folder("outage", images)
    table, out = hs.read("s3://outage"), tmp_path / "out"
    s3.faults.seen = lambda path: setattr(s3.faults, "down", s3.faults.down or path.endswith("noise/001.png"))
    with pytest.raises(OfflineError, match=r"'s3://outage' does not answer: .*: what was written is kept"):
        hs.embed_into(table, out, shape=Shape(shard_rows=2), runtime=hs.Runtime(workers=1))
    before = {path.name: path.read_bytes() for path in out.glob("part-*")}
    assert len(before) in {3, 4}  # the other image of its shard was under way
    s3.faults.seen, s3.faults.down = lambda path: None, False
    assert hs.embed_into(table, out, shape=Shape(shard_rows=2)).computed == 11 - 2 * len(before)
    assert before.items() <= {path.name: path.read_bytes() for path in out.glob("part-*")}.items()
    same_as_local(out, images)


@pytest.mark.slow
def test_no_one_may_or_can_read_it(s3: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    s3.put("empty-bucket", {})

    def refused(source: str) -> str:
        done = headstart_cli("embed", source, "--out", tmp_path / "out")
        assert done.code == 2, done.err
        assert not (tmp_path / "out" / "embeddings.json").exists()
        return done.err

    assert "There is no file below 's3://empty-bucket'" in refused("s3://empty-bucket/")
    assert "There is nothing at 's3://empty-bucket/no/such'" in refused("s3://empty-bucket/no/such")
    assert "The specified bucket does not exist" in refused("s3://no-such-bucket/photos/")
    assert "names no bucket" in refused("s3://")
    assert "Protocol not known: nonsense" in refused("nonsense://bucket/photos")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    assert "no credentials found" in (words := refused("s3://empty-bucket/"))
    assert "AWS_ACCESS_KEY_ID" in words
    with pytest.raises(SourceError, match="is a URL among other paths"):
        expand(["s3://empty-bucket/", "photo.jpg"])


@pytest.mark.slow
def test_nobody_listens_at_the_endpoint(s3: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fsspec.get_filesystem_class("s3"), "retries", 1)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(OfflineError, match="does not answer: Could not connect to the endpoint"):
        hs.read("s3://bucket/photos")


@pytest.mark.slow
def test_credentials_that_end_meanwhile_are_no_fault_of_the_images(
    s3: Server, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3.put_folder("closing", images)
    table = hs.read("s3://closing")
    before = s3.faults.requests
    assert table.storage.read("noise/001.png") == (images / "noise" / "001.png").read_bytes()
    assert s3.faults.requests == before + 1
    system = table.storage._system[0]  # type: ignore[attr-defined]

    def expired(*given: Any, **named: Any) -> Any:
        raise PermissionError("The provided token has expired")

    monkeypatch.setattr(system, "cat_file", expired)
    with pytest.raises(ImageError, match="no permission to read"):  # the storage still answers
        table.storage.read("disc/000.png")
    monkeypatch.setattr(system, "info", expired)
    with pytest.raises(OfflineError, match="does not let these credentials in: The provided token has expired"):
        table.storage.read("disc/000.png")
