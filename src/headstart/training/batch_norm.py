"""Batch norms that see the whole batch where it is divided over processes."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def synced(module: nn.Module, device: torch.device) -> None:
    """Let the batch norms of a module compute their statistics over all processes; its structure stays.

    PyTorch's SyncBatchNorm needs a GPU; on the CPU the same is done by two sums. In a list of modules that is
    shared by several parents (a cut backbone), each is changed once, in place.
    """
    for one in module.modules():
        if isinstance(one, _BatchNorm) and not isinstance(one, nn.SyncBatchNorm | _Synced):
            one.__class__ = _synced_class(type(one))


def count_batch(counts: bool) -> None:
    """Say whether the images that this process computes from now on are a share of the batch."""
    _Synced.counts = counts


def _synced_class(kind: type[Any]) -> type[Any]:
    """A class like `kind` whose training statistics are those of all processes."""
    if kind not in _CLASSES:
        _CLASSES[kind] = type(f"Synced{kind.__name__}", (_Synced, kind), {})
    return _CLASSES[kind]


_CLASSES: dict[type[Any], type[Any]] = {}


class _Sum(torch.autograd.Function):
    """The sum over all processes; each contributed to the losses of all, so its gradient is a sum too."""

    @staticmethod
    def forward(context: Any, values: torch.Tensor) -> torch.Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> torch.Tensor:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total


class _Synced:
    counts = True  # whether this process's images of the batch do; one without a share computes some all the same

    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            result: torch.Tensor = super().forward(x)  # type: ignore[misc]
            return result
        axes = [axis for axis in range(x.ndim) if axis != 1]
        shape = [1, -1, *[1] * (x.ndim - 2)]
        wide = x.float()
        counts = float(_Synced.counts)
        count = torch.full((1,), x.numel() / x.shape[1], device=x.device)
        sums = _Sum.apply(counts * torch.cat([wide.sum(axes), count]))
        total = sums[-1]
        mean = sums[:-1] / total
        # In two steps: the difference of the mean square and the squared mean would lose the digits of both.
        centred = wide - mean.view(shape)
        variance = _Sum.apply(counts * (centred * centred).sum(axes)) / total
        with torch.no_grad():
            momentum = self.momentum
            if self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
            if momentum is None:
                momentum = 1.0 / float(self.num_batches_tracked)
            self.running_mean.lerp_(mean, momentum)
            self.running_var.lerp_(variance * total / (total - 1), momentum)
        normal = centred * torch.rsqrt(variance + self.eps).view(shape)
        if self.weight is not None:
            normal = normal * self.weight.view(shape) + self.bias.view(shape)
        return self._activated(normal.to(x.dtype))

    def _activated(self: Any, x: torch.Tensor) -> torch.Tensor:
        """Timm's batch norms have dropout and activation inside."""
        for name in ("drop", "act"):
            if hasattr(self, name):
                x = getattr(self, name)(x)
        return x
