"""A real S3 server (moto's, in a process of its own), and before it an endpoint that does what networks do."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

# What a client of S3 looks for, none of which may come from the machine that runs the tests.
VARIABLES = {
    "AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}  # fmt: skip


@dataclass
class Faults:
    """What goes wrong; each is decided by the number or the key of a request."""

    fail_every: int = 0  # every so many requests are answered with 503 or 500
    cut_every: int = 0  # the bodies of every so many answers end early
    seconds: float = 0.0  # each answer waits
    broken: set[str] = field(default_factory=set)  # keys that are answered with 500, always
    short: set[str] = field(default_factory=set)  # keys whose bodies end early, always
    down: bool = False  # all is answered with 503
    requests: int = 0
    injected: int = 0
    under_way: int = 0
    most: int = 0  # requests that were under way at once
    sizes: list[int] = field(default_factory=list)  # of the bodies of objects
    seen: Callable[[str], None] = lambda path: None  # called with the path of each GET


def _handler(target: int, faults: Faults, lock: threading.Lock) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            with lock:
                faults.requests += 1
                number = faults.requests
                every = bool(faults.fail_every) and number % faults.fail_every == 0
                failing = faults.down or every or any(path.endswith(key) for key in faults.broken)
                faults.injected += failing
                faults.under_way += 1
                faults.most = max(faults.most, faults.under_way)
            time.sleep(faults.seconds)
            with lock:
                faults.under_way -= 1
            if failing:
                self._answer(503 if number % 2 else 500, {"Content-Type": "application/xml"}, b"<Error><Code>"
                             b"SlowDown</Code><Message>Please reduce your request rate.</Message></Error>")  # fmt: skip
                return
            upstream = http.client.HTTPConnection("127.0.0.1", target, timeout=30)
            upstream.request(self.command, self.path, body or None, dict(self.headers))
            answer = upstream.getresponse()
            content, headers = answer.read(), dict(answer.getheaders())
            upstream.close()
            if self.command == "GET" and "list-type" not in self.path:
                faults.seen(path)
                with lock:
                    faults.sizes.append(len(content))
                    short = any(path.endswith(key) for key in faults.short)
                    short |= bool(faults.cut_every) and number % faults.cut_every == 0
                    short &= len(content) > 1
                    faults.injected += short
            else:
                short = False
            self._answer(answer.status, headers, content, cut=short)

        def _answer(self, status: int, headers: dict[str, str], content: bytes, *, cut: bool = False) -> None:
            self.send_response(status)
            told = headers.pop("Content-Length", None) if self.command == "HEAD" else None
            for name, value in headers.items():
                if name.lower() not in {"content-length", "transfer-encoding", "connection", "date", "server"}:
                    self.send_header(name, value)
            self.send_header("Content-Length", told or str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                with contextlib.suppress(OSError):
                    self.wfile.write(content[: len(content) // 2] if cut else content)
            if cut:
                self.close_connection = True

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _serve

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler


@dataclass
class Server:
    """A server that is up: its endpoint, which is honest, and one with faults."""

    port: int
    endpoint: str
    faults: Faults

    def put(self, bucket: str, files: dict[str, bytes]) -> None:
        """Make a bucket and its objects, on the honest endpoint."""
        for path, content in {"": b"", **files}.items():
            link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
            link.request("PUT", f"/{bucket}/{urllib.parse.quote(path)}", content, _UNSIGNED)
            answer = link.getresponse()
            assert answer.status == 200, answer.read()
            link.close()

    def delete(self, bucket: str, path: str) -> None:
        """Do away with an object."""
        link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        link.request("DELETE", f"/{bucket}/{urllib.parse.quote(path)}", headers=_UNSIGNED)
        assert link.getresponse().status == 204
        link.close()

    def put_folder(self, bucket: str, folder: Path, prefix: str = "") -> None:
        """A bucket of the files of a folder."""
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        self.put(bucket, {f"{prefix}{path.relative_to(folder).as_posix()}": path.read_bytes() for path in files})


# moto asks for no signature, but reads the region and the service from this header.
_UNSIGNED = {
    "Authorization": "AWS4-HMAC-SHA256 Credential=testing/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, "
    "Signature=0"
}


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    """moto's server in a process of its own, and the endpoint before it in a thread."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            assert process.poll() is None, "moto's server has ended"
            assert time.monotonic() < deadline, "moto's server does not answer"
            time.sleep(0.05)
        faults = Faults()
        front = ThreadingHTTPServer(("127.0.0.1", 0), _handler(port, faults, threading.Lock()))
        front.daemon_threads = True
        thread = threading.Thread(target=front.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield Server(port, f"http://127.0.0.1:{front.server_port}", faults)
        finally:
            front.shutdown()
            front.server_close()
            thread.join()
    finally:
        process.kill()
        process.wait()
