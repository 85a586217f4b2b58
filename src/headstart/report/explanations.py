"""The page that shows explanations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING

from PIL import Image

from headstart.data.traits import thumbnail
from headstart.prediction.explanation import METHODS, Explanation
from headstart.report.page import data_uri, render

if TYPE_CHECKING:
    from headstart.prediction.answers import Prediction
    from headstart.prediction.explanation import Neighbour

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
    prediction: Prediction
    method: str
    supported: bool
    whole: bool
    photo: bytes
    overlay: bytes
    neighbours: tuple[Neighbour, ...] = ()

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
    )


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
        notes: Sentences that a person should read.
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
