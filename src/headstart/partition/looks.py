"""The look of an image: the coarse parts of its fingerprint, at length 1; see `headstart.partition.duplicates`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from headstart.data.traits import FINGERPRINT_PX

if TYPE_CHECKING:
    from numpy.typing import NDArray

WAVES = 16  # half waves that are kept, along each side
_BLOCK = 1024  # fingerprints at once: in float32, a block takes four times their memory


@dataclass(frozen=True)
class Looks:
    """What is compared.

    Attributes:
        parts: The coarse parts at length 1, float32 (N, 16 * 16): a vertical wave after another, of each the even
            horizontal ones first.
        brightness: Mean, in levels of 0..255, (N,).
        contrast: Standard deviation of what the coarse parts show, in levels, (N,).
    """

    parts: NDArray[np.float32]
    brightness: NDArray[np.float32]
    contrast: NDArray[np.float32]


def look(fingerprints: NDArray[np.uint8]) -> Looks:
    """The looks of images.

    Args:
        fingerprints: Luma of each image at 32 x 32 in row order, (N, 1024).
    """
    waves = _cosines(FINGERPRINT_PX)[:WAVES]
    looks = np.empty((len(fingerprints), WAVES * WAVES), np.float32)
    for start in range(0, len(looks), _BLOCK):
        block = fingerprints[start : start + _BLOCK].reshape(-1, FINGERPRINT_PX, FINGERPRINT_PX).astype(np.float32)
        parts = waves @ block @ waves.T  # (n, vertical, horizontal)
        parts = np.concatenate([parts[:, :, 0::2], parts[:, :, 1::2]], axis=2)
        looks[start : start + _BLOCK] = parts.reshape(-1, WAVES * WAVES)
    brightness = looks[:, 0] / np.float32(FINGERPRINT_PX)
    looks[:, 0] = 0.0
    lengths = np.linalg.norm(looks, axis=1)
    looks /= np.maximum(lengths, 1e-6)[:, None]
    return Looks(looks, brightness, lengths / np.float32(FINGERPRINT_PX))


def _cosines(count: int) -> NDArray[np.float32]:
    """The orthonormal discrete cosine transform (DCT-II), a wave in each row, (count, count)."""
    waves = np.cos(np.pi / count * np.outer(np.arange(count), np.arange(count) + 0.5)) * np.sqrt(2 / count)
    waves[0] = np.sqrt(1 / count)
    return np.asarray(waves, np.float32)


# Of each look, which parts change their sign in the mirror: the odd horizontal waves.
ODD = np.tile(np.arange(WAVES) >= WAVES // 2, WAVES)


def spot_distance(looks: NDArray[np.float32], one: NDArray[np.int64], other: NDArray[np.int64],
                   mirrored: NDArray[np.bool_]) -> NDArray[np.float32]:  # fmt: skip
    """The largest difference of each pair in one spot, in standard deviations of the images, (P,)."""
    signs = np.where(mirrored[:, None] & ODD, np.float32(-1), np.float32(1))
    parts = (looks[one] - signs * looks[other]).reshape(-1, WAVES, WAVES)
    difference = np.empty_like(parts)
    difference[:, :, 0::2], difference[:, :, 1::2] = parts[:, :, : WAVES // 2], parts[:, :, WAVES // 2 :]
    waves = _cosines(FINGERPRINT_PX)[:WAVES]
    spots = waves.T @ difference @ waves
    result: NDArray[np.float32] = np.abs(spots).max(axis=(1, 2)) * FINGERPRINT_PX
    return result
