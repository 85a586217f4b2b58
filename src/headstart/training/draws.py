"""What is drawn from PyTorch's global generator, which libraries of networks and of augmentation draw from."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """What is drawn on the CPU follows a seed; the generator's state is given back.

    The generator of the CPU alone: `torch.manual_seed` would set those of GPUs too, which nothing would give back, and
    where there is none it keeps a description of the call stack for each kind, which takes longer than an augmentation.

    Args:
        seed: From 0 to 2**64 - 1.
    """
    before = torch.get_rng_state()
    try:
        torch.default_generator.manual_seed(seed)
        yield
    finally:
        torch.set_rng_state(before)
