"""The options of `headstart train`, what it says of a training, and how it is gone on with."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import shutil
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from headstart import Recipe, api, recipes
from headstart.cli import messages, panels, signals, training_options
from headstart.cli.train import _default_folder, train
from headstart.cli.trained import work_lines
from headstart.cli.values import Command
from headstart.core.errors import DeviceError, ExtraError, OptionError, TrainingError
from headstart.partition.roles import Role
from headstart.runs.details import Details, Embedding, Epoch, Training
from headstart.settings import describe
from headstart.settings import recipe as recipe_module
from headstart.settings.recipe import SETTINGS
from headstart.settings.setting import MODEL, setting, settings_of
from helpers import headstart_cli

FIELDS = [field.name for field in dataclasses.fields(Recipe)]
HINTS = get_type_hints(Recipe)


def option(name: str) -> Any:
    """What typer is told of a parameter of `train`."""
    (told,) = get_args(get_type_hints(train, include_extras=True)[name])[1:]
    return told


# Options


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_of_the_recipe_is_an_option_without_a_default(name: str) -> None:
    assert inspect.signature(train).parameters[name].default is None
    told = option(name)
    assert told.help.startswith(SETTINGS[name].help)
    assert told.rich_help_panel == (panels.FIRST if SETTINGS[name].first else SETTINGS[name].group)


def test_a_new_setting_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """The field says all: its type and default, its help, panel and range."""

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Longer(Recipe):
        """With one setting more."""

        noise: float = setting(0.5, MODEL, "Noise of the embeddings.", range=(0, 1))

    for module in (training_options, describe, recipe_module):
        monkeypatch.setattr(module, "Recipe", Longer)
        monkeypatch.setitem(module.SETTINGS, "noise", settings_of(Longer)["noise"])

    @panels.takes(training_options.of_settings())
    def command(context: typer.Context, **given: Any) -> None:
        chosen.update(training_options.chosen(context.params))

    chosen: dict[str, Any] = {}
    app = typer.Typer(rich_markup_mode=None, add_completion=False)
    app.command(cls=Command)(command)
    runner = CliRunner()
    shown = runner.invoke(app, ["--help"]).output
    assert re.search(
        r"Model:.*--noise <float> +Noise of the embeddings. \[default: 0.5\].*Training the network:", shown, re.DOTALL
    )
    assert runner.invoke(app, ["--noise", "0.25"]).exit_code == 0
    assert training_options.make_recipe(None, chosen, fast=False) == Longer(noise=0.25)
    assert Longer.from_toml(Longer(noise=1).to_toml()) == Longer(noise=1.0)
    with pytest.raises(OptionError, match=r"noise = 2\.0 is outside its range, 0 to 1"):
        Longer(noise=2)
    assert "| `noise` | Noise of the embeddings. | number from 0 to 1 | 0.5 |" in describe.table()


def test_help_begins_with_what_most_people_need() -> None:
    sections = re.split(r"\n\n(?=\S.*:\n)", headstart_cli("train", "--help").out)[1:]
    titles = [one.partition(":\n")[0] for one in sections]
    assert titles == [
        "Arguments",
        *(one for one in panels.PANELS if one not in {panels.ACCESS, panels.LIMITS}),
        "Options",
    ]
    assert 10 <= len(re.findall(r"^  -", sections[1], re.MULTILINE)) <= 14


@pytest.mark.parametrize("name", FIELDS)
def test_help_names_every_choice(name: str) -> None:
    parts = get_args(HINTS[name]) if get_origin(HINTS[name]) is not Literal else (HINTS[name],)
    choices = [choice for part in parts if get_origin(part) is Literal for choice in get_args(part)]
    words = option(name).help + str(option(name).metavar)
    # A head of one's own comes from Python alone.
    assert [choice for choice in choices if choice != "own" and not re.search(rf"\b{choice}\b", words)] == []


def test_help_is_quick_and_names_the_options() -> None:
    times = []
    for _ in range(3):
        start = time.perf_counter()
        done = headstart_cli("train", "--help")
        times.append(time.perf_counter() - start)
    for name in FIELDS:
        assert f"--{name.replace('_', '-')}" in done.out
    for name in ("--recipe", "--fast", "--resume", "--from", "--device", "--tracker"):
        assert name in done.out
    # 0.3 s by the design. This only catches a heavy import, since other programs may run beside the tests.
    assert min(times) < 1.0


def test_option_counts_before_file_and_file_before_default(tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text('strategy = "finetune"\nepochs = 3\nlr = 0.5\n', "utf-8")
    recipe = training_options.make_recipe(str(own), {"epochs": 4}, fast=False)
    assert (recipe.strategy, recipe.epochs, recipe.lr) == ("finetune", 4, 0.5)
    assert recipe.batch_size == Recipe(strategy="finetune").batch_size
    assert training_options.make_recipe(None, {}, fast=False) == Recipe()


@pytest.mark.parametrize("name", recipes.names())
def test_recipe_by_name(name: str) -> None:
    assert training_options.make_recipe(name, {}, fast=False) == Recipe.from_dict(recipes.load(name))


def test_fast_keeps_eight_views() -> None:
    feature = "tutorial-feature-extraction"
    assert training_options.make_recipe(feature, {}, fast=False).views == 0
    assert training_options.make_recipe(feature, {}, fast=True).views == training_options.FAST_VIEWS == 8
    assert training_options.make_recipe(feature, {"views": 3}, fast=True).views == 3
    assert training_options.make_recipe(None, {"strategy": "finetune"}, fast=True).views == 8


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("tutorial-finetune", {}, "nothing is frozen"),
        (None, {"strategy": "scratch"}, "nothing is frozen"),
        (None, {}, "caches its embeddings anyway"),
        ("tutorial-feature-extraction", {"views": 0}, "--views 0"),
        ("tutorial-feature-extraction", {"mixup": 0.2}, "mixup"),
    ],
    ids=str,
)
def test_fast_without_a_frozen_part(name: str | None, options: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        training_options.make_recipe(name, options, fast=True)


# What reaches the verbs. Another `api` tells it and ends, so that nothing is trained here.


def told(verb: str) -> Any:
    def tell(*values: Any, **named: Any) -> None:
        runtime = named.pop("runtime")
        recipe = [one.as_dict() for one in values if isinstance(one, Recipe)]
        print(json.dumps({
            "verb": verb, "values": [str(one) for one in values], "named": {k: v and str(v) for k, v in named.items()},
            "choices": named.get("choices"), "recipe": recipe[0] if recipe else None,
            "runtime": [runtime.device, runtime.tracker, str(runtime.folder)], "hint": signals.Stopped.hint,
        }))  # fmt: skip
        raise OptionError("Told.")

    return tell


def reaches(*arguments: str, cwd: Path) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        for verb in ("train", "resume"):
            patch.setattr(api, verb, told(verb))
        done = headstart_cli(*arguments, cwd=cwd)
    assert done.err == "Error: Told.\n", done.err
    return done.json


@pytest.fixture
def desk(shapes: Path, tmp_path: Path) -> Path:
    """A folder with `photos`."""
    shutil.copytree(shapes, tmp_path / "photos")
    return tmp_path


def test_options_reach_the_recipe(desk: Path) -> None:
    told = reaches(
        "train", "photos", "--strategy", "finetune", "--lr", "auto", "--epochs", "3", "--no-flip", "--batch-norm",
        "frozen", "--weights", "w.safetensors", "--device", "cpu", "--tracker", "mlflow", cwd=desk,
    )  # fmt: skip
    expected = Recipe(
        strategy="finetune", lr="auto", epochs=3, flip=False, batch_norm="frozen", weights="w.safetensors"
    )
    assert told["verb"] == "train"
    assert told["recipe"] == expected.as_dict()
    assert told["runtime"] == ["cpu", "mlflow", "runs/photos"]
    assert "headstart train --resume runs/photos" in told["hint"]


def test_a_probe_leaves_no_checkpoints(desk: Path) -> None:
    reaches("train", "photos", "--strategy", "finetune", "--out", "x", cwd=desk)  # which leaves some
    told = reaches("train", "photos", cwd=desk)
    assert told["recipe"] == Recipe().as_dict()
    assert told["runtime"] == ["auto", "tensorboard", "None"]
    assert "Run the same command again" in told["hint"]


def test_numbers_of_the_rate(desk: Path) -> None:
    assert reaches("train", "photos", "--strategy", "scratch", "--lr", "1e-2", cwd=desk)["recipe"]["lr"] == 0.01


def test_from_a_run(desk: Path) -> None:
    """The only strategy that can begin with a run need not be named."""
    told = reaches("train", "photos", "--from", "runs/old", cwd=desk)
    assert told["named"]["start_from"] == "runs/old"
    assert told["recipe"]["strategy"] == "finetune"


def test_resume(desk: Path) -> None:
    told = reaches("train", "--resume", "runs/old", cwd=desk)
    assert (told["verb"], told["values"]) == ("resume", ["runs/old"])
    assert told["named"] == {"source": None, "choices": {}, "columns": None}
    assert told["runtime"] == ["auto", "tensorboard", "runs/old"]
    told = reaches("train", "photos", "--resume", "runs/old", "--epochs", "9", "--fast", "--root", "x", cwd=desk)
    assert told["choices"] == {"epochs": 9, "views": 8}
    assert told["named"]["source"] == "photos"
    assert "root=" in told["named"]["columns"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--resume", "runs/x", "--out", "y"], ["--resume", "--out would start a different one"]),
        (["--resume", "runs/x", "--recipe", "tutorial-finetune", "--from", "y"], ["--recipe and --from"]),
        (["--resume", "nowhere"], ["'nowhere' holds no unfinished training"]),
        ([], ["Missing argument 'SOURCE'", "--resume RUN"]),
        (["photos", "--recipe", "tutorial-fintune"], ["Did you mean 'tutorial-finetune'?"]),
        (["photos", "--recipe", "own.toml"], ["'own.toml' cannot be read"]),
        (["photos", "--strategy", "finetune", "--lr", "fast"], ["lr must be float or 'auto'"]),
        (["photos", "--strategy", "finetune", "--epochs", "many"], ["epochs must be int or 'auto'"]),
        (["photos", "--epochs", "3"], ["epochs = '3' has no meaning for the strategy 'probe'", "finetune"]),
        (["photos", "--strategy", "finetun", "--epochs", "3"], ["no strategy 'finetun'"]),
        (["photos", "--strategy", "finetune", "--unfreeze", "al"], ["Did you mean 'all'?"]),
        (["photos", "--strategy", "finetune", "--tracker", "tensorbord"], ["Did you mean 'tensorboard'?"]),
        (["photos", "--recipe", "tutorial-finetune", "--fast"], ["nothing is frozen"]),
    ],
)
def test_bad_usage_says_what_to_do(desk: Path, arguments: list[str], words: list[str]) -> None:
    done = headstart_cli("train", *arguments, cwd=desk)
    assert done.code == 2, done.err
    assert "Traceback" not in done.err
    for word in words:
        assert word in done.err


def test_an_unfinished_training_is_kept(desk: Path) -> None:
    (desk / "run" / "checkpoints").mkdir(parents=True)
    (desk / "run" / "checkpoints" / "training.json").write_text("{}")
    done = headstart_cli("train", "photos", "--out", "run", cwd=desk)
    assert done.code == 2
    assert "--resume run" in done.err
    assert headstart_cli("train", "photos", "--out", "run", "--overwrite", "--quiet", cwd=desk).code == 0
    assert not (desk / "run" / "checkpoints").exists()


def test_processes_agree_on_a_folder(desk: Path) -> None:
    done = headstart_cli("train", "photos", cwd=desk, RANK="0", WORLD_SIZE="2")
    assert done.code == 2
    assert "--out" in done.err
    assert headstart_cli("train", "photos", "--out", "run", "--quiet", cwd=desk, RANK="0", WORLD_SIZE="2").code == 0


def test_a_process_beside_does_not_mind_that_the_first_has_begun(desk: Path) -> None:
    (desk / "run" / "checkpoints").mkdir(parents=True)
    (desk / "run" / "checkpoints" / "training.json").write_text("{}")
    done = headstart_cli("train", "photos", "--out", "run", cwd=desk, RANK="1", WORLD_SIZE="2")
    assert (done.code, done.err) == (0, "")


def test_default_folder_passes_by_an_unfinished_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert _default_folder("photos", overwrite=False) == Path("runs/photos")
    Path("runs/photos/checkpoints").mkdir(parents=True)
    assert _default_folder("photos", overwrite=False) == Path("runs/photos-2")
    Path("runs/photos-2").mkdir()
    Path("runs/photos-2/model.onnx").touch()
    assert _default_folder("photos", overwrite=False) == Path("runs/photos-3")
    assert _default_folder("photos", overwrite=True) == Path("runs/photos")


@pytest.mark.parametrize("rank", ["1", "0", "none"])
def test_one_process_of_several_speaks(desk: Path, rank: str) -> None:
    done = headstart_cli("train", "photos", "--json", cwd=desk, RANK=rank)
    assert done.code == 0
    assert bool(done.out) is (rank != "1")
    assert (desk / "runs").exists() is (rank != "1")
    if rank == "1":
        assert done.err == ""


# Words

TRAINED = Training(
    epochs=10, best_epoch=7, lr=3e-4, device="cpu", mixed_precision="no", processes=1, images_per_second=61.3,
    stopped=None, history=(),
)  # fmt: skip


def run_of(seconds: dict[str, float], details: Details, **settings: Any) -> Any:
    """As much of a run as the words need."""
    fitted = SimpleNamespace(details=details)
    return SimpleNamespace(fitted=fitted, seconds={**seconds, "total": 50.0}, recipe=Recipe(**settings))


def test_words_on_a_probe() -> None:
    run = run_of({"embed": 8.1, "fit": 3.6, "evaluate": 0.1}, Details(embedding=Embedding(1797, 0, "onnxruntime cpu")))
    assert work_lines(run, 50.0) == ["Embedded 1,797 (0 from the cache) in 8.1 s, fitted in 3.6 s, 50.0 s in all"]


def test_words_on_a_training() -> None:
    run = run_of({"train": 41.2, "evaluate": 1.0}, Details(training=TRAINED), strategy="finetune")
    assert work_lines(run, 50.0) == ["Trained 10 epochs in 41.2 s on cpu (61 images/s), best: epoch 7; 50.0 s in all"]
    run = run_of(
        {"embed": 2.0, "train": 41.2},
        Details(
            embedding=Embedding(300, 0, "onnxruntime cpu"), training=dataclasses.replace(TRAINED, stopped="patience")
        ),
        strategy="finetune", lr="auto", patience=3,
    )  # fmt: skip
    assert work_lines(run, 50.0) == [
        "Embedded 300 (0 from the cache) in 2.0 s",
        "Trained 10 epochs in 41.2 s on cpu (61 images/s) at learning rate 0.0003, best: epoch 7, "
        "stopped after 3 epochs without improvement; 50.0 s in all",
    ]


@pytest.mark.parametrize(("best", "words"), [
    (2, "Epoch 2 was best: accuracy 92.5 % on 40 val images, which chose it; its weights were loaded."),
    (0, "No epoch was better than the starting point: accuracy 90.0 % on 40 val images, which chose between them."),
])  # fmt: skip
def test_words_on_the_best_epoch(best: int, words: str) -> None:
    history = tuple(
        Epoch(epoch=number, validation_loss=0.3, validation_accuracy=value, seconds=1.0)
        for number, value in enumerate((0.9, 0.9, 0.925))
    )
    run = run_of({"train": 4.0}, Details(training=dataclasses.replace(TRAINED, best_epoch=best, history=history)))
    run.fitted.choosing = SimpleNamespace(rows=np.arange(40))
    run.fitted.partition = SimpleNamespace(roles=np.full(40, Role.VAL))
    assert work_lines(run, 50.0)[-1] == words


def test_words_where_little_is_known() -> None:
    assert work_lines(run_of({}, Details()), 50.0) == ["50.0 s in all"]
    start = Details(training=dataclasses.replace(TRAINED, epochs=2, best_epoch=0))
    assert work_lines(run_of({}, start, strategy="finetune"), 50.0) == [
        "Trained 2 epochs on cpu (61 images/s), best: the starting point; 50.0 s in all"
    ]
    one = Details(training=dataclasses.replace(TRAINED, epochs=1, best_epoch=1))
    assert work_lines(run_of({}, one, strategy="scratch"), 50.0) == [
        "Trained 1 epoch on cpu (61 images/s), best: epoch 1; 50.0 s in all"
    ]


@pytest.mark.parametrize("kind", [ExtraError, DeviceError, TrainingError])
def test_errors_of_training_are_told(kind: type[Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert messages.tell(kind("What was found.", "What to do."), as_json=True) == 2
    said = capsys.readouterr()
    assert said.err == "Error: What was found.\nWhat to do.\n"
    assert json.loads(said.out) == {"error": "What was found.", "hint": "What to do."}


def test_hint_of_an_interruption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What can be gone on with is named once it is there."""
    for name in ("hint", "record"):
        monkeypatch.setattr(signals.Stopped, name, getattr(signals.Stopped, name))
    record = tmp_path / "record"
    signals.set_hint("Go on.", record=str(record))
    assert messages.tell(signals.Stopped(2), as_json=False) == 130
    assert capsys.readouterr().err == f"Error: Interrupted.\n{signals.HINT}\n"
    record.touch()
    assert messages.tell(signals.Stopped(2), as_json=False) == 130
    assert capsys.readouterr().err == "Error: Interrupted.\nGo on.\n"


