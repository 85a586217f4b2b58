"""The training loop: every epoch trains and validates, and the best weights are loaded back at the end."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import nn

from headstart.core.errors import OptionError, TrainingError
from headstart.core.progress import Advance
from headstart.core.runtime import Runtime
from headstart.runs.details import Epoch
from headstart.settings.recipe import Recipe
from headstart.targets import calibration_of
from headstart.training import rates
from headstart.training.batch_norm import count_batch
from headstart.training.checkpoint import Position
from headstart.training.devices import accelerator
from headstart.training.memory import keeping_memory, memory_guard
from headstart.training.network import train_mode
from headstart.training.parts import RETRY_SHARE, Session
from headstart.training.pixel_feed import PLAIN, Batch, batches, order, share
from headstart.training.range_test import range_test
from headstart.training.task import Task, Trained

if TYPE_CHECKING:
    from numpy.typing import NDArray


def fit(task: Task, runtime: Runtime) -> Trained:
    """Train a network.

    Raises:
        TrainingError: The loss is NaN or infinite.
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
        session = Session(task, runtime, accelerate)
        position = session.begin(lambda: _find_rate(session))
        if recipe.start != "random" and not position.history:
            # The start is a candidate too: what fine-tuning makes worse is not kept.
            begun = time.perf_counter()
            with runtime.progress.stage("Validating", len(task.validation)) as advance:
                validated = validate(session, advance)
            session.finish_epoch(Epoch(epoch=0, **validated._asdict(), seconds=time.perf_counter() - begun))
        stopped = train_epochs(session)
        while not position.best_epoch and position.retry < recipe.retries and _makes_mistakes(position):
            session.begin_again()
            stopped = train_epochs(session)
        session.end()
        images = len(task.train) * sum(1 for one in position.history if one.epoch)
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
            notes=(*session.notes, *_retried(position)),
        )


def train_epochs(session: Session) -> bool:
    """Train until the epochs or the patience are at an end; whether it was the patience.

    Where the training goes on from a checkpoint, the epochs that it holds are not repeated.
    """
    task, recipe, position = session.task, session.recipe, session.position
    last = position.before + int(recipe.epochs)
    total = (last - position.epoch) * (len(task.train) + len(task.validation))
    with session.runtime.progress.stage("Training", total) as advance:
        for epoch in range(position.epoch + 1, last + 1):
            if recipe.patience and position.worse >= recipe.patience:
                return True
            begun = time.perf_counter()
            train_loss, train_accuracy, rate = train_epoch(session, epoch, advance)
            validated = validate(session, advance)
            session.finish_epoch(
                Epoch(
                    epoch=epoch, train_loss=train_loss, train_accuracy=train_accuracy, **validated._asdict(), lr=rate,
                    seconds=time.perf_counter() - begun,
                )
            )  # fmt: skip
    return False


def train_epoch(session: Session, epoch: int, advance: Advance) -> tuple[float, float, float]:
    """Train for one epoch; its mean loss, its accuracy, and the last learning rate."""
    task, recipe, accelerate = session.task, session.recipe, session.accelerate
    view = epoch - 1
    since = epoch - session.position.before  # its number since the training began, or began again
    epochs = session.position.before + int(recipe.epochs)
    advance(0, f"epoch {epoch}/{epochs}")
    session.feed.prepare(task.train, view)
    train_mode(session.network, session.stages, batch_norm=recipe.batch_norm)
    rows = task.train[order(len(task.train), recipe.seed, epoch)]
    parts = batches(rows, recipe.batch_size)
    own = [_not_empty(share(part, accelerate.process_index, accelerate.num_processes), part) for part in parts]
    losses, right, seen = 0.0, 0, 0
    for number, batch in enumerate(session.feed([rows for rows, _ in own], view, rates.side_px(recipe, since))):
        first = number - number % recipe.accumulate
        group = parts[first : first + recipe.accumulate]
        last = number == first + len(group) - 1
        step = (since - 1) * session.steps_per_epoch + number // recipe.accumulate
        rates.set_rate(session.optimizer, rates.factor(recipe, step, session.steps_per_epoch))
        # The loss is a sum over this process's images, divided by the weight of all images of the step: so the
        # gradient is the same however a batch is divided over processes and over accumulated parts.
        weight = sum(session.weight(part) for part in group)
        count_batch(own[number][1])
        with contextlib.nullcontext() if last else accelerate.no_sync(session.model):
            scores, loss = _loss(session, batch, epoch, number)
            loss = loss if own[number][1] else 0 * loss
            accelerate.backward(loss * accelerate.num_processes / weight)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise _no_number(epoch, number, len(parts), session.optimizer.param_groups[0]["lr"])
        if last:
            session.optimizer.step()
            session.optimizer.zero_grad()
            if session.average is not None:
                session.average.update_parameters(session.module)
        count = len(own[number][0]) if own[number][1] else 0
        hits = session.loss.right(scores, batch.labels) if count else 0
        losses, right, seen = losses + value, right + hits, seen + count
        advance(len(parts[number]), _words(epoch, epochs, losses / max(seen, 1), right / max(seen, 1)))
    losses, right = session.summed(losses, right)
    return losses / session.weight(rows), right / len(rows), float(session.optimizer.param_groups[0]["lr"])


