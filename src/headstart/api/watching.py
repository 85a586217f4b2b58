"""Predictions of the files that arrive in a folder."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from headstart.core.errors import ImageError
from headstart.core.progress import Silent
from headstart.core.runtime import Runtime
from headstart.data.arrivals import Arrivals, watched
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
    folder: Path,
    wanted: Wanted,
    runtime: Runtime,
    *,
    settle_seconds: float = SETTLE_SECONDS,
    existing: bool = False,
) -> Iterator[tuple[str, Prediction | ImageError] | None]:
    """What a model says of each file that arrives in a folder, until it is stopped.

    A file counts as whole once it has stayed as it is for a while. One that then cannot be read gets more time, since
    its writer may only pause; after `headstart.data.arrivals.PATIENCE_SECONDS` that is its result. A file that changes
    later arrives again.

    Args:
        classifier: The classifier.
        folder: The folder; those below it are watched too.
        wanted: What is asked of each prediction.
        runtime: Workers.
        settle_seconds: The while.
        existing: The files that are there already count as arrivals.

    Yields:
        The path of a file, and the prediction or why it cannot be read; first None, once the folder is being watched.

    Raises:
        SourceError: There is no such folder, or it is gone.
        ExtraError: The extra `watch` is not installed.
    """
    arrivals = Arrivals(settle_seconds)
    quiet = replace(runtime, progress=Silent())
    ready = False
    for unwatchable in watched(folder, arrivals, existing=existing):
        if not ready:
            ready = True
            yield None
        for name in unwatchable:
            yield os.path.join(folder, name), ImageError("its name is not UTF-8, and such files are not watched")  # noqa: PTH118
        due = dict(arrivals.due(time.monotonic()))
        if not due:
            continue
        table = ImageTable(str(folder), FolderStorage(""), tuple(map(Row, due)))
        for path, result in predict_table(classifier, table, wanted, quiet):
            if isinstance(result, ImageError) and not due[path]:
                arrivals.again(path, time.monotonic())
            else:
                yield path, result