# Whole trainings

SMALL = ("--backbone", "timm:test_resnet", "--no-pretrained", "--device", "cpu", "--tracker", "none")


@pytest.mark.slow
def test_json_of_a_training_and_from_it(desk: Path) -> None:
    """The keys of the contract; then other images of the same classes, and of others."""
    options = ("--strategy", "finetune", "--start", "random", "--fast", "--epochs", "1", "--batch-size", "8")
    told = headstart_cli("train", "photos", *SMALL, *options, "--out", "run", "--json", cwd=desk)
    assert told.code == 0, told.err
    assert {"run", "strategy", "backbone", "classes", "counts", "evaluation", "seconds", "skipped"} <= set(told.json)
    assert {"split", "n", "accuracy", "accuracy_interval"} <= set(told.json["evaluation"])
    assert {"epochs", "best_epoch", "lr", "device", "history"} <= set(told.json["details"])
    assert "total" in told.json["seconds"]
    again = headstart_cli(
        "train", "photos", "--from", "run", "--epochs", "1", "--batch-size", "8", "--out", "more", "--quiet", cwd=desk
    )
    assert again.code == 0, again.err
    (desk / "photos" / "noise").rename(desk / "photos" / "hum")
    other = headstart_cli("train", "photos", "--from", "run", "--out", "other", cwd=desk)
    assert other.code == 2
    assert "does not know 'hum'" in other.err
    assert "--backbone file:" in other.err


