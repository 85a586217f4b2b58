"""`headstart explain`: where on an image a model finds the evidence for a class."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headstart.cli import options
from headstart.cli.messages import DONE, SOME_SKIPPED
from headstart.core.text import counted, quoted

if TYPE_CHECKING:
    from headstart.api.explained import Explained

PAGE = "explanations.html"


class Method(StrEnum):
    """How the map is made."""

    auto = "auto"
    cam = "cam"
    occlusion = "occlusion"


def explain(
    model: options.Model,
    paths: Annotated[list[str], typer.Argument(metavar="IMAGE", help="Images, folders, or patterns.")],
    out: Annotated[Path, typer.Option(help="Folder for the PNG files and the page.")] = Path("explanations"),
    html: Annotated[Path | None, typer.Option(help=f"File for the page; default: {PAGE} in the folder.")] = None,
    label: Annotated[
        str | None, typer.Option("--class", metavar="NAME", help="Explain this class; default: the predicted one.")
    ] = None,
    method: Annotated[
        Method,
        typer.Option(
            help="cam: class activation map, exact; occlusion: works with every model, takes 50 times as long."
        ),
    ] = Method.auto,
    source: Annotated[
        str | None, typer.Option(help="What the model was trained on; default: what its run folder names.")
    ] = None,
    neighbours: Annotated[int, typer.Option(min=0, max=50, help="Nearest training images to show.")] = 5,
    top: options.Top = 3,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files of an earlier run.")] = False,
    max_megapixels: options.MaxMegapixels = None,
    workers: options.Workers = None,
    no_cache: options.NoCache = False,
    strict: options.Strict = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Show which regions of an image are evidence for a class.

    Writes a picture for each image, and a page with all of them.
    """
    from headstart import api
    from headstart.api.explained import ExplainOptions, explain_table
    from headstart.cli.output import Output
    from headstart.data.inputs import expand

    output = Output(as_json=json, quiet=quiet)
    classifier = api.load(model, max_megapixels=max_megapixels)
    wanted = ExplainOptions(
        out=out, page=html or out / PAGE, label=label, method=method.value, top=top, source=source,
        neighbours=neighbours, overwrite=overwrite,
    )  # fmt: skip
    runtime = options.runtime(output, workers=workers, strict=strict, cached=not no_cache)
    found = explain_table(classifier, model, expand(paths), wanted, runtime)
    output.notes(found.notes)
    output.document(found.as_dict())
    output.table(
        ["Image", "Class", "Probability", "Next most likely", "Most similar"],
        [_cells(one) for one in found.explained],
        right=(2,),
    )
    output.skipped(found.skipped)
    if count := len(found.explained):
        output.say(f"{counted(count, 'picture')} in {quoted(str(out))}; open {quoted(str(found.page))} in a browser.")
    return SOME_SKIPPED if found.skipped else DONE


def _cells(one: Explained) -> list[str]:
    explanation = one.explanation
    near = explanation.neighbours[0] if explanation.neighbours else None
    others = [pair for pair in explanation.prediction.top if pair[0] != explanation.label]
    familiar = " (unlike the training images)" if explanation.prediction.familiar is False else ""
    return [
        one.path,
        f"{explanation.label}{familiar}",
        f"{100 * explanation.probability:.1f} %",
        ", ".join(f"{label} {100 * value:.1f} %" for label, value in others),
        f"{near.label} ({near.similarity:.2f})" if near else "",
    ]
