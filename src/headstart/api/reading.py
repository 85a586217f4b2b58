"""Read a source, load a model file."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

from headstart.core.arguments import must_be_path
from headstart.core.spellings import twin_notes
from headstart.data import readers
from headstart.data.readers import Source
from headstart.data.table import ImageTable
from headstart.features.sharded.folder import ShardFolder, is_folder_of
from headstart.prediction.classifier import Classifier


def read(
    source: Source,
    *,
    columns: readers.Columns | None = None,
    decisions: str | os.PathLike[str] | None = None,
) -> ImageTable:
    """Read a source into an image table, without decoding any image.

    Args:
        source: A folder of class folders; a folder with ``train``, ``val`` and ``test``; a CSV, TSV or JSONL
            manifest; a zip file of any of these; a DataFrame of pandas with the columns of a manifest, whose paths are
            relative to ``columns.root``, or the working folder.
        columns: Names of a manifest's columns.
        decisions: A file of decisions, which leave images out or give them another class; the data check writes one.

    Raises:
        SourceError: There is no such source, or it holds no image; or the decisions do not fit it.
        OptionError: The columns or the decisions have the wrong type.

    Examples:
        >>> headstart.read("photos/").classes  # doctest: +SKIP
        ('ants', 'bees')
    """
    if decisions is not None:
        must_be_path("decisions", decisions)
    table = readers.read(source, columns)
    if decisions is not None:
        from headstart.checks.decisions import apply

        table = apply(table, decisions)
    return dataclasses.replace(table, notes=(*twin_notes(table.classes, table.nouns), *table.notes))


def table_of(images: ImageTable | Source) -> ImageTable:
    """An image table as it is, or read from its source; errors are those of `read`."""
    return images if isinstance(images, ImageTable) else read(images)


def embeddings_in(images: ImageTable | Source) -> ShardFolder | None:
    """The folder of embeddings that a source is; None where it is something else.

    Raises:
        SourceError: It is one, and is damaged.
        ExtraError: It is one, and pyarrow is missing.
    """
    if not isinstance(images, str | os.PathLike) or not is_folder_of(Path(images)):
        return None
    return ShardFolder.open(Path(images))


def load(path: str | os.PathLike[str], *, max_megapixels: int | None = None) -> Classifier:
    """Load a model file; no code in it is ever run.

    Args:
        path: The model file, or the run folder that it is in.
        max_megapixels: Images of more are refused before they are decoded; None for the limit of the recipe that
            the model was trained with.

    Raises:
        ModelError: There is no such file, or it is refused.
        OptionError: The limit is not in 1..178.

    Examples:
        >>> headstart.load("runs/photos").classes  # doctest: +SKIP
        ('ants', 'bees')
    """
    return Classifier.load(path, max_megapixels=max_megapixels)
