"""The pictures of a page, within a budget: a page that holds too much is one that no mail takes and no phone opens."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from headstart.core.errors import ImageError
from headstart.data.storage import Lasting, Storage
from headstart.data.table import ImageTable, Row
from headstart.features.thumbnails import Thumbnails
from headstart.report.analysed import Common
from headstart.report.render import data_uri
from headstart.runs.result import Fitted

# Of a page of at most 5 MB; the rest is words, tables and charts.
BUDGET_BYTES = 3_600_000


class Pictures:
    """Addresses of the pictures of an analysis, each as often as it is asked for, until the budget is spent.

    Args:
        jpegs: JPEG files by the place of their image in the analysis.
        budget_bytes: Of the page, for all of them.

    Attributes:
        left_out: How many pictures were there, and not shown.
    """

    def __init__(self, jpegs: Mapping[int, bytes], budget_bytes: int = BUDGET_BYTES) -> None:
        self._jpegs = jpegs
        self._room = budget_bytes
        self._used: set[int] = set()
        self.left_out = 0

    def take(self, place: int) -> str | None:
        """The address of a picture; None where there is none, or no room for it."""
        uri = data_uri(self._jpegs.get(place))
        if uri is None:
            return None
        if len(uri) > self._room:
            self.left_out += 1
            return None
        self._room -= len(uri)
        self._used.add(place)
        return uri

    def on_page(self, place: int) -> bool:
        """Whether the page holds the picture already."""
        return place in self._used


def find(analysis: Common, storage: Storage | None, cache: Path | None) -> dict[int, bytes]:
    """The pictures of an analysis by the places of their images, from the cache or from the images themselves.

    Args:
        analysis: See `headstart.report.analysed`.
        storage: Where the images are; None where they are gone.
        cache: The cache folder; None for none.
    """
    images, model = analysis.images, analysis.model
    table = ImageTable("", storage or _Nowhere(), tuple(Row(one.path) for one in images))
    with Thumbnails(
        table,
        [one.sha256 for one in images],
        cache,
        analysis.max_megapixels,
        enough_px=model.enough_px,
        white_level=model.preprocess.white_level,
    ) as thumbnails:
        return thumbnails.all_small(range(len(images)))


def thumbnails_of(fitted: Fitted, cache: Path | None) -> Thumbnails:
    """Those of the images of a training.

    Args:
        fitted: The result of the strategy.
        cache: The cache folder; None for none.
    """
    metadata = fitted.model_file.metadata
    limit, white = metadata.max_megapixels, metadata.preprocess.white_level
    return Thumbnails(fitted.data.table, fitted.data.digests, cache, limit, white_level=white)


class _Nowhere(Lasting):
    """No image is there any more."""

    def read(self, path: str) -> bytes:
        raise ImageError("the source is gone")

    def _arguments(self) -> tuple[()]:
        return ()
