"""Downloads over real HTTP on this machine, and the sets that the demo puts in place."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
import textwrap
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from headstart.core.errors import HeadstartError, OfflineError, SourceError, StorageError
from headstart.core.progress import Silent
from headstart.data.demo import ANTS_BEES_PHOTOS, fetch_ants_bees, write_digits
from headstart.data.download import download
from helpers import draw, headstart_cli

BODY = np.random.default_rng(0).bytes(700_000)


@dataclass
class Server:
    """A file on a web server whose habits a test may change."""

    url: str = ""
    body: bytes = BODY
    tag: str | None = '"one"'
    ranges: bool = True
    length: bool = True
    cut: int | None = None  # bytes after which the connection is closed
    status: int = 200
    requests: list[dict[str, str]] = field(default_factory=list)

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        asked = dict(handler.headers.items())
        self.requests.append(asked)
        begin = 0
        if self.ranges and "Range" in asked and asked.get("If-Range") in {None, self.tag}:
            begin = int(asked["Range"].removeprefix("bytes=").rstrip("-"))
        if self.status != 200:
            handler.send_error(self.status)
            return
        if begin and begin >= len(self.body):
            handler.send_error(416)
            return
        body = self.body[begin:]
        handler.send_response(206 if begin else 200)
        if begin:
            handler.send_header("Content-Range", f"bytes {begin}-{len(self.body) - 1}/{len(self.body)}")
        if self.tag:
            handler.send_header("ETag", self.tag)
        if self.length:
            handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        with contextlib.suppress(ConnectionError):
            handler.wfile.write(body[: self.cut])


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.answer(self)

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        state.url = f"http://127.0.0.1:{http.server_port}/file.zip"
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield state
        http.shutdown()
        thread.join()


def fetch(server: Server, path: Path, max_bytes: int = 2**20) -> bytes:
    assert download(server.url, path, Silent(), max_bytes=max_bytes) == path
    assert [one.name for one in path.parent.iterdir()] == [path.name]  # neither part nor tag is left
    return path.read_bytes()


@pytest.mark.parametrize("length", [True, False])
@pytest.mark.parametrize("tag", ['"one"', None])
def test_download(server: Server, tmp_path: Path, length: bool, tag: str | None) -> None:
    server.length, server.tag = length, tag
    assert fetch(server, tmp_path / "x") == BODY


def cut(server: Server, path: Path) -> None:
    server.cut = 300_000
    with pytest.raises(OfflineError, match=r"ended early: 300,000 of 700,000 bytes.*resumes from there"):
        fetch(server, path)
    assert not path.exists()
    server.cut = None


def test_a_cut_download_goes_on(server: Server, tmp_path: Path) -> None:
    cut(server, tmp_path / "x")
    assert fetch(server, tmp_path / "x") == BODY
    assert (server.requests[-1]["Range"], server.requests[-1]["If-Range"]) == ("bytes=300000-", '"one"')


def test_a_changed_file_starts_again(server: Server, tmp_path: Path) -> None:
    cut(server, tmp_path / "x")
    server.body, server.tag = BODY[::-1], '"two"'
    assert fetch(server, tmp_path / "x") == BODY[::-1]


@pytest.mark.parametrize("habit", ["no ranges", "no tag", "lies"])
def test_servers_that_cannot_resume(
    server: Server, tmp_path: Path, habit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.tag = None if habit == "no tag" else server.tag
    cut(server, tmp_path / "x")
    server.ranges = habit != "no ranges"
    if habit == "lies":  # it ignores If-Range, and sends the rest of another file
        server.body, first = BODY[::-1], server.tag
        answer = Server.answer

        def ignorant(self: Server, handler: BaseHTTPRequestHandler) -> None:
            self.tag = first if "Range" in handler.headers else '"two"'
            sent, handler.send_header = handler.send_header, lambda k, v: sent(k, '"two"' if k == "ETag" else v)  # type: ignore[method-assign]
            answer(self, handler)

        monkeypatch.setattr(Server, "answer", ignorant)
    assert fetch(server, tmp_path / "x") == server.body


def test_a_part_that_is_whole_or_too_long_starts_again(server: Server, tmp_path: Path) -> None:
    for part in (BODY, BODY + b"more"):
        (tmp_path / "x.part").write_bytes(part)
        (tmp_path / "x.etag").write_text('"one"')
        assert fetch(server, tmp_path / "x") == BODY


def test_a_part_without_a_tag_is_not_trusted(server: Server, tmp_path: Path) -> None:
    (tmp_path / "x.part").write_bytes(b"from who knows where")
    assert fetch(server, tmp_path / "x") == BODY


@pytest.mark.parametrize("length", [True, False])
def test_too_large(server: Server, tmp_path: Path, length: bool) -> None:
    server.length = length
    with pytest.raises(OfflineError, match=r"at most 500,000 bytes were expected"):
        fetch(server, tmp_path / "x", 500_000)
    assert not list(tmp_path.iterdir())


def test_addresses_that_give_nothing(server: Server, tmp_path: Path) -> None:
    server.status = 404
    with pytest.raises(OfflineError, match="answers 404"):
        fetch(server, tmp_path / "x")
    for url in ("http://127.0.0.1:1/x", "http://[/x", "http://127.0.0.1:port/", "http:///x"):
        with pytest.raises(OfflineError, match="cannot be reached") as caught:
            download(url, tmp_path / "x", Silent(), max_bytes=1)
        assert "headstart demo" in caught.value.hint
    for url in ("file:///etc/passwd", "/etc/passwd", "ftp://127.0.0.1/x"):
        with pytest.raises(OfflineError, match="not a web address"):
            download(url, tmp_path / "x", Silent(), max_bytes=1)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_not_the_networks_fault(server: Server, tmp_path: Path) -> None:
    (tmp_path / "x.part").mkdir()
    with pytest.raises(StorageError):
        download(server.url, tmp_path / "x", Silent(), max_bytes=2**20)


@pytest.fixture(scope="session")
def ants_bees() -> bytes:
    """An archive with the names and counts of the real one, and other pictures."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("hymenoptera_data/", b"")
        for number, ((split, label), count) in enumerate(ANTS_BEES_PHOTOS.items()):
            for i in range(count):
                picture = io.BytesIO()
                draw("disc" if label == "ants" else "noise", 1000 * number + i, (32, 32)).save(picture, "JPEG")
                suffix = "jpeg" if i == 7 else "jpg"
                file.writestr(f"hymenoptera_data/{split}/{label}/{i}.{suffix}", picture.getvalue())
        picture = io.BytesIO()
        draw("stripes", 0, (32, 32)).save(picture, "GIF")
        file.writestr("hymenoptera_data/train/ants/imageNotFound.gif", picture.getvalue())
        file.writestr("hymenoptera_data/train/ants/.DS_Store", b"")
    return buffer.getvalue()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_ants_and_bees(server: Server, tmp_path: Path, ants_bees: bytes) -> None:
    server.body = ants_bees
    folder = fetch_ants_bees(tmp_path / "out/ants-bees", Silent(), server.url)
    photos = [path for path in contents(folder) if not path.endswith(".gif")]
    assert (sum(p.startswith("train/") for p in photos), sum(p.startswith("val/") for p in photos)) == (244, 153)
    assert set(contents(folder)) - set(photos) == {"train/ants/imageNotFound.gif"}
    assert sorted(path.name for path in folder.parent.iterdir()) == ["ants-bees", "hymenoptera_data.zip"]
    # What is here is not fetched again, and a damaged folder is put right.
    whole = contents(folder)
    (folder / "val/bees/1.jpg").write_bytes(b"damaged")
    (folder / "train/ants/2.jpg").unlink()
    server.status = 500
    assert contents(fetch_ants_bees(folder, Silent(), server.url)) == whole
    assert len(server.requests) == 1
    # A damaged archive is.
    (folder.parent / "hymenoptera_data.zip").write_bytes(ants_bees[:-1000])
    server.status = 200
    assert contents(fetch_ants_bees(folder, Silent(), server.url)) == whole
    assert len(server.requests) == 2


