"""The learning-rate range test (Smith 2017, "Cyclical learning rates"): train while the rate rises, and look."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import nn

from headstart.core.progress import Advance
from headstart.training.pixel_feed import Batch

LOWEST, HIGHEST = 1e-6, 1.0
STEPS = 100
# The loss is smoothed like fastai's; where it is this many times its minimum, the rate is too high and the test ends.
SMOOTHING = 0.9
DIVERGED = 4.0
# Where there is no fall at all.
FALLBACK = 1e-4


def range_test(
    module: nn.Module,
    optimizer: Callable[[float], torch.optim.Optimizer],
    feed: Callable[[], Iterator[Batch]],
    loss: Callable[[Batch, nn.Module], torch.Tensor],
    advance: Advance,
) -> tuple[float, tuple[tuple[float, float], ...]]:
    """Find a learning rate; the module's weights and statistics are put back.

    Args:
        module: What is trained.
        optimizer: Makes the optimiser of the module's parameters for a rate of the head.
        feed: Gives batches; begun again where it ends.
        loss: Loss of a batch.
        advance: Told the images of each batch.

    Returns:
        The rate at which the smoothed loss falls fastest, and rates with smoothed losses.
    """
    before = copy.deepcopy(module.state_dict())
    test = optimizer(1.0)
    points: list[tuple[float, float]] = []
    running, best = 0.0, math.inf
    try:
        for number, batch in zip(range(STEPS), _endless(feed), strict=False):
            rate = LOWEST * (HIGHEST / LOWEST) ** (number / (STEPS - 1))
            for group in test.param_groups:
                group["lr"] = group["base_lr"] * rate
            value = loss(batch, module)
            test.zero_grad()
            value.backward()
            test.step()
            advance(len(batch.labels), f"rate {rate:.1e}")
            running = SMOOTHING * running + (1 - SMOOTHING) * float(value.detach())
            smooth = running / (1 - SMOOTHING ** (number + 1))
            if not math.isfinite(smooth) or smooth > DIVERGED * best:
                break
            best = min(best, smooth)
            points.append((rate, smooth))
    finally:
        module.load_state_dict(before)
        test.zero_grad()
    return steepest(points), tuple(points)


def steepest(points: list[tuple[float, float]]) -> float:
    """The rate, before the lowest loss, at which the loss falls fastest over the logarithm of the rate."""
    losses = np.array([loss for _, loss in points])
    lowest = int(losses.argmin()) if len(losses) else 0
    if lowest < 2:
        return FALLBACK
    slopes = np.gradient(losses[: lowest + 1])
    at = int(slopes.argmin())
    return points[at][0] if slopes[at] < 0 else FALLBACK


def _endless(feed: Callable[[], Iterator[Batch]]) -> Iterator[Batch]:
    while True:
        yield from feed()
