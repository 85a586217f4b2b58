"""The training loop: every epoch trains and validates, and the best weights are loaded back at the end."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from headstart.core.errors import OptionError, TrainingError
from headstart.core.options import Runtime
from headstart.core.progress import Advance
from headstart.core.recipe import Recipe
from headstart.training import checkpoint, rates
from headstart.training.batch_norm import count_batch, synced
from headstart.training.checkpoint import Position, Weights
from headstart.training.cut import cut
from headstart.training.devices import accelerator
from headstart.training.freezing import Stage, stages, trained
from headstart.training.images import PLAIN, ArrayFeed, Batch, Feed, Images, PixelFeed, batches, order, share
from headstart.training.memory import keeping_memory, memory_guard
from headstart.training.mixing import Mixing
from headstart.training.network import Network, prepare, train_mode
from headstart.training.range_test import range_test
from headstart.training.views import ViewFeed

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Task:
    """What is to be trained, and on what.

    Attributes:
        network: The network, as it begins; it is trained in place.
        images: The images; or, where the head alone is trained, their embeddings, float32 (N, D).
        labels: Class index of each row, int64 (N,).
        classes: Number C of classes.
        train: Rows to learn from.
        validation: Rows that choose the best epoch.
        recipe: All choices.
    """

    network: Network
    images: Images | NDArray[np.float32]
    labels: NDArray[np.int64]
    classes: int
    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    recipe: Recipe


@dataclass(frozen=True)
class Trained:
    """What became of it. The best weights are in the task's network, on the CPU, in evaluation mode.

    Attributes:
        history: Numbers of each epoch; epoch 0 is the start.
        best_epoch: The epoch of the best weights.
        lr: Learning rate of the head.
        device: Where it was trained.
        precision: Mixed precision: ``no``, ``bf16`` or ``fp16``.
        processes: Number of processes.
        images_per_second: Train images a second, validation and the computing of views included.
        stopped_early: Whether patience ran out.
        range_test: Learning rates and losses of ``lr = auto``.
        notes: Sentences that a person should read.
    """

    history: tuple[dict[str, float | int | None], ...]
    best_epoch: int
    lr: float
    device: str
    precision: str
    processes: int
    images_per_second: float
    stopped_early: bool
    range_test: tuple[tuple[float, float], ...]
    notes: tuple[str, ...]


def fit(task: Task, runtime: Runtime) -> Trained:
    """Train a network.

    Raises:
        TrainingError: The loss is no number any more.
        DeviceError: The device is not there, or its memory is too small.
        OptionError: The batch is larger than the data.
        StorageError: A checkpoint cannot be written.
    """
    recipe = task.recipe
    _check_batch(task)
    with (
        memory_guard(recipe),
        keeping_memory(),
        accelerator(recipe, runtime) as accelerate,
        _seeded(recipe, accelerate),
    ):
        session = _Session(task, runtime, accelerate)
        position = session.begin()
        total = (recipe.epochs - position.epoch) * (len(task.train) + len(task.validation))
        stopped = False
        with runtime.progress.stage("Training", total) as advance:
            for epoch in range(position.epoch + 1, recipe.epochs + 1):
                if stopped := bool(recipe.patience and position.worse >= recipe.patience):
                    break
                begun = time.perf_counter()
                train_loss, train_accuracy, rate = session.train(epoch, advance)
                loss, accuracy = session.validate(advance)
                seconds = time.perf_counter() - begun
                session.finish_epoch({
                    "epoch": epoch, "train_loss": train_loss, "train_accuracy": train_accuracy,
                    "validation_loss": loss, "validation_accuracy": accuracy, "lr": rate, "seconds": seconds,
                })  # fmt: skip
        session.end()
        images = len(task.train) * sum(1 for one in position.history if one["epoch"])
        return Trained(
            history=tuple(position.history),
            best_epoch=position.best_epoch,
            lr=position.lr,
            device=str(accelerate.device),
            precision=accelerate.mixed_precision,
            processes=accelerate.num_processes,
            images_per_second=images / max(position.seconds, 1e-9),
            stopped_early=stopped,
            range_test=session.range_test,
            notes=tuple(session.notes),
        )


class _Session:
    """The moving parts of one training."""

    def __init__(self, task: Task, runtime: Runtime, accelerate: Accelerator) -> None:
        self.task, self.runtime, self.accelerate = task, runtime, accelerate
        self.recipe, self.network = task.recipe, task.network
        self.notes: list[str] = []
        self.range_test: tuple[tuple[float, float], ...] = ()
        self.position = Position()
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
        self.criterion_weights = _class_weights(task).to(accelerate.device)
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

    def begin(self) -> Position:
        """Set up the optimiser, and go to the last checkpoint where one is to be resumed."""
        recipe, accelerate = self.recipe, self.accelerate
        lr = self._find_rate() if recipe.lr == "auto" else float(recipe.lr)
        optimizer = rates.make_optimizer(self.network, self.stages, recipe, lr)
        self.model, self.optimizer = accelerate.prepare(self.module, optimizer)
        self.average = _average(self.module, recipe)
        self.position = Position(lr=lr)
        self.best = _weights(self.module)
        if self.runtime.folder and self.runtime.tracker != "none":
            accelerate.init_trackers("headstart", config=recipe.as_dict())
        found = (
            checkpoint.load(accelerate, self.runtime.folder) if self.runtime.folder and self.runtime.resume else None
        )
        if found:
            self.position, self.best, average = found
            if self.average is not None and average is not None:
                self.average.load_state_dict(average)
        elif recipe.start != "random":
            # The start is a candidate too: what fine-tuning makes worse is not kept.
            with self.runtime.progress.stage("Validating", len(self.task.validation)) as advance:
                loss, accuracy = self.validate(advance)
            self.finish_epoch({
                "epoch": 0, "train_loss": None, "train_accuracy": None, "validation_loss": loss,
                "validation_accuracy": accuracy, "lr": None, "seconds": 0.0,
            })  # fmt: skip
        return self.position

    def train(self, epoch: int, advance: Advance) -> tuple[float, float, float]:
        """Train for one epoch; its mean loss, its accuracy, and the last learning rate."""
        task, recipe, accelerate = self.task, self.recipe, self.accelerate
        view = epoch - 1
        self.feed.prepare(task.train, view)
        train_mode(self.network, self.stages, batch_norm=recipe.batch_norm)
        rows = task.train[order(len(task.train), recipe.seed, epoch)]
        parts = batches(rows, recipe.batch_size)
        own = [_not_empty(share(part, accelerate.process_index, accelerate.num_processes), part) for part in parts]
        losses, right, seen = 0.0, 0, 0
        for number, batch in enumerate(self.feed([rows for rows, _ in own], view)):
            first = number - number % recipe.accumulate
            group = parts[first : first + recipe.accumulate]
            last = number == first + len(group) - 1
            step = (epoch - 1) * self.steps_per_epoch + number // recipe.accumulate
            rates.set_rate(self.optimizer, rates.factor(recipe, step, self.steps_per_epoch))
            # The loss is a sum over this process's images, divided by the weight of all images of the step: so the
            # gradient is the same however a batch is divided over processes and over accumulated parts.
            weight = sum(self._weight(part) for part in group)
            count_batch(own[number][1])
            with contextlib.nullcontext() if last else accelerate.no_sync(self.model):
                scores, loss = self._loss(batch, epoch, number)
                loss = loss if own[number][1] else 0 * loss
                accelerate.backward(loss * accelerate.num_processes / weight)
            value = float(loss.detach())
            if not math.isfinite(value):
                raise _no_number(epoch, number, len(parts), self.optimizer.param_groups[0]["lr"])
            if last:
                self.optimizer.step()
                self.optimizer.zero_grad()
                if self.average is not None:
                    self.average.update_parameters(self.module)
            count = len(own[number][0]) if own[number][1] else 0
            hits = int((scores.argmax(1) == batch.labels).sum()) if count else 0
            losses, right, seen = losses + value, right + hits, seen + count
            advance(len(parts[number]), _words(epoch, recipe.epochs, losses / max(seen, 1), right / max(seen, 1)))
        losses, right = self._summed(losses, right)
        return losses / self._weight(rows), right / len(rows), float(self.optimizer.param_groups[0]["lr"])

    def validate(self, advance: Advance) -> tuple[float, float]:
        """Mean loss and accuracy on the validation images, by the averaged weights where there are some."""
        rows, accelerate = self.task.validation, self.accelerate
        self.network.eval()
        model = self.module if self.average is None else self.average.eval()
        self.feed.prepare(rows, PLAIN)
        parts = [
            own for part in batches(rows, self.recipe.batch_size)
            if len(own := share(part, accelerate.process_index, accelerate.num_processes))
        ]  # fmt: skip
        losses, right = 0.0, 0
        with torch.no_grad():
            for batch in self.feed(parts, PLAIN):
                with accelerate.autocast():
                    scores = model(*batch.values).float()
                losses += float(functional.cross_entropy(scores, batch.labels, reduction="sum"))
                right += int((scores.argmax(1) == batch.labels).sum())
                advance(len(batch.labels) * accelerate.num_processes)
        losses, right = self._summed(losses, right)
        return losses / len(rows), right / len(rows)

    def finish_epoch(self, numbers: dict[str, Any]) -> None:
        """Keep the best weights, write a checkpoint, and tell the numbers."""
        position, recipe = self.position, self.recipe
        position.epoch = numbers["epoch"]
        position.history.append(numbers)
        position.seconds += numbers["seconds"]
        value = numbers[f"validation_{recipe.best_by}"]
        if position.best_value is None or (
            value > position.best_value if recipe.best_by == "accuracy" else value < position.best_value
        ):
            position.best_epoch, position.best_value, position.worse = numbers["epoch"], value, 0
            self.best = _weights(self.module if self.average is None else self.average.module)
        else:
            position.worse += 1
        average = _weights(self.average) if self.average is not None else None
        if self.runtime.folder:
            checkpoint.save(self.accelerate, self.runtime.folder, position, self.best, average)
        told = {key: number for key, number in numbers.items() if number is not None and key != "epoch"}
        self.accelerate.log(told, step=numbers["epoch"])
        if self.accelerate.is_main_process:
            self.runtime.progress.line(_line(numbers, recipe.epochs))

    def end(self) -> None:
        """Load the best weights back, and put the network on the CPU."""
        self.module.load_state_dict(self.best)
        self.accelerate.end_training()
        self.network.to("cpu").eval()
        for parameter in self.network.parameters():
            parameter.grad = None

    def _loss(self, batch: Batch, epoch: int, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Scores (n, C), and the sum of the losses of a batch."""
        values, targets = self.mixing(batch, epoch, number)
        with self.accelerate.autocast():
            scores = self.model(*values)
        loss = functional.cross_entropy(
            scores.float(), targets, weight=self.criterion_weights, reduction="sum",
            label_smoothing=self.recipe.label_smoothing,
        )  # fmt: skip
        return scores, loss

    def _find_rate(self) -> float:
        """The learning rate by a range test, on copies."""
        task, recipe = self.task, self.recipe
        self.feed.prepare(task.train, 0)

        def loss(batch: Batch, module: nn.Module) -> torch.Tensor:
            with self.accelerate.autocast():
                return functional.cross_entropy(
                    module(*batch.values).float(), batch.labels, label_smoothing=recipe.label_smoothing
                )

        train_mode(self.network, self.stages, batch_norm=recipe.batch_norm)
        rows = task.train[order(len(task.train), recipe.seed, 0)]
        with self.runtime.progress.stage("Range test", len(rows)) as advance:
            found, self.range_test = range_test(
                self.module,
                lambda lr: rates.make_optimizer(self.network, self.stages, recipe, lr),
                lambda: self.feed(batches(rows, recipe.batch_size), 0),
                loss,
                advance,
            )
        return found

    def _weight(self, rows: NDArray[np.int64]) -> float:
        return float(self.criterion_weights.cpu()[torch.from_numpy(self.task.labels[rows])].sum())

    def _summed(self, losses: float, right: int) -> tuple[float, int]:
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


