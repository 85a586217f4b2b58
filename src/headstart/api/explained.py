"""Explain any number of images: a folder with a picture of each, and a page with all of them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from headstart.api.explaining import training_source, with_neighbours
from headstart.api.reading import read
from headstart.core import marks
from headstart.core.errors import ImageError, SourceError, StorageError
from headstart.core.files import durable_write, make_folder, refuse_unwritable, refuse_unwritable_file
from headstart.core.runtime import Runtime
from headstart.core.text import counted, portable, quoted
from headstart.data.table import ImageTable, Skipped
from headstart.features.passes import refuse_skipped
from headstart.features.thumbnails import Thumbnails
from headstart.prediction.answers import top_of
from headstart.prediction.classifier import Classifier
from headstart.prediction.explanation import Explainer, Method

if TYPE_CHECKING:
    from headstart.prediction.explanation import Explanation
    from headstart.report.explanations import Entry

_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")
_NAME_LENGTH = 60


@dataclass(frozen=True, kw_only=True)
class ExplainOptions:
    """What to explain about each image, and where to write it.

    Attributes:
        out: Folder for the PNG files.
        page: File for the page.
        label: The class to explain; None for the predicted class of each image.
        method: See `headstart.explain`.
        top: How many classes to name for each image.
        source: The training images; None for the source recorded in the run folder.
        neighbours: How many of the nearest training images to show.
        overwrite: Replace files of an earlier run.
    """

    out: Path
    page: Path
    label: str | None = None
    method: Method = "auto"
    top: int = 3
    source: str | None = None
    neighbours: int = 5
    overwrite: bool = False


@dataclass(frozen=True)
class Explained:
    """The part of an explanation that is kept: no pixels, so that any number of images can be explained.

    Attributes:
        path: Of the image.
        picture: The PNG file that was written.
        explanation: What was found.
        entry: The entry on the page; None if the page does not show this image.
    """

    path: str
    picture: Path
    explanation: Explanation
    entry: Entry | None

    def as_dict(self) -> dict[str, object]:
        """The explanation as JSON values: what ``explain --json`` prints."""
        found = self.explanation
        predicted = found.prediction.names
        return {
            "path": portable(self.path),
            "label": portable(found.label),
            "probability": round(found.probability, 6),
            "predicted": [*map(portable, predicted)] if found.several else portable(predicted[0]),
            "familiar": found.prediction.familiar,
            "method": found.method,
            "top": top_of(found.prediction),
            "neighbours": [
                {"path": portable(near.path), "label": portable(near.label), "similarity": round(near.similarity, 6)}
                for near in found.neighbours
            ],
            "image": portable(str(self.picture)),
        }


@dataclass(frozen=True)
class Explanations:
    """What was explained.

    Attributes:
        explained: Those that could be read, in order.
        skipped: Those that could not, with reasons.
        notes: Remarks for the user.
        page: The page.
    """

    explained: tuple[Explained, ...]
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...]
    page: Path

    def as_dict(self) -> dict[str, object]:
        """The same as JSON values."""
        return {
            "explanations": [one.as_dict() for one in self.explained],
            "skipped": [skip.as_dict() for skip in self.skipped],
            "page": portable(str(self.page)),
            "notes": [portable(note) for note in self.notes],
        }


def explain_table(
    classifier: Classifier, model: str, table: ImageTable, options: ExplainOptions, runtime: Runtime
) -> Explanations:
    """Explain each image of a table, and write its picture as soon as it is done; the page is written at the end.

    Args:
        classifier: The classifier.
        model: Its file, beside which its run folder tells what it was trained on.
        table: The images.
        options: What is explained, and where to.
        runtime: Cache, pool, progress, strictness.

    Raises:
        OptionError: The model does not know the class, or does not support the method.
        SourceError: An image cannot be read, and the runtime is strict; or the source cannot be read.
        StorageError: A file is there already, or cannot be written.
    """
    explainer = Explainer(classifier, options.method)
    if options.label is not None:
        explainer.number(options.label)
    refuse_skipped(table, runtime)
    pictures = [options.out / name for name in _names(table)]
    _prepare(options, pictures)
    results = list(_explain(explainer, table, pictures, options, runtime))
    explained = [one for one in results if isinstance(one, Explained)]
    skipped = [*table.skipped, *(one for one in results if isinstance(one, Skipped))]
    notes = list(table.notes)
    neighbours: Mapping[str, bytes] = {}
    if options.neighbours and explained:
        explained, neighbours, more = _with_neighbours(classifier, explained, model, options, runtime)
        notes += more
    durable_write(options.page, _page(model, explained, neighbours, skipped, notes))
    return Explanations(tuple(explained), tuple(skipped), tuple(notes), options.page)


def _prepare(options: ExplainOptions, pictures: Sequence[Path]) -> None:
    """Make the folders, unless something is in the way."""
    refuse_unwritable(options.out)
    refuse_unwritable_file(options.page)
    there = [] if options.overwrite else [file for file in (options.page, *pictures) if file.exists()]
    if there:
        raise StorageError(
            f"{quoted(str(there[0]))} already exists"
            + (f", and {counted(len(there) - 1, 'other file')}." if len(there) > 1 else "."),
            "Choose another folder (--out) or page (--html), or replace the files (--overwrite).",
        )
    for folder in {options.out, options.page.parent}:
        make_folder(folder)
    marks.write_list(options.out, (picture.name for picture in pictures))


def _explain(
    explainer: Explainer, table: ImageTable, pictures: Sequence[Path], options: ExplainOptions, runtime: Runtime
) -> Iterator[Explained | Skipped]:
    """Explain each image, and write its picture as soon as that is done."""
    from headstart.report.explanations import draw_table

    drawn = draw_table(explainer, table, options.label, options.top, runtime)
    for picture, (row, result) in zip(pictures, drawn, strict=True):
        if isinstance(result, ImageError):
            yield Skipped(row.path, result.message)
            continue
        durable_write(picture, result.png)
        yield Explained(row.path, picture, result.explanation, result.entry)


def _with_neighbours(
    classifier: Classifier, explained: Sequence[Explained], model: str, options: ExplainOptions, runtime: Runtime
) -> tuple[list[Explained], dict[str, bytes], list[str]]:
    """The same with the nearest training images, where those can be found; their pictures; and what to say of it."""
    try:
        table = training_source(model) if options.source is None else read(options.source)
        found = with_neighbours(classifier, [one.explanation for one in explained], table, options.neighbours, runtime)
    except SourceError as error:
        if options.source is not None:
            raise
        return list(explained), {}, [f"Nearest training images are not shown. {error.message} {error.hint}".rstrip()]
    nearer = [
        replace(one, explanation=new, entry=one.entry and replace(one.entry, neighbours=new.neighbours))
        for one, new in zip(explained, found, strict=True)
    ]
    return nearer, _small(classifier, table, nearer, runtime), []


def _small(
    classifier: Classifier, table: ImageTable, explained: Sequence[Explained], runtime: Runtime
) -> dict[str, bytes]:
    """JPEG files of the neighbours on the page, by the digest of their image."""
    wanted = {near.path: near.digest for one in explained if one.entry for near in one.entry.neighbours}
    rows = tuple(row for row in table.rows if row.path in wanted)
    digests = [wanted[row.path] for row in rows]
    metadata = classifier.metadata
    with Thumbnails(
        replace(table, rows=rows),
        digests,
        runtime.cache,
        metadata.max_megapixels,
        enough_px=metadata.preprocess.enough_px,
        white_level=metadata.preprocess.white_level,
    ) as thumbnails:
        return {digests[row]: jpeg for row, jpeg in thumbnails.all_small(range(len(rows))).items()}


def _page(
    model: str,
    explained: Sequence[Explained],
    neighbours: Mapping[str, bytes],
    skipped: Sequence[Skipped],
    notes: Sequence[str],
) -> str:
    from headstart.report.explanations import explanations_page

    return explanations_page(
        model,
        [one.entry for one in explained if one.entry],
        total=len(explained),
        pictures=neighbours,
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
