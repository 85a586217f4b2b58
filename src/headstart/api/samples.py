"""Images to prove an export on: those that a person names, or those of the run that the model comes from."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, overload

from headstart.api.explaining import of_splits, training_source
from headstart.core.errors import ImageError, SourceError
from headstart.core.text import quoted
from headstart.data.inputs import expand
from headstart.data.table import ImageTable, Row
from headstart.prediction.classifier import Classifier

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MOST = 200  # images of a proof: 200 that agree leave at most 1.9 % that do not, with 95 % confidence
MOST_LEARNT = 80  # images to find the ranges of int8 with


@dataclass(frozen=True)
class Sample:
    """Pixels, uint8 (H, W, 3) each.

    Attributes:
        images: To prove an export on.
        of: Which those are, in words.
        learnt: To make it with, where that takes images.
        notes: Remarks for the user.
    """

    images: Sequence[NDArray[np.uint8]]
    of: str
    learnt: Sequence[NDArray[np.uint8]] = ()
    notes: tuple[str, ...] = ()


def sample_of(classifier: Classifier, model: Path, check: str | os.PathLike[str] | None, *, learns: bool) -> Sample:
    """Images for an export.

    Args:
        classifier: The model.
        model: Its file.
        check: Images, as for `predict`; None for those of the run.
        learns: Some are needed to make it.

    Raises:
        SourceError: No image of `check` can be read.
    """
    notes: list[str] = []
    try:
        table = training_source(model)
        roles = of_splits(model.parent, "split")
    except SourceError as error:
        table, roles = None, {}
        if check is None:
            notes.append(
                "Tested on the golden images only, because no images of the run were found "
                f"({error.message.rstrip('.')}). Give some like yours: --check FOLDER (check=...)."
            )
    learnt = _read(classifier, table, [row for row in table.rows if roles.get(row.path, "train") == "train"],
                   MOST_LEARNT) if table is not None and learns else []  # fmt: skip
    if check is None:
        if table is None:
            return Sample((), "golden images", learnt, tuple(notes))
        held_out = [row for row in table.rows if roles.get(row.path) in {"test", "val"}]
        images = _read(classifier, table, held_out or table.rows, MOST)
        return Sample(images, "held-out and golden images" if held_out else "training and golden images", learnt)
    given = expand([os.fspath(check)])
    images = _read(classifier, given, given.rows, MOST)
    if not images:
        raise SourceError(f"No image of {quoted(os.fspath(check))} can be read.", "Name a folder of images.")
    if learns and not learnt:
        learnt = images[::2][:MOST_LEARNT]
        images = images[1::2]
        notes.append("Half of the images were used to make it, and the others to test it.")
    return Sample(images, f"images of {quoted(os.fspath(check))} and golden images", learnt, tuple(notes))


def _read(classifier: Classifier, table: ImageTable, rows: Sequence[Row], most: int) -> Sequence[NDArray[np.uint8]]:
    """The pixels of at most so many, spread evenly over the rows; those that cannot be read are left out."""
    step = max(1, -(-len(rows) // most))
    found = []
    for row in rows[::step]:
        with suppress(ImageError):
            classifier.pixels(table.storage.read(row.path))
            found.append(row)
    return _Pixels(classifier, table, found)


class _Pixels(Sequence["NDArray[np.uint8]"]):
    """Pixels that are decoded when they are looked at: those of 280 large photos would take gigabytes."""

    def __init__(self, classifier: Classifier, table: ImageTable, rows: Sequence[Row]) -> None:
        self._classifier, self._table, self._rows = classifier, table, rows

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, place: int) -> NDArray[np.uint8]: ...
    @overload
    def __getitem__(self, place: slice) -> _Pixels: ...
    def __getitem__(self, place: int | slice) -> NDArray[np.uint8] | _Pixels:
        if isinstance(place, slice):
            return _Pixels(self._classifier, self._table, self._rows[place])
        return self._classifier.pixels(self._table.storage.read(self._rows[place].path))
