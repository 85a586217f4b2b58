"""The training loop: what is trained and what stays, and that it can be interrupted."""

from __future__ import annotations

import dataclasses
import itertools
import pickle
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import headstart as hs
from headstart.core.errors import DeviceError, OptionError, TrainingError
from headstart.core.progress import Silent
from headstart.training.checkpoint import Position, found
from headstart.training.freezing import stages, trained
from headstart.training.loop import Validated, fit
from headstart.training.parts import Session
from headstart.training.pixel_feed import PLAIN, Key
from headstart.training.task import Trained
from helpers import write_images
from tiny import RUNTIME, recipe, state, task, tiny


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders with 24 and 29 pictures."""
    return write_images(tmp_path_factory.mktemp("pictures"), {"disc": 24, "noise": 29})


def train(folder: Path, runtime: hs.Runtime = RUNTIME, **settings: Any) -> tuple[dict[str, torch.Tensor], Trained]:
    """The weights after a training, and what it tells."""
    one = task(folder, recipe(**settings))
    result = fit(one, runtime)
    return state(one), result


@pytest.fixture(scope="module")
def base(pictures: Path) -> dict[str, torch.Tensor]:
    """The weights of a training in which no setting was changed."""
    return train(pictures)[0]


@pytest.mark.parametrize("unfreeze", ["head", "last", "half", "all"])
@pytest.mark.parametrize("views", [0, 2])
def test_only_what_is_unfrozen_moves(pictures: Path, unfreeze: Any, views: int) -> None:
    """Weights and, above all, the statistics of frozen batch norms."""
    views = 0 if unfreeze == "all" else views
    after, _ = train(pictures, unfreeze=unfreeze, views=views, epochs=1, optimizer="sgd", batch_norm="train")
    before = tiny().state_dict()
    moved = {name for name, value in before.items() if not torch.equal(value, after[f"backbone.{name}"])}
    free = trained(stages(tiny()), unfreeze)
    assert len(free) == {"head": 0, "last": 1, "half": 2, "all": 4}[unfreeze]
    assert moved == {name for name in before if any(stage.holds(name) for stage in free)}


def test_statistics_can_be_frozen_in_trained_layers_too(pictures: Path) -> None:
    after, _ = train(pictures, unfreeze="all", batch_norm="frozen")
    for name, value in tiny().state_dict().items():
        statistics = "running" in name or "tracked" in name
        assert torch.equal(value, after[f"backbone.{name}"]) == statistics, name


@pytest.mark.parametrize("unfreeze", ["head", "last"])
@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_kept_views_train_the_same_as_the_loop(pictures: Path, head: Any, unfreeze: Any) -> None:
    """`--fast` without augmentation: the same head to 1e-4, dropout included."""
    same = {"unfreeze": unfreeze, "crop_scale": 1.0, "flip": False, "head": head, "epochs": 3}
    loop, fast = train(pictures, **same, views=0)[0], train(pictures, **same, views=5)[0]
    for name, value in loop.items():
        torch.testing.assert_close(value, fast[name], atol=1e-4, rtol=1e-4)


def test_views_come_round(pictures: Path) -> None:
    """With two views and augmentation, the first epochs are those of the loop; the third sees the first view again."""
    same = {"unfreeze": "head", "lr": 0.1, "optimizer": "sgd", "schedule": "constant", "warmup_epochs": 0}
    histories = [train(pictures, **same, views=views, epochs=4)[1].history for views in (0, 2, 4)]
    losses = [[one.train_loss for one in history] for history in histories]
    assert losses[1] == pytest.approx(losses[2][:2] + losses[1][2:], rel=1e-5)
    assert losses[0] == pytest.approx(losses[2], rel=1e-4)
    assert losses[1][2] != pytest.approx(losses[2][2], rel=1e-5)


def test_accumulated_parts_are_one_batch(pictures: Path) -> None:
    """Also where the last batch of the epoch is short, and classes are weighted."""
    same = {"batch_norm": "frozen", "views": 0, "class_weight": "balanced", "optimizer": "sgd", "unfreeze": "all"}
    whole, parts = train(pictures, **same, batch_size=12)[0], train(pictures, **same, batch_size=4, accumulate=3)[0]
    for name, value in whole.items():
        torch.testing.assert_close(value, parts[name], atol=1e-5, rtol=1e-4)


def test_one_epoch_is_what_plain_pytorch_computes(pictures: Path) -> None:
    """The loop against one written here: SGD with momentum, a fixed rate, all layers, no augmentation."""
    settings = recipe(
        unfreeze="all", optimizer="sgd", schedule="constant", warmup_epochs=0, weight_decay=0.0, layer_decay=1.0,
        crop_scale=1.0, flip=False, epochs=1, batch_norm="train",
    )  # fmt: skip
    one, plain = task(pictures, settings), task(pictures, settings)
    fit(one, RUNTIME)
    order = np.random.default_rng([0, 1]).permutation(len(plain.train))
    network, optimizer = plain.network.train(), torch.optim.SGD(plain.network.parameters(), 0.01, momentum=0.9)
    for at in range(0, len(order), 8):
        rows = plain.train[order[at : at + 8]]
        pixels = torch.stack([plain.images[Key(int(row), PLAIN)] for row in rows])
        loss = torch.nn.functional.cross_entropy(network(pixels), torch.from_numpy(plain.labels[rows]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for name, value in state(plain).items():
        torch.testing.assert_close(value, state(one)[name], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("best_by", ["accuracy", "loss"])
def test_the_best_epoch_is_loaded_back(pictures: Path, best_by: Any) -> None:
    """At a wild rate the epochs differ, and what comes out validates as the best one did."""
    one = task(
        pictures, recipe(epochs=5, lr=2.0, optimizer="sgd", unfreeze="all", best_by=best_by, schedule="constant")
    )
    result = fit(one, RUNTIME)
    values = [getattr(epoch, f"validation_{best_by}") for epoch in result.history]
    assert len(set(values)) > 1
    best = values[result.best_epoch - 1]
    assert best == (max if best_by == "accuracy" else min)(values)
    with torch.no_grad():
        pixels = torch.stack([one.images[Key(int(row), PLAIN)] for row in one.validation])
        scores, labels = one.network(pixels), torch.from_numpy(one.labels[one.validation])
    again = {"accuracy": float((scores.argmax(1) == labels).float().mean()),
             "loss": float(torch.nn.functional.cross_entropy(scores, labels))}  # fmt: skip
    assert again[best_by] == pytest.approx(best, rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"mixup": 0.4, "unfreeze": "all"}, {"cutmix": 1.0, "mixup": 0.2}, {"ema": 0.9}, {"augment": "rand", "views": 0},
        {"augment": "trivial", "views": 0}, {"rotation": 15.0, "crop_px": 40, "crop_scale": 0.8, "views": 0},
        {"rotation": 10.0, "crop_scale": 1.0, "views": 0}, {"schedule": "one-cycle"}, {"label_smoothing": 0.1},
        {"schedule": "step", "step_epochs": 1}, {"class_weight": "balanced"}, {"layer_decay": 0.5},
        {"weight_decay": 0.5},
        {"seed": 1}, {"flip": False}, {"optimizer": "sgd"}, {"warmup_epochs": 0.0}, {"head": "mlp", "hidden": 8},
        {"lr": "auto"},
    ],
    ids="-".join,
)  # fmt: skip
def test_every_setting_has_an_effect(pictures: Path, base: dict[str, torch.Tensor], settings: dict[str, Any]) -> None:
    """None is accepted and then forgotten."""
    other, changed = train(pictures, **settings)
    assert all(np.isfinite(one.train_loss) for one in changed.history)
    assert any(name not in base or not torch.equal(base[name], value) for name, value in other.items())
    if settings.get("lr") == "auto":
        rates = [rate for rate, _ in changed.range_test]
        assert changed.lr in rates
        assert rates == sorted(rates)
        # The test trains; what it has changed is put back before the first epoch.
        fixed, _ = train(pictures, lr=changed.lr)
        assert all(torch.equal(fixed[name], value) for name, value in other.items())


def test_patience_stops(pictures: Path) -> None:
    _, result = train(pictures, lr=1e-8, optimizer="sgd", epochs=20, patience=3, best_by="accuracy")
    assert result.stopped_early
    assert len(result.history) == result.best_epoch + 3


def test_a_loss_that_is_no_number_stops_with_advice(pictures: Path) -> None:
    with pytest.raises(TrainingError, match=r"in batch \d+ of \d+ of epoch \d+, at a learning rate of 100") as caught:
        train(pictures, lr=100, optimizer="sgd", unfreeze="all", warmup_epochs=0, schedule="constant",
              momentum=0.99, batch_norm="frozen", epochs=30)  # fmt: skip
    assert "--lr 1e+01" in caught.value.hint


def test_a_batch_larger_than_the_data_is_refused(pictures: Path) -> None:
    with pytest.raises(OptionError, match=r"batch_size = 500 is larger than the 39 training images"):
        train(pictures, batch_size=500)


@pytest.mark.parametrize(("device", "words"), [("cuda", "no CUDA device"), ("cuda:7", "CUDA"), ("gpu", "no device")])
def test_a_device_that_is_not_there_is_an_error(pictures: Path, device: str, words: str) -> None:
    if device == "cuda" and torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises((DeviceError, OptionError), match=words):
        train(pictures, dataclasses.replace(RUNTIME, device=device))


def test_half_precision_without_a_gpu_is_an_error(pictures: Path) -> None:
    with pytest.raises(DeviceError, match="fp16"):
        train(pictures, amp="fp16")


def test_a_lack_of_memory_says_which_batch_to_try(pictures: Path) -> None:
    """PyTorch's own error of an allocation that no machine can serve."""
    one = task(pictures, recipe(batch_size=8))

    class Greedy(torch.nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            torch.empty(2**60, dtype=torch.uint8)
            return super().forward(x)

    one.network.head = Greedy(16, 2)
    with pytest.raises(DeviceError, match="not enough memory for batches of 8") as caught:
        fit(one, RUNTIME)
    assert "--batch-size 4 --accumulate 2" in caught.value.hint


def test_the_process_is_left_as_it_was(pictures: Path) -> None:
    """No random state moves, no thread count, no state of accelerate."""
    from accelerate.state import PartialState

    def look() -> tuple[Any, ...]:
        generators = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
        return *generators, torch.get_num_threads(), dict(PartialState._shared_state)

    before = look()
    train(pictures, head="mlp", mixup=0.2, ema=0.5)
    assert look() == before


def test_the_same_seed_gives_the_same_weights(pictures: Path) -> None:
    first, second = train(pictures, views=0, head="mlp")[0], train(pictures, views=0, head="mlp")[0]
    assert all(torch.equal(first[name], second[name]) for name in first)


# --- how far it goes ------------------------------------------------------------------------------------------------

TOO_FAR: dict[str, Any] = {
    "start": "probe", "lr": 0.01, "retries": 1, "epochs": 3, "views": 0, "unfreeze": "all", "batch_norm": "frozen",
    "best_by": "calibrated", "warmup_epochs": 0.0,
}  # fmt: skip


def test_a_rate_that_spoils_the_start_is_tried_once_and_then_a_tenth_of_it(
    pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worse = itertools.chain([0.1], itertools.count(1.0))  # the start is never reached again

    def validate(session: Any, advance: Any) -> Validated:
        session.losses = np.full(len(session.task.validation), next(worse))
        return Validated(1.0, 0.5, float(session.losses[0]))

    monkeypatch.setattr("headstart.training.loop.validate", validate)
    one = task(pictures, recipe(**TOO_FAR | {"schedule": "constant"}))
    before = state(one)
    told = fit(one, RUNTIME)
    assert [row.lr for row in told.history] == pytest.approx([None, *[0.01] * 3, *[0.001] * 3])
    assert told.best_epoch == 0
    assert all(torch.equal(value, state(one)[name]) for name, value in before.items())
    assert "No epoch at a learning rate of up to 0.01 was better than the start" in told.notes[-1]
    assert told.lr == pytest.approx(0.001)


def test_it_does_not_begin_again_where_the_start_makes_no_mistake(
    pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def validate(session: Any, advance: Any) -> Validated:
        session.losses = np.full(len(session.task.validation), 0.1 + session.position.epoch)
        return Validated(1.0, 1.0, float(session.losses[0]))

    monkeypatch.setattr("headstart.training.loop.validate", validate)
    told = train(pictures, **TOO_FAR)[1]
    assert (told.best_epoch, len(told.history)) == (0, 1 + TOO_FAR["epochs"])


def test_it_does_not_begin_again_where_an_epoch_was_better(pictures: Path) -> None:
    told = train(pictures, **TOO_FAR | {"lr": 0.003, "best_by": "loss", "epochs": 4})[1]
    assert told.best_epoch > 0
    assert len(told.history) == 5


@pytest.mark.slow
def test_beginning_again_is_resumed_to_the_bit(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupted before the second try, and in it."""
    monkeypatch.setattr("headstart.training.parts.Session._is_best", lambda self, _: self.position.epoch in {0, 5})
    settings = TOO_FAR | {"ema": 0.5}
    whole, told = train(pictures, **settings)
    assert told.best_epoch == 5
    run = tmp_path / "run"
    stop(pictures, run, 3, **settings)
    stop(pictures, run, 4, resume=True, **settings)
    resumed, again = train(pictures, dataclasses.replace(RUNTIME, folder=run, resume=True), **settings)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert again.notes == told.notes
    assert [{**one.as_dict(), "seconds": 0} for one in again.history] == [
        {**one.as_dict(), "seconds": 0} for one in told.history
    ]


def test_small_squares_first_and_the_own_size_in_the_last_third(pictures: Path) -> None:
    """What is validated, and what comes out, is of the backbone's own size throughout."""
    one = task(pictures, recipe(train_px=16, epochs=3, views=0, unfreeze="all"))
    seen: list[tuple[bool, int]] = []
    one.network.register_forward_pre_hook(
        lambda module, values: seen.append((module.head.training, values[0].shape[-1]))
    )
    fit(one, RUNTIME)
    sides = [side for training, side in seen if training]
    steps = len(sides) // 3
    assert sides == [16] * (2 * steps) + [32] * steps
    assert {side for training, side in seen if not training} == {32}


def test_the_start_is_given_up_for_more_than_a_standard_error() -> None:
    """Of 100 images one gains 1 and one loses 0.5: the mean gains 0.005, and its standard error is 0.011."""

    def best(losses: np.ndarray, best_epoch: int = 0) -> bool:
        start = np.full(100, 0.5)
        position = Position(epoch=1, best_epoch=best_epoch, best_value=0.5, start_losses=start.tolist())
        session: Any = SimpleNamespace(position=position, recipe=recipe(best_by="calibrated"), losses=losses)
        return Session._is_best(session, float(losses.mean()))

    better = np.full(100, 0.5)
    better[:2] += -1, 0.5
    assert not best(better)
    assert best(better, best_epoch=1)  # among epochs the better one counts
    better[1:4] -= 1
    assert best(better)
    assert not best(np.full(100, 0.5))


# --- interruptions --------------------------------------------------------------------------------------------------


class Stop(BaseException):
    """An interruption."""


class StopAfter(Silent):
    """Interrupts when an epoch is told."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def line(self, text: str) -> None:
        if text.startswith(f"Epoch {self.epoch}/"):
            raise Stop


def stop(folder: Path, run: Path, epoch: int, resume: bool = False, **settings: Any) -> None:
    runtime = dataclasses.replace(RUNTIME, folder=run, progress=StopAfter(epoch), resume=resume)
    with pytest.raises(Stop):
        train(folder, runtime, **settings)


ALL = {"epochs": 5, "head": "mlp", "ema": 0.8, "rotation": 5.0, "schedule": "one-cycle"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        ALL | {"unfreeze": "last"},
        ALL | {"views": 0, "mixup": 0.3, "optimizer": "sgd", "unfreeze": "all"},
        {"lr": "auto"},
    ],
    ids=["views", "loop", "range-test"],
)
def test_resumed_is_uninterrupted_to_the_bit(pictures: Path, tmp_path: Path, settings: dict[str, Any]) -> None:
    settings = {"epochs": 5} | settings
    whole, told = train(pictures, **settings)
    run = tmp_path / "run"
    stop(pictures, run, 1, **settings)
    stop(pictures, run, 3, resume=True, **settings)  # interrupted twice
    resumed, told_again = train(pictures, dataclasses.replace(RUNTIME, folder=run, resume=True), **settings)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    numbers = [[{**one.as_dict(), "seconds": 0} for one in result.history] for result in (told, told_again)]
    assert numbers[0] == numbers[1]
    assert [epoch for epoch, _ in found(run)] == [5]


def test_resuming_before_the_first_epoch_begins_anew(pictures: Path, tmp_path: Path) -> None:
    whole, _ = train(pictures)
    resumed, _ = train(pictures, dataclasses.replace(RUNTIME, folder=tmp_path, resume=True))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


FILES = ("model.safetensors", "optimizer.bin", "random_states_0.pkl", "state.json", "best.safetensors")


@pytest.fixture(scope="module")
def stopped(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with a training that stopped after its first epoch. Do not change it: copy it."""
    run = tmp_path_factory.mktemp("stopped")
    stop(pictures, run, 1)
    return run


def resume_copy(pictures: Path, run: Path) -> None:
    train(pictures, dataclasses.replace(RUNTIME, folder=run, resume=True))


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("damage", ["cut", "gone", "empty"])
def test_a_damaged_checkpoint_is_told(pictures: Path, stopped: Path, tmp_path: Path, file: str, damage: str) -> None:
    import shutil

    run = Path(shutil.copytree(stopped, tmp_path / "run"))
    (path,) = run.glob(f"checkpoints/epoch-*/{file}")
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] if damage == "cut" else b"")
    with pytest.raises(hs.ModelError, match="checkpoint") as caught:
        resume_copy(pictures, run)
    assert "--overwrite" in caught.value.hint


@pytest.mark.parametrize("file", ["optimizer.bin", "random_states_0.pkl"])
def test_a_checkpoint_with_code_is_refused(pictures: Path, stopped: Path, tmp_path: Path, file: str) -> None:
    import shutil

    run, target = Path(shutil.copytree(stopped, tmp_path / "run")), tmp_path / "ran"

    class Evil:
        def __reduce__(self) -> Any:
            return Path.touch, (target,)

    (path,) = run.glob(f"checkpoints/epoch-*/{file}")
    path.write_bytes(pickle.dumps({"step": 0, "random_state": Evil()}))
    with pytest.raises(hs.ModelError, match="checkpoint"):
        resume_copy(pictures, run)
    assert not target.exists()


def test_what_a_killed_process_left_is_overwritten(pictures: Path, stopped: Path, tmp_path: Path) -> None:
    """A half-written checkpoint has another name than a whole one."""
    import shutil

    run = Path(shutil.copytree(stopped, tmp_path / "run"))
    half = run / "checkpoints" / ".epoch-000002.tmp"
    half.mkdir()
    (half / "model.safetensors").write_bytes(b"half")
    resume_copy(pictures, run)
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["epoch-000002"]


@pytest.mark.slow
def test_a_full_disk_leaves_the_checkpoint_before(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the n-th file that is flushed, for every n until all succeed."""
    import errno
    import os

    real, run = os.fsync, tmp_path / "run"
    stop(pictures, run, 1, epochs=3)
    left = failures = 0

    def failing(descriptor: int) -> None:
        nonlocal left
        left -= 1
        if not left:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    while [epoch for epoch, _ in found(run)][-1] == 1:
        failures += 1
        left = failures
        monkeypatch.setattr(os, "fsync", failing)
        with pytest.raises((hs.StorageError, Stop)) as caught:
            train(pictures, dataclasses.replace(RUNTIME, folder=run, progress=StopAfter(2), resume=True), epochs=3)
        monkeypatch.setattr(os, "fsync", real)
        if caught.type is hs.StorageError:
            assert "disk is full" in str(caught.value)
        assert found(run)
    assert failures >= 5
    whole, _ = train(pictures, epochs=3)
    resumed, _ = train(pictures, dataclasses.replace(RUNTIME, folder=run, resume=True), epochs=3)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
