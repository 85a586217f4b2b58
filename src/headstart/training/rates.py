"""Learning rates: by stage (layer-wise decay), and by step: the schedule is a pure function, so it can be resumed."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from headstart.settings.recipe import Recipe
from headstart.training.freezing import Stage
from headstart.training.network import Network

# One cycle (Smith and Topin 2019) with PyTorch's numbers: the share of steps that rise, from a 25th of the rate, and
# the rate at the end, a ten-thousandth of the first.
RISING_SHARE = 0.3
FIRST_DIVISOR = 25.0
LAST_DIVISOR = 1e4
# Share of the epochs on smaller squares, where there are any.
SMALL_SHARE = 2 / 3


def make_optimizer(network: Network, stages: Sequence[Stage], recipe: Recipe, lr: float) -> torch.optim.Optimizer:
    """The optimiser over what is trained.

    The head learns at `lr`, the last stage at ``lr * layer_decay``, the stage before it at ``lr * layer_decay ** 2``,
    and so on (Clark et al. 2020). Weight decay spares biases and norms.

    Args:
        network: Its parameters that ask for gradients are trained.
        stages: The stages that are trained, the last of the network last.
        recipe: Names the optimiser and its settings.
        lr: Learning rate of the head.
    """
    groups: list[dict[str, object]] = []
    parts: list[tuple[int, list[nn.Parameter]]] = [(0, list(network.head.parameters()))]
    for place, stage in enumerate(reversed(stages)):
        inside = [p for name, p in network.backbone.named_parameters() if stage.holds(name) and p.requires_grad]
        parts.append((place + 1, inside))
    for depth, parameters in parts:
        rate = lr * recipe.layer_decay**depth
        for decay, members in (
            (recipe.weight_decay, [p for p in parameters if p.ndim > 1]),
            (0.0, [p for p in parameters if p.ndim <= 1]),
        ):
            if members:
                groups.append({"params": members, "lr": rate, "base_lr": rate, "weight_decay": decay})
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=lr, momentum=recipe.momentum)
    return torch.optim.AdamW(groups, lr=lr)


def lower(optimizer: torch.optim.Optimizer, share: float) -> None:
    """Begin again: a share of each group's own rate, and nothing of what the optimiser has gathered."""
    optimizer.state.clear()
    for group in optimizer.param_groups:
        group["base_lr"] *= share


def side_px(recipe: Recipe, epoch: int) -> int:
    """Side of the squares that an epoch trains on, in pixels; 0 for the backbone's own.

    Small images first, the backbone's own size in the last third (as Tan and Le 2021 do for EfficientNetV2): what a
    network learns of small squares alone is wrong by points on those that it predicts.

    Args:
        recipe: Sizes and epochs.
        epoch: Number of the epoch since the training began (again), from 1.
    """
    return int(recipe.train_px) if epoch <= int(recipe.epochs) * SMALL_SHARE else 0


def set_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set each group's rate to this multiple of its own."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor


def factor(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """What the rate is multiplied by.

    Args:
        recipe: Schedule, warm-up and epochs.
        step: Number of the step since the training began (again), from 0.
        steps_per_epoch: Steps of an epoch.
    """
    total = int(recipe.epochs) * steps_per_epoch
    warm = min(round(recipe.warmup_epochs * steps_per_epoch), total)
    if step < warm:
        return (step + 1) / (warm + 1)
    done, left = step - warm, max(total - warm, 1)
    if recipe.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * done / left))
    if recipe.schedule == "step":
        return float(recipe.step_factor ** (step // steps_per_epoch // recipe.step_epochs))
    if recipe.schedule == "one-cycle":
        return _one_cycle(done, left)
    return 1.0


def _one_cycle(step: int, total: int) -> float:
    first, last = 1 / FIRST_DIVISOR, 1 / (FIRST_DIVISOR * LAST_DIVISOR)
    top = RISING_SHARE * total - 1
    if step <= top:
        return _between(first, 1.0, step / max(top, 1e-9))
    return _between(1.0, last, min((step - top) / max(total - 1 - top, 1e-9), 1.0))


def _between(start: float, end: float, share: float) -> float:
    """From start to end along half a cosine."""
    return end + (start - end) / 2 * (1 + math.cos(math.pi * share))
