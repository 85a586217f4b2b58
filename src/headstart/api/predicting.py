"""Predictions of any number of images in a folder of Parquet shards, which is resumed where it was left."""

from __future__ import annotations

import os
from dataclasses import asdict, replace
from pathlib import Path

from headstart.api.sharding import described, refuse_shard_rows
from headstart.core.arguments import A_CLASSIFIER, A_RUNTIME, must_be, must_be_flags, must_be_path
from headstart.core.errors import SourceError
from headstart.core.runtime import Runtime
from headstart.data import decode as decoder
from headstart.data.inputs import expand
from headstart.data.table import ImageTable
from headstart.features.passes import refuse_skipped
from headstart.features.sharded.growing import begin, held
from headstart.features.sharded.plan import SHARD_ROWS, Plan
from headstart.features.sharded.run import Written, write_all
from headstart.features.sharded.work import WriteShard
from headstart.prediction.batch import Predict
from headstart.prediction.classifier import Classifier
from headstart.prediction.record import Wanted
from headstart.prediction.resultfiles.made import Made
from headstart.prediction.resultfiles.shard_rows import PredictionForm

_TOP = 3  # as on the command line


def predict_into(
    classifier: Classifier,
    images: ImageTable | str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    wanted: Wanted | None = None,
    shard_rows: int = SHARD_ROWS,
    overwrite: bool = False,
    runtime: Runtime | None = None,
) -> Written:
    """Predict images into a folder of Parquet shards; what is there of the same images and model is kept.

    Whenever the process ends, the shards that were written stay, and the same call goes on. An image that cannot be
    read is a row with the reason.

    Args:
        classifier: The model.
        images: An image table; or an image, a folder that is searched for images, a Parquet or tar file, a URL.
        out: The folder.
        wanted: What is asked of each prediction, as of `headstart.prediction.record.Wanted.of`; None for three classes.
        shard_rows: Images of a shard, 1 to 65,536.
        overwrite: Keep nothing of what is there.
        runtime: Workers, progress, strictness, and what runs the work on shards.

    Raises:
        SourceError: There is no image, or none can be read.
        OptionError: An argument is of a wrong kind.
        StorageError: The folder holds something else, another process writes it, or it cannot be written.
        ExtraError: pyarrow is missing.

    Example:
        >>> headstart.predict_into(headstart.load("model.onnx"), "photos/", "predictions/")  # doctest: +SKIP
    """
    must_be("classifier", classifier, Classifier, *A_CLASSIFIER)
    must_be_path("out", out)
    must_be("wanted", wanted, Wanted | None, "headstart.prediction.record.Wanted")
    must_be("runtime", runtime, Runtime | None, A_RUNTIME)
    must_be_flags(overwrite=overwrite)
    refuse_shard_rows(shard_rows)
    if not isinstance(images, ImageTable):
        must_be_path("The source", images, SourceError)
    runtime, path = runtime or Runtime(), Path(out).absolute()
    wanted = wanted or Wanted.of(classifier, _TOP, coverage=None)
    with held(path):
        table = images if isinstance(images, ImageTable) else expand([os.fspath(images)])
        refuse_skipped(table, runtime)
        plan = Plan.of(table, shard_rows)
        description = described("predictions", _made(classifier, wanted), table, plan)
        description = replace(description, task=wanted.task, classes=classifier.classes)
        begun = begin(path, description, plan, overwrite=overwrite)
        ask = Predict(classifier, wanted, table.storage)
        threads = 1 if runtime.on else runtime.workers
        work = WriteShard(path, begun.folder.description, ask, PredictionForm(wanted), threads)
        written = write_all(begun, work, runtime, "Predicting")
    return replace(written, notes=(*table.notes, *written.notes))


def _made(classifier: Classifier, wanted: Wanted) -> dict[str, object]:
    """All that decides the predictions of an image."""
    made = asdict(Made.by(classifier, "parquet", wanted))
    del made["format"]
    return {**made, "decode": decoder.VERSION}
