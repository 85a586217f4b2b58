"""The recipes that come with Headstart hold what their sources say, one by one."""

from __future__ import annotations

import re
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from headstart import Recipe, recipes
from headstart.core.errors import OptionError
from headstart.settings.recipe import TRAINING

# Plain training, without what the tutorials do not know.
PLAIN = {
    "accumulate": 1, "layer_decay": 1.0, "warmup_epochs": 0.0, "label_smoothing": 0.0, "ema": 0.0, "mixup": 0.0,
    "cutmix": 0.0, "augment": "none", "patience": 0, "weight_decay": 0.0, "start": "random", "views": 0,
    "train_px": 0, "retries": 0,
    "precision": "float32", "class_weight": "none", "fit": "crop", "weights": "",
}  # fmt: skip
TUTORIAL = PLAIN | {
    "strategy": "finetune", "backbone": "torchvision:resnet18", "pretrained": True, "head": "linear",
    "optimizer": "sgd", "lr": 0.001, "momentum": 0.9, "schedule": "step", "step_epochs": 7, "step_factor": 0.1,
    "epochs": 25, "batch_size": 4, "crop_scale": 0.08, "crop_px": 0, "flip": True, "rotation": 0.0,
    "validation": 0.0, "best_by": "accuracy",
}  # fmt: skip
POKEMON = PLAIN | {
    "head": "linear", "unfreeze": "all", "holdout": 0.2, "validation": 0.25, "epochs": 10, "best_by": "accuracy",
    "optimizer": "adamw", "lr": 0.001, "schedule": "constant", "batch_size": 32, "rotation": 15.0, "flip": False,
    "crop_scale": 1.0, "crop_px": 0,
}  # fmt: skip
EXPECTED = {
    "tutorial-finetune": TUTORIAL | {"unfreeze": "all", "batch_norm": "train"},
    "tutorial-feature-extraction": TUTORIAL | {"unfreeze": "head"},
    "pokemon-transfer": POKEMON
    | {"strategy": "finetune", "backbone": "torchvision:resnet18", "pretrained": True, "batch_norm": "train"},
    "pokemon-scratch": POKEMON | {"strategy": "scratch", "backbone": "simple-resnet18", "pretrained": False},
    "resnet50-mlp": PLAIN
    | {
        "strategy": "finetune", "backbone": "torchvision:resnet50", "pretrained": True, "unfreeze": "head",
        "head": "mlp", "hidden": 256, "dropout": 0.4, "optimizer": "sgd", "lr": 0.01, "momentum": 0.9,
        "schedule": "constant", "crop_px": 256, "crop_scale": 0.8, "rotation": 15.0, "flip": True, "best_by": "loss",
        "batch_size": 32, "epochs": 30,
    },
}  # fmt: skip


def test_names_are_those_of_the_files() -> None:
    files = {path.name.removesuffix(".toml") for path in resources.files(recipes).iterdir() if ".toml" in path.name}
    assert set(recipes.names()) == files == set(EXPECTED)


@pytest.mark.parametrize(
    ("name", "key", "value"), [(name, key, value) for name, keys in EXPECTED.items() for key, value in keys.items()]
)
def test_setting(name: str, key: str, value: object) -> None:
    assert getattr(Recipe.from_dict(recipes.load(name)), key) == value


@pytest.mark.parametrize("name", recipes.names())
def test_defaults_play_no_part(name: str) -> None:
    """A file names every setting of training that has an effect, so that better defaults do not change it."""
    settings = recipes.load(name)
    unused = {"momentum"} if settings["optimizer"] == "adamw" else set()
    unused |= {"step_epochs", "step_factor"} if settings["schedule"] != "step" else set()
    assert set(TRAINING) - set(settings) == unused


@pytest.mark.parametrize("name", recipes.names())
def test_file_explains_itself(name: str) -> None:
    about = recipes.about(name)
    assert about.name == name
    assert about.title
    assert re.search(r"https://\S+$", about.source)
    text = recipes.text(name)
    assert sum(line.startswith("#") for line in text.splitlines()) >= 5
    assert all(len(line) <= 120 for line in text.splitlines())


def test_own_file_and_the_recipe_of_a_run(tmp_path: Path) -> None:
    own = tmp_path / "mine.toml"
    own.write_text('strategy = "finetune"\nepochs = 3\n[about]\ntitle = "Mine"\n', "utf-8")
    assert recipes.load(str(own)) == {"strategy": "finetune", "epochs": 3}
    assert recipes.about(str(own)) == recipes.About(str(own), "Mine", "")
    recipe = Recipe(strategy="scratch", epochs=7)
    (tmp_path / "recipe.toml").write_text(recipe.to_toml(), "utf-8")
    assert Recipe.from_dict(recipes.load(str(tmp_path / "recipe.toml"))) == recipe


def test_about_that_is_no_table_is_an_unknown_key(tmp_path: Path) -> None:
    own = tmp_path / "mine.toml"
    own.write_text("about = 3\n", "utf-8")
    with pytest.raises(OptionError, match="unknown key 'about'"):
        Recipe.from_dict(recipes.load(str(own)))


def test_errors_say_what_to_do(tmp_path: Path) -> None:
    def refusal(name: Any) -> str:
        with pytest.raises(OptionError) as error:
            recipes.load(str(name))
        return str(error.value)

    assert "Did you mean 'tutorial-finetune'?" in refusal("tutorial-fintune")
    assert "cannot be read: No such file" in refusal(tmp_path / "none.toml")
    (tmp_path / "broken.toml").write_text("epochs = \n", "utf-8")
    assert "not valid TOML" in refusal(tmp_path / "broken.toml")
    (tmp_path / "latin.toml").write_bytes(b'backbone = "caf\xe9"\n')
    assert "not UTF-8" in refusal(tmp_path / "latin.toml")
    (tmp_path / "recipe.toml").write_text(Recipe().to_toml(), "utf-8")
    assert "name its file" in refusal(tmp_path)


def test_text_is_the_file_itself() -> None:
    for name in recipes.names():
        assert tomllib.loads(recipes.text(name))["about"]["title"] == recipes.about(name).title
