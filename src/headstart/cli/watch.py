"""`headstart watch`: a line for each file that arrives in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headstart.cli import options
from headstart.cli.messages import DONE


def watch(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder to watch, including its subfolders.")],
    model: Annotated[
        str, typer.Option("--model", "-m", metavar="MODEL", help="The model.onnx of a run, or the run folder.")
    ],
    existing: Annotated[
        bool, typer.Option("--existing", help="Also predict the files that are already there.")
    ] = False,
    settle: Annotated[
        float,
        typer.Option(min=0.1, metavar="SECONDS", help="Time without a change after which a file counts as complete."),
    ] = 0.5,
    top: options.Top = 3,
    coverage: options.Coverage = None,
    abstain: Annotated[
        bool, typer.Option("--abstain", help="Give no class to images unlike the training images.")
    ] = False,
    max_megapixels: options.MaxMegapixels = None,
    workers: options.Workers = None,
    quiet: options.Quiet = False,
) -> int:
    """Predict the class of each file that arrives in a folder.

    Prints a JSON line per file, until Ctrl-C or SIGTERM.
    """
    from headstart import api
    from headstart.cli.output import Output
    from headstart.cli.signals import Stopped
    from headstart.cli.streams import as_json
    from headstart.core.text import counted, quoted
    from headstart.prediction.record import Wanted, record_of

    output = Output(quiet=quiet)
    classifier = api.load(model, max_megapixels=max_megapixels)
    wanted = Wanted.of(classifier, top, coverage=coverage, abstain=abstain)
    runtime = options.runtime(output, workers=workers, strict=False, cached=False)
    classifier.verify()  # the session is ready before the first file comes
    told = 0

    def started() -> None:
        output.note(f"Watching {quoted(str(folder))}. Press Ctrl-C to stop.")

    try:
        for found in api.watch(
            classifier, folder, top=top, coverage=coverage, existing=existing, settle_seconds=settle, started=started,
            runtime=runtime,
        ):  # fmt: skip
            print(as_json(record_of(*found, wanted), indent=None), flush=True)
            told += 1
    except (Stopped, KeyboardInterrupt):  # the way to end it
        output.note(f"Stopped after {counted(told, 'file')}.")
    return DONE
