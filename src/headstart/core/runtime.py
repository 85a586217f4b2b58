"""How to run, as opposed to what to compute (that is the recipe): nothing here changes a result."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from headstart.core.arguments import must_be, must_be_count, must_be_flags, must_be_path, refused
from headstart.core.cpus import usable_cpus
from headstart.core.errors import OptionError
from headstart.core.progress import Progress, Silent
from headstart.core.text import listed, nearest, quoted
from headstart.core.work import Pool, Threads

CACHE_VARIABLE = "HEADSTART_CACHE"
CHECKPOINTS = "checkpoints"  # the folder of an unfinished training in its run folder
TRACKERS = ("tensorboard", "mlflow", "wandb", "none")


def default_cache() -> Path | None:
    """The cache folder: `HEADSTART_CACHE` where it is set, else the user's cache folder of this system.

    None where there is no home to look in, as in some containers: then nothing is kept.
    """
    chosen = os.environ.get(CACHE_VARIABLE)
    try:
        if chosen:
            return Path(chosen).expanduser()
        from platformdirs import user_cache_dir

        return Path(user_cache_dir("headstart", appauthor=False))
    except RuntimeError:  # no home folder can be determined
        return None


def default_workers() -> int:
    """One worker for each processor that this process may use; in a container, as many as its limit allows."""
    return usable_cpus()


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """How to run.

    Attributes:
        cache: Folder of the feature cache, a path or a string; None works without one.
        workers: Threads that each decode and embed one image at a time.
        on: What runs the work on images, see `headstart.core.work.Pool`; None for threads of this process.
        progress: Where progress is shown.
        strict: Any file that cannot be used is an error, instead of being skipped and counted.
        device: Where networks are trained: ``auto`` takes a GPU where there is one; ``cpu``, ``cuda``, ``cuda:1``,
            ``mps``. One that is not there is an error.
        folder: The run folder, where a training that may be interrupted keeps its checkpoints; None keeps none.
        resume: Go on from the last checkpoint in `folder`.
        main_process: Whether this process writes and prints; of several that train together, one does.
        tracker: Where the numbers of each epoch are logged: ``tensorboard``, ``mlflow``, ``wandb`` or ``none``.
    """

    cache: Path | None = field(default_factory=default_cache)
    workers: int = field(default_factory=default_workers)
    progress: Progress = field(default_factory=Silent)
    strict: bool = False
    device: str = "auto"
    folder: Path | None = None
    resume: bool = False
    main_process: bool = True
    tracker: str = "none"
    on: Pool | None = None

    def __post_init__(self) -> None:
        for name in ("cache", "folder"):
            if getattr(self, name) is not None:
                must_be_path(name, getattr(self, name))
                object.__setattr__(self, name, Path(getattr(self, name)))
        must_be_count("workers", self.workers)
        must_be_flags(strict=self.strict, resume=self.resume, main_process=self.main_process)
        for name in ("device", "tracker"):
            must_be(name, getattr(self, name), str, "a name")
        if not all(callable(getattr(self.progress, name, None)) for name in ("stage", "line")):
            raise refused("progress", self.progress, "an object with the methods stage and line")
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?|mps", self.device):
            raise OptionError(
                f"There is no device {quoted(self.device)}.", "Choose auto, cpu, cuda, cuda:1 (and so on) or mps."
            )
        if self.tracker not in TRACKERS:
            raise OptionError(
                f"There is no tracker {quoted(self.tracker)}.",
                f"{nearest(self.tracker, TRACKERS)}Choose one of {listed(TRACKERS)}.",
            )
        if self.on is not None and not callable(getattr(self.on, "run", None)):
            raise refused("on", self.on, "an object with the method run")

    @property
    def pool(self) -> Pool:
        """What runs the work on images."""
        return self.on or Threads(self.workers)
