"""`headstart serve --watch`: new and replaced model files are served without a restart, and no request is dropped."""

from __future__ import annotations

import io
import shutil
import threading
import time
from pathlib import Path

import pytest

import headstart
from helpers import draw, headstart_cli, write_images
from serving import Server, serving

pytest.importorskip("fastapi", reason="no web framework: pip install '.[serve]'")


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of two of the classes."""
    folder = write_images(tmp_path_factory.mktemp("two"), {"disc": 12, "noise": 12})
    run = headstart.train(folder)
    return run.save(tmp_path_factory.mktemp("other") / "run") / "model.onnx"


def classes(server: Server, name: str) -> int | None:
    return {one["name"]: one["classes"] for one in server.ask("/v1/models").json["models"]}.get(name)


def until(server: Server, name: str, count: int) -> None:
    end = time.monotonic() + 60
    while classes(server, name) != count:
        assert time.monotonic() < end
        time.sleep(0.05)


def png() -> bytes:
    file = io.BytesIO()
    draw("disc", 90).save(file, "PNG")
    return file.getvalue()


def put(source: Path, folder: Path) -> None:
    """Put a model file in place as Headstart does: whole."""
    folder.mkdir(exist_ok=True)
    shutil.copy(source, folder / "new.tmp")
    (folder / "new.tmp").replace(folder / "model.onnx")


@pytest.mark.slow
def test_models_come_and_are_replaced_while_requests_go_on(model: Path, other: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    runs.mkdir()
    with serving("--watch", runs, "--workers", "2") as one:
        assert one.ask("/readyz").status == 503
        assert one.ask("/v1/models").json == {"models": []}
        put(model, runs / "pets")
        until(one, "pets", 3)
        assert one.ask("/readyz").status == 200
        wrong: list[object] = []
        end = threading.Event()

        def ask() -> None:
            connection_answers = 0
            while not end.is_set() or connection_answers < 5:
                answer = one.ask("/v1/models/pets/predict?top=9", png())
                connection_answers += 1
                if answer.status != 200 or len(answer.json["predictions"][0]["top"]) not in {2, 3}:
                    wrong.append(answer)

        clients = [threading.Thread(target=ask) for _ in range(4)]
        for client in clients:
            client.start()
        for source, count in ((other, 2), (model, 3), (other, 2)):
            put(source, runs / "pets")
            until(one, "pets", count)
        end.set()
        for client in clients:
            client.join()
        assert wrong == []
        assert one.ask("/v1/models/pets/predict?top=9", png()).json["predictions"][0]["label"] == "disc"


@pytest.mark.slow
def test_what_cannot_be_used_changes_nothing(model: Path, other: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    (runs / "bad").mkdir(parents=True)
    (runs / "bad" / "model.onnx").write_bytes(b"no model")
    put(model, runs / "good")
    with serving(f"named={other}", "--watch", runs, "--workers", "1") as one:
        assert [found["name"] for found in one.ask("/v1/models").json["models"]] == ["named", "good"]
        (runs / "good" / "model.onnx").write_bytes(model.read_bytes()[:1000])  # as `cp` leaves it half-way
        put(other, runs / "named")  # a name that is taken
        put(model, runs / "last")
        until(one, "last", 3)
        assert (classes(one, "good"), classes(one, "named"), classes(one, "bad")) == (3, 2, None)
        assert one.ask("/v1/models/good/predict", png()).status == 200
        (runs / "good" / "model.onnx").write_bytes(other.read_bytes())
        until(one, "good", 2)


def test_a_folder_that_is_none_and_no_model_at_all(tmp_path: Path) -> None:
    result = headstart_cli("serve", "--watch", tmp_path / "none", "--port", "0", "--workers", "1")
    assert (result.code, "'watch'" in result.err or "to watch" in result.err) == (2, True)
    result = headstart_cli("serve")
    assert (result.code, "--watch" in result.err) == (2, True)


def test_one_run_is_no_folder_of_runs(model: Path) -> None:
    result = headstart_cli("serve", "--watch", model.parent, "--port", "0", "--workers", "1")
    assert (result.code, f"headstart serve {model.parent};" in result.err) == (2, True)


def test_no_model_is_served_without_its_proof_when_the_queue_is_full(model: Path) -> None:
    from headstart.serving.models import Models, load_all
    from headstart.serving.pool import BusyError, Pool
    from headstart.serving.server import warm_up

    served = load_all([str(model)], None)
    pool = Pool(1, 0, 30, Models(served).keys)  # no job may wait
    try:
        with pytest.raises(BusyError):
            warm_up(pool, served)
    finally:
        pool.close()
