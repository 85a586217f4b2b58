"""The preprocessing record: the single source of truth for resize, crop and normalisation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

from headstart.core.errors import ModelError
from headstart.settings.recipe import FULL_RANGE, Fit

Interpolation = Literal["bicubic", "bilinear"]

MAX_SIZE_PX = 1024
# A quotient this close to the next integer is that integer: 224 / (224 / 245) is 244.99999999999997 in floating point,
# and both 244 and 245 are sizes that people resize to. No pretrained network of timm lies in between (see the tests).
ROUNDING_ERROR = 1e-9


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    """What is done to the pixels of an image before the backbone sees them.

    Attributes:
        size_px: Side of the square that the backbone takes.
        fit: ``crop``: the shorter side becomes ``size_px / crop_fraction`` and the centre is cut out;
            ``squash``: both sides become ``size_px``; ``pad``: the longer side becomes ``size_px`` and the rest
            is filled with the mean colour.
        crop_fraction: Share of the shorter side that the crop keeps, in (0, 1].
        mean: Mean of each channel, of pixels in 0..1.
        std: Standard deviation of each channel, of pixels in 0..1.
        interpolation: Pillow's filter of that name, which antialiases.
        white_level: The value of 16-bit images that becomes 255 when they are decoded, before all else.
    """

    size_px: int
    fit: Fit
    crop_fraction: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: Interpolation = "bicubic"
    white_level: int = FULL_RANGE

    @property
    def resize_px(self) -> int:
        """The side that the shorter (crop) or the longer (pad) side of an image is resized to."""
        return int(self.size_px / self.crop_fraction + ROUNDING_ERROR) if self.fit == "crop" else self.size_px

    @property
    def enough_px(self) -> int:
        """Sides above this may be decoded at reduced scale: twice what the resize needs."""
        return 2 * self.resize_px

    def as_dict(self) -> dict[str, object]:
        """The record as JSON values; without the white level where it is the usual one."""
        record = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}
        if self.white_level == FULL_RANGE:
            del record["white_level"]
        return record

    def used_with(self, fit: Fit, white_level: int) -> Preprocess:
        """The same with what a recipe chooses; a white level of 0 chooses none."""
        return replace(self, fit=fit, white_level=white_level or self.white_level)

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Preprocess:
        """Read a record from a model's metadata; the first ones had no ``interpolation``, which was bicubic.

        Raises:
            ModelError: A field is missing, unknown or absurd.
        """
        try:
            mean, std = (tuple(float(value) for value in record[key]) for key in ("mean", "std"))
            size_px, fit, crop_fraction = record["size_px"], record["fit"], float(record["crop_fraction"])
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"The model's preprocessing record is damaged ({error}).") from error
        interpolation, white_level = record.get("interpolation", "bicubic"), record.get("white_level", FULL_RANGE)
        sane = (
            len(record) == 5 + ("interpolation" in record) + ("white_level" in record)
            and len(mean) == len(std) == 3
            and all(math.isfinite(value) for value in mean)
            and all(math.isfinite(value) and value > 0 for value in std)
            and isinstance(size_px, int)
            and not isinstance(size_px, bool)
            and 1 <= size_px <= MAX_SIZE_PX
            and fit in get_args(Fit)
            and fit != "auto"  # which is chosen before an image is prepared
            and 0.1 <= crop_fraction <= 1
            and interpolation in get_args(Interpolation)
            and type(white_level) is int
            and 1 <= white_level <= FULL_RANGE
        )
        if not sane:
            raise ModelError(f"The model's preprocessing record is absurd: {dict(record)!r:.200}.")
        return cls(
            size_px=size_px,
            fit=fit,
            crop_fraction=crop_fraction,
            mean=mean,  # type: ignore[arg-type]
            std=std,  # type: ignore[arg-type]
            interpolation=interpolation,
            white_level=white_level,
        )
