"""The moving parts of one training, apart from the loop itself."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from headstart.core.runtime import Runtime
from headstart.core.tables import resolve
from headstart.runs.details import Epoch
from headstart.settings.recipe import Recipe
from headstart.targets import TARGETS
from headstart.training import checkpoint, rates
from headstart.training.batch_norm import synced
from headstart.training.checkpoint import Position, Weights
from headstart.training.cut import cut
from headstart.training.freezing import Stage, stages, trained
from headstart.training.losses import Loss
from headstart.training.mixing import Mixing
from headstart.training.network import prepare
from headstart.training.pixel_feed import ArrayFeed, Feed, Images, PixelFeed
from headstart.training.task import Task
from headstart.training.views import ViewFeed

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Where a rate was too high for the start, the next one is clearly lower.
RETRY_SHARE = 0.1


class Session:
    """The moving parts of one training: network, batches, optimiser, averages, and where it stands.

    Attributes:
        network: The whole network, on the device.
        stages: The stages of its backbone that are trained.
        module: What is trained: the network, or what follows its frozen part.
        model: The same as accelerate wraps it, for the forward passes of training.
        feed: Gives the batches.
        optimizer: Over what is trained.
        loss: What it is trained by.
        average: The running average of the weights, where there is one.
        position: Where the training stands.
        best: The best weights of `module` so far, on the CPU.
        losses: Loss of each validation image in the last validation, (V,), where they choose by calibrated loss.

    Args:
        task: What is to be trained.
        runtime: Device, folder, progress.
        accelerate: Device, precision and processes.
    """

    def __init__(self, task: Task, runtime: Runtime, accelerate: Accelerator) -> None:
        self.task, self.runtime, self.accelerate = task, runtime, accelerate
        self.recipe, self.network = task.recipe, task.network
        self.notes: list[str] = []
        self.range_test: tuple[tuple[float, float], ...] = ()
        self.position = Position()
        self.losses: NDArray[np.float64] | None = None
        network = self.network.to(accelerate.device, memory_format=torch.channels_last)
        every = stages(network.backbone)
        self.stages = trained(every, self.recipe.unfreeze)
        prepare(network, self.stages)
        network.eval()
        self.feed: Feed
        self.module: nn.Module = network
        if isinstance(task.images, Images):
            self.feed = PixelFeed(task.images, task.labels, accelerate.device, runtime.workers)
            if self.recipe.views:
                self._keep_views(self.feed, every, task.images.preprocess.size_px)
        else:
            self.feed = ArrayFeed(task.images, task.labels, accelerate.device)
        if accelerate.num_processes > 1:
            synced(self.module, accelerate.device)
        loss: type[Loss] = resolve(TARGETS[task.targets.task].loss)
        self.loss = loss(task.labels[task.train], task.classes, self.recipe, accelerate.device)
        self._row_weights = self.loss.weights(task.labels)
        self.mixing = Mixing(self.recipe, task.classes)
        self.steps_per_epoch = math.ceil(math.ceil(len(task.train) / self.recipe.batch_size) / self.recipe.accumulate)

    def _keep_views(self, pixels: PixelFeed, every: list[Stage], size_px: int) -> None:
        """Run the frozen part once for each view, and train the rest alone."""
        parts = cut(self.network.backbone, every, self.stages, size_px)
        if parts is None:
            self.notes.append("This backbone cannot be cut into a frozen and a trained part: views were not kept.")
            return
        self.feed = ViewFeed(
            pixels, parts.frozen, self.task.labels, self.accelerate.device, self.recipe.views, self.runtime.cache
        )
        self.module = _Rest(parts.trained, self.network.head)

    def begin(self, find_rate: Callable[[], float]) -> Position:
        """Set up the optimiser, and go to the last checkpoint where one is to be resumed.

        Args:
            find_rate: Finds the learning rate where the recipe says ``auto``.
        """
        recipe, accelerate = self.recipe, self.accelerate
        lr = find_rate() if recipe.lr == "auto" else float(recipe.lr)
        optimizer = rates.make_optimizer(self.network, self.stages, recipe, lr)
        self.model, self.optimizer = accelerate.prepare(self.module, optimizer)
        self.average = _average(self.module, recipe)
        self.position = Position(lr=lr)
        self.best = _weights(self.module)
        if self.runtime.folder and self.runtime.tracker != "none":
            accelerate.init_trackers("headstart", config=recipe.as_dict())
        folder = self.runtime.folder if self.runtime.resume else None
        if folder and (found := checkpoint.load(accelerate, folder)):
            self.position, self.best, average = found
            if self.average is not None and average is not None:
                self.average.load_state_dict(average)
        return self.position

    def begin_again(self) -> None:
        """Go back to the start, which no epoch was better than, and learn at a tenth of the rate from there."""
        position = self.position
        self.module.load_state_dict(self.best)
        self.average = _average(self.module, self.recipe)
        rates.lower(self.optimizer, RETRY_SHARE)
        position.lr *= RETRY_SHARE
        position.retry, position.before, position.worse = position.retry + 1, position.epoch, 0

    def finish_epoch(self, epoch: Epoch) -> None:
        """Keep the best weights, write a checkpoint, and report the results."""
        position, recipe = self.position, self.recipe
        position.epoch = epoch.epoch
        position.history.append(epoch)
        position.seconds += epoch.seconds
        value: float = getattr(epoch, f"validation_{recipe.best_by}")
        if self._is_best(value):
            position.best_epoch, position.best_value, position.worse = epoch.epoch, value, 0
            self.best = _weights(self.module if self.average is None else self.average.module)
        else:
            position.worse += 1
        average = _weights(self.average) if self.average is not None else None
        if self.runtime.folder:
            checkpoint.save(self.accelerate, self.runtime.folder, position, self.best, average)
        known = {key: number for key, number in epoch.as_dict().items() if number is not None and key != "epoch"}
        self.accelerate.log(known, step=epoch.epoch)
        if self.accelerate.is_main_process:
            self.runtime.progress.line(_line(epoch, position.before + int(recipe.epochs)))

    def _is_best(self, value: float) -> bool:
        """Whether the epoch that was just validated is the best so far.

        By the calibrated loss the start is only given up for an epoch that is better by more than the standard error
        of the difference (Breiman et al. 1984, the one-standard-error rule): of many epochs one is always better on
        these few images.
        """
        position = self.position
        if position.best_value is None:
            position.start_losses = [] if self.losses is None or position.epoch else self.losses.tolist()
            return True
        if self.recipe.best_by == "accuracy":
            return value > position.best_value
        margin = 0.0
        if position.start_losses and not position.best_epoch and self.losses is not None:
            differences = np.array(position.start_losses) - self.losses
            margin = float(differences.std() / math.sqrt(len(differences)))
        return value < position.best_value - margin

    def end(self) -> None:
        """Load the best weights back, and put the network on the CPU."""
        self.module.load_state_dict(self.best)
        self.accelerate.end_training()
        self.network.to("cpu").eval()
        for parameter in self.network.parameters():
            parameter.grad = None

    def weight(self, rows: NDArray[np.int64]) -> float:
        """The sum of the weights of these rows in the loss."""
        return float(self._row_weights[torch.from_numpy(rows)].sum())

    def summed(self, losses: float, right: int) -> tuple[float, int]:
        """Sums over all processes."""
        if self.accelerate.num_processes == 1:
            return losses, right
        pair = torch.tensor([losses, right], dtype=torch.float64, device=self.accelerate.device)
        total = self.accelerate.reduce(pair, "sum")
        return float(total[0]), int(total[1])


class _Rest(nn.Module):
    """The trained part of a backbone and the head, fed with what the frozen part gave."""

    def __init__(self, trained_part: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.trained_part = trained_part
        self.head = head

    def forward(self, *values: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.head(self.trained_part(*values))
        return scores


def _average(module: nn.Module, recipe: Recipe) -> AveragedModel | None:
    return (
        AveragedModel(module, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema), use_buffers=True) if recipe.ema else None
    )


def _weights(module: nn.Module) -> Weights:
    """A copy of all weights on the CPU."""
    return {name: value.detach().cpu().clone().contiguous() for name, value in module.state_dict().items()}


def _line(epoch: Epoch, epochs: int) -> str:
    def words(phase: str, loss: float | None, accuracy: float | None) -> str:
        return f"{phase} loss {loss or 0:.4f}, accuracy {100 * (accuracy or 0):.1f} %"

    validation = words("validation", epoch.validation_loss, epoch.validation_accuracy)
    if not epoch.epoch:
        return f"Start: {validation}"
    train = words("train", epoch.train_loss, epoch.train_accuracy)
    return f"Epoch {epoch.epoch}/{epochs}: {train}; {validation}; {epoch.seconds:.1f} s"
