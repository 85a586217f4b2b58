"""A user's own backbone, with the record that a backbone of the catalog has."""

from __future__ import annotations

import torch
from torch import nn

from headstart.core.errors import OptionError
from headstart.preprocess.spec import Preprocess
from headstart.training.sources import Loaded, state_digest


def loaded(backbone: nn.Module, preprocess: Preprocess) -> Loaded:
    """The record of a backbone; the network is copied by nobody, and trained in place.

    Raises:
        OptionError: It gives no embedding (N, D) of pixels (N, 3, S, S).
    """
    backbone.eval()
    with torch.no_grad():
        given = backbone(torch.zeros(2, 3, preprocess.size_px, preprocess.size_px))
    if not isinstance(given, torch.Tensor) or given.ndim != 2 or len(given) != 2:
        shape = tuple(given.shape) if isinstance(given, torch.Tensor) else type(given).__name__
        raise OptionError(
            f"The backbone gives {shape} for two images of {preprocess.size_px} pixels; expected embeddings (2, D).",
            "Leave its classification layer out, and average over the positions.",
        )
    return Loaded(
        name="own", architecture="own", module=backbone, preprocess=preprocess, embedding_size=given.shape[1],
        licence="own", weights=state_digest(backbone),
    )  # fmt: skip