@pytest.mark.slow
@pytest.mark.parametrize("name", recipes.names())
def test_every_recipe_trains(desk: Path, name: str) -> None:
    options = () if recipes.load(name)["strategy"] == "scratch" else ("--start", "random")
    done = headstart_cli(
        "train", "photos", *SMALL, *options, "--recipe", name, "--epochs", "1", "--batch-size", "8", "--out", "run",
        cwd=desk, OMP_NUM_THREADS="1",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "Trained 1 epoch in" in done.out


def test_cuda_where_there_is_none(desk: Path) -> None:
    done = headstart_cli("train", "photos", "--strategy", "finetune", "--device", "cuda", "--out", "run", cwd=desk,
                         CUDA_VISIBLE_DEVICES="")  # fmt: skip
    assert done.code == 2
    assert "PyTorch finds no CUDA device" in done.err
    assert "--device cpu" in done.err
    assert not (desk / "run").exists()


# `headstart recipes`


def test_recipes_are_listed() -> None:
    done = headstart_cli("recipes")
    assert done.code == 0
    for name in recipes.names():
        assert name in done.out
        assert recipes.about(name).source in done.out
    as_json = headstart_cli("recipes", "--json").json
    assert as_json == {"recipes": [dataclasses.asdict(recipes.about(name)) for name in recipes.names()]}


def test_one_recipe_is_printed_so_that_it_can_be_changed(tmp_path: Path) -> None:
    done = headstart_cli("recipes", "resnet50-mlp")
    assert done.out.rstrip("\n") == recipes.text("resnet50-mlp").rstrip("\n")
    (tmp_path / "own.toml").write_text(done.out, "utf-8")
    own = headstart_cli("recipes", "own.toml", "--json", cwd=tmp_path).json
    assert own["settings"] == recipes.load("resnet50-mlp")
    assert headstart_cli("recipes", "resnet50-mpl").code == 2
