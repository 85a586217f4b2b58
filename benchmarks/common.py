"""What the benchmarks share: run a process and measure it, wait for calm, tell the machine, print tables."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol, TypeVar

CALM_WAIT_SECONDS = 60
MAX_OTHER_LOAD = 0.1  # share of the cores; with more, a run counts as disturbed


# What torchvision's `ImageFolder` knows, which is less than Headstart and fastai do.
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"}


class Loaded(Protocol):
    """A measured run that knows how much others disturbed it."""

    @property
    def other_load(self) -> float | None:
        """Share of all cores that others took."""
        ...


Run = TypeVar("Run", bound=Loaded)


@dataclass(frozen=True)
class Process:
    """One process, from its start to its end.

    Attributes:
        seconds: Wall time.
        cpu_seconds: CPU time of the process and its children.
        peak_mb: Largest resident size of the process or of any one of its children, in MB.
        other_load: Share of all cores that was taken by others meanwhile, the hypervisor included; None where the
            system does not say.
        said: What it printed, where that is one JSON object; else empty.
    """

    seconds: float
    cpu_seconds: float
    peak_mb: float
    other_load: float | None
    said: dict[str, Any]


def run(command: Sequence[str]) -> Process:
    """Run a process to its end and measure it.

    Raises:
        SystemExit: It failed.
    """
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        busy, start = system_seconds(), time.perf_counter()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=errors)
        # Unlike getrusage(RUSAGE_CHILDREN), whose peak is that of all children so far, this is about this one alone.
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        busy_after = system_seconds()
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        errors.seek(0)
        text = output.read().decode()
        if process.returncode not in {0, 3}:  # 3: headstart could not read some of the images
            sys.exit(f"{' '.join(command)} failed ({process.returncode}):\n{errors.read().decode()[-2000:]}")
    cpu_seconds = usage.ru_utime + usage.ru_stime
    others = None
    if busy is not None and busy_after is not None:
        others = max(0.0, (busy_after - busy - cpu_seconds) / (seconds * (os.cpu_count() or 1)))
    peak_mb = usage.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e6 / 1024)
    return Process(seconds, cpu_seconds, peak_mb, others, last_document(text))


def last_document(text: str) -> dict[str, Any]:
    """What a process says of itself in JSON: all of its output, or else nothing."""
    try:
        document = json.loads(text)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def system_seconds() -> float | None:
    """CPU seconds that all cores together have been busy or withheld so far; None where the system does not say."""
    try:
        line = Path("/proc/stat").read_text(encoding="ascii").partition("\n")[0]
    except OSError:
        return None
    user, nice, system, _idle, _wait, interrupt, soft, steal = (int(part) for part in line.split()[1:9])
    return (user + nice + system + interrupt + soft + steal) / float(os.sysconf("SC_CLK_TCK"))


def wait_for_calm() -> None:
    """Wait until others leave the machine alone for a second, up to a limit."""
    end = time.monotonic() + CALM_WAIT_SECONDS
    while time.monotonic() < end:
        before = system_seconds()
        time.sleep(1)
        after = system_seconds()
        if before is None or after is None or after - before <= MAX_OTHER_LOAD * (os.cpu_count() or 1):
            return


def least_disturbed(once: Callable[[int], Run], attempts: int, prepare: Callable[[], None]) -> Run:
    """The first run that others leave alone, or else the one that they disturb least; never the fastest as such.

    Args:
        once: Does and measures one run; it is told the number of the attempt, from 1.
        attempts: How often it is tried at most.
        prepare: Called before each run, outside the timing.
    """
    runs: list[Run] = []
    for attempt in range(1, attempts + 1):
        prepare()
        if attempts > 1:
            wait_for_calm()
        runs.append(once(attempt))
        if (runs[-1].other_load or 0.0) <= MAX_OTHER_LOAD:
            break
    return min(runs, key=lambda run: run.other_load or 0.0)


def forget_embeddings() -> None:
    """Empty the feature cache that `HEADSTART_CACHE` names; the embedders in it stay."""
    for path in Path(os.environ["HEADSTART_CACHE"]).glob("embeddings-1.sqlite*"):
        path.unlink()


def same_images(source: Path, target: Path, limit: int | None = None) -> None:
    """Copy the images of train/ and val/ that all sides can read, so that all learn from the same.

    Args:
        source: Folder with train/ and val/, each with a folder for each class.
        target: Where to.
        limit: Images of each class of each part at most.
    """
    for part in ("train", "val"):
        for folder in sorted(path for path in (source / part).iterdir() if path.is_dir()):
            place = target / part / folder.name
            place.mkdir(parents=True)
            images = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
            for image in images[:limit]:
                shutil.copy(image, place)


def count_images(folder: Path) -> int:
    """Number of files in a folder and those below it."""
    return sum(path.is_file() for path in folder.rglob("*"))


def accuracy_words(correct: int, n: int) -> tuple[str, str]:
    """An accuracy and its 95 % interval (Wilson), for a table."""
    from headstart.evaluation.intervals import wilson

    low, high = wilson(correct, n)
    return f"{100 * correct / n:.1f} %", f"{100 * low:.1f} to {100 * high:.1f} %"


def print_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a Markdown table; all columns but the first are aligned to the right."""
    print(f"| {' | '.join(header)} |")
    print(f"|---|{'---:|' * (len(header) - 1)}")
    for cells in rows:
        print(f"| {' | '.join(cells)} |")


def percent(share: float | None) -> str:
    """A share of all cores or images in words; empty where it is not known."""
    return "" if share is None else f"{100 * share:.0f} %"


def cores() -> int:
    """Cores that this process may use."""
    from headstart.core.cpus import usable_cpus

    return usable_cpus()


def machine(packages: Iterable[str]) -> dict[str, Any]:
    """What the figures depend on."""
    return {
        "cpu": cpu_model(),
        "cores": cores(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: installed(name) for name in packages},
    }


def installed(package: str) -> str | None:
    """Version of a package; None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def cpu_model() -> str:
    """The processor's name, as far as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())
