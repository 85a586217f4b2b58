"""`headstart evaluate`: the accuracy of a model file on labelled images."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from headstart.cli import options, panels
from headstart.cli.messages import DONE, SOME_SKIPPED


@panels.takes(options.COLUMNS)
def evaluate(
    model: options.Model,
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="Labelled images, as for train; if there is a test or val split, only that is measured.",
        ),
    ],
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Accept a source that lacks some of the model's classes.")
    ] = False,
    max_megapixels: options.MaxMegapixels = None,
    workers: options.Workers = None,
    strict: options.Strict = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    **given: Any,
) -> int:
    """Measure a model on labelled images.

    Reports its accuracy and other metrics with confidence intervals.
    """
    from headstart import api
    from headstart.cli.output import Output
    from headstart.cli.show import show_evaluation

    output = Output(as_json=json, quiet=quiet)
    classifier = api.load(model, max_megapixels=max_megapixels)
    columns = options.columns(given)
    evaluation, table = api.evaluate(
        classifier,
        api.read(source, columns=columns),
        allow_missing=allow_missing,
        runtime=options.runtime(output, workers=workers, strict=strict, cached=False),
    )
    where = "images" if evaluation.split == "all" else f"{evaluation.split} images"
    show_evaluation(output, evaluation, where, task=classifier.metadata.task)
    output.notes(table.notes)
    output.skipped(table.skipped)
    skipped = [skip.as_dict() for skip in table.skipped]
    output.document({"evaluation": evaluation.as_dict(), "skipped": skipped, "notes": list(table.notes)})
    return SOME_SKIPPED if table.skipped else DONE
