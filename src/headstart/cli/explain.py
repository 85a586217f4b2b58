"""`headstart explain`: where on an image a model finds the evidence for a class."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from headstart.cli import options
from headstart.cli.messages import DONE, SOME_SKIPPED
from headstart.core.text import counted, portable, quoted
from headstart.prediction.record import top_of

if TYPE_CHECKING:
    from headstart.core.options import Runtime
    from headstart.data.table import ImageTable, Skipped
    from headstart.prediction.classifier import Classifier
    from headstart.prediction.explanation import Explainer, Explanation
    from headstart.report.explanations import Entry

PAGE = "explanations.html"
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")
_NAME_LENGTH = 60


class Method(StrEnum):
    """How the map is made."""

    auto = "auto"
    cam = "cam"
    occlusion = "occlusion"


class _Explained(NamedTuple):
    """What is kept of an explanation: no pixels, so that any number of images can be explained."""

    explanation: Explanation
    path: str
    image: Path
    entry: Entry | None


def explain(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="The model.onnx of a run.")],
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
    top: Annotated[int, typer.Option(min=1, help="How many classes to name for each image.")] = 3,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files of an earlier run.")] = False,
    max_megapixels: options.MaxMegapixels = None,
    workers: options.Workers = None,
    no_cache: options.NoCache = False,
    strict: options.Strict = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Show where on each image the model finds the evidence for a class: a picture each, and a page with all."""
    from headstart import api
    from headstart.cli.output import Output
    from headstart.core import marks
    from headstart.core.files import durable_write, make_folder, refuse_unwritable, refuse_unwritable_file
    from headstart.data.inputs import expand
    from headstart.features.loop import refuse_skipped
    from headstart.prediction.explanation import Explainer

    output = Output(as_json=json, quiet=quiet)
    classifier = api.load(model, max_megapixels=max_megapixels)
    explainer = Explainer(classifier, method.value)
    if label is not None:
        explainer.number(label)
    table = expand(paths)
    runtime = options.runtime(output, workers=workers, strict=strict, cached=not no_cache)
    refuse_skipped(table, runtime)
    images, page = [out / name for name in _names(table)], html or out / PAGE
    refuse_unwritable(out)
    refuse_unwritable_file(page)
    if not overwrite:
        _refuse_existing([page, *images])
    for folder in {out, page.parent}:
        make_folder(folder)
    marks.write_list(out, (image.name for image in images))
    explained, skipped = _explain(explainer, table, images, label, top, runtime)
    notes = list(table.notes)
    pictures: dict[str, bytes] = {}
    if neighbours and explained:
        explained, pictures, more = _with_neighbours(classifier, explained, model, source, neighbours, runtime)
        notes += more
    durable_write(page, _page(model, explained, pictures, skipped, notes))
    output.notes(notes)
    output.document({
        "explanations": [_record(one) for one in explained],
        "skipped": [skip.as_dict() for skip in skipped],
        "page": portable(str(page)),
        "notes": [portable(note) for note in notes],
    })  # fmt: skip
    output.table(
        ["Image", "Class", "Probability", "Next most likely", "Most similar"],
        [_cells(one) for one in explained],
        right=(2,),
    )
    output.skipped(skipped)
    if explained:
        output.say(
            f"{counted(len(explained), 'picture')} in {quoted(str(out))}; open {quoted(str(page))} in a browser."
        )
    return SOME_SKIPPED if skipped else DONE


def _explain(
    explainer: Explainer,
    table: ImageTable,
    images: Sequence[Path],
    label: str | None,
    top: int,
    runtime: Runtime,
) -> tuple[list[_Explained], list[Skipped]]:
    """Explain each image, and write its picture as soon as that is done."""
    from headstart.core.errors import ImageError
    from headstart.core.files import durable_write
    from headstart.data.table import Skipped
    from headstart.report.explanations import draw_table

    explained: list[_Explained] = []
    skipped = list(table.skipped)
    drawn = draw_table(explainer, table, label, top, runtime)
    for image, (row, result) in zip(images, drawn, strict=True):
        if isinstance(result, ImageError):
            skipped.append(Skipped(row.path, result.message))
            continue
        durable_write(image, result.png)
        explained.append(_Explained(result.explanation, row.path, image, result.entry))
    return explained, skipped


