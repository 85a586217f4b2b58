"""A Ray cluster of two nodes on this machine, and what is done on it; for tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import headstart as hs
from headstart.api.sharding import Shape


@dataclass(frozen=True)
class Verb:
    """What is done to each image.

    Attributes:
        kind: Of the folder.
        command: Of the program, but for the source, the folder and the cluster.
        model: The model file; None to embed.
    """

    kind: Any
    command: tuple[str, ...]
    model: Path | None

    def __call__(self, source: Any, out: Path, rows: int = 4, **given: Any) -> Any:
        if self.model is None:
            return hs.embed_into(source, out, shape=Shape(shard_rows=rows), **given)
        return hs.predict_into(hs.load(self.model), source, out, shard_rows=rows, **given)


@pytest.fixture(params=["embeddings", "predictions"])
def verb(request: pytest.FixtureRequest) -> Verb:
    if request.param == "embeddings":
        return Verb(request.param, ("embed",), None)
    model: Path = request.getfixturevalue("model")
    return Verb(request.param, ("predict", str(model)), model)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    import ray
    from ray.cluster_utils import Cluster

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    paths = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), paths])  # workers import the tests
    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        yield found
    finally:
        os.environ["PYTHONPATH"] = paths
        ray.shutdown()
        found.shutdown()


@pytest.fixture
def nodes(cluster: Any) -> tuple[Any, Any]:
    """The cluster with a second node, of which a test may do away: the next one then gets another."""
    others = [node for node in cluster.list_all_nodes() if node is not cluster.head_node]
    second = others[0] if others else cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    return cluster, second


def on(cluster: Any, **given: Any) -> hs.Runtime:
    from headstart.scale.ray_pool import RayPool

    return hs.Runtime(on=RayPool(cluster.address, **given))


def contents(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.glob("part-*")}
