"""95 % intervals of a share of images."""

from __future__ import annotations

import math

Interval = tuple[float, float]
NORMAL_95 = 1.959963984540054  # the 97.5 % point of the standard normal distribution


def wilson(successes: int, trials: int) -> Interval:
    """Wilson's score interval of a proportion (Wilson 1927; Brown, Cai and DasGupta 2001 recommend it).

    Args:
        successes: In 0..trials.
        trials: At least 1.
    """
    return wilson_of_share(successes / trials, trials)


def wilson_of_share(share: float, trials: float) -> Interval:
    """Wilson's interval of a share in 0..1 that is as certain as that of so many trials, a whole number or not."""
    share, trials, z2 = float(share), float(trials), NORMAL_95**2
    centre = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    half = NORMAL_95 / (1 + z2 / trials) * math.sqrt(share * (1 - share) / trials + z2 / (4 * trials**2))
    return max(0.0, centre - half), min(1.0, centre + half)