def damaged(data: bytes) -> bytes:
    position = data.index(b"\xff\xd8\xff") + 300
    return data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]


def without_a_bee(data: bytes) -> bytes:
    return data.replace(b"val/bees/1.jpg", b"val/bees/1.txt")


def cut_short(data: bytes) -> bytes:
    return data[:-30]


def log_in(data: bytes) -> bytes:
    return b"<html>Log in</html>"


@pytest.mark.parametrize("spoil", [damaged, without_a_bee, cut_short, log_in])
def test_wrong_content_replaces_nothing(
    server: Server, tmp_path: Path, ants_bees: bytes, spoil: Callable[[bytes], bytes]
) -> None:
    folder = tmp_path / "ants-bees"
    (folder / "mine").mkdir(parents=True)
    (folder / "mine" / "x.jpg").write_bytes(b"old")
    server.body = spoil(ants_bees)
    with pytest.raises(SourceError, match="is not the expected archive") as caught:
        fetch_ants_bees(folder, Silent(), server.url)
    assert "Nothing was replaced" in caught.value.hint
    assert contents(tmp_path) == {"ants-bees/mine/x.jpg": b"old"}


def test_a_failed_unpacking_leaves_the_old_folder(
    server: Server, tmp_path: Path, ants_bees: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fault comes at the first, second, ... change of the file system, until there is none left."""
    server.body = ants_bees
    (tmp_path / "hymenoptera_data.zip").write_bytes(ants_bees)
    folder = tmp_path / "ants-bees"
    write, rename = Path.write_bytes, Path.rename
    calls = [0, 0]

    def failing(original: Callable[..., object]) -> Callable[..., object]:
        def one(self: Path, *args: object) -> object:
            calls[0] += 1
            if calls[0] == calls[1]:
                raise OSError(28, "No space left on device")
            return original(self, *args)

        return one

    for at in (1, 200, 398, 399, 400, 401):
        folder.mkdir(exist_ok=True)
        write(folder / "old.jpg", b"old")
        with monkeypatch.context() as patch:
            calls[:] = [0, at]
            patch.setattr(Path, "write_bytes", failing(write))
            patch.setattr(Path, "rename", failing(rename))
            failed = at <= 400
            with pytest.raises(StorageError, match="The disk is full") if failed else contextlib.nullcontext():
                fetch_ants_bees(folder, Silent(), server.url)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["ants-bees", "hymenoptera_data.zip"]
        assert contents(folder) == {"old.jpg": b"old"} if failed else len(contents(folder)) == 398


KILLED = textwrap.dedent("""
    import os, sys
    from pathlib import Path
    from headstart.core.progress import Silent
    from headstart.data import demo
    rename, left = Path.rename, [int(sys.argv[2])]
    def killed(self, target):
        if left[0] == 0:
            os._exit(9)
        left[0] -= 1
        return rename(self, target)
    Path.rename = killed
    demo.fetch_ants_bees(Path(sys.argv[1]), Silent(), "http://127.0.0.1:1/")
""")


def full_disk(path: Path, content: bytes) -> None:
    raise OSError(28, "No space left on device")


def test_killed_while_the_folder_is_replaced(tmp_path: Path, ants_bees: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hymenoptera_data.zip").write_bytes(ants_bees)
    folder = tmp_path / "ants-bees"
    for renames in (0, 1):
        folder.mkdir(exist_ok=True)
        for rest in contents(folder):
            (folder / rest).unlink()
        (folder / "old.jpg").write_bytes(b"old")
        done = subprocess.run([sys.executable, "-c", KILLED, str(folder), str(renames)], check=False)
        assert done.returncode == 9
        whole = [path for path in tmp_path.iterdir() if path.is_dir() and (path / "old.jpg").exists()]
        assert len(whole) == 1  # under its own name or aside
        with monkeypatch.context() as patch:  # the next run first puts the old folder back, then fails
            patch.setattr("headstart.data.demo._write", full_disk)
            with pytest.raises(StorageError, match="The disk is full"):
                fetch_ants_bees(folder, Silent(), "http://127.0.0.1:1/")
        assert contents(folder) == {"old.jpg": b"old"}
        fetch_ants_bees(folder, Silent(), "http://127.0.0.1:1/")
        assert len(contents(folder)) == 398
        assert sorted(path.name for path in tmp_path.iterdir()) == ["ants-bees", "hymenoptera_data.zip"]


@pytest.mark.slow
def test_digits(tmp_path: Path) -> None:
    folder = write_digits(tmp_path / "digits", Silent())
    first = contents(folder)
    assert len(first) == 1797
    assert sum(path.startswith("test/") for path in first) == 360
    (folder / "train/1/0001.png").write_bytes(b"damaged")
    times = {path: (folder / path).stat().st_mtime_ns for path in first}
    assert contents(write_digits(folder, Silent())) == first
    assert [path for path in first if (folder / path).stat().st_mtime_ns != times[path]] == ["train/1/0001.png"]
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(HeadstartError):
        write_digits(tmp_path / "file", Silent())


def test_offline_says_what_to_do(tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = headstart_cli("demo", "--dataset", "ants-bees", "--url", "http://127.0.0.1:1/x.zip", "--out", out, "--json",
                         no_proxy="*")  # fmt: skip
    assert done.code == 2
    assert "cannot be reached" in done.json["error"]
    assert "headstart demo" in done.json["hint"]
    assert "Traceback" not in done.err


@pytest.fixture
def warm_cache(warm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The images of the sets are embedded once for all tests."""
    monkeypatch.setenv("HEADSTART_CACHE", str(warm))


@pytest.mark.slow
@pytest.mark.usefixtures("warm_cache")
def test_demo_of_ants_and_bees(server: Server, tmp_path: Path, ants_bees: bytes) -> None:
    server.body = ants_bees
    done = headstart_cli("demo", "--dataset", "ants-bees", "--url", server.url, "--out", tmp_path, "--json", "--quiet")
    assert done.code == 0, done.err
    train, evaluate, predict, verify = (command["output"] for command in done.json["commands"])
    assert train["counts"]["val"] == {"ants": 70, "bees": 83}
    assert evaluate["evaluation"]["n"] == 153
    assert len(predict["predictions"]) == 3
    assert verify["passed"]


@pytest.mark.slow
@pytest.mark.usefixtures("warm_cache")
def test_demo_of_digits(tmp_path: Path) -> None:
    done = headstart_cli("demo", "--out", tmp_path / "out", "--json", "--quiet")
    assert done.code == 0, done.err
    assert done.err == ""
    assert [command["exit"] for command in done.json["commands"]] == [0, 0, 0, 0]
    assert done.json["commands"][1]["output"]["evaluation"]["accuracy"] > 0.9
    metrics = json.loads((tmp_path / "out/digits-run/metrics.json").read_text("utf-8"))
    assert metrics["evaluation"] == done.json["commands"][0]["output"]["evaluation"]


def test_a_failing_step_is_told_in_json(tmp_path: Path) -> None:
    """The run folder is a file: the first command fails, and the document says which and why."""
    (tmp_path / "digits-run").write_text("")
    done = headstart_cli("demo", "--out", tmp_path, "--json", "--quiet")
    assert done.code == 2
    (command,) = done.json["commands"]
    assert command["exit"] == 2
    assert "is a file" in command["output"]["error"]
