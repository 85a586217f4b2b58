"""A real server for the tests: `headstart serve` in a process of its own, on a free port, asked over HTTP."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Coroutine, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

Result = TypeVar("Result")


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """Run it in a thread of its own: that of the tests has a loop already once a browser was opened."""
    with ThreadPoolExecutor(1) as executor:
        return executor.submit(asyncio.run, work).result()


@dataclass(frozen=True)
class Answer:
    """What a server answered."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def is_problem(self) -> bool:
        """A whole problem document of this status, with the headers of safety."""
        document = self.json
        return (
            self.headers["content-type"] == "application/problem+json"
            and document["status"] == self.status
            and bool(document["title"] and document["detail"])
            and self.headers["x-content-type-options"] == "nosniff"
            and "server" not in self.headers
        )


@dataclass
class Server:
    """A server that runs.

    Attributes:
        process: `headstart serve`.
        port: Where it listens.
        headers: What each request bears.
    """

    process: subprocess.Popen[str]
    port: int
    headers: dict[str, str] = field(default_factory=dict)

    def connect(self, timeout: float = 60) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def connects(self) -> bool:
        """Whether it takes a new connection."""
        connection = self.connect(timeout=5)
        try:
            connection.connect()
        except OSError:
            return False
        finally:
            connection.close()
        return True

    def ask(
        self, path: str, body: Any = None, method: str = "", headers: Mapping[str, str] | None = None, **more: Any
    ) -> Answer:
        """One request on a connection of its own."""
        connection = self.connect()
        try:
            asked = {**self.headers, **(headers or {})}
            connection.request(method or ("GET" if body is None else "POST"), path, body, asked, **more)
            return read(connection)
        finally:
            connection.close()

    def send(self, path: str, files: Mapping[str, bytes]) -> Answer:
        """Send a form of files."""
        body, kind = form(files)
        return self.ask(path, body, headers={"Content-Type": kind})

    def workers(self) -> list[int]:
        """The process numbers of its workers."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                command = (folder / "cmdline").read_bytes()
            except OSError:
                continue
            if parent == self.process.pid and b"spawn_main" in command:
                found.append(int(folder.name))
        return found

    def resident_mb(self, *processes: int) -> float:
        """Memory of the server and its workers."""
        pages = 0
        for process in (self.process.pid, *self.workers()):
            pages += int(Path(f"/proc/{process}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def wait(self, path: str, status: int, seconds: float = 60) -> Answer:
        """Ask until the answer is of a status."""
        end = time.monotonic() + seconds
        while (answer := self.ask(path)).status != status:
            assert time.monotonic() < end, answer
            time.sleep(0.02)
        return answer


def read(connection: http.client.HTTPConnection) -> Answer:
    """The answer on a connection."""
    response = connection.getresponse()
    body = response.read()
    return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, body)


def form(files: Mapping[str, bytes], field: str = "files") -> tuple[bytes, str]:
    """A form of files, and its content type."""
    boundary = secrets.token_hex(16)
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n".encode()
        + content
        + b"\r\n"
        for name, content in files.items()
    ]
    return b"".join(parts) + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


def announced(process: subprocess.Popen[str]) -> Any:
    """The document that a server prints with `--json` once it serves."""
    assert process.stdout is not None
    document = ""
    for line in process.stdout:
        document += line
        if line == "}\n":
            break
    assert document, process.communicate()[1]
    return json.loads(document)


# The program, which waits for headers as long as it is told.
_HURRIED = """
from headstart.serving import limits
limits.HEADER_SECONDS = {}
from headstart.cli.main import main
main()
"""


@contextmanager
def serving(*arguments: str | Path, killed: bool = False, header_seconds: float = 0.0, **env: str) -> Iterator[Server]:
    """A server as long as the context lasts; it must end well unless it is killed, with nothing on standard error."""
    program = ["-c", _HURRIED.format(header_seconds)] if header_seconds else ["-m", "headstart"]
    process = subprocess.Popen(
        [sys.executable, *program, "serve", *map(str, arguments), "--port", "0", "--json", "--quiet"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, env=os.environ | env,
    )  # fmt: skip
    try:
        yield Server(process, int(announced(process)["url"].rpartition(":")[2]))
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
        assert (process.returncode, errors) == (-signal.SIGKILL if killed else 0, ""), errors
    finally:
        process.kill()
        process.communicate()
