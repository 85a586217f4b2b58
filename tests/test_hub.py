"""Weights from the libraries' own caches and servers: prefilled folders, a server of our own, none at all."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import importlib.util
import json
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from headstart.backbones import catalog
from headstart.core.errors import ModelError, OfflineError
from headstart.settings.backbones import BackboneSpec
from helpers import headstart_cli, headstart_process, write_images

torch = pytest.importorskip("torch")
timm = pytest.importorskip("timm")
models = pytest.importorskip("torchvision.models")
safetensors_torch = pytest.importorskip("safetensors.torch")

from headstart.training import sources  # noqa: E402

NAME = "squeezenet1_1"
TIMM_NAME = "test_resnet.r160_in1k"
REPOSITORY = f"timm/{TIMM_NAME}"
COMMIT = "0123456789abcdef" * 2 + "01234567"
NOWHERE = "http://127.0.0.1:1"


@pytest.fixture(autouse=True)
def hubs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty folders in the place of the user's, and no network."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("HF_ENDPOINT", NOWHERE)
    for variable in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    return tmp_path


def row(name: str) -> BackboneSpec:
    return catalog.find(name)


@dataclass
class Server:
    """Files over HTTP, the way that the hub of Hugging Face tells of them."""

    url: str
    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server("")

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, *, body: bool) -> None:
            path = self.path.partition("?")[0]
            state.asked.append(f"{self.command} {path}")
            content = state.files.get(path)
            self.send_response(200 if content is not None or path == "/" else 404)
            if content is None:
                self.send_header("X-Error-Code", "EntryNotFound")
            else:
                self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
                self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            if body and content:
                self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        state.url = f"http://127.0.0.1:{listening.server_port}"
        thread = threading.Thread(target=listening.serve_forever, daemon=True)
        thread.start()
        yield state
        listening.shutdown()
        thread.join()


# torchvision


def whole(seed: int = 3) -> Any:
    """A network with its classification layer and random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return models.get_model(NAME)


def prefill(content: Any = None) -> Path:
    """Put a file where torchvision looks for the weights."""
    path = catalog.target(row(NAME))
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(whole().state_dict() if content is None else content, path)
    return path


def test_torchvision_reads_what_is_in_its_cache(hubs: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert not catalog.is_local(row(NAME))
    path = prefill()
    assert path.parent == hubs / "torch" / "hub" / "checkpoints"
    assert catalog.local_file(row(NAME)) == path
    loaded = sources.load(NAME)
    expected = whole().state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in loaded.module.state_dict().items())
    assert loaded.weights == sources.load(NAME, require_local=True).weights
    assert capfd.readouterr() == ("", "")


def test_a_file_with_code_in_torchvisions_cache_is_refused(hubs: Path) -> None:
    class Runs:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {hubs / 'was-here'}",)

    prefill(whole().state_dict() | {"extra": Runs()})
    with pytest.raises(ModelError, match=r"refused: it asks for \w+.system, which could run code"):
        sources.load(NAME)
    assert not (hubs / "was-here").exists()


def test_damaged_or_wrong_files_in_torchvisions_cache() -> None:
    for content in (b"", b"hello", models.get_model("squeezenet1_0").state_dict(), {"a": torch.zeros(3)}):
        path = prefill(content)
        with pytest.raises(ModelError) as caught:
            sources.load(NAME)
        assert "elete" in caught.value.hint
        assert "\n" not in caught.value.message
        path.unlink()


def published(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, digits: str = "") -> BackboneSpec:
    """Let torchvision's weights of one network be those of the server."""
    torch.save(whole().state_dict(), tmp_path / "w.pth")
    content = (tmp_path / "w.pth").read_bytes()
    file = f"/squeezenet-{digits or hashlib.sha256(content).hexdigest()[:8]}.pth"
    server.files[file] = content
    monkeypatch.setattr(models.get_model_weights(NAME).DEFAULT.value, "url", f"{server.url}{file}")
    listing = tmp_path / "listing.csv"
    listing.write_text(
        "name,parameters,size_px,embedding_size,licence,weights\n"
        f"torchvision:{NAME},1,224,512,BSD-3-Clause,{server.url}{file}\n"
    )
    monkeypatch.setattr(catalog, "LISTING", listing)
    catalog._listed.cache_clear()
    catalog._listed_by_name.cache_clear()
    return row(NAME)


