"""Networks of one family side by side as one network, whose embedding is theirs joined."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping

import torch
from torch import nn


def join(networks: Mapping[str, nn.Module]) -> nn.Module:
    """Networks as one; a single one stays as it is."""
    return Joined(networks) if len(networks) > 1 else next(iter(networks.values()))


def states(network: nn.Module) -> dict[str, dict[str, torch.Tensor]]:
    """For each network in one of `join` its tensors, under the names that it has alone."""
    return network.states() if isinstance(network, Joined) else {"": network.state_dict()}


class Joined(nn.Module):
    """Networks of timm's EfficientNet that see the same pixels.

    Its parts are the stages, each of all networks, so that what freezes the first stages freezes those of each. As in
    a network alone, the stem belongs to the first and the closing convolution to the last.

    Args:
        twins: The networks by name, in the order of their embeddings; all have as many stages.
    """

    def __init__(self, twins: Mapping[str, nn.Module]) -> None:
        super().__init__()
        columns = {name: _stages(twin) for name, twin in twins.items()}
        rows = zip(*columns.values(), strict=True)
        self.stages = nn.Sequential(*(_Row(dict(zip(columns, row, strict=True))) for row in rows))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalised pixels, float32 (N, 3, S, S), to the joined embedding (N, D)."""
        maps: tuple[torch.Tensor, ...] = self.stages((x,) * len(self.stages[0]))
        return torch.cat(maps, 1).mean((2, 3))

    def states(self) -> dict[str, dict[str, torch.Tensor]]:
        """For each of the networks its tensors, under the names that it has alone."""
        found: dict[str, dict[str, torch.Tensor]] = {}
        for key, value in self.state_dict().items():
            _, stage, owner, name = key.split(".", 3)
            alone = re.sub(r"^blocks\.", f"blocks.{stage}.", name)
            found.setdefault(owner, {})[alone] = value
        return found


class _Row(nn.ModuleDict):
    """One stage of each network: a value of each to a value of each."""

    def forward(self, values: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return tuple(stage(value) for stage, value in zip(self.values(), values, strict=True))


def _stages(twin: nn.Module) -> list[nn.Module]:
    blocks: list[nn.Module] = list(twin.get_submodule("blocks").children())
    parts = [OrderedDict([("blocks", block)]) for block in blocks]
    parts[0] = OrderedDict([(name, twin.get_submodule(name)) for name in ("conv_stem", "bn1")]) | parts[0]
    parts[-1] |= OrderedDict([(name, twin.get_submodule(name)) for name in ("conv_head", "bn2")])
    return [nn.Sequential(part) for part in parts]
