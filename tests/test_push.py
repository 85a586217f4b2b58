"""`headstart push` against a hub of our own over HTTP: what arrives, and what is said where something fails."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("huggingface_hub")

from huggingface_hub import constants
from huggingface_hub.utils import _http

import headstart
from headstart.core.errors import ExtraError, OfflineError, OptionError, StorageError
from helpers import headstart_cli, headstart_process
from hub_server import TOKEN, Fault, HubServer, hub_server

REPO = "me/shapes"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """In the place of the user's folders of the hub; nothing may be written there."""
    folder = tmp_path / "hf"
    folder.mkdir()
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(folder))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(folder / "token"))
    yield folder
    assert list(folder.iterdir()) == []


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with hub_server() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        # The library waits between its attempts; how often it tries is what is tested.
        monkeypatch.setattr(_http.time, "sleep", lambda seconds: None)
        yield server
        _http.close_session()


def test_a_model_arrives_with_its_card_and_its_labels(hub: HubServer, model: Path) -> None:
    made = headstart.push(model, REPO, licence="mit", private=True, message="The first")
    files = hub.branches[REPO, "main"]
    assert files.keys() == {"model.onnx", "README.md", "labels.json"} == made.files.keys()
    assert files["model.onnx"] == model.read_bytes()
    assert files["README.md"].decode() == headstart.card(model, licence="mit")
    assert json.loads(files["labels.json"]) == list(headstart.load(model).classes)
    assert hub.private == {REPO: True}
    assert hub.messages == ["The first"]
    assert (made.created, made.commit, made.branch) == (True, hub.heads[REPO, "main"], "main")
    assert made.url == f"{hub.url}/{REPO}"
    # What is there can be loaded by its bytes.
    assert headstart.load(model).classes == tuple(json.loads(files["labels.json"]))


def test_what_is_there_is_replaced_only_on_request(hub: HubServer, model: Path) -> None:
    hub.make(REPO, files={"README.md": b"mine", "notes.txt": b"mine too"})
    with pytest.raises(StorageError, match=r"'main' of 'me/shapes' there is already 'README\.md'") as caught:
        headstart.push(model, REPO)
    assert "--overwrite" in caught.value.hint
    assert hub.branches[REPO, "main"]["README.md"] == b"mine"
    assert not headstart.push(model, REPO, overwrite=True).created
    assert hub.branches[REPO, "main"]["README.md"].startswith(b"---\n")
    assert hub.branches[REPO, "main"]["notes.txt"] == b"mine too"


def test_a_branch_is_made(hub: HubServer, model: Path) -> None:
    hub.make(REPO)
    headstart.push(model, REPO, branch="v2")
    assert hub.branches[REPO, "v2"].keys() == {"model.onnx", "README.md", "labels.json"}
    assert hub.branches[REPO, "main"] == {}
    headstart.push(model, "me/new", branch="v1")
    assert len(hub.branches["me/new", "v1"]) == 3


def test_a_public_repository_is_no_private_one(hub: HubServer, model: Path) -> None:
    hub.make(REPO, private=False)
    with pytest.raises(OptionError, match="is there already, and public"):
        headstart.push(model, REPO, private=True)
    assert hub.branches[REPO, "main"] == {}


