"""How many processors this process may use: what it is bound to, and what a container's limit lets it have."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_V1 = ("cpu", "cpu,cpuacct", "cpuacct,cpu")  # what the controller's folder is called


def usable_cpus(root: Path = Path("/")) -> int:
    """Processors that this process may use, 1 or more.

    The machine's; less where it is bound to some of them (`taskset`, a cpuset), or where its control group, or one that
    holds it, may use only so much processor time: Docker's `--cpus`, the CPU limit of Kubernetes, systemd's `CPUQuota`.
    Such a limit can be a fraction and is rounded up.

    Args:
        root: Where `/proc` and `/sys` are; for tests.
    """
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([bound, *(math.ceil(one) for one in _quotas(root))]))


def _quotas(root: Path) -> Iterator[float]:
    """The limits of all control groups that this process is in, in processors."""
    for controllers, group in _groups(root):
        names = [""] if not controllers else _V1 if "cpu" in controllers.split(",") else []
        for name in names:
            mount = root / "sys/fs/cgroup" / name
            # The limit of a group holds for all groups inside it. A container without a name space of its own is told
            # the group's name on the host, which it does not see: there, the mount itself is the container's group.
            for one in (group, *group.parents):
                quota = _quota(mount / one.relative_to("/"))
                if quota is not None:
                    yield quota


def _groups(root: Path) -> Iterator[tuple[str, PurePosixPath]]:
    """Controllers and group, a line of /proc/self/cgroup each; those of version 2 name no controllers."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if group.startswith("/") and ".." not in group.split("/"):
            yield controllers, PurePosixPath(group)
        else:  # outside what this process sees: the mount is all there is
            yield controllers, PurePosixPath("/")


def _quota(folder: Path) -> float | None:
    """The limit of one control group; None where there is none, or none that can be read."""
    both = _text(folder / "cpu.max").split()
    if not both:
        both = [*_text(folder / "cpu.cfs_quota_us").split(), *_text(folder / "cpu.cfs_period_us").split()]
    try:
        quota, period = map(int, both)
    except ValueError:  # "max" of version 2
        return None
    return quota / period if quota > 0 and period > 0 else None  # -1: none, in version 1


def _text(path: Path) -> str:
    try:
        return path.read_text("ascii", "replace")
    except OSError:
        return ""
