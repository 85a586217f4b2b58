"""The image and the manifests: sound by their schemas and rules, and their command runs as they have it run.

No image is built here. What a container of it does is done on this machine: its command, its user, its read-only root,
its probes.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import headstart
from helpers import draw
from serving import announced

yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).parent.parent
MANIFEST = ROOT / "deploy" / "kubernetes.yaml"
TOKEN = "a-token-of-the-tests"


def instructions() -> list[tuple[str, str]]:
    """Those of the Dockerfile, in their order: lines that go on are one."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text("utf-8"), flags=re.MULTILINE)
    lines = re.sub(r"\\\n", " ", text).splitlines()
    return [(name, " ".join(rest.split())) for line in lines if line.strip() for name, _, rest in [line.partition(" ")]]


def last(name: str) -> str:
    return [rest for what, rest in instructions() if what == name][-1]


def resources() -> dict[str, Any]:
    return {one["kind"]: one for one in yaml.safe_load_all(MANIFEST.read_text("utf-8"))}


def container() -> Any:
    (one,) = resources()["Deployment"]["spec"]["template"]["spec"]["containers"]
    return one


def test_the_last_stage_has_neither_root_nor_tools() -> None:
    stages = [i for i, (name, _) in enumerate(instructions()) if name == "FROM"]
    final = instructions()[stages[-1] :]
    assert len(stages) == 2
    assert last("USER") == "10001:10001"
    user = next(i for i, (name, _) in enumerate(final) if name == "USER")
    assert not [rest for name, rest in final[user:] if name in {"RUN", "COPY"}]
    runs = " ".join(rest for name, rest in final if name == "RUN")
    assert not re.search(r"apt-get|pip install|curl|wget|gcc|chmod 777", runs)
    assert "pip uninstall" in runs
    assert not re.search(r":latest|ADD |sudo", (ROOT / "Dockerfile").read_text("utf-8"))
    assert last("HEALTHCHECK").endswith("]")
    assert "/readyz" in last("HEALTHCHECK")
    assert json.loads(last("ENTRYPOINT"))[:2] == ["headstart", "serve"]


def test_what_is_copied_into_the_image_is_there_and_is_sent() -> None:
    """`.dockerignore` leaves out all but what is named, and the build needs all of that."""
    lines = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    sent = {line[1:] for line in lines if line.startswith("!")}
    assert "*" in lines
    copied = {source for name, rest in instructions() if name == "COPY" and "--from" not in rest
              for source in rest.split()[:-1]}  # fmt: skip
    assert copied == sent
    assert all((ROOT / source).exists() for source in copied)
    needed = re.findall(r'^(?:readme = |license-files = \[)"([^"]+)"', (ROOT / "pyproject.toml").read_text(), re.M)
    assert set(needed) <= copied


def test_the_manifests_are_valid() -> None:
    validate = pytest.importorskip("kubernetes_validate")
    kinds = resources()
    assert kinds.keys() == {"Deployment", "Service"}
    for one in kinds.values():
        validate.validate(one, "1.30", strict=True)
    with pytest.raises(validate.ValidationError):
        validate.validate(kinds["Service"] | {"specs": {}}, "1.30", strict=True)


