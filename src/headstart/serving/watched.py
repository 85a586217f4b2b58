"""Watches a folder of runs: a new model file is verified, and then replaces the old one at once."""

from __future__ import annotations

import shlex
import threading
from collections.abc import Callable
from pathlib import Path

from headstart.core.errors import HeadstartError, SourceError, StorageError
from headstart.core.marks import MODEL_FILE
from headstart.core.text import portable, quoted
from headstart.modelfile.location import holds_runs, model_name
from headstart.serving.models import Models, Served, load
from headstart.serving.pool import BusyError

_SECONDS = 1.0  # between two looks

Stamp = tuple[int, int, int]


class Watcher(threading.Thread):
    """Looks at the model files in the run folders of a folder, and serves those that are new or have changed.

    A file that cannot be used is noted, and the model served before stays; so does a model whose file is gone. A
    half-written file is refused as damaged, and read again when it has changed.

    Args:
        folder: The folder of run folders.
        models: What is served.
        prove: Called with a model before it is served; raises an error if it must not be served.
        max_megapixels: Images of more are refused; None for the limit that each model was trained with.
        note: Called with a message about what has happened.
    """

    def __init__(
        self,
        folder: Path,
        models: Models,
        prove: Callable[[Served], None],
        max_megapixels: int | None,
        note: Callable[[str], None],
    ) -> None:
        super().__init__(name="headstart-watch", daemon=True)
        if not folder.is_dir():
            raise SourceError(f"There is no folder {quoted(str(folder))} to watch.", "Name the folder of the runs.")
        if (folder / MODEL_FILE).exists() and not holds_runs(folder):
            raise SourceError(
                f"{quoted(str(folder))} is one run, not a folder of runs.",
                f"Serve it: headstart serve {shlex.quote(str(folder))}; or watch the folder that it is in.",
            )
        self._folder = folder
        self._models = models
        self._prove = prove
        self._max_megapixels = max_megapixels
        self._note = note
        self._seen: dict[Path, Stamp] = {}
        self._told: dict[Path, Stamp] = {}  # of those that are tried again
        self._end = threading.Event()

    def run(self) -> None:
        """Look at the folder repeatedly, until stopped."""
        while not self._end.wait(_SECONDS):
            self.look()

    def end(self) -> None:
        """Stop looking."""
        self._end.set()
        if self.is_alive():
            self.join(5)

    def look(self) -> None:
        """Look at the folder once."""
        for path in sorted(self._folder.glob(f"*/{MODEL_FILE}")):
            stamp = _stamp(path)
            if stamp is None or self._seen.get(path) == stamp or self._end.is_set():
                continue
            try:
                self._take(path)
                self._seen[path] = stamp
            except BusyError:
                pass  # there is no room for its proof now: at the next look
            except StorageError as error:  # no worker can be started, which says nothing of the model: as above
                if self._told.get(path) != stamp:
                    self._told[path] = stamp
                    self._note(f"{quoted(str(path))} is not served yet: {error}")
            except HeadstartError as error:
                self._seen[path] = stamp
                self._note(f"{quoted(str(path))} is not served: {error}")
            except Exception as error:  # noqa: BLE001  the thread must live, and whoever waits for the model must hear of it
                self._seen[path] = stamp
                self._note(f"{quoted(str(path))} is not served: {type(error).__name__}: {error}")

    def _take(self, path: Path) -> None:
        name = portable(model_name(path))
        before = self._models.find(name)
        if before is not None and before.path.resolve() != path.resolve():
            raise SourceError(
                f"{quoted(name)} is already the name of {quoted(str(before.path))}.",
                "Rename one of the two run folders.",
            )
        model = load(path, name, self._max_megapixels)
        if before is not None and before.key == model.key:
            return
        self._prove(model)
        self._models.take(model)
        self._note(f"{quoted(name)} is {'served' if before is None else 'replaced by a new file'}.")


def _stamp(path: Path) -> Stamp | None:
    """A file's identity and version: a replaced file has another inode number even if time and size are the same."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