@contextlib.contextmanager
def _seeded(recipe: Recipe, accelerate: Accelerator) -> Iterator[None]:
    """PyTorch's generator under the recipe's seed, and as it was afterwards."""
    devices = [accelerate.device] if accelerate.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(recipe.seed)
        yield


def _check_batch(task: Task) -> None:
    if task.recipe.batch_size > len(task.train):
        raise OptionError(
            f"batch_size = {task.recipe.batch_size} is larger than the {len(task.train):,} images to learn from.",
            f"Choose --batch-size {max(1, min(len(task.train) // 4, 32))} or so.",
        )


def _not_empty(own: NDArray[np.int64], part: NDArray[np.int64]) -> tuple[NDArray[np.int64], bool]:
    """A process without a share of the last batch computes an image that does not count: all must take each step."""
    return (own, True) if len(own) else (part[:1], False)


def _class_weights(task: Task) -> torch.Tensor:
    """The weight of each class, (C,); with ``balanced`` every class has the same total, as in scikit-learn."""
    if task.recipe.class_weight == "none":
        return torch.ones(task.classes)
    counts = np.bincount(task.labels[task.train], minlength=task.classes)
    return torch.from_numpy(len(task.train) / (task.classes * counts)).float()


def _average(module: nn.Module, recipe: Recipe) -> AveragedModel | None:
    return (
        AveragedModel(module, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema), use_buffers=True) if recipe.ema else None
    )


