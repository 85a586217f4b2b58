"""Pictures of the images of a table, for pages: small ones from the feature cache, or decoded again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from types import TracebackType

from PIL import Image

from headstart.core.errors import ImageError
from headstart.core.runtime import default_workers
from headstart.data.decode import decode
from headstart.data.table import ImageTable
from headstart.data.traits import THUMBNAIL_PX, thumbnail
from headstart.features.cache import FILE_NAME, FeatureCache
from headstart.features.look import traits_key
from headstart.settings.recipe import FULL_RANGE

LITE0_ENOUGH_PX = 512  # twice what the default backbone resizes to: the key under which its thumbnails are kept


class Thumbnails:
    """Pictures of the images of a table. Use it as a context manager; any thread may call it.

    A file that has vanished, cannot be read, or holds another image than the one that was looked at has no picture.

    Args:
        table: The images.
        digests: SHA-256 of each image file, hexadecimal.
        cache: The cache folder; None decodes every image.
        max_megapixels: See `headstart.data.decode.decode`.
        enough_px: Of the preprocessing that the images were embedded with; see `Preprocess.enough_px`.
        white_level: The value of 16-bit images that is white.

    Examples:
        >>> with Thumbnails(fitted.data.table, fitted.data.digests, runtime.cache, 100) as thumbnails:  # doctest: +SKIP
        ...     jpeg = thumbnails.small(0)
    """

    def __init__(
        self,
        table: ImageTable,
        digests: Sequence[str],
        cache: Path | None,
        max_megapixels: int,
        *,
        enough_px: int = LITE0_ENOUGH_PX,
        white_level: int = FULL_RANGE,
    ) -> None:
        self._table = table
        self._digests = [bytes.fromhex(digest) for digest in digests]
        self._max_megapixels, self._white_level = max_megapixels, white_level
        # A folder that holds no cache is not made one by looking.
        folder = cache if cache and (cache / FILE_NAME).is_file() else None
        self._cache = FeatureCache(folder, "", 0, traits_key(enough_px, white_level))

    def __enter__(self) -> Thumbnails:
        self._cache.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._cache.__exit__(kind, error, traceback)

    def small(self, row: int) -> bytes | None:
        """A JPEG file whose longer side is at most 96 px, of a row of the table; None where there is none."""
        kept = self._cache.traits(self._digests[row])
        return kept[1] if kept else self.large(row, THUMBNAIL_PX)

    def large(self, row: int, side_px: int) -> bytes | None:
        """A JPEG file whose longer side is at most `side_px` and more than half of it, decoded now; None as above."""
        try:
            data = self._table.storage.read(self._table.rows[row].path)
            if sha256(data).digest() != self._digests[row]:
                return None
            image = decode(data, max_megapixels=self._max_megapixels, enough_px=side_px, white_level=self._white_level)
        except ImageError:
            return None
        return thumbnail(Image.fromarray(image.pixels), side_px)

    def all_small(self, rows: Iterable[int]) -> dict[int, bytes]:
        """Small pictures of those rows that have one, decoded in parallel where they are not kept."""
        rows = list(dict.fromkeys(rows))
        found = {row: kept[1] for row in rows if (kept := self._cache.traits(self._digests[row]))}
        missing = [row for row in rows if row not in found]
        if missing:
            with ThreadPoolExecutor(default_workers(), thread_name_prefix="headstart") as pool:
                decoded = zip(missing, pool.map(lambda row: self.large(row, THUMBNAIL_PX), missing), strict=True)
                found |= {row: jpeg for row, jpeg in decoded if jpeg is not None}
        return found