def test_the_pod_may_do_no_more_than_it_must() -> None:
    pod = resources()["Deployment"]["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert f"{pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}" == last("USER")
    assert pod["automountServiceAccountToken"] is False
    one = container()
    assert one["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    assert one["resources"].keys() == {"requests", "limits"}
    assert one["resources"]["limits"]["cpu"] == one["args"][one["args"].index("--workers") + 1]
    assert all(mount["name"] in {volume["name"] for volume in pod["volumes"]} for mount in one["volumeMounts"])


def test_the_manifests_fit_together() -> None:
    deployment, service = resources()["Deployment"], resources()["Service"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    assert deployment["spec"]["selector"]["matchLabels"].items() <= labels.items()
    (port,) = container()["ports"]
    assert port["containerPort"] == int(last("EXPOSE")) == int(json.loads(last("ENTRYPOINT"))[-1])
    probes = {container()[probe]["httpGet"]["port"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert probes == {port["name"]} == {service["spec"]["ports"][0]["targetPort"]}
    # The server is asked by the name of the service.
    arguments = container()["args"]
    hosts = [arguments[i + 1] for i, flag in enumerate(arguments) if flag == "--allow-host"]
    assert service["metadata"]["name"] in hosts
    (composed,) = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text("utf-8"))["services"].values()
    assert composed["read_only"] is True
    assert composed["cap_drop"] == ["ALL"]
    assert composed["ports"] == [f"127.0.0.1:{port['containerPort']}:{port['containerPort']}"]


def sealed(temporary: Path, command: list[str]) -> list[str]:
    """A command as a container would run it: another user, no capability, and one folder alone to write to."""
    seal = (
        f"mount --make-rprivate / && mount -o remount,ro,bind / && mount -t tmpfs tmpfs {temporary} && cd / && "
        "! touch /etc/written 2>/dev/null && "
        'exec setpriv --reuid 10001 --regid 10001 --clear-groups --no-new-privs --bounding-set -all "$@"'
    )
    return ["unshare", "-m", "sh", "-c", seal, "sh", *command]


@dataclass(frozen=True)
class Place:
    """A folder that another user may read, and a Python that it may run."""

    folder: Path
    python: str


def interpreter(folder: Path) -> str:
    """This Python, or the system's of the same version where this one lies in a home that others may not enter."""
    said = ""
    for python in (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}"):
        # By way of a shell, since workers are started by a process that has given up all rights already.
        command = sealed(folder / "tmp", ["sh", "-c", f"{python} -c 'import headstart.serving.server'"])
        tried = subprocess.run(command, check=False, capture_output=True, text=True, env=environment(folder))
        if not tried.returncode:
            return python
        said = tried.stderr[-200:]
    pytest.skip(f"no read-only root for another user here: {said}")


@pytest.fixture
def place() -> Iterator[Place]:
    """A folder that another user may read; the test is skipped where there is none, or no such seal."""
    if os.geteuid() != 0 or not shutil.which("setpriv") or not shutil.which("unshare"):
        pytest.skip("to run it as another user, the tests need root")
    folder = Path(tempfile.mkdtemp(prefix="headstart-"))
    folder.chmod(0o755)
    (folder / "tmp").mkdir()
    try:
        yield Place(folder, interpreter(folder))
    finally:
        shutil.rmtree(folder)


def environment(folder: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"], "HOME": "/nonexistent", "HEADSTART_TOKEN": TOKEN, "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": os.pathsep.join([str(Path(headstart.__file__).parent.parent), sysconfig.get_path("purelib")]),
        "TMPDIR": str(folder / "tmp"),
    }  # fmt: skip


def fetch(port: int, path: str, **headers: str) -> int:
    try:
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
        with urllib.request.urlopen(request, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.slow
def test_the_command_of_the_image_runs_in_a_read_only_root(model: Path, place: Place) -> None:
    """With the probes of the manifest and the check of the image, and the names that the manifest allows."""
    runs = place.folder / "runs"
    (runs / "shapes").mkdir(parents=True)
    for file in ("model.onnx", "recipe.toml"):
        shutil.copy(model.parent / file, runs / "shapes" / file)
    image = json.loads(last("ENTRYPOINT"))[2:]
    image[image.index("--port") + 1] = "0"
    arguments = [str(runs) if one == "/models" else one for one in container()["args"]]
    command = sealed(
        place.folder / "tmp", [place.python, "-m", "headstart", "serve", *image, *arguments, "--json", "--quiet"]
    )
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(place.folder)
    )
    try:
        started = announced(process)
        assert started["models"] == ["shapes"]
        port = int(started["url"].rpartition(":")[2])
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            path = container()[probe]["httpGet"]["path"]
            end = time.monotonic() + 60
            while fetch(port, path) != 200:
                assert time.monotonic() < end, path
                time.sleep(0.1)
        check = json.loads(last("HEALTHCHECK").partition("CMD ")[2])
        healthy = [sys.executable, *check[1:-1], check[-1].replace("8000", str(port))]
        assert subprocess.run(healthy, check=False).returncode == 0
        # A name of the service is known, another is not; the token is asked for.
        bearer = {"Authorization": f"Bearer {TOKEN}"}
        assert fetch(port, "/v1/models", Host="headstart", **bearer) == 200
        assert fetch(port, "/v1/models", Host="evil.example", **bearer) == 421
        assert fetch(port, "/v1/models") == 401
        picture = runs / "1.png"
        draw("disc", 1).save(picture)
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/v1/models/shapes/predict", picture.read_bytes(), bearer
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            (record,) = json.load(answer)["predictions"]
        assert record["label"] == headstart.load(model).predict(picture).label
        uids = {line.split()[1] for line in Path(f"/proc/{started['process']}/status").read_text().splitlines()
                if line.startswith("Uid:")}  # fmt: skip
        assert uids == {"10001"}
        process.terminate()
        _, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (0, "")
    finally:
        process.kill()
        process.communicate()


def test_names_of_files_in_the_docs() -> None:
    """Files that the page on shipping tells of are there."""
    page = (ROOT / "docs" / "deploy.md").read_text("utf-8")
    for name in ("Dockerfile", "deploy/compose.yaml", "deploy/kubernetes.yaml"):
        assert name in page
        assert (ROOT / name).is_file()
    included = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["sdist"][
        "include"
    ]
    assert {"/deploy", "/Dockerfile", "/.dockerignore"} <= set(included)
