"""The same HTTP tests on Ray Serve: `serve run` with the configuration of the repository."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from headstart.core.errors import OptionError
from helpers import free_port
from serving import Answer, Server
from test_serve import (  # noqa: F401  tests that ask a server over HTTP; here their fixture is another
    PREDICT,
    png,
    test_addresses_and_localhost_are_its_names,
    test_another_field_of_a_form_is_named,
    test_another_host_is_refused_on_every_route,
    test_bad_requests_are_problem_documents,
    test_health_readiness_and_counts,
    test_heic_and_turned_photos_are_read_as_predict_reads_them,
    test_it_answers_with_the_record_of_predict,
    test_models_and_cards,
    test_pages_of_other_sites_may_not_send_images,
    test_the_bytes_of_one_image_are_enough,
    test_the_manual_names_every_route_and_no_other_host,
    test_the_map_is_that_of_explain,
    test_what_cannot_be_read_is_a_problem_with_its_reason,
)
from test_serve_kserve import (  # noqa: F401
    test_a_client_of_triton_gets_what_python_gives,
    test_json_alone,
    test_models_and_versions_that_there_are_not,
    test_what_does_not_follow_the_protocol_is_refused_in_words,
)

pytest.importorskip("fastapi", reason="no web framework: pip install '.[serve]'")
serve = pytest.importorskip("ray.serve", reason="no Ray Serve: pip install '.[scale]'")
pytestmark = pytest.mark.slow

LIMITS = {"max_megapixels": 1, "max_files": 4}  # as in test_serve_kserve
MARK = "HEADSTART_TEST_RAY_SERVE"  # in the environment of all its processes
CONFIG = Path(__file__).parent.parent / "deploy" / "ray-serve.yaml"


class RayServer(Server):
    """Behind Ray's proxy, which says who it is."""

    def ask(self, *given: Any, **more: Any) -> Answer:
        answer = super().ask(*given, **more)
        assert answer.headers.pop("server") == "uvicorn"
        return answer


def config(port: int, **arguments: Any) -> dict[str, Any]:
    """That of the repository, on this machine."""
    document: dict[str, Any] = yaml.safe_load(CONFIG.read_text())
    document["http_options"] |= {"host": "127.0.0.1", "port": port}
    document["applications"][0]["args"] |= arguments
    return document


@pytest.fixture(scope="module")
def server(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder, port = tmp_path_factory.mktemp("ray-serve"), free_port()
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config(port, models=[str(model.parent)], workers=2, insecure=True, **LIMITS)))
    # Two CPUs are asked for, whatever this machine has, and no other cluster of it. A shell that runs the tests in the
    # background has them ignore Ctrl-C, and so all that they start.
    command = [sys.executable, "-c", "import ray, signal\n"
               "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
               "ray.init('local', num_cpus=2, include_dashboard=False, log_to_driver=False)\n"
               "from ray.serve.scripts import cli; cli()", "run", str(path)]  # fmt: skip
    log = folder / "log"
    with log.open("w") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True,
            env=os.environ | {"RAY_USAGE_STATS_ENABLED": "0", MARK: str(port)}, start_new_session=True,
        )  # fmt: skip
    try:
        one = RayServer(process, port)
        end = time.monotonic() + 120
        while not (one.connects() and one.ask("/readyz").status == 200):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.2)
        yield one
        process.send_signal(signal.SIGINT)
        process.wait(60)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_an_image_that_ends_a_worker_costs_one_answer(server: Server) -> None:
    """The replica stays: its worker is another process."""
    before = server.ask("/metrics").body
    workers = [int(folder.name) for folder in Path("/proc").glob("[0-9]*") if _is_worker(folder, server)]
    assert len(workers) == 2
    for worker in workers:
        os.kill(worker, signal.SIGKILL)
    answer = server.ask(PREDICT, png("disc"))
    assert answer.status in (200, 503)
    assert server.wait("/readyz", 200).json == {"status": "ready"}
    assert server.ask(PREDICT, png("disc")).json["predictions"][0]["label"] == "disc"
    started = re.compile(rb"^headstart_worker_restarts (\S+)", re.M)
    assert float(started.findall(server.ask("/metrics").body)[0]) >= float(started.findall(before)[0]) + 2


def _is_worker(folder: Path, server: Server) -> bool:
    try:
        mark = f"{MARK}={server.port}\0".encode()
        return b"spawn_main" in (folder / "cmdline").read_bytes() and mark in (folder / "environ").read_bytes()
    except OSError:
        return False


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"models": "a.onnx"}, "no token"),
        ({"models": "", "insecure": True}, "No model"),
        ({"models": "a.onnx", "token": "short"}, "16"),
        ({"models": "a.onnx", "insecure": True, "queue": 3}, "queue"),
        ({"models": "a.onnx", "replicas": 3}, "'replicas'.*'min_replicas'"),
        ({"models": "a.onnx", "workers": 0}, "'workers'.*greater"),
        ({}, "'models'.*required"),
    ],
)
def test_arguments_that_are_refused(monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], words: str) -> None:
    from headstart.scale.serve import app

    monkeypatch.delenv("HEADSTART_TOKEN", raising=False)
    with pytest.raises(OptionError) as refused:
        app(given)
    assert re.search(words, str(refused.value), re.S)


def test_arguments_as_the_command_line_gives_them() -> None:
    """`serve run headstart.scale.serve:app models=a,b=c workers=2` gives strings."""
    from headstart.scale.serve import app

    deployment = app({"models": "a, b=c", "workers": "2", "insecure": "true", "max_replicas": "3"})._bound_deployment
    assert deployment.init_args[0].models == ("a", "b=c")
    assert deployment.ray_actor_options["num_cpus"] == 2
    assert deployment._deployment_config.autoscaling_config.max_replicas == 3
