"""The manifests of a Ray cluster on Kubernetes: sound by their schemas, closed to others, and of one piece.

Pods, volumes and the network policy are held to Kubernetes' own schemas, what is KubeRay's to that of `kuberay`.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

import kuberay
from helpers import headstart_cli
from test_containers import last

yaml = pytest.importorskip("yaml")
jsonschema = pytest.importorskip("jsonschema")
ROOT = Path(__file__).parent.parent
FILES = {"RayCluster": "ray-cluster.yaml", "RayJob": "ray-job.yaml", "NetworkPolicy": "ray-network.yaml"}


def text(kind: str) -> str:
    return (ROOT / "deploy" / FILES[kind]).read_text("utf-8")


def manifest(kind: str) -> Any:
    return yaml.safe_load(text(kind))


def clusters() -> dict[str, Any]:
    return {"RayCluster": manifest("RayCluster")["spec"], "RayJob": manifest("RayJob")["spec"]["rayClusterSpec"]}


def templates(kind: str) -> list[Any]:
    """The pods of a manifest: head, workers, and what hands in the job."""
    cluster = clusters()[kind]
    found = [cluster["headGroupSpec"]["template"], *(group["template"] for group in cluster["workerGroupSpecs"])]
    return found + ([manifest(kind)["spec"]["submitterPodTemplate"]] if kind == "RayJob" else [])


both = pytest.mark.parametrize("kind", ["RayCluster", "RayJob"])


@both
def test_they_are_valid(kind: str) -> None:
    validate = pytest.importorskip("kubernetes_validate")
    jsonschema.validate(manifest(kind), kuberay.SCHEMAS[kind])
    for number, template in enumerate(templates(kind)):
        pod = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "one"}, "template": template}
        validate.validate(pod, "1.30", strict=True)
        template["spec"]["container"] = []
        with pytest.raises(validate.ValidationError):
            validate.validate(pod, "1.30", strict=True)
        assert number < 3
    for wrong in ({"headGroupSpecs": {}}, {"authOptions": {"mode": "on"}}, {"rayVersion": 2.6}, {"headGroupSpec": {}}):
        broken = manifest(kind)
        (broken["spec"] if kind == "RayCluster" else broken["spec"]["rayClusterSpec"]).update(wrong)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(broken, kuberay.SCHEMAS[kind])


def test_the_network_policy_is_valid_and_lets_in_no_one_else() -> None:
    validate = pytest.importorskip("kubernetes_validate")
    policy = manifest("NetworkPolicy")
    validate.validate(policy, "1.30", strict=True)
    ours = policy["spec"]["podSelector"]["matchLabels"]
    assert policy["spec"]["policyTypes"] == ["Ingress"]
    among_us, operator = policy["spec"]["ingress"]
    assert among_us == {"from": [{"podSelector": {"matchLabels": ours}}]}
    assert operator["ports"] == [{"port": 8265}]
    for kind in clusters():
        for template in templates(kind):
            assert ours.items() <= template["metadata"]["labels"].items()


@both
def test_a_cluster_is_closed(kind: str) -> None:
    cluster = clusters()[kind]
    assert cluster["authOptions"] == {"mode": "token"}
    head = cluster["headGroupSpec"]
    assert not {"serviceType", "enableIngress", "headService"} & head.keys()
    # A job is handed in through the dashboard; where there is none, it is off.
    assert head["rayStartParams"].get("include-dashboard") == ("false" if kind == "RayCluster" else None)
    for template in templates(kind):
        pod = template["spec"]
        assert pod["automountServiceAccountToken"] is False
        assert f"{pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}" == last("USER")
        assert pod["securityContext"]["runAsNonRoot"] is True
        (container,) = pod["containers"]
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert not [one for one in container["env"] if "TOKEN" in one["name"] or "KEY" in one["name"]]


@both
def test_its_parts_fit_together(kind: str) -> None:
    cluster = clusters()[kind]
    assert f"\nray=={cluster['rayVersion']}\n" in (ROOT / "constraints.txt").read_text("utf-8")
    assert len({template["spec"]["containers"][0]["image"] for template in templates(kind)}) == 1
    head, workers = cluster["headGroupSpec"], cluster["workerGroupSpecs"][0]
    assert head["rayStartParams"]["num-cpus"] == "0"
    port = int(workers["rayStartParams"]["node-manager-port"])
    for group, expected in ((head, 6379), (workers, port)):
        pod = group["template"]["spec"]
        (container,) = pod["containers"]
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert {container[probe]["tcpSocket"]["port"] for probe in ("readinessProbe", "livenessProbe")} == {expected}
        assert container["resources"]["requests"] == container["resources"]["limits"]
        mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        assert set(mounts.values()) == {volume["name"] for volume in pod["volumes"]}
        writes_to = {one["value"] for one in container["env"] if one["name"] in {"HOME", "HEADSTART_CACHE"}}
        assert all(any(path == where or path.startswith(f"{where}/") for where in mounts) for path in writes_to)
    assert head["template"]["spec"]["volumes"] == workers["template"]["spec"]["volumes"]


@both
def test_its_commands_are_those_of_headstart(kind: str) -> None:
    comment = re.sub(r" \\\n#", "", text(kind))
    (command,) = re.findall(r"headstart (embed s3://.*--address auto.*)", comment)
    words = shlex.split(command)
    assert words[words.index("--out") + 1].startswith("/data/")
    done = headstart_cli("embed", "--help")
    assert done.code == 0
    assert all(word in done.out for word in words if word.startswith("--"))
    extras = set(re.findall(r"PACKAGES='\.\[(\w+)\]", text(kind)))
    assert extras == {"scale"}
    assert "ARG PACKAGES=" in (ROOT / "Dockerfile").read_text("utf-8")
    assert f"deploy/{FILES[kind]}" in (ROOT / "docs" / "scale.md").read_text("utf-8")