def _with_neighbours(
    classifier: Classifier,
    explained: Sequence[_Explained],
    model: str,
    source: str | None,
    count: int,
    runtime: Runtime,
) -> tuple[list[_Explained], dict[str, bytes], list[str]]:
    """The same with the nearest training images, where those can be found; their pictures; and what to say of it."""
    from headstart import api
    from headstart.api.explaining import training_source, with_neighbours
    from headstart.core.errors import SourceError

    try:
        table = training_source(model) if source is None else api.read(source)
        found = with_neighbours(classifier, [one.explanation for one in explained], table, count, runtime)
    except SourceError as error:
        if source is not None:
            raise
        return list(explained), {}, [f"Nearest training images are not shown. {error.message} {error.hint}".rstrip()]
    nearer = [
        one._replace(explanation=new, entry=one.entry and replace(one.entry, neighbours=new.neighbours))
        for one, new in zip(explained, found, strict=True)
    ]
    return nearer, _pictures(classifier, table, nearer, runtime), []


def _pictures(
    classifier: Classifier, table: ImageTable, explained: Sequence[_Explained], runtime: Runtime
) -> dict[str, bytes]:
    """JPEG files of the neighbours on the page, by the digest of their image."""
    from headstart.features.thumbnails import Thumbnails

    wanted = {near.path: near.digest for one in explained if one.entry for near in one.entry.neighbours}
    rows = tuple(row for row in table.rows if row.path in wanted)
    digests = [wanted[row.path] for row in rows]
    metadata = classifier.metadata
    with Thumbnails(
        replace(table, rows=rows),
        digests,
        runtime.cache,
        metadata.recipe["max_megapixels"],
        enough_px=metadata.preprocess.enough_px,
        white_level=metadata.preprocess.white_level,
    ) as thumbnails:
        return {digests[row]: jpeg for row, jpeg in thumbnails.all_small(range(len(rows))).items()}


def _page(
    model: str,
    explained: Sequence[_Explained],
    pictures: dict[str, bytes],
    skipped: Sequence[Skipped],
    notes: Sequence[str],
) -> str:
    from headstart.report.explanations import explanations_page

    return explanations_page(
        model,
        [one.entry for one in explained if one.entry],
        total=len(explained),
        pictures=pictures,
        skipped=[(skip.path, skip.reason) for skip in skipped],
        notes=notes,
    )


def _names(table: ImageTable) -> list[str]:
    """A file name for each image: its number, which makes it unique, and what is safe everywhere of its own name."""
    digits = max(3, len(str(len(table))))
    names = []
    for number, row in enumerate(table.rows, 1):
        stem = _UNSAFE.sub("-", Path(row.path).stem).strip("-")[:_NAME_LENGTH].rstrip("-")
        names.append(f"{number:0{digits}}-{stem}.png" if stem else f"{number:0{digits}}.png")
    return names


def _refuse_existing(files: Sequence[Path]) -> None:
    """Keep files from being replaced by accident.

    Raises:
        StorageError: One of them is there already.
    """
    from headstart.core.errors import StorageError

    there = [file for file in files if file.exists()]
    if there:
        raise StorageError(
            f"{quoted(str(there[0]))} already exists"
            + (f", and {counted(len(there) - 1, 'other file')}." if len(there) > 1 else "."),
            "Choose another folder (--out) or page (--html), or replace the files (--overwrite).",
        )


def _record(one: _Explained) -> dict[str, Any]:
    explanation = one.explanation
    return {
        "path": portable(one.path),
        "label": portable(explanation.label),
        "probability": round(explanation.probability, 6),
        "predicted": portable(explanation.prediction.label),
        "familiar": explanation.prediction.familiar,
        "method": explanation.method,
        "top": top_of(explanation.prediction),
        "neighbours": [
            {"path": portable(near.path), "label": portable(near.label), "similarity": round(near.similarity, 6)}
            for near in explanation.neighbours
        ],
        "image": portable(str(one.image)),
    }


def _cells(one: _Explained) -> list[str]:
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
