"""Proof that an embedder computes what its PyTorch network computes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from headstart.backbones.embedder import Embedder
from headstart.core.errors import ModelError
from headstart.features.pixels import PixelSession
from headstart.modelfile.session import Session
from headstart.training.tracing import evaluating

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

# Of an embedding's length. Both sides compute in float32, in another order: the networks of the tests differ by 1e-6
# to 1e-5, and a wrong layer by more than 1e-1.
PARITY = 1e-3
SHORTEST = 1e-12  # no division by an embedding of zeros


def check(embedder: Embedder, module: torch.nn.Module, pictures: Sequence[NDArray[np.uint8]]) -> float:
    """Refuse an embedder that computes something else than its network; see `difference`, which it gives.

    Raises:
        ModelError: The difference is above `PARITY`.
    """
    largest = difference(embedder, module, pictures)
    if largest > PARITY:
        raise ModelError(
            f"The exported network differs from the PyTorch one by {largest:.1e} of an embedding's length; "
            f"at most {PARITY:.0e} is accepted.",
            "Use another backbone, and report this one.",
        )
    return largest


def difference(embedder: Embedder, module: torch.nn.Module, pictures: Sequence[NDArray[np.uint8]]) -> float:
    """The largest relative difference ``||onnx - torch|| / ||torch||`` of the embeddings of some pictures.

    The network sees the pixels that the preprocessing nodes give, so that it alone is compared.

    Args:
        embedder: What was exported.
        module: The network, which is left as it is.
        pictures: uint8 (H, W, 3) each.
    """
    import torch

    pixels, session = PixelSession(embedder.preprocess), Session(embedder.model)
    largest = 0.0
    with evaluating(module) as device:
        for picture in pictures:
            expected = module(torch.from_numpy(pixels.run(picture))[None].to(device))[0].cpu().numpy()
            (found,) = session.run(picture)
            distance = float(np.linalg.norm(found - expected)) / max(float(np.linalg.norm(expected)), 1e-12)
            largest = max(largest, distance if np.isfinite(distance) else np.inf)
    return largest
