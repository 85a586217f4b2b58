"""A network so small that training it takes a second, and tasks with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import headstart as hs
from headstart import targets
from headstart.preprocess.spec import Preprocess
from headstart.training.network import Network, make_head
from headstart.training.pixel_feed import Images
from headstart.training.task import Task

PREPROCESS = Preprocess(
    size_px=32, fit="crop", crop_fraction=1.0, mean=(0.5,) * 3, std=(0.25,) * 3, interpolation="bilinear"
)
WIDTH = 16
RUNTIME = hs.Runtime(cache=None, device="cpu")


def block(inside: int, outside: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(inside, outside, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(outside), nn.ReLU()
    )


class Tiny(nn.Module):
    """Float32 (N, 3, 32, 32) to embeddings (N, 16), in four stages."""

    def __init__(self) -> None:
        super().__init__()
        self.stage1, self.stage2 = block(3, 8), block(8, 8)
        self.stage3, self.stage4 = block(8, 16), block(16, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stage4(self.stage3(self.stage2(self.stage1(x))))
        return x.mean((2, 3))


def tiny(seed: int = 0) -> Tiny:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Tiny().eval()


def recipe(**settings: Any) -> hs.Recipe:
    """A short fine-tuning from a random head."""
    given = {
        "strategy": "finetune",
        "epochs": 2,
        "start": "random",
        "batch_size": 8,
        "lr": 0.01,
        "train_px": 0,
        "best_by": "loss",
        "flip": True,
    }
    return hs.Recipe(**(given | settings))


def task(folder: Path, settings: hs.Recipe) -> Task:
    """Every fourth image chooses the best epoch; the others are learnt from."""
    table = hs.read(folder)
    rows = np.arange(len(table))
    return Task(
        network=Network(tiny(), make_head(settings, WIDTH, len(table.classes))),
        images=Images(table, settings, PREPROCESS), targets=targets.read(table),
        train=rows[rows % 4 > 0], validation=rows[rows % 4 == 0], recipe=settings,
    )  # fmt: skip


def state(one: Task) -> dict[str, torch.Tensor]:
    """A copy of the weights."""
    return {name: value.clone() for name, value in one.network.state_dict().items()}
