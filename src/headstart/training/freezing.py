"""The stages of a network, and which of them are trained.

A stage is what the authors of a network call a layer, stage or block: `layer1` to `layer4` of a ResNet, the seven
`blocks` of an EfficientNet, each block of a vision transformer. What comes before the first (the stem) belongs to the
first one, and what comes after the last (a closing convolution or norm) to the last.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import nn

    from headstart.settings.recipe import Unfreeze

# With fewer stages than this, the largest of them is a mere container, and is looked into.
MIN_STAGES = 3
# A part of fewer of the weights (a stem, a closing norm) belongs to the stage beside it.
MIN_SHARE = 0.005


@dataclass(frozen=True)
class Stage:
    """A part of a network that is frozen or trained as a whole.

    Attributes:
        name: Name of its main module, as in `named_modules`.
        modules: Names of all its modules, in the order of the network.
    """

    name: str
    modules: tuple[str, ...]

    def holds(self, name: str) -> bool:
        """Whether a parameter or module of this name is in the stage."""
        return any(name == one or name.startswith(f"{one}.") for one in self.modules)


def stages(module: nn.Module) -> list[Stage]:
    """The stages of a network without its head, from the input to the output.

    Every parameter of the network is in exactly one of them.
    """
    parts = _parts(module, "", MIN_SHARE * _size(module))
    blocks = [i for i, part in enumerate(parts) if part.stage] or list(range(len(parts)))
    found = []
    for place, index in enumerate(blocks):
        first = 0 if place == 0 else index
        last = len(parts) if place == len(blocks) - 1 else blocks[place + 1]
        found.append(Stage(parts[index].name, tuple(part.name for part in parts[first:last])))
    return found


def trained(found: Sequence[Stage], unfreeze: Unfreeze) -> list[Stage]:
    """The stages that are trained beside the head: a run of them up to the last."""
    count = {"head": 0, "last": 1, "half": math.ceil(len(found) / 2), "all": len(found)}[unfreeze]
    return list(found[len(found) - count :])


class _Part(NamedTuple):
    name: str
    module: nn.Module
    stage: bool


def _parts(module: nn.Module, prefix: str, least: float) -> list[_Part]:
    """The parts of a module in order; what it holds beside its children (a class token) comes first."""
    parts = [_Part(prefix + name, module, False) for name, _ in module.named_parameters(recurse=False)]
    parts += [_Part(prefix + name, child, _is_stage(child, least)) for name, child in module.named_children()]
    while sum(part.stage for part in parts) < MIN_STAGES:
        containers = [part for part in parts if part.stage and sum(map(_size, part.module.children())) > 0]
        if not containers:
            break
        largest = max(containers, key=lambda part: _size(part.module))
        inside = _parts(largest.module, f"{largest.name}.", least)
        if not any(part.stage for part in inside):  # convolutions and norms in a row: each is a stage
            inside = [part._replace(stage=_size(part.module) >= least) for part in inside]
        at = parts.index(largest)
        parts[at : at + 1] = inside
    return parts


def _is_stage(module: nn.Module, least: float) -> bool:
    """A stage has weighted modules inside; a single convolution or norm has none."""
    return _size(module) >= least and any(_size(child) for child in module.children())


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
