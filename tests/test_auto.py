"""The strategy `auto`: when it goes a step further, by which images it chooses, and what it says of that."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

import headstart as hs
from headstart.core.errors import OptionError
from headstart.partition.roles import Partition, Role
from headstart.runs.details import Details, Embedding
from headstart.settings.recipe import TRAINING
from headstart.strategies import auto
from headstart.targets.classes import Classes
from helpers import headstart_cli, write_images

# A network of random weights, which has to learn before it tells much.
SETTINGS: dict[str, Any] = {
    "strategy": "auto", "backbone": "timm:test_resnet", "pretrained": False, "start": "random", "lr": 0.003,
    "batch_norm": "train", "batch_size": 8, "crop_scale": 1.0, "unfreeze": "all", "epochs": 6, "validation": 0.4,
    "train_px": 96,
}  # fmt: skip


def write_stripes(folder: Path, images: int, height: float, seed: int = 0, px: int = 64) -> Path:
    """Faint stripes across or down in noise: a random network's averages tell them badly, a trained one well."""
    rng = np.random.default_rng(seed)
    for label in ("across", "down"):
        (folder / label).mkdir(parents=True)
        for number in range(images):
            wave = height * np.sin(np.arange(px) * 2 * np.pi / 8 + rng.uniform(0, 6))
            pattern = wave[:, None] if label == "across" else wave[None, :]
            noise = rng.normal(0, 45, (px, px, 1)) + rng.normal(0, 10, (px, px, 3)) + rng.uniform(-25, 25, 3)
            pixels = np.clip(128 + pattern[..., None] + noise, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{number:03}.png")
    return folder


@pytest.fixture(scope="module")
def runtime(warm: Path) -> hs.Runtime:
    """Images are embedded once for all tests."""
    return hs.Runtime(cache=warm, device="cpu")


@pytest.fixture(scope="module")
def faint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a train and a val folder."""
    folder = tmp_path_factory.mktemp("faint")
    write_stripes(folder / "train", 90, 18)
    write_stripes(folder / "val", 20, 18, seed=1)
    return folder


@pytest.fixture(scope="module")
def easy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("easy"), {"disc": 140, "stripes": 140})


# The recipe


def test_settings_that_are_left_out_stay_open() -> None:
    recipe = hs.Recipe(strategy="auto", budget=600, epochs=3)
    assert recipe.precision == "int8"
    assert {name for name in TRAINING if getattr(recipe, name) is not None} == {"epochs"}
    assert hs.Recipe.from_toml(recipe.to_toml()) == recipe


def test_rungs_are_the_plain_strategies_with_what_the_user_chose() -> None:
    recipe = hs.Recipe(strategy="auto", budget=600, epochs=3, seed=5, fit="pad", class_weight="balanced")
    assert auto.of_probe(recipe) == hs.Recipe(seed=5, fit="pad", class_weight="balanced")
    assert auto.of_finetune(recipe) == hs.Recipe(
        strategy="finetune", epochs=3, seed=5, fit="pad", class_weight="balanced", budget=600, measure_by="holdout"
    )
    chosen = auto.of_finetune(dataclasses.replace(recipe, flip=True, unfreeze="half"))
    assert (chosen.flip, chosen.unfreeze) == (True, "half")


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"measure_by": "folds"}, "repeat in each fold"), ({"validation": 0.0}, "that it is measured on")],
    ids=str,
)
def test_nothing_is_chosen_by_what_is_measured(
    easy: Path, settings: dict[str, Any], words: str, runtime: hs.Runtime
) -> None:
    with pytest.raises(OptionError, match=words):
        hs.train(easy, hs.Recipe(strategy="auto", **settings), runtime=runtime)


def test_own_parts_need_a_strategy(easy: Path, runtime: hs.Runtime) -> None:
    with pytest.raises(OptionError, match="The strategy auto trains no custom network"):
        hs.train(easy, hs.Recipe(strategy="auto"), own=hs.Own(loop=lambda task, runtime: None), runtime=runtime)


# Whether a further step can pay, and what is chosen


def embedded_now(images: int) -> Details:
    return Details(embedding=Embedding(images, 0, "onnxruntime cpu"))


def ground_of(images: int, groups: tuple[int, ...] | None = None) -> Any:
    targets = Classes(("right", "wrong"), np.zeros(images, np.int64))
    rows = np.arange(images)
    learnt, none = np.full(images, Role.TRAIN, np.int8), np.zeros(images, bool)
    drawn = Partition(learnt, rows, Role.VAL, none, none, targets, np.array(groups or rows))
    data = SimpleNamespace(table=SimpleNamespace(rows=[SimpleNamespace(split=None)] * images))
    return auto._Validation(data, drawn.chosen_by(rows))  # type: ignore[arg-type]


def rung_of(name: str, right: np.ndarray, seconds: float = 1.0) -> Any:
    probabilities = np.where(right[:, None], [0.9, 0.1], [0.1, 0.9])
    recipe = hs.Recipe() if name == "the probe" else hs.Recipe(strategy="finetune")
    return auto._Rung(name, recipe, None, seconds, probabilities)  # type: ignore[arg-type]


@pytest.mark.parametrize(("wrong", "pays"), [(0, False), (5, False), (6, True), (20, True)])
def test_it_stops_where_even_a_perfect_network_would_not_be_told_apart(wrong: int, pays: bool) -> None:
    """By McNemar's exact test five mistakes mended are p = 0.0625, and six p = 0.03125."""
    rung = rung_of("the probe", np.arange(100) >= wrong)
    why = auto._cannot_pay(rung, ground_of(100))
    assert (why == "") == pays
    if not pays:
        assert f"classifies {100 - wrong} of the 100 train images that chose correctly" in why
        assert f"p = {2 * 0.5**wrong:.2g}" in why or wrong == 0


def test_mistakes_in_one_group_are_one_chance() -> None:
    rung = rung_of("the probe", np.arange(100) >= 12)
    assert auto._cannot_pay(rung, ground_of(100)) == ""
    assert auto._cannot_pay(rung, ground_of(100, tuple(i // 6 for i in range(100))))


def test_the_cheapest_of_those_that_cannot_be_told_apart_is_kept() -> None:
    first = np.arange(100) >= 20
    little, much = first.copy(), first.copy()
    little[:4] = True
    much[:18] = True
    rungs = [rung_of("the probe", first), rung_of("fine-tuning the last stage", little)]
    place, words = auto._choose(rungs, ground_of(100))
    assert place == 0
    assert "cannot separate" in words
    assert "more such images would be needed to show it" in words
    assert "the probe 80.0 %, fine-tuning the last stage 84.0 %" in words
    place, words = auto._choose([*rungs, rung_of("fine-tuning all layers", much)], ground_of(100))
    assert place == 2
    assert words.startswith("Use fine-tuning all layers: it is better than the probe (p < 0.001)")


def test_better_probabilities_are_enough_where_accuracy_cannot_tell() -> None:
    """Of 100 images both get 94 and 97 right, which chance may do; the second is far surer of all it gets right."""
    first, second = (rung_of(name, np.arange(100) >= wrong) for name, wrong in (("the probe", 6), ("fine-tuning", 3)))
    place, _ = auto._choose([first, second], ground_of(100))
    assert place == 0
    surer = np.where(second.probabilities > 0.5, 0.999, 0.001)
    place, words = auto._choose([first, dataclasses.replace(second, probabilities=surer)], ground_of(100))
    assert place == 0  # three mistakes of which it is sure take back what it gains
    surer[:3] = 0.499, 0.501
    place, words = auto._choose([first, dataclasses.replace(second, probabilities=surer)], ground_of(100))
    assert place == 1
    assert words.startswith("Use fine-tuning: on 100 train images that chose its log loss is 0.0")
    worse = rung_of("fine-tuning", np.arange(100) >= 7)
    sure = np.where(worse.probabilities > 0.5, 0.999, 0.001)
    sure[:7] = 0.49, 0.51
    assert auto._choose([first, dataclasses.replace(worse, probabilities=sure)], ground_of(100))[0] == 0


def test_with_no_time_left_nothing_is_begun() -> None:
    first: Any = SimpleNamespace(
        data=range(1000), details=embedded_now(1000), seconds={"embed": 10.0}
    )  # fmt: skip
    assert auto._no_time(first, float("inf")) == ""
    assert auto._no_time(first, time.perf_counter() + 60) == ""
    assert "needs 20 s for its images alone, and 5 s of the budget are left" in auto._no_time(
        first, time.perf_counter() + 5.2
    )
    cached: Any = SimpleNamespace(data=range(1000), details=embedded_now(0), seconds={"embed": 0.1})
    assert auto._no_time(cached, time.perf_counter() + 1) == ""
    assert "0 s of the budget are left" in auto._no_time(cached, time.perf_counter() - 1)


# From end to end


@pytest.mark.slow
def test_where_the_probe_is_good_it_is_all(easy: Path, tmp_path: Path, runtime: hs.Runtime) -> None:
    run = hs.train(easy, hs.Recipe(strategy="auto", budget=600, epochs=3), runtime=runtime)
    plain = hs.train(easy, runtime=runtime)
    assert run.recipe == plain.recipe
    assert run.evaluation == plain.evaluation
    assert [one["name"] for one in run.fitted.details.as_dict()["auto"]["tried"]] == ["the probe"]
    reasons = run.classifier.metadata.reasons
    assert reasons[0].startswith("The strategy was chosen step by step (auto); it is the probe")
    assert "even a network without a single mistake could not be shown to be better" in reasons[1]
    assert list(reasons) == run.fitted.details.as_dict()["auto"]["reasons"]
    assert set(reasons) <= set(run.fitted.notes)
    folder = run.save(tmp_path / "run")
    metrics = json.loads((folder / "metrics.json").read_text("utf-8"))
    assert metrics["strategy"] == "probe"
    assert metrics["details"]["auto"]["reasons"] == list(reasons)
    assert hs.Recipe.from_toml((folder / "recipe.toml").read_text("utf-8")) == plain.recipe


def test_few_images_are_measured_by_cross_validation_and_choose_nothing(shapes: Path, runtime: hs.Runtime) -> None:
    run = hs.train(shapes, strategy="auto", runtime=runtime)
    assert run.evaluation.split == "cross-validation"
    assert "none can be spared" in run.classifier.metadata.reasons[0]


@pytest.mark.slow
def test_without_pytorch_it_is_the_probe_and_says_why(
    easy: Path, monkeypatch: pytest.MonkeyPatch, runtime: hs.Runtime
) -> None:
    for module in ("torch", "timm", "accelerate"):
        monkeypatch.setitem(sys.modules, module, None)
    run = hs.train(easy, strategy="auto", runtime=runtime)
    assert run.recipe.strategy == "probe"
    assert run.classifier.metadata.reasons == (
        "The strategy is the probe: fine-tuning needs PyTorch, pip install 'headstart[torch]'.",
    )


@pytest.mark.slow
def test_command_line(easy: Path, tmp_path: Path) -> None:
    done = headstart_cli(
        "train", easy, "--strategy", "auto", "--budget", "10m", "--out", tmp_path / "run", "--json"
    )  # fmt: skip
    assert done.code == 0, done.err
    assert done.json["strategy"] == "probe"
    assert "It stopped at the probe" in done.err
    assert done.json["details"]["auto"]["reasons"][0].startswith("The strategy was chosen step by step")
    wrong = headstart_cli("train", easy, "--budget", "10m", "--out", tmp_path / "other")
    assert wrong.code == 2
    assert "Choose the strategy finetune or auto" in wrong.err
    assert not (tmp_path / "other").exists()
    several = headstart_cli("train", easy, "--strategy", "auto", "--out", tmp_path / "other", WORLD_SIZE="2")
    assert several.code == 2
    assert "runs in one only" in several.err


@pytest.mark.slow
def test_where_training_pays_it_is_chosen_and_the_held_out_images_have_no_say(
    faint: Path, tmp_path: Path, runtime: hs.Runtime
) -> None:
    """The network wins on images of the train part; other held-out images change the numbers and nothing else."""
    run = hs.train(faint, hs.Recipe(**SETTINGS), runtime=runtime)
    assert run.recipe.strategy == "finetune"
    found = run.fitted.details.as_dict()["auto"]
    probe, tuned = found["tried"]
    assert (probe["strategy"], tuned["strategy"]) == ("probe", "finetune")
    assert probe["accuracy"] < 0.94 < tuned["accuracy"]
    assert probe["images"] == tuned["images"] == run.fitted.details.as_dict()["validation_images"]
    assert any("better than the probe (p" in reason for reason in run.classifier.metadata.reasons)
    assert "weights.safetensors" in run.fitted.files
    assert run.classifier.metadata.recipe["strategy"] == "finetune"
    assert run.classifier.verify().passed

    # Of the val images the pictures turned, so that every prediction of them is wrong.
    turned = Path(shutil.copytree(faint, tmp_path / "turned"))
    for path in (turned / "val").rglob("*.png"):
        Image.open(path).rotate(90).save(path)
    other = hs.train(turned, hs.Recipe(**SETTINGS), runtime=runtime)
    assert other.recipe == run.recipe
    strip = [{key: value for key, value in one.items() if key != "seconds"} for one in found["tried"]]
    again = [
        {k: v for k, v in one.items() if k != "seconds"} for one in other.fitted.details.as_dict()["auto"]["tried"]
    ]
    assert again == strip
    assert other.evaluation.accuracy < 0.5 < run.evaluation.accuracy


@pytest.mark.slow
def test_what_would_take_too_long_is_not_begun(faint: Path, runtime: hs.Runtime) -> None:
    run = hs.train(faint, hs.Recipe(**SETTINGS | {"epochs": 5000, "budget": 300}), runtime=runtime)
    assert run.recipe.strategy == "probe"
    assert run.seconds["total"] < 300
    told = next(one for one in run.classifier.metadata.reasons if "would take about" in one)
    assert "estimated from 2 timed batches" in told
    assert "of the budget are left. It was not begun" in told


@pytest.mark.slow
def test_what_fails_on_the_way_leaves_the_probe(faint: Path, runtime: hs.Runtime) -> None:
    run = hs.train(faint, hs.Recipe(**SETTINGS | {"batch_size": 1000}), runtime=runtime)
    assert run.recipe.strategy == "probe"
    assert any("failed, and the strategy before it is kept: batch_size = 1000 is larger" in one
               for one in run.classifier.metadata.reasons)  # fmt: skip