def _weights(module: nn.Module) -> Weights:
    """A copy of all weights on the CPU."""
    return {name: value.detach().cpu().clone().contiguous() for name, value in module.state_dict().items()}


def _no_number(epoch: int, number: int, batches_: int, lr: float) -> TrainingError:
    return TrainingError(
        f"The loss is no number in batch {number + 1} of {batches_} of epoch {epoch}, "
        f"at a learning rate of {lr:.3g} for the head.",
        f"Try --lr {lr / 10:.1g}, or a longer --warmup-epochs; with mixed precision, --amp no. "
        "The checkpoint of the epoch before is kept.",
    )


def _words(epoch: int, epochs: int, loss: float, accuracy: float) -> str:
    return f"epoch {epoch}/{epochs}, loss {loss:.3f}, accuracy {100 * accuracy:.1f} %"


def _line(numbers: dict[str, Any], epochs: int) -> str:
    def words(phase: str) -> str:
        loss, accuracy = numbers[f"{phase}_loss"], numbers[f"{phase}_accuracy"]
        return f"{phase} loss {loss:.4f}, accuracy {100 * accuracy:.1f} %; "

    if not numbers["epoch"]:
        return f"Start: {words('validation')[:-2]}"
    return f"Epoch {numbers['epoch']}/{epochs}: {words('train')}{words('validation')}{numbers['seconds']:.1f} s"
