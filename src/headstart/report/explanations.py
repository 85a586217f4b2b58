"""The page that shows explanations."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from headstart.core.errors import ImageError
from headstart.core.runtime import Runtime
from headstart.data.storage import Storage
from headstart.data.table import ImageTable, Row
from headstart.data.traits import thumbnail
from headstart.features.passes import in_turn
from headstart.prediction.explanation import METHODS, Explainer, Explanation
from headstart.report.render import data_uri, render

if TYPE_CHECKING:
    from headstart.prediction.answers import Prediction
    from headstart.prediction.explanation import Neighbour
    from headstart.prediction.labels import LabelsPrediction

# Pictures of 100 images make a page of about 10 MB; the PNG files show the others.
MAX_SHOWN = 100
PICTURE_PX = 400


@dataclass(frozen=True)
class Entry:
    """An explanation as the page shows it.

    Attributes:
        path: Of the image.
        label: The class that is explained.
        probability: Of it, in 0..1.
        prediction: What the classifier says of the image.
        several: Whether any number of labels can be true of an image.
        method: ``cam`` or ``occlusion``.
        supported: Whether any place speaks for the class.
        whole: Whether the network sees the whole image.
        photo: JPEG file of the image.
        overlay: JPEG file of the image with the map over it.
        neighbours: The nearest training images.
    """

    path: str
    label: str
    probability: float
    prediction: Prediction | LabelsPrediction
    method: str
    supported: bool
    whole: bool
    photo: bytes
    overlay: bytes
    neighbours: tuple[Neighbour, ...] = ()
    several: bool = False

    @property
    def name(self) -> str:
        """The last part of the path."""
        return PurePath(self.path).name


def entry(path: str, explanation: Explanation, overlay: Image.Image) -> Entry:
    """What the page shows of an explanation, whose overlay was painted already."""
    seen = explanation.frame.seen
    return Entry(
        path=path,
        label=explanation.label,
        probability=explanation.probability,
        prediction=explanation.prediction,
        method=METHODS[explanation.method],
        supported=bool(explanation.grid.max() > 0),
        whole=(seen.top, seen.left, seen.bottom, seen.right) == (0, 0, 1, 1),
        photo=thumbnail(Image.fromarray(explanation.pixels), PICTURE_PX),
        overlay=thumbnail(overlay, PICTURE_PX),
        several=explanation.several,
    )


class Drawn(NamedTuple):
    """An explanation with its pictures.

    Attributes:
        explanation: Without its pixels, so that any number of images can be explained.
        png: The image with the map over it, a PNG file.
        entry: What the page shows of it; None beyond the first `MAX_SHOWN`.
    """

    explanation: Explanation
    png: bytes
    entry: Entry | None


@dataclass(frozen=True)
class _Draw:
    """The unit of work: explain an image, and paint it.

    Attributes:
        explainer: What explains.
        storage: Where the images are.
        label: The class to be explained; None for the one that is predicted.
        top: How many classes to name.
        workers: Threads for each image, where that takes several runs.
        shown: Paths of the images on the page.
    """

    explainer: Explainer
    storage: Storage
    label: str | None
    top: int
    workers: int
    shown: frozenset[str]

    def __call__(self, row: Row, /) -> Drawn:
        content = self.storage.read(row.path)
        explanation = self.explainer.explain_file(content, self.label, top=self.top, workers=self.workers)
        overlay = explanation.overlay()
        buffer = io.BytesIO()
        overlay.save(buffer, "PNG")
        shown = entry(row.path, explanation, overlay) if row.path in self.shown else None
        return Drawn(replace(explanation, pixels=np.empty((0, 0, 3), np.uint8)), buffer.getvalue(), shown)


def draw_table(
    explainer: Explainer, table: ImageTable, label: str | None, top: int, runtime: Runtime
) -> Iterator[tuple[Row, Drawn | ImageError]]:
    """Explain and paint each image of a table, or say why it cannot be read; in order, as they come.

    Args:
        explainer: What explains.
        table: The images.
        label: The class to explain; None for the predicted class of each image.
        top: How many classes to name for each.
        runtime: Pool, progress, strictness.

    Raises:
        SourceError: An image cannot be read, and the runtime is strict.
    """
    shown = frozenset(row.path for row in table.rows[:MAX_SHOWN])
    workers = max(1, runtime.workers // len(table))
    return in_turn(_Draw(explainer, table.storage, label, top, workers, shown), table, runtime, "Explaining")


def explanations_page(
    model: str,
    entries: Sequence[Entry],
    *,
    total: int,
    pictures: Mapping[str, bytes],
    skipped: Sequence[tuple[str, str]],
    notes: Sequence[str],
) -> str:
    """The page as HTML text.

    Args:
        model: What to call the model.
        entries: What is shown.
        total: How many images were explained.
        pictures: JPEG files of neighbours, by the digest of their image.
        skipped: Paths of files that were not read, with reasons.
        notes: Remarks for the user.
    """
    return render(
        "explanation.html.j2",
        model=model,
        entries=entries,
        total=total,
        skipped=skipped,
        notes=notes,
        methods=sorted({one.method for one in entries}),
        address=data_uri,
        pictures=pictures,
    )
