"""How many images a paired test needs, and what it finds with fewer."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from headstart.evaluation.paired_tests import LEVEL

if TYPE_CHECKING:
    from numpy.typing import NDArray


POWER = 0.8


# No one labels more to settle an argument; a difference that needs them is none.
MAX_IMAGES = 1_000_000


# From here on the approximation of the images needed is right to 1 %.
MANY_DISAGREEMENTS = 500


def needed_of_folds(n: int, p_value: float, folds: int, level: float) -> int:
    """Images with which the test over folds would find a difference that has this p-value with n images."""
    from scipy.special import stdtrit

    found, asked = (-float(stdtrit(folds - 1, tail / 2)) for tail in (max(p_value, 1e-300), level))
    return math.ceil(n * ((asked + float(stdtrit(folds - 1, POWER))) / max(found, 1e-6)) ** 2)


def more_images(n: int, difference: float, interval: tuple[float, float], *, level: float) -> int | None:
    """About how many more images would show a difference four times out of five, by the normal distribution.

    Args:
        n: Images that it was seen on.
        difference: As it was seen.
        interval: Of 95 %, on as many images.
        level: Of the test.

    Returns:
        At least 1; None where there is no difference, or where it is above `MAX_IMAGES`.
    """
    from scipy.special import ndtri

    error = (interval[1] - interval[0]) / 2 / float(ndtri(0.975))
    if not difference or not math.isfinite(error):
        return None
    needed = n * ((float(-ndtri(level / 2)) + float(ndtri(POWER))) * error / abs(difference)) ** 2
    return None if needed > MAX_IMAGES else max(math.ceil(needed) - n, 1)


def power(n: int, only_first: float, only_second: float, *, level: float = LEVEL) -> float:
    """Power of McNemar's exact test: the chance that it finds a difference.

    Args:
        n: Images.
        only_first: Share of images that the first alone gets right, in 0..1.
        only_second: Share that the second alone gets right.
        level: Of the test.
    """
    from scipy.special import bdtr, gammaln, xlog1py, xlogy

    differ = only_first + only_second
    if not differ:
        return 0.0
    spread = 8 * math.sqrt(n * differ) + 8
    trials = np.arange(max(1, int(n * differ - spread)), min(n, int(n * differ + spread)) + 1)
    chances = np.exp(
        gammaln(n + 1) - gammaln(trials + 1) - gammaln(n - trials + 1)
        + xlogy(trials, differ) + xlog1py(n - trials, -min(differ, 1.0))
    )  # fmt: skip
    most = _most(level, int(trials[-1]).bit_length())[trials]
    share = min(1.0, only_first / differ)
    found = [np.where(most >= 0, bdtr(np.maximum(most, 0), trials, one), 0.0) for one in (share, 1 - share)]
    return float((chances * (found[0] + found[1])).sum())


@lru_cache(8)
def _most(level: float, bits: int) -> NDArray[np.float64]:
    """The most images that the loser may have alone for a p-value below the level, of each number of disagreements.

    They take most of the time of a power, and a search for the number of images asks for the same again and again.

    Args:
        level: Of the test.
        bits: Of the largest number of disagreements.

    Returns:
        (2 ** bits,); -1 where no number is small enough.
    """
    from scipy.special import bdtr, bdtrik

    trials = np.arange(2**bits)
    most = np.floor(np.nan_to_num(bdtrik(level / 2, trials, 0.5), nan=-1.0))
    most -= np.where((most >= 0) & (2 * bdtr(np.maximum(most, 0), trials, 0.5) >= level), 1, 0)
    most.setflags(write=False)
    return most  # type: ignore[no-any-return]


def images_needed(only_first: float, only_second: float, *, level: float = LEVEL) -> int | None:
    """Images with which McNemar's exact test would find such a difference four times out of five.

    Args:
        only_first: Share of images that the first alone gets right, in 0..1.
        only_second: Share that the second alone gets right.
        level: Of the test.

    Returns:
        The number, to about 1 %; None where the shares are equal, or where it is above `MAX_IMAGES`.
    """
    if only_first == only_second:
        return None

    from scipy.special import ndtri

    # Connor 1987, for the test by the normal distribution, and what the exact one needs on top of it (measured).
    differ, apart = only_first + only_second, abs(only_first - only_second)
    asked = float(-ndtri(level / 2) * math.sqrt(differ) + ndtri(POWER) * math.sqrt(differ - apart**2))
    low, high = 1, math.ceil((asked / apart) ** 2 + 2 / apart)
    if high > MAX_IMAGES:
        return None
    if high * differ > MANY_DISAGREEMENTS:
        return high
    while power(high, only_first, only_second, level=level) < POWER:
        low, high = high, math.ceil(1.1 * high)
    while high - low > max(1, high // 100):
        middle = (low + high) // 2
        low, high = (low, middle) if power(middle, only_first, only_second, level=level) >= POWER else (middle, high)
    return high