def test_a_dry_run_asks_nobody(hub: HubServer, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    made = headstart.push(model, REPO, dry_run=True)
    assert made.commit is None
    assert made.files["model.onnx"] == model.stat().st_size
    assert hub.asked == []
    told = headstart_cli("push", model, REPO, "--dry-run")
    assert told.code == 0
    assert "Would upload model.onnx (" in told.out
    assert hub.asked == []


def test_without_a_token_the_error_says_how_to_get_one(
    hub: HubServer, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(OptionError, match="no token") as caught:
        headstart.push(model, REPO)
    assert "hf auth login" in caught.value.hint
    assert f"{hub.url}/settings/tokens" in caught.value.hint
    assert hub.asked == []


def test_a_wrong_token(hub: HubServer, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_of_yesterday")
    with pytest.raises(OfflineError, match=r"does not accept the token .*Nothing was uploaded") as caught:
        headstart.push(model, REPO)
    assert "hf_of_yesterday" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "status", "says", "attempts"),
    [
        ("/api/repos/create", 403, r"may not write to 'me/shapes' \(no rights here\)", 1),
        ("/api/repos/create", 409, "by somebody else just now", 1),
        ("/api/repos/create", 500, "fails with status 500", 1),
        ("/api/validate-yaml", 502, "fails with status 502", 1),
        ("/preupload/", 403, "may not write", 1),
        ("/preupload/", 503, "fails with status 503", 6),
        ("/objects/batch", 429, "takes no more requests", 6),
        ("/storage/", 500, "fails with status 500", 6),
        ("/storage/", 0, "The connection to .* failed", 6),
        ("/commit/", 412, "was changed by somebody else just now", 1),
        ("/commit/", 418, "refuses with status 418", 1),
        ("/commit/", 0, "The connection to .* failed", 1),
    ],
)
def test_a_fault_is_one_error(hub: HubServer, model: Path, path: str, status: int, says: str, attempts: int) -> None:
    hub.faults.append(Fault(path, status, message="no rights here"))
    done = headstart_cli("push", model, REPO)
    assert done.code == 2
    assert done.out == ""
    assert done.err.startswith("Error: "), done.err
    assert len(done.err.splitlines()) == 2, done.err
    with pytest.raises(OfflineError, match=says):
        headstart.push(model, REPO)
    assert sum(path in one for one in hub.asked) == 2 * attempts
    assert hub.branches.get((REPO, "main"), {}) == {}
    if "create" not in path and not ("commit" in path and status == 0):
        assert "Nothing was uploaded" in done.err
        assert "was created and is empty" in done.err
    # Once the fault is gone, the same command succeeds.
    hub.faults.clear()
    assert headstart.push(model, REPO).commit == hub.heads[REPO, "main"]


@pytest.mark.parametrize(("path", "status"), [("/preupload/", 503), ("/storage/", 0), ("/storage/", 500)])
def test_what_passes_is_tried_again(hub: HubServer, model: Path, path: str, status: int) -> None:
    hub.faults.append(Fault(path, status, times=2))
    done = headstart_cli("push", model, REPO)
    assert (done.code, done.err) == (0, "")
    assert hub.branches[REPO, "main"]["model.onnx"] == model.read_bytes()


def test_a_server_that_is_not_there(hub: HubServer, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(OfflineError, match=r"The connection to http://127\.0\.0\.1:1 failed") as caught:
        headstart.push(model, REPO)
    assert "HF_ENDPOINT" in caught.value.hint


def test_a_server_that_speaks_something_else(hub: HubServer, model: Path) -> None:
    hub.faults.append(Fault("/api/", 200))
    done = headstart_cli("push", model, REPO)
    assert done.code == 2
    assert "Traceback" not in done.err
    assert "does not answer like the Hub" in done.err


def test_a_commit_whose_answer_is_lost(hub: HubServer, model: Path) -> None:
    """It was made: to say that nothing was uploaded would be wrong."""
    hub.faults.append(Fault("/commit/", 0, times=1, late=True))
    with pytest.raises(OfflineError, match="failed") as caught:
        headstart.push(model, REPO)
    assert "Nothing was uploaded" not in str(caught.value)
    assert f"Look at {hub.url}/{REPO}" in caught.value.hint
    assert hub.branches[REPO, "main"]["model.onnx"] == model.read_bytes()


@pytest.mark.slow
def test_the_command_in_a_process_of_its_own(hub: HubServer, model: Path) -> None:
    """The library reads its variables when it is imported."""
    begun = time.perf_counter()
    done = headstart_process("push", model, REPO, "--licence", "mit", "--json")
    assert (done.code, done.err.count("\n")) == (0, 1), done.err
    assert done.json["commit"] == hub.heads[REPO, "main"]
    assert done.json["created"] is True
    assert time.perf_counter() - begun < 60


def test_without_the_package(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ExtraError, match="needs the package huggingface_hub") as caught:
        headstart.push(model, REPO)
    assert "headstart[hub]" in caught.value.hint