class Validated(NamedTuple):
    """Results on the validation images; see `headstart.runs.details.Epoch`."""

    validation_loss: float
    validation_accuracy: float
    validation_calibrated: float | None = None


def validate(session: Session, advance: Advance) -> Validated:
    """Results on the validation images, with the averaged weights if there are some.

    If the loss after temperature scaling (Guo et al. 2017) chooses the epoch, it is among the results, and the losses
    of the images themselves are in the session's `losses`.
    """
    rows, accelerate = session.task.validation, session.accelerate
    session.network.eval()
    model = session.module if session.average is None else session.average.eval()
    session.feed.prepare(rows, PLAIN)
    parts = [
        own for part in batches(rows, session.recipe.batch_size)
        if len(own := share(part, accelerate.process_index, accelerate.num_processes))
    ]  # fmt: skip
    losses, right = 0.0, 0
    found: list[tuple[NDArray[np.float32], NDArray[np.signedinteger]]] = []
    calibrated = session.recipe.best_by == "calibrated"
    with torch.no_grad():
        for batch in session.feed(parts, PLAIN):
            with accelerate.autocast():
                scores = model(*batch.values).float()
            losses += float(session.loss.validated(scores, batch.labels))
            right += session.loss.right(scores, batch.labels)
            if calibrated:
                found.append((scores.cpu().numpy(), batch.labels.cpu().numpy()))
            advance(len(batch.labels) * accelerate.num_processes)
    losses, right = session.summed(losses, right)
    mean = None
    if calibrated:
        session.losses = _calibrated(session, gather_object(found))
        mean = float(session.losses.mean())
    return Validated(losses / len(rows), right / len(rows), mean)


def _calibrated(
    session: Session, batches_: list[tuple[NDArray[np.float32], NDArray[np.signedinteger]]]
) -> NDArray[np.float64]:
    """The loss of each image in nats, (V,), after the temperature that makes their mean least."""
    scores, labels = (np.concatenate(values) for values in zip(*batches_, strict=True))
    calibration = calibration_of(session.task.targets.task).fit(scores, labels)
    calibrated = torch.from_numpy(calibration.scaled(scores.astype(np.float64)))
    losses: NDArray[np.float64] = session.loss.each(calibrated, torch.from_numpy(labels)).numpy()
    return losses


def _loss(session: Session, batch: Batch, epoch: int, number: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores (n, C), and the sum of the losses of a batch."""
    values, targets = session.mixing(batch, epoch, number)
    with session.accelerate.autocast():
        scores = session.model(*values)
    return scores, session.loss.learnt(scores.float(), targets)


def _find_rate(session: Session) -> float:
    """The learning rate by a range test, on copies."""
    task, recipe = session.task, session.recipe
    session.feed.prepare(task.train, 0)

    def loss(batch: Batch, module: nn.Module) -> torch.Tensor:
        with session.accelerate.autocast():
            return session.loss.tried(module(*batch.values).float(), batch.labels)

    train_mode(session.network, session.stages, batch_norm=recipe.batch_norm)
    rows = task.train[order(len(task.train), recipe.seed, 0)]
    with session.runtime.progress.stage("Range test", len(rows)) as advance:
        found, session.range_test = range_test(
            session.module,
            lambda lr: rates.make_optimizer(session.network, session.stages, recipe, lr),
            lambda: session.feed(batches(rows, recipe.batch_size), 0),
            loss,
            advance,
        )
    return found


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
            f"batch_size = {task.recipe.batch_size} is larger than the {len(task.train):,} training images.",
            f"Choose --batch-size {max(1, min(len(task.train) // 4, 32))} or so.",
        )


def _makes_mistakes(position: Position) -> bool:
    """Whether the starting point misclassifies a validation image; if it does not, a second try could show nothing."""
    return position.history[0].validation_accuracy != 1


def _retried(position: Position) -> tuple[str, ...]:
    """The note on a training that began again."""
    if not position.retry:
        return ()
    first = position.lr / RETRY_SHARE**position.retry
    return (
        f"No epoch at a learning rate of up to {first:.2g} was better than the starting point on the validation "
        f"images: training began again from there, at {position.lr:.2g}.",
    )


def _not_empty(own: NDArray[np.int64], part: NDArray[np.int64]) -> tuple[NDArray[np.int64], bool]:
    """A process without a share of the last batch computes an image that does not count: all must take each step."""
    return (own, True) if len(own) else (part[:1], False)


def _no_number(epoch: int, number: int, batches_: int, lr: float) -> TrainingError:
    return TrainingError(
        f"The loss is NaN or infinite in batch {number + 1} of {batches_} of epoch {epoch}, "
        f"at a learning rate of {lr:.3g} for the head.",
        f"Start again with --overwrite and --lr {lr / 10:.1g}, or a longer --warmup-epochs; with mixed precision, "
        "--amp no.",
    )


def _words(epoch: int, epochs: int, loss: float, accuracy: float) -> str:
    return f"epoch {epoch}/{epochs}, loss {loss:.3f}, accuracy {100 * accuracy:.1f} %"
