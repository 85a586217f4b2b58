"""A hub in memory: what `headstart push` asks of the Hugging Face Hub, over real HTTP, with faults on request."""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

TOKEN = "hf_of_a_test"


@dataclass
class Fault:
    """Of the next so many requests whose path contains a text: a status, or 0 to cut the connection, before or late."""

    path: str
    status: int
    times: int = 1_000
    message: str = ""
    late: bool = False


@dataclass
class HubServer:
    """Repositories as branches of files, and all requests.

    Attributes:
        url: Its address.
        private: Whether each repository is, by its name.
        branches: Files of each branch, by the names of the repository and of the branch.
        heads: The last commit of each.
        asked: Method and path of each request.
        faults: What it does instead of its work.
    """

    url: str = ""
    private: dict[str, bool] = field(default_factory=dict)
    branches: dict[tuple[str, str], dict[str, bytes]] = field(default_factory=dict)
    heads: dict[tuple[str, str], str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    stored: dict[str, bytes] = field(default_factory=dict)

    def make(self, name: str, *, private: bool = False, files: dict[str, bytes] | None = None) -> None:
        """A repository that is there before."""
        self.private[name] = private
        self.branches[name, "main"] = dict(files or {})
        self.heads[name, "main"] = hashlib.sha1(name.encode()).hexdigest()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: HubServer

    def log_message(self, *_: object) -> None:
        """Stay silent."""

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = self.path.partition("?")[0]
        self.hub.asked.append(f"{self.command} {path}")
        fault = next((one for one in self.hub.faults if one.path in path and one.times), None)
        if fault is not None:
            fault.times -= 1
            if not fault.status and not fault.late:  # in the middle of what is sent
                self.rfile.read(min(1000, int(self.headers.get("Content-Length", 0))))
                self.connection.close()
                self.close_connection = True
                return
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if fault is not None and fault.late:
            self._work(path, body)
            self.connection.close()
            self.close_connection = True
        elif fault is not None:
            self._send(fault.status, {"error": fault.message or "fault"})
        elif "/storage/" in path:  # as on the Hub, its address is the permission
            self.hub.stored[path.rpartition("/")[2]] = body
            self._send(200, {})
        elif self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._send(401, {"error": "Invalid username or password."})
        else:
            self._send(*self._work(path, body))

    def _send(self, status: int, record: Any) -> None:
        content = json.dumps(record).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        if status == 404:
            self.send_header("X-Error-Code", record["code"])
        if status >= 400 and "error" in record:
            self.send_header("X-Error-Message", record["error"])
        self.end_headers()
        self.wfile.write(content)

    def _work(self, path: str, body: bytes) -> tuple[int, Any]:
        if path == "/api/validate-yaml":
            return 200, {"warnings": []}
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        parts = path.removeprefix("/api/models/").split("/")
        if path.endswith(".git/info/lfs/objects/batch"):
            return self._batch(json.loads(body))
        name = "/".join(parts[:2])
        if name not in self.hub.private:
            return 404, {"error": "Repository not found", "code": "RepoNotFound"}
        what, branch = (*parts[2:], "revision", "main")[:2]
        if what == "branch":
            self.hub.branches[name, branch] = dict(self.hub.branches[name, "main"])
            self.hub.heads[name, branch] = self.hub.heads[name, "main"]
            return 200, {}
        if (name, branch) not in self.hub.branches:
            return 404, {"error": "Invalid rev id", "code": "RevisionNotFound"}
        files = self.hub.branches[name, branch]
        if what == "preupload":
            return 200, {"files": [self._mode(one) for one in json.loads(body)["files"]]}
        if what == "commit":
            return self._commit((name, branch), body)
        return 200, {
            "id": name, "sha": self.hub.heads[name, branch], "private": self.hub.private[name],
            "siblings": [{"rfilename": file} for file in files],
        }  # fmt: skip

    def _create(self, asked: dict[str, Any]) -> tuple[int, Any]:
        name = f"{asked['organization']}/{asked['name']}"
        if name in self.hub.private:
            return 409, {"error": "You already created this model repo", "url": f"{self.hub.url}/{name}"}
        self.hub.make(name, private=asked.get("private", False) or asked.get("visibility") == "private")
        return 200, {"url": f"{self.hub.url}/{name}", "name": name}

    @staticmethod
    def _mode(file: dict[str, Any]) -> dict[str, Any]:
        large = file["path"].endswith(".onnx")
        return {"path": file["path"], "uploadMode": "lfs" if large else "regular", "shouldIgnore": False}

    def _batch(self, asked: dict[str, Any]) -> tuple[int, Any]:
        objects = [
            one | {"actions": {"upload": {"href": f"{self.hub.url}/storage/{one['oid']}"}}} for one in asked["objects"]
        ]
        return 200, {"transfer": "basic", "objects": objects}

    def _commit(self, where: tuple[str, str], body: bytes) -> tuple[int, Any]:
        lines = [json.loads(line) for line in body.splitlines()]
        header = next(one["value"] for one in lines if one["key"] == "header")
        if header.get("parentCommit") not in {None, self.hub.heads[where]}:
            return 412, {"error": "A commit has happened since."}
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                self.hub.branches[where][value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                content = self.hub.stored[value["oid"]]
                assert hashlib.sha256(content).hexdigest() == value["oid"]
                assert len(content) == value["size"]
                self.hub.branches[where][value["path"]] = content
        self.hub.messages.append(header["summary"])
        self.hub.heads[where] = hashlib.sha1(body + self.hub.heads[where].encode()).hexdigest()
        return 200, {"commitOid": self.hub.heads[where], "commitUrl": f"{self.hub.url}/{where[0]}/commit/x"}


@contextmanager
def hub_server() -> Iterator[HubServer]:
    """Start one; it ends with the block."""
    hub = HubServer()
    handler = type("Handler", (_Handler,), {"hub": hub})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        hub.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()
