"""The table of backbones. Listing it imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass

from headstart.core.errors import OptionError
from headstart.core.text import listed, nearest, quoted


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What is known of a backbone without loading it.

    Attributes:
        module: Where it is built, as ``module:function(graph, pixels, precision) -> name of the embedding``.
        size_px: Side of its square input.
        crop_fraction: See `headstart.preprocess.spec.Preprocess`.
        mean: Mean of each channel that the weights were trained with.
        std: Standard deviation likewise.
        embedding_size: Width D of its embedding.
        parameters: Number of its weights, without the classification layer.
        licence: Licence of the weights, SPDX.
        digest: SHA-256 of the weights file.
        version: Raised whenever the graph that is built from the same weights changes.
    """

    module: str
    size_px: int
    crop_fraction: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    embedding_size: int
    parameters: int
    licence: str
    digest: str
    version: int


BACKBONES = {
    "lite0": Entry(
        module="headstart.backbones.lite0:build",
        size_px=224,
        crop_fraction=0.875,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        embedding_size=1280,
        parameters=3_371_008,
        licence="Apache-2.0",
        digest="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        version=2,
    ),
}


def find(name: str) -> Entry:
    """The entry of a backbone.

    Raises:
        OptionError: There is no backbone of this name.
    """
    if name not in BACKBONES:
        raise OptionError(
            f"There is no backbone {quoted(name)}.", f"{nearest(name, BACKBONES)}Known: {listed(BACKBONES)}."
        )
    return BACKBONES[name]