@pytest.fixture
def listing() -> Iterator[None]:
    yield
    catalog._listed.cache_clear()
    catalog._listed_by_name.cache_clear()


@pytest.mark.usefixtures("listing")
def test_torchvision_fetches_from_a_server(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    published(server, monkeypatch, tmp_path)
    first = sources.load(NAME)
    asked = len(server.asked)
    assert sources.load(NAME).weights == first.weights
    assert len(server.asked) == asked
    assert torch.equal(first.module.features[0].weight, whole().features[0].weight)
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("listing")
def test_downloads_that_fail(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    there = published(server, monkeypatch, tmp_path, digits="00000000")
    with pytest.raises(OfflineError, match="invalid hash value") as caught:
        sources.load(NAME)
    assert f"Download {there.weights} and put it at {catalog.target(there)}" in caught.value.hint
    assert not catalog.target(there).exists()
    server.files.clear()
    with pytest.raises(OfflineError, match="404"):
        sources.load(NAME)


@pytest.mark.usefixtures("listing")
def test_a_cache_that_cannot_be_written(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    published(server, monkeypatch, tmp_path)
    (tmp_path / "torch").write_text("a file where the folder should be")
    with pytest.raises(OfflineError, match="could not be downloaded"):
        sources.load(NAME)


# timm


def timm_file() -> bytes:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = timm.create_model(TIMM_NAME)
    content: bytes = safetensors_torch.save(model.state_dict())
    return content


def prefill_timm(content: bytes) -> None:
    folder = catalog.target(row(f"timm:{TIMM_NAME}"))
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(COMMIT)
    (folder / "snapshots" / COMMIT).mkdir(parents=True)
    (folder / "snapshots" / COMMIT / "model.safetensors").write_bytes(content)


def python(code: str, **env: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=120, check=False,
        env=os.environ | env,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


LOAD = f"""
    import json, sys, time
    from headstart.backbones import catalog
    from headstart.training import sources
    from headstart.core.errors import HeadstartError
    row = catalog.find("timm:{TIMM_NAME}")
    told = []
    for name in sys.argv[1:] or ["timm:test_resnet", "timm:test_resnet", "timm:test_vit"]:
        clock = time.perf_counter()
        before = catalog.is_local(row)
        try:
            loaded = sources.load(name)
            told.append([before, catalog.is_local(row), loaded.name, loaded.weights])
        except HeadstartError as error:
            told.append([type(error).__name__, error.message, error.hint, time.perf_counter() - clock])
    print(json.dumps(told))
"""


@pytest.mark.slow
def test_timm_fetches_from_a_hub(server: Server, hubs: Path) -> None:
    content = timm_file()
    server.files[f"/{REPOSITORY}/resolve/main/model.safetensors"] = content
    code, out, err = python(LOAD, HF_ENDPOINT=server.url)
    assert (code, err) == (0, "")
    first, second, missing = json.loads(out)
    assert first[:3] == [False, True, f"timm:{TIMM_NAME}"]
    assert second == [True, *first[1:]]
    assert sum(asked.startswith("GET") for asked in server.asked if "test_resnet" in asked) == 1
    assert missing[0] == "OfflineError"
    assert f"{server.url}/timm/test_vit.r160_in1k/resolve/main/model.safetensors" in missing[2]
    assert str(hubs / "hf" / "hub" / "models--timm--test_vit.r160_in1k") in missing[2]
    # The weights are those of the server, and a prefilled cache is enough without one.
    code, out, err = python(LOAD, HF_ENDPOINT=NOWHERE)
    assert (code, err) == (0, "")
    again, _, unreachable = json.loads(out)
    assert again == second
    assert unreachable[0] == "OfflineError"
    assert "cannot be reached" in unreachable[1]
    assert unreachable[3] < 5
    code, out, err = python(LOAD, HF_ENDPOINT=server.url, HF_HUB_OFFLINE="1")
    again, _, offline = json.loads(out)
    assert again == second
    assert offline[0] == "OfflineError"
    assert offline[3] < 5


def test_without_a_network_the_error_says_what_to_fetch_and_where_to_put_it(hubs: Path) -> None:
    clock = time.perf_counter()
    with pytest.raises(OfflineError, match=r"'timm:test_resnet\.r160_in1k' are not on this computer") as caught:
        sources.load("timm:test_resnet")
    assert time.perf_counter() - clock < 5
    assert f"hf download {REPOSITORY} model.safetensors" in caught.value.hint
    assert f"{NOWHERE}/{REPOSITORY}/resolve/main/model.safetensors" in caught.value.hint
    assert str(hubs / "hf" / "hub") in caught.value.hint
    assert "--weights PATH" in caught.value.hint


def test_the_fetched_file_can_be_named(hubs: Path) -> None:
    (hubs / "model.safetensors").write_bytes(timm_file())
    assert sources.load("timm:test_resnet", weights=str(hubs / "model.safetensors")).weights


@pytest.mark.parametrize(
    "variables",
    [{"HF_HUB_CACHE": "{}/x"}, {"HF_HOME": "{}/y"}, {"HF_HOME": "", "XDG_CACHE_HOME": "{}/z"},
     {"HF_HOME": "", "XDG_CACHE_HOME": "", "HOME": "{}/home"}],
)  # fmt: skip
def test_the_folders_are_those_of_the_libraries(
    variables: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of the hub, which its package reads when it is imported, from a copy that is imported now."""
    from huggingface_hub import constants

    for name in ("HF_HOME", "TORCH_HOME", "XDG_CACHE_HOME", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        if value:
            monkeypatch.setenv(name, value.format(tmp_path))
    spec = importlib.util.spec_from_file_location("huggingface_hub.constants_anew", constants.__file__)
    assert spec is not None
    assert spec.loader is not None
    theirs = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(theirs)
    assert str(catalog.hub_cache()) == theirs.HF_HUB_CACHE
    assert str(catalog.torch_cache()) == torch.hub.get_dir() + "/checkpoints"


# The command


PROBE_IMPORTS = """
    import atexit, sys
    from headstart.cli.main import main
    heavy = ("torch", "timm", "torchvision", "onnxscript", "huggingface_hub")
    atexit.register(lambda: print("IMPORTED", [name for name in heavy if name in sys.modules], file=sys.stderr))
    main(sys.argv[1:])
"""


@pytest.mark.slow
def test_train_with_a_backbone_of_timm(server: Server, hubs: Path, cache: Path) -> None:
    server.files[f"/{REPOSITORY}/resolve/main/model.safetensors"] = timm_file()
    images = write_images(hubs / "images", {"disc": 8, "noise": 8})
    command = ("train", images, "--backbone", "timm:test_resnet", "--json")
    first = headstart_process(*command, "--out", hubs / "a", HF_ENDPOINT=server.url)
    assert first.code == 0, first.err
    assert first.json["evaluation"]["accuracy"] > 0.5
    held = headstart_cli("cache", "size", "--json").json
    assert held["embedders"] == 1
    assert held["bytes"] == sum(path.stat().st_size for path in cache.rglob("*") if path.is_file())
    # Again, with new images, without a network, and without PyTorch.
    images = write_images(hubs / "images", {"disc": 2, "noise": 2}, seed=50)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROBE_IMPORTS), *map(str, command), "--out", str(hubs / "b")],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "IMPORTED []" in done.stderr
    assert headstart_cli("verify", hubs / "b" / "model.onnx").code == 0
    assert headstart_cli("cache", "clear").code == 0
    assert list((cache / "embedders").iterdir()) == []


@pytest.mark.slow
def test_the_command_without_a_network(hubs: Path) -> None:
    images = write_images(hubs / "images", {"disc": 3, "noise": 3})
    done = headstart_process("train", images, "--backbone", "timm:test_resnet", "--out", hubs / "run")
    assert done.code == 2
    assert done.err.startswith("Error: The weights of 'timm:test_resnet.r160_in1k' are not on this computer")
    assert "Traceback" not in done.err
    with contextlib.suppress(FileNotFoundError):
        assert not (hubs / "run" / "model.onnx").exists()
