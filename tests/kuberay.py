"""A schema of KubeRay's `RayCluster` and `RayJob` (ray.io/v1): the names and types of its API reference, for tests.

The CRDs themselves are in no package that tests could install. This was written after the reference of KubeRay 1.6
(https://docs.ray.io/en/master/cluster/kubernetes/references/api.html), without the fields of status, ingresses, Redis
and Kueue; a field that it does not name is refused. Pods and services in it are left to Kubernetes' own schemas.
"""

from __future__ import annotations

from typing import Any

TEXT, TRUTH, COUNT = {"type": "string"}, {"type": "boolean"}, {"type": "integer", "minimum": 0}
TEXTS = {"type": "object", "additionalProperties": TEXT}
ANY = {"type": "object"}  # of Kubernetes itself


def record(required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "required": list(required), "properties": properties}


def one_of(*values: str) -> dict[str, Any]:
    return {"enum": list(values)}


GROUP = {"rayStartParams": TEXTS, "resources": TEXTS, "labels": TEXTS, "template": ANY}
CLUSTER = record(
    ("headGroupSpec",),
    rayVersion=TEXT, suspend=TRUTH, enableInTreeAutoscaling=TRUTH, headServiceAnnotations=TEXTS,
    authOptions=record(mode=one_of("disabled", "token"), secretName=TEXT, enableK8sTokenAuth=TRUTH),
    upgradeStrategy=record(type=one_of("Recreate", "None")),
    autoscalerOptions=record(
        idleTimeoutSeconds=COUNT, upscalingMode=one_of("Default", "Aggressive", "Conservative"),
        version=one_of("v1", "v2"), image=TEXT, imagePullPolicy=TEXT, resources=ANY, securityContext=ANY,
        env={"type": "array"},
        envFrom={"type": "array"}, volumeMounts={"type": "array"},
    ),
    headGroupSpec=record(
        ("template",), serviceType=one_of("ClusterIP", "NodePort", "LoadBalancer"), headService=ANY,
        enableIngress=TRUTH, **GROUP,
    ),
    workerGroupSpecs={"type": "array", "items": record(
        ("groupName", "minReplicas", "maxReplicas", "template"), groupName=TEXT, replicas=COUNT, minReplicas=COUNT,
        maxReplicas=COUNT, numOfHosts=COUNT, idleTimeoutSeconds=COUNT, suspend=TRUTH,
        scaleStrategy=record(workersToDelete={"type": "array", "items": TEXT}), **GROUP,
    )},
)  # fmt: skip
JOB = record(
    entrypoint=TEXT, entrypointNumCpus={"type": "number"}, entrypointNumGpus={"type": "number"},
    entrypointResources=TEXT, runtimeEnvYAML=TEXT, jobId=TEXT, metadata=TEXTS, clusterSelector=TEXTS,
    submissionMode=one_of("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"),
    submitterPodTemplate=ANY, submitterConfig=record(backoffLimit=COUNT), backoffLimit=COUNT,
    activeDeadlineSeconds={"type": "integer", "minimum": 1}, ttlSecondsAfterFinished=COUNT,
    shutdownAfterJobFinishes=TRUTH, suspend=TRUTH, rayClusterSpec=CLUSTER,
)  # fmt: skip
SCHEMAS = {
    kind: record(
        ("apiVersion", "kind", "metadata", "spec"),
        apiVersion={"const": "ray.io/v1"}, kind={"const": kind}, metadata=ANY, spec=spec,
    )
    for kind, spec in (("RayCluster", CLUSTER), ("RayJob", JOB))
}  # fmt: skip
