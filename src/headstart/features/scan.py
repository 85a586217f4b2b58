"""Look at every image of a table once, without embedding it: which can be read, and what is in them."""

from __future__ import annotations

from hashlib import sha256

from headstart.core.errors import ImageError
from headstart.core.options import Runtime
from headstart.data.decode import decode
from headstart.data.table import ImageTable, Skipped
from headstart.features.extract import each, no_image, refuse_skipped


def scan(table: ImageTable, runtime: Runtime, *, max_megapixels: int, enough_px: int) -> tuple[ImageTable, list[str]]:
    """Decode all images, so that none fails in the middle of a training.

    Args:
        table: The images.
        runtime: Workers, progress, strictness.
        max_megapixels: See `headstart.data.decode.decode`.
        enough_px: Likewise.

    Returns:
        The table of the images that can be read, with all others in `skipped`, and the SHA-256 of each.

    Raises:
        SourceError: No image can be read; or a file is skipped and `runtime.strict` is set.
    """

    def look(index: int) -> str:
        data = table.storage.read(table.rows[index].path)
        decode(data, max_megapixels=max_megapixels, enough_px=enough_px)
        return sha256(data).hexdigest()

    keep, digests, skipped = [], [], []
    for index, result in each(len(table), look, runtime, "Reading"):
        if isinstance(result, ImageError):
            skipped.append(Skipped(table.rows[index].path, result.message))
        else:
            keep.append(index)
            digests.append(result)
    kept = table.select(keep, skipped)
    refuse_skipped(kept, runtime)
    if not keep:
        raise no_image(kept)
    return kept, digests
