"""Predictions of the files that arrive in a folder."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from headstart.core.arguments import (
    A_CLASSIFIER,
    A_RUNTIME,
    must_be,
    must_be_count,
    must_be_flags,
    must_be_path,
    refused,
)
from headstart.core.errors import ImageError
from headstart.core.extras import require
from headstart.core.progress import Silent
from headstart.core.runtime import Runtime
from headstart.data.arrivals import Arrivals, refuse_missing, watched
from headstart.data.storage import FolderStorage
from headstart.data.table import ImageTable, Row
from headstart.prediction.batch import predict_table
from headstart.prediction.classifier import Classifier
from headstart.prediction.record import Wanted

if TYPE_CHECKING:
    from headstart.prediction.answers import Prediction

SETTLE_SECONDS = 0.5


def watch(
    classifier: Classifier,
    folder: str | os.PathLike[str],
    *,
    top: int = 5,
    coverage: float | None = None,
    existing: bool = False,
    settle_seconds: float = SETTLE_SECONDS,
    started: Callable[[], None] = lambda: None,
    runtime: Runtime | None = None,
) -> Iterator[tuple[str, Prediction | ImageError]]:
    """What a model says of each file that arrives in a folder; it goes on until the loop over it is left.

    A file counts as whole once it has stayed as it is for a while. One that then cannot be read gets more time, since
    its writer may only pause; after 10 seconds, or `settle_seconds` where those are more, its error is given. A file
    that changes later arrives again. Hidden files are passed over.

    Args:
        classifier: The classifier.
        folder: The folder to watch, including its subfolders.
        top: How many classes to name.
        coverage: As in `Classifier.predict`.
        existing: The files that are there already count as arrivals.
        settle_seconds: Time without a change after which a file counts as complete, above 0.
        started: Called once the folder is being watched, which begins with the loop.
        runtime: Workers.

    Returns:
        An iterator of the path of a file, which begins with the folder as it was given, and its prediction; or the
        `ImageError` that says why it cannot be read.

    Raises:
        SourceError: There is no such folder; or, in the loop, it is gone.
        OptionError: An argument is of a wrong kind, or the model file holds nothing to make such sets with.
        ExtraError: The extra `watch` is not installed.

    Example:
        >>> model = headstart.load("runs/pets/model.onnx")  # doctest: +SKIP
        >>> for path, found in headstart.watch(model, "inbox"):  # doctest: +SKIP
        ...     print(path, found if isinstance(found, headstart.ImageError) else found.label)
    """
    must_be("classifier", classifier, Classifier, *A_CLASSIFIER)
    must_be("runtime", runtime, Runtime | None, A_RUNTIME)
    must_be_path("folder", folder)
    must_be_count("top", top)
    must_be_flags(existing=existing)
    if not isinstance(settle_seconds, (int, float)) or not settle_seconds > 0:
        raise refused("settle_seconds", settle_seconds, "seconds above 0, such as 0.5")
    require("watchfiles", "watch", "Watching a folder")
    refuse_missing(Path(folder))
    wanted = Wanted.of(classifier, top, coverage=coverage)
    quiet = replace(runtime or Runtime(), progress=Silent())
    return _watch(classifier, Path(folder), wanted, quiet, Arrivals(settle_seconds), existing, started)


def _watch(
    classifier: Classifier,
    folder: Path,
    wanted: Wanted,
    runtime: Runtime,
    arrivals: Arrivals,
    existing: bool,
    started: Callable[[], None],
) -> Iterator[tuple[str, Prediction | ImageError]]:
    told = False
    with closing(watched(folder, arrivals, existing=existing)) as rounds:
        for unwatchable in rounds:
            if not told:
                told = True
                started()
            for name in unwatchable:
                where = os.path.join(folder, name)  # noqa: PTH118
                yield where, ImageError("its name is not UTF-8, and such files are not watched")
            due = dict(arrivals.due(time.monotonic()))
            if not due:
                continue
            table = ImageTable(str(folder), FolderStorage(""), tuple(map(Row, due)))
            for path, result in predict_table(classifier, table, wanted, runtime):
                if isinstance(result, ImageError) and not due[path]:
                    arrivals.again(path, time.monotonic())
                else:
                    yield path, result
