"""The layers of a network, as one image passes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from headstart.training.sources import Loaded
from headstart.training.sources.loaded import quiet


@dataclass(frozen=True)
class Layer:
    """A layer that has weights or changes the shape.

    Attributes:
        name: As in `named_modules`, or in `named_parameters` for weights that are in no layer of their own.
        kind: Its class: ``Conv2d``; ``Parameter`` for such weights.
        output: Shape of what it gives for one image, without the image's own dimension; None where it is not called.
        parameters: Number of its weights.
    """

    name: str
    kind: str
    output: tuple[int, ...] | None
    parameters: int


def layers(loaded: Loaded) -> list[Layer]:
    """The layers in the order of the network; their parameters sum up to the network's."""
    module = loaded.module
    shapes = _shapes(module, loaded.preprocess.size_px)
    rows = []
    for name, part in module.named_modules():
        own = list(part.named_parameters(recurse=False))
        given, got = shapes.get(part, (None, None))
        if next(part.children(), None) is None:
            parameters = sum(value.numel() for _, value in own)
            if parameters or given != got:
                rows.append(Layer(name, type(part).__name__, got, parameters))
        else:  # a class token, a scale
            rows += [
                Layer(f"{name}.{key}".lstrip("."), "Parameter", tuple(value.shape), value.numel()) for key, value in own
            ]
    return rows


def _shapes(module: nn.Module, size_px: int) -> dict[nn.Module, tuple[Any, Any]]:
    """What each layer is given, and what it gives."""
    found: dict[nn.Module, tuple[Any, Any]] = {}

    def see(part: nn.Module, given: tuple[Any, ...], got: Any) -> None:
        found[part] = _shape(given[0] if given else None), _shape(got)

    hooks = [part.register_forward_hook(see) for part in module.modules()]
    device = next((one.device for one in module.parameters()), torch.device("cpu"))
    try:
        with torch.no_grad(), quiet():
            module(torch.zeros(1, 3, size_px, size_px, device=device))
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _shape(value: Any) -> tuple[int, ...] | None:
    if isinstance(value, tuple | list) and value:
        value = value[0]
    return tuple(value.shape[1:]) if isinstance(value, torch.Tensor) else None
