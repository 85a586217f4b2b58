"""A Ray cluster that asks for a token, as the docs have one started: who has it is let in, who has not is told so."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from clusters import contents
from helpers import write_images

pytest.importorskip("ray")
pytest.importorskip("pyarrow")
pytestmark = pytest.mark.slow
TOKEN = "0123456789abcdef" * 4


def environment(**given: str) -> dict[str, str]:
    """Ours without what Ray's own clusters of other tests have set; a refusal is awaited for a second, not for 20."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return {**plain, "RAY_NUM_REDIS_GET_RETRIES": "2", **given}


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A cluster of one node, by `ray start`."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        port, of_clients = one.getsockname()[1], other.getsockname()[1]
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # sockets have short names
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", f"--port={port}",
               f"--ray-client-server-port={of_clients}", "--num-cpus=1", "--include-dashboard=false",
               "--disable-usage-stats", f"--temp-dir={folder}", "--node-ip-address=127.0.0.1"]  # fmt: skip
    with_token = environment(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=TOKEN)
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, env=with_token, stdout=subprocess.PIPE, stderr=said, text=True)
        try:
            assert process.stdout is not None
            assert any("Ray runtime started" in line for line in process.stdout), said.seek(0) or said.read()
            yield f"127.0.0.1:{port}"
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=60)
            shutil.rmtree(folder, ignore_errors=True)


def embed(source: Path, out: Path, address: str, **given: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own: Ray reads the environment once."""
    command = [sys.executable, "-m", "headstart", "embed", str(source), "--out", str(out), "--quiet", "--on", "ray",
               "--address", address]  # fmt: skip
    return subprocess.run(command, env=environment(**given), capture_output=True, text=True, check=False, timeout=120)


def test_the_token_is_asked_for(address: str, tmp_path: Path) -> None:
    source, out = write_images(tmp_path / "source", {"disc": 3}), tmp_path / "out"
    done = embed(source, out, address)
    assert (done.returncode, contents(out)) == (2, {})
    assert f"Error: The Ray cluster at '{address}' asks for a token, which this process does not have." in done.stderr
    assert "RAY_AUTH_TOKEN_PATH" in done.stderr
    done = embed(source, out, address, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=TOKEN)
    assert (done.returncode, len(contents(out))) == (0, 1), done.stderr
