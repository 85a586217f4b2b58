"""How far a fine-tuning goes, where nobody says: by the number of images, and by the time."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import pytest

import headstart as hs
from headstart.core.errors import BudgetError, OptionError
from headstart.training import plan as planning
from headstart.training.plan import Pace, plan, usual_epochs, usual_px
from helpers import write_images
from tiny import RUNTIME, recipe, state, task


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("pictures"), {"disc": 24, "noise": 29})


def open_task(folder: Path, **settings: Any) -> Any:
    return task(folder, recipe(**{"epochs": "auto", "unfreeze": "all", **settings}))


@pytest.mark.parametrize(("images", "epochs"), [(2, 12), (200, 8), (480, 6), (1150, 5), (5000, 3), (10**6, 3)])
def test_more_images_need_fewer_passes(images: int, epochs: int) -> None:
    assert usual_epochs(images) == epochs


@pytest.mark.parametrize(
    ("own", "side"), [(224, 160), (240, 160), (260, 192), (299, 224), (384, 256), (96, 0), (64, 0)]
)
def test_smaller_squares_are_what_networks_can_halve(own: int, side: int) -> None:
    assert usual_px(own) == side
    assert side % 32 == 0


def test_without_a_budget_the_images_alone_decide(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "measure", lambda *_: pytest.fail("nothing is to be timed"))
    one = open_task(pictures)
    found = plan(one, RUNTIME, None)
    assert found.recipe == dataclasses.replace(one.recipe, epochs=usual_epochs(len(one.train)), train_px=0)
    assert found.notes == (f"Planned for {len(one.train)} train images: 12 epochs of all layers.",)


def test_what_was_asked_for_stays(pictures: Path) -> None:
    one = open_task(pictures, epochs=2, train_px=0)
    assert plan(one, RUNTIME, None) == planning.Plan(one.recipe, None, ())


def paces(monkeypatch: pytest.MonkeyPatch, cost: dict[str, float]) -> None:
    """Seconds of a train image by what is trained; all else is free but for the export."""

    def measure(task: Any, runtime: Any) -> Pace:
        one = task.recipe
        kind = "small" if one.train_px else f"views {one.views}" if one.views else one.unfreeze
        return Pace(cost[kind], cost[kind], 0.0, len(task.train), len(task.validation), len(task.labels))

    monkeypatch.setattr(planning, "measure", measure)
    monkeypatch.setattr(planning, "_side", lambda task: 160)


COST = {"all": 1.0, "half": 0.5, "small": 0.25, "views 4": 0.125, "views 1": 0.0625}


@pytest.mark.parametrize(
    ("left", "expected"),
    [
        (1e6, {"epochs": 12, "unfreeze": "all", "train_px": 0, "views": 0}),
        (15 + 8 * 39 + 1, {"epochs": 8, "unfreeze": "all"}),
        (15 + 3 * 39 + 1, {"epochs": 3, "unfreeze": "all"}),
        (15 + 2 * 39 + 1, {"epochs": 4, "unfreeze": "half", "train_px": 0}),
        (15 + 39 + 1, {"epochs": 4, "unfreeze": "half", "train_px": 160}),
        (15 + 0.5 * 39 + 1, {"epochs": 4, "unfreeze": "last", "train_px": 0, "views": 4}),
        (15 + 0.25 * 39 + 1, {"epochs": 4, "unfreeze": "last", "views": 1}),
    ],
    ids=str,
)
def test_the_first_plan_that_fits_is_taken(
    pictures: Path, monkeypatch: pytest.MonkeyPatch, left: float, expected: dict[str, Any]
) -> None:
    """39 images to learn from: epochs first, then layers, then sizes, then what is kept of the frozen part."""
    paces(monkeypatch, COST)
    one = open_task(pictures, start="random", budget=60.0)
    assert len(one.train) == 39
    found = plan(one, RUNTIME, left)
    assert {name: getattr(found.recipe, name) for name in expected} == expected
    assert found.seconds is not None
    assert found.seconds <= left
    assert f"of the {left:.0f} s left" in found.notes[0]
    assert found.recipe.budget == 0  # so that it gives the same training again where that takes longer


def test_there_must_be_time_to_begin_again(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paces(monkeypatch, COST)
    one = open_task(pictures, retries=1)
    needed = 15 + 12 * 39
    assert plan(one, RUNTIME, 2 * needed + 1).recipe.retries == 1
    assert plan(one, RUNTIME, needed + 1).recipe.retries == 0


def test_no_time_is_an_error_that_says_how_much_is_needed(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paces(monkeypatch, COST)
    words = r"would take about 22 s, estimated from 2 timed batches, but 20 s of the budget"
    with pytest.raises(BudgetError, match=words):
        plan(open_task(pictures), RUNTIME, 20.0)
    with pytest.raises(BudgetError, match=r"The 40 epochs that were asked for would take about .* 100 s") as stop:
        plan(open_task(pictures, epochs=40), RUNTIME, 100.0)
    assert "Leave --epochs out" in (stop.value.hint or "")


@pytest.mark.slow
def test_a_budget_counts_from_the_beginning(pictures: Path) -> None:
    """With nothing of it left, nothing is trained; what was spent before counts too."""
    settings = hs.Recipe(
        strategy="finetune", backbone="timm:test_resnet", pretrained=False, budget=0.5, flip=False, start="random"
    )
    with pytest.raises(OptionError, match=r"0 s of the budget are left"):
        hs.train(pictures, settings, runtime=RUNTIME)


@pytest.mark.slow
@pytest.mark.parametrize("views", [0, 2])
def test_the_pace_is_of_the_size_of_what_it_takes(pictures: Path, views: int) -> None:
    """Within a factor of four, once in three times on a machine that does other things too; and the network is left as
    it is."""
    from headstart.training import loop

    unfreeze = "last" if views else "all"
    one = task(pictures, recipe(epochs=8, batch_size=8, views=views, unfreeze=unfreeze))
    ratios: list[float] = []
    while not any(0.25 < ratio < 4 for ratio in ratios) and len(ratios) < 3:
        before = state(one)
        pace = planning.measure(one, RUNTIME)
        assert all((value == before[name]).all() for name, value in state(one).items())
        expected = pace.seconds(one.recipe) - max(15.0, 300 * pace.forward) - pace.every * pace.forward
        begun = time.perf_counter()
        loop.fit(one, RUNTIME)
        ratios.append(expected / (time.perf_counter() - begun))
    assert 0.25 < ratios[-1] < 4, ratios
