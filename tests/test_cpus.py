"""How many processors may be used, from the files that containers of both versions of control groups show."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from headstart.core import cpus
from headstart.core.cpus import usable_cpus
from headstart.core.runtime import Runtime, default_workers

MACHINE = 16


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(MACHINE)), raising=False)


def made(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


GROUP, SYS = "proc/self/cgroup", "sys/fs/cgroup"
V1 = "4:memory:/docker/ab\n3:cpu,cpuacct:/docker/ab\n2:cpuset:/\n0::/docker/ab\n"


@pytest.mark.parametrize(
    ("files", "count"),
    [
        ({}, MACHINE),
        ({GROUP: "0::/\n"}, MACHINE),
        ({GROUP: "0::/\n", f"{SYS}/cpu.max": "max 100000\n"}, MACHINE),
        ({GROUP: "0::/\n", f"{SYS}/cpu.max": "200000 100000\n"}, 2),
        ({GROUP: "0::/\n", f"{SYS}/cpu.max": "150000 100000\n"}, 2),
        ({GROUP: "0::/\n", f"{SYS}/cpu.max": "10000 100000\n"}, 1),
        ({GROUP: "0::/\n", f"{SYS}/cpu.max": "9900000 100000\n"}, MACHINE),
        # a service of systemd, in a slice with a limit of its own
        ({GROUP: "0::/a.slice/b\n", f"{SYS}/a.slice/b/cpu.max": "max 100000", f"{SYS}/a.slice/cpu.max": "3 1"}, 3),
        ({GROUP: "0::/a.slice/b\n", f"{SYS}/a.slice/b/cpu.max": "2 1", f"{SYS}/a.slice/cpu.max": "3 1"}, 2),
        ({GROUP: "0::/../../b\n", f"{SYS}/cpu.max": "5 1"}, 5),
        ({GROUP: "0::/host/path\n", f"{SYS}/cpu.max": "5 1"}, 5),
        ({GROUP: V1, f"{SYS}/cpu,cpuacct/cpu.cfs_quota_us": "-1", f"{SYS}/cpu,cpuacct/cpu.cfs_period_us": "10"}, 16),
        ({GROUP: V1, f"{SYS}/cpu,cpuacct/cpu.cfs_quota_us": "40", f"{SYS}/cpu,cpuacct/cpu.cfs_period_us": "10"}, 4),
        ({GROUP: V1, f"{SYS}/cpu/docker/ab/cpu.cfs_quota_us": "21", f"{SYS}/cpu/docker/ab/cpu.cfs_period_us": "10"}, 3),
        ({GROUP: V1, f"{SYS}/memory/cpu.cfs_quota_us": "10", f"{SYS}/memory/cpu.cfs_period_us": "10"}, MACHINE),
        ({GROUP: "garbage\n\n:\n0::/\n", f"{SYS}/cpu.max": "no number"}, MACHINE),
        ({GROUP: "0::/\n", f"{SYS}/cpu.max": "100000 0\n"}, MACHINE),
    ],
)
def test_the_limit_of_a_container_counts(tmp_path: Path, files: dict[str, str], count: int) -> None:
    assert usable_cpus(made(tmp_path, files)) == count


def test_what_a_process_is_bound_to_counts_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = made(tmp_path, {GROUP: "0::/\n", f"{SYS}/cpu.max": "400000 100000\n"})
    assert usable_cpus(root) == 4
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {5, 7}, raising=False)
    assert usable_cpus(root) == 2
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    assert usable_cpus(root) == 3
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_cpus(root) == 1


def test_every_default_number_of_workers_is_this_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = made(tmp_path, {GROUP: "0::/\n", f"{SYS}/cpu.max": "300000 100000\n"})
    quotas = cpus._quotas
    monkeypatch.setattr(cpus, "_quotas", lambda _: quotas(root))
    assert default_workers() == Runtime(cache=None).workers == 3
    pytest.importorskip("fastapi", reason="no web framework: pip install '.[serve]'")
    from headstart.serving.server import Place

    assert Place().workers == 3
