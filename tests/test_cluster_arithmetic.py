"""The arithmetic of docs/scale.md: the simulation of nodes that are lost or slow, and what figures are held to.

Nothing is timed here.
"""

from __future__ import annotations

import io
import math
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture(params=["cluster_simulation"])
def simulation(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Any]:
    """A benchmark; they are scripts, which import each other."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield import_module(request.param)
    for name in ("common", request.param):
        sys.modules.pop(name, None)


scale = pytest.mark.parametrize("simulation", ["scale"], indirect=True)


@pytest.mark.parametrize(
    ("shards", "nodes", "cpus", "rounds"), [(1, 1, 1, 1), (8, 2, 2, 2), (9, 2, 2, 3), (3, 8, 4, 1)]
)
def test_tasks_that_are_alike_run_in_rounds(simulation: Any, shards: int, nodes: int, cpus: int, rounds: int) -> None:
    found = simulation.simulate(simulation.Work(shards, 2.5), simulation.Cluster(nodes, cpus))
    assert found.seconds == pytest.approx(2.5 * rounds)
    assert found.useful_seconds == pytest.approx(2.5 * shards)
    assert (found.wasted_seconds, found.lost_nodes, found.searched) == (0, 0, 0)


def test_one_process_hands_all_of_them_out(simulation: Any) -> None:
    work = simulation.Work(50, 1.0, hand_out_seconds=0.25)
    assert simulation.simulate(work, simulation.Cluster(64, 16)).seconds == pytest.approx(50 * 0.25 + 1)
    assert simulation.simulate(work, simulation.Cluster(1)).seconds == pytest.approx(50 * 1.25)


def test_a_shard_whose_node_is_lost_begins_again(simulation: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    after = iter([25.0, math.inf])  # the second of three shards is half done then
    monkeypatch.setattr(simulation._Run, "_next_loss", lambda self: next(after))
    cluster = simulation.Cluster(1, 2, lost_per_hour=1, back_seconds=7)
    found = simulation.simulate(simulation.Work(5, 10.0), cluster)
    # Two shards until 10, two until 20, the fifth is lost at 25, begins again at 32.
    assert found == simulation.Outcome(42.0, 50.0, 5.0, 10.0, 1, 0)


@pytest.mark.parametrize("seed", range(5))
def test_each_shard_is_done_once_whatever_is_lost(simulation: Any, seed: int) -> None:
    work, cluster = simulation.Work(400, 30.0), simulation.Cluster(5, 4, lost_per_hour=20, back_seconds=40)
    found = simulation.simulate(work, cluster, seed)
    assert found.lost_nodes > 0
    assert found.useful_seconds == pytest.approx(400 * 30)
    assert 0 < found.wasted_seconds <= found.lost_nodes * 4 * 30
    assert found.seconds > 400 * 30 / 20
    assert found == simulation.simulate(work, cluster, seed) != simulation.simulate(work, cluster, seed + 1)


@pytest.mark.parametrize("seed", range(3))
def test_graham_s_bound_holds_with_slow_nodes(simulation: Any, seed: int) -> None:
    """No CPU waits while a shard does: at most the longest of them longer than work over speed (Graham 1966)."""
    cluster = simulation.Cluster(10, 3, slow_share=0.2, slow_factor=5)
    found = simulation.simulate(simulation.Work(301, 7.0), cluster, seed)
    least = 301 * 7 / (3 * (8 + 2 / 5))
    assert least <= found.seconds <= least + 7 * 5


def test_the_arithmetic_is_that_of_the_simulation_or_a_little_more(simulation: Any) -> None:
    for name, (work, cluster) in simulation.CASES.items():
        times = [simulation.simulate(work, cluster, seed).seconds for seed in range(2)]
        assert 0.95 < simulation.expected_seconds(work, cluster) / np.mean(times) < 1.2, name


def test_shards_are_lost_thrice_only_where_nodes_hardly_last_as_long(simulation: Any) -> None:
    work = simulation.Work(2_000, 60.0)
    often, seldom = (simulation.Cluster(20, 4, lost_per_hour=rate, back_seconds=10) for rate in (60.0, 0.1))
    lasts = math.exp(-1)  # a shard as long as a node lasts on average
    share = simulation.simulate(work, often).searched / work.shards
    assert share == pytest.approx((1 - lasts) ** 3, abs=0.06)
    assert simulation.simulate(work, seldom).searched == 0


def test_the_largest_of_many_is_about_that_of_numpy(simulation: Any) -> None:
    drawn = np.random.default_rng(0).standard_normal((400, 1000))
    assert simulation.largest_of(1000) == pytest.approx(drawn.max(axis=1).mean(), abs=0.2)


@scale
def test_photos_differ_in_their_bytes_and_not_in_their_pixels(
    simulation: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simulation, "PICTURES", 3)
    folder = simulation.draw(tmp_path / "photos", 8)
    files = sorted(folder.glob("*/*.jpg"), key=lambda path: path.name)
    assert len({path.read_bytes() for path in files}) == len(files) == 8
    pixels = [np.asarray(Image.open(io.BytesIO(path.read_bytes()))) for path in files]
    assert (pixels[0] == pixels[3]).all()
    assert not (pixels[0] == pixels[1]).all()
    with Image.open(files[4]) as opened:
        assert opened.info["comment"] == b"4"


@scale
def test_ray_is_held_to_its_overhead_and_to_the_bytes(simulation: Any) -> None:
    def figure(images: int, way: str, seconds: float, digest: str = "a") -> Any:
        return simulation.Figure(images, way, seconds, seconds, 2 * seconds, 100.0, digest)

    here = [figure(1000, "here, 2", 10), figure(10_000, "here, 2", 100), figure(10_000, "here, 1", 180)]
    good = [figure(1000, "Ray, 2", 20), figure(10_000, "Ray, 2", 114), figure(10_000, "Ray Data and PyTorch, 2", 900)]
    assert simulation.missed([*here, *good]) == []
    assert simulation.missed([*here, figure(10_000, "Ray, 2", 116)]) == [
        "10,000 images, Ray, 2: 16 % over the same here"
    ]
    assert simulation.missed([*here, figure(1000, "Ray, 2", 11, "b")]) == [
        "1,000 images, Ray, 2: the shards are other bytes"
    ]
    assert [row[5] for row in simulation.rows_of([*here, *good])] == ["", "", "", "2.00", "1.14", "9.00"]
