"""The images that are most like one."""

from __future__ import annotations

import os
from dataclasses import dataclass

from headstart.api.reading import table_of
from headstart.core.arguments import A_CLASSIFIER, A_RUNTIME, must_be, must_be_count, must_be_path
from headstart.core.runtime import Runtime
from headstart.data.readers import Source
from headstart.data.table import ImageTable
from headstart.features.passes import refuse_skipped
from headstart.prediction.classifier import Classifier
from headstart.prediction.embedded import embedding
from headstart.prediction.nearest import Nearest


@dataclass(frozen=True)
class Match:
    """An image that is like the one that was asked about.

    Attributes:
        path: As in its table.
        label: Its class; None where its source has none.
        similarity: Cosine of the two embeddings, in -1..1.
        digest: SHA-256 of its file, hexadecimal.
    """

    path: str
    label: str | None
    similarity: float
    digest: str


def search(
    classifier: Classifier,
    image: str | os.PathLike[str],
    images: ImageTable | Source,
    *,
    count: int = 10,
    runtime: Runtime | None = None,
) -> tuple[tuple[Match, ...], ImageTable]:
    """The images that are most like one, by the embeddings of a model, which are kept in the cache.

    Args:
        classifier: The classifier.
        image: The image that is asked about. Where it is one of the others, it is left out of them.
        images: An image table, or a source of one, with labels or without.
        count: How many.
        runtime: Cache, workers, progress, strictness.

    Returns:
        The most similar first; and the table of the images that could be read.

    Raises:
        ImageError: The image cannot be read.
        SourceError: None of the others can be read.
        OptionError: An argument is of a wrong kind.

    Examples:
        >>> found, _ = headstart.search(classifier, "cat.jpg", "photos/")  # doctest: +SKIP
        >>> found[0].path, round(found[0].similarity, 2)  # doctest: +SKIP
        ('cats/17.jpg', 0.91)
    """
    must_be("classifier", classifier, Classifier, *A_CLASSIFIER)
    must_be("runtime", runtime, Runtime | None, A_RUNTIME)
    must_be_path("image", image)
    must_be_count("count", count)
    runtime = runtime or Runtime()
    table = table_of(images)
    refuse_skipped(table, runtime)
    nearest = Nearest[Match](classifier.embed(os.fspath(image))[None], count)
    asked = os.path.realpath(image)
    with embedding(classifier, table, runtime, "Searching") as passed:
        for row, found in passed:
            where = table.storage.local(row.path)
            if where is None or os.path.realpath(where) != asked:
                nearest.add(found.embedding, Match(row.path, row.label, 0.0, found.digest.hex()))
    (best,) = nearest.found()
    matches = tuple(Match(one.path, one.label, cosine, one.digest) for cosine, one in best)
    return matches, passed.table()
