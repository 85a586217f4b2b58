"""`compare`: the same images for all, tests that follow from the saved predictions, and words that claim no more."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest

import headstart as hs
from headstart import recipes as kept
from headstart.api.compared import folders_of
from headstart.cli.output import Output
from headstart.core.errors import ExtraError, HeadstartError, OptionError, SourceError, StorageError
from headstart.core.progress import Silent
from headstart.strategies import candidates
from headstart.strategies import compare as comparing
from helpers import draw, headstart_cli, write_images

TINY = {"backbone": "timm:test_resnet", "pretrained": False}


@pytest.fixture(scope="module")
def runtime(warm: Path) -> hs.Runtime:
    """Images are embedded once for all tests."""
    return hs.Runtime(cache=warm, device="cpu")


@pytest.fixture(scope="module")
def hard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of which some images are of no class at all, so that two models disagree."""
    folder = write_images(tmp_path_factory.mktemp("hard"), {"disc": 30, "stripes": 30})
    for number, label in enumerate(["disc", "stripes"] * 25):
        draw("noise", 1000 + number).save(folder / label / f"noise-{number:02}.png")
    return folder


@pytest.fixture(scope="module")
def variants(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Recipes of probes, which need no PyTorch; the last cannot be followed."""
    folder = tmp_path_factory.mktemp("recipes")
    texts = {
        "small": 'strategy = "probe"\n',
        "exact": 'strategy = "probe"\nprecision = "float32"\nfit = "squash"\nseed = 7\nholdout = 0.4\n',
        "absent": 'strategy = "probe"\nbackbone = "timm:resnet0"\n',
        "impossible": 'strategy = "probe"\nepochs = 3\n',
    }
    for name, text in texts.items():
        (folder / f"{name}.toml").write_text(text, "utf-8")
    return {name: folder / f"{name}.toml" for name in texts}


def names_of(recipes: dict[str, Path], *names: str) -> list[str]:
    return [str(recipes[name]) for name in names]


# What is run


def test_all_three_by_default_with_the_same_way_to_measure() -> None:
    plans = candidates.plan(None, None, None, {})
    assert [one.name for one in plans] == ["probe", "finetune", "scratch"]
    recipes = [one.recipe for one in plans]
    assert all(recipe for recipe in recipes)
    assert {recipe.measure_by for recipe in recipes if recipe} == {"holdout"}
    assert [recipe.flip for recipe in recipes if recipe] == [None, "auto", "auto"]


def test_backbones_alone_are_compared_by_the_probe() -> None:
    plans = candidates.plan(None, ["lite0", "resnet18"], None, {"seed": 3})
    assert [one.name for one in plans] == ["probe lite0", "probe resnet18"]
    assert [one.recipe and (one.recipe.backbone, one.recipe.seed) for one in plans] == [("lite0", 3), ("resnet18", 3)]


def test_recipes_alone_and_beside_strategies() -> None:
    alone = candidates.plan(None, None, ["tutorial-finetune", "tutorial-feature-extraction"], {})
    assert [one.name for one in alone] == ["tutorial-finetune", "tutorial-feature-extraction"]
    both = candidates.plan(["probe"], None, ["tutorial-finetune"], {"epochs": 2})
    assert [one.name for one in both] == ["probe", "tutorial-finetune"]
    assert [one.recipe and one.recipe.epochs for one in both] == [None, 2]  # a probe has no epochs


def test_a_recipe_cannot_choose_its_epoch_by_what_it_is_judged_by() -> None:
    assert hs.Recipe.from_dict(kept.load("tutorial-finetune")).validation == 0
    (_, one) = candidates.plan(["probe"], None, ["tutorial-finetune"], {})
    assert one.recipe is not None
    assert one.recipe.validation == candidates.VALIDATION
    assert "choose its epoch" in one.notes[0]


def test_what_is_held_out_is_the_same_whatever_a_recipe_says(variants: dict[str, Path]) -> None:
    plans = candidates.plan(["probe"], None, names_of(variants, "exact"), {"folds": 4, "measure_by": "folds"})
    assert len({(one.recipe.seed, one.recipe.holdout, one.recipe.folds, one.recipe.measure_by)
                for one in plans if one.recipe}) == 1  # fmt: skip


@pytest.mark.parametrize(
    ("strategies", "recipes", "words"),
    [
        (["probe"], None, "needs at least two candidates"),
        (["probe", "probe"], None, "with itself"),
        (["probe", "finetun"], None, "Did you mean 'finetune'"),
        (["probe", "auto"], None, "compares the others itself"),
        (["probe"], ["no-such-recipe"], "There is no recipe"),
    ],
    ids=str,
)
def test_what_cannot_be_compared(strategies: list[str], recipes: list[str] | None, words: str) -> None:
    with pytest.raises(OptionError, match=words):
        candidates.plan(strategies, None, recipes, {})


def test_folders_are_apart_and_portable() -> None:
    folders = folders_of(["probe lite0", "probe-lite0", "../../etc", "PROBE LITE0", "<b>", "…"])
    assert len({folder.lower() for folder in folders.values()}) == 6
    assert all(Path(folder).name == folder and folder[0] != "." for folder in folders.values())


# What comes out


@pytest.fixture(scope="module")
def compared(
    hard: Path, variants: dict[str, Path], tmp_path_factory: pytest.TempPathFactory, runtime: hs.Runtime
) -> tuple[Any, Path]:
    folder = tmp_path_factory.mktemp("comparison") / "out"
    comparison = hs.compare(
        hard, recipes=names_of(variants, "small", "exact", "absent", "impossible"), folder=folder, runtime=runtime
    )
    return comparison, folder


def predictions(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "predictions.csv").open(newline="", encoding="utf-8") as file:
        return {row["path"]: row for row in csv.DictReader(file) if row["split"] != "val"}  # which chose an epoch


@pytest.mark.slow
def test_the_test_is_that_of_the_saved_predictions(compared: tuple[Any, Path]) -> None:
    """McNemar's exact test by SciPy, from the two files of predictions."""
    comparison, folder = compared
    one, other = predictions(folder / "small"), predictions(folder / "exact")
    assert one.keys() == other.keys()
    only = [
        sum(a[path]["correct"] == "yes" != b[path]["correct"] for path in a) for a, b in [(one, other), (other, one)]
    ]
    (pair,) = comparison.pairs
    assert [pair.only_first, pair.only_second] == only
    assert sum(only) > 0
    assert pair.p_value == pytest.approx(binomtest(only[0], sum(only)).pvalue)
    assert pair.difference == pytest.approx((only[0] - only[1]) / len(one))


@pytest.mark.slow
def test_what_fails_is_a_row_with_its_reason(compared: tuple[Any, Path]) -> None:
    _, folder = compared
    record = json.loads((folder / "comparison.json").read_text("utf-8"))
    rows = {row["name"]: row for row in record["rows"]}
    assert list(rows) == ["small", "exact", "absent", "impossible"]
    assert "timm:resnet0" in rows["absent"]["error"]["message"]
    assert "epochs = '3' has no meaning" in rows["impossible"]["error"]["message"]
    assert rows["absent"]["accuracy"] is None
    assert rows["small"]["error"] is None
    assert "absent and impossible could not be trained" in record["verdict"]
    assert any(note.startswith("impossible could not be trained.") for note in record["notes"])


@pytest.mark.slow
def test_the_document_keeps_the_contract(compared: tuple[Any, Path]) -> None:
    _, folder = compared
    record = json.loads((folder / "comparison.json").read_text("utf-8"))
    row = record["rows"][0]
    assert {"name", "strategy", "backbone", "accuracy", "accuracy_interval", "log_loss", "seconds", "model_bytes",
            "milliseconds", "error", "run"} <= set(row)  # fmt: skip
    low, high = row["accuracy_interval"]
    assert low < row["accuracy"] < high
    assert row["model_bytes"] == (folder / "small" / "model.onnx").stat().st_size
    assert 0 < row["milliseconds"] < 10_000
    (pair,) = record["pairs"]
    assert (pair["a"], pair["b"]) == ("small", "exact")
    assert {"p_value", "p_corrected", "difference", "difference_interval", "more_images", "test"} <= set(pair)
    assert pair["resolved"] == (pair["p_corrected"] < 0.05)
    assert record["chosen"] in {"small", "exact"}
    assert record["rule_of_thumb"]["size"] == "small"


@pytest.mark.slow
def test_each_run_is_a_run_folder_of_its_own(compared: tuple[Any, Path]) -> None:
    comparison, folder = compared
    for name in ("small", "exact"):
        metrics = json.loads((folder / name / "metrics.json").read_text("utf-8"))
        assert metrics["evaluation"]["accuracy"] == comparison.runs[name].evaluation.accuracy
        assert hs.load(folder / name / "model.onnx").verify().passed
    assert not (folder / "absent").exists()


@pytest.mark.slow
def test_the_page_shows_the_verdict_and_both_sides(compared: tuple[Any, Path]) -> None:
    comparison, folder = compared
    page = (folder / "report.html").read_text("utf-8")
    assert comparison.verdict.sentence.split(":")[0] in page
    assert "classifies correctly" in page
    assert 'src="http' not in page


@pytest.mark.slow
def test_a_comparison_is_not_replaced_by_accident(
    compared: tuple[Any, Path], hard: Path, variants: dict[str, Path], tmp_path: Path, runtime: hs.Runtime
) -> None:
    comparison, folder = compared
    with pytest.raises(StorageError, match="already holds a comparison"):
        hs.compare(hard, recipes=names_of(variants, "small", "exact"), folder=folder, runtime=runtime)
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(StorageError, match="already holds something"):
        comparison.save(tmp_path)
    again = comparison.save(tmp_path, overwrite=True)
    assert (again / "comparison.json").is_file()
    assert (again / "exact" / "model.onnx").read_bytes() == (folder / "exact" / "model.onnx").read_bytes()
    assert (tmp_path / "mine.txt").read_text() == "mine"


class Interrupted(Silent):
    """Stops the work where the second training would begin."""

    def line(self, text: str) -> None:
        if text.startswith("2 of 2"):
            raise KeyboardInterrupt


@pytest.mark.slow
def test_an_interruption_keeps_what_is_finished(
    hard: Path, variants: dict[str, Path], tmp_path: Path, runtime: hs.Runtime
) -> None:
    folder = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        hs.compare(
            hard, recipes=names_of(variants, "small", "exact"), folder=folder,
            runtime=hs.Runtime(cache=runtime.cache, progress=Interrupted()),
        )  # fmt: skip
    assert hs.load(folder / "small" / "model.onnx").verify().passed
    assert not (folder / "comparison.json").exists()
    again = hs.compare(
        hard, recipes=names_of(variants, "small", "exact"), folder=folder, overwrite=True, runtime=runtime
    )
    assert list(again.runs) == ["small", "exact"]


def test_all_failed(hard: Path, variants: dict[str, Path], runtime: hs.Runtime) -> None:
    with pytest.raises(OptionError, match="resnet0"):
        hs.compare(hard, recipes=names_of(variants, "absent", "impossible"), runtime=runtime)


def test_one_alone_is_compared_with_nothing(hard: Path, variants: dict[str, Path], runtime: hs.Runtime) -> None:
    comparison = hs.compare(hard, recipes=names_of(variants, "small", "absent"), runtime=runtime)
    assert comparison.verdict.sentence == "Only small could be trained: there is nothing to compare."
    assert comparison.pairs == ()
    assert comparison.best.evaluation.n == comparison.rows[0].as_dict()["n"]


@pytest.mark.slow
def test_without_pytorch_the_probe_is_run_and_one_note_says_so(
    hard: Path, monkeypatch: pytest.MonkeyPatch, runtime: hs.Runtime
) -> None:
    for module in ("torch", "timm", "accelerate"):
        monkeypatch.setitem(sys.modules, module, None)
    comparison = hs.compare(hard, runtime=runtime)
    assert list(comparison.runs) == ["probe"]
    assert [type(row.problem) for row in comparison.rows] == [type(None), ExtraError, ExtraError]
    told = [note for note in comparison.notes if "headstart[torch]" in note]
    assert told == ["finetune and scratch could not be trained. Install it: pip install 'headstart[torch]'"]


def test_images_that_cannot_be_learnt_from(tmp_path: Path, runtime: hs.Runtime) -> None:
    write_images(tmp_path, {"disc": 3})
    with pytest.raises(SourceError, match="at least two classes"):
        hs.compare(tmp_path, runtime=runtime)


@pytest.mark.slow
def test_other_images_are_never_compared(compared: tuple[Any, Path]) -> None:
    """Were a file changed between two trainings, the predictions would be of other images."""
    import dataclasses

    comparison, _ = compared
    first, second = (row for row in comparison.rows if row.fitted)

    def of_files(digests: tuple[str, ...]) -> list[Any]:
        data = dataclasses.replace(second.fitted.data, digests=digests)
        return [first, dataclasses.replace(second, fitted=dataclasses.replace(second.fitted, data=data))]

    digests = second.fitted.data.digests
    rows = of_files(("0" * 64, *digests[1:]))
    if np.isin(0, second.fitted.held_out.rows):
        with pytest.raises(HeadstartError, match="not measured on the same images"):
            comparing.judge_rows(rows)
    rows = of_files(("0" * 64,) * len(digests))
    with pytest.raises(HeadstartError, match="not measured on the same images"):
        comparing.judge_rows(rows)


@pytest.mark.slow
def test_by_folds_every_image_counts(hard: Path, variants: dict[str, Path], runtime: hs.Runtime) -> None:
    comparison = hs.compare(
        hard, recipes=names_of(variants, "small", "exact"), settings={"folds": 3, "measure_by": "folds"},
        runtime=runtime,
    )  # fmt: skip
    (pair,) = comparison.pairs
    assert pair.n == 110
    assert "over folds" in pair.test
    assert comparison.images == "110 images in 3-fold cross-validation"


@pytest.mark.slow
def test_groups_are_swapped_whole(tmp_path: Path, hard: Path, variants: dict[str, Path], runtime: hs.Runtime) -> None:
    lines = ["path,label,group"]
    for number, path in enumerate(sorted(hard.rglob("*.png"))):
        lines.append(f"{path.relative_to(hard)},{path.parent.name},{path.parent.name}-{number // 3}")
    manifest = tmp_path / "images.csv"
    manifest.write_text("\n".join(lines) + "\n", "utf-8")
    table = hs.read(manifest, columns=hs.Columns(root=hard))
    comparison = hs.compare(table, recipes=names_of(variants, "small", "exact"), runtime=runtime)
    assert comparison.pairs[0].test == "exact swaps of whole groups"


# The command


@pytest.mark.slow
def test_command_line(hard: Path, variants: dict[str, Path], tmp_path: Path) -> None:
    recipes = ",".join(names_of(variants, "small", "exact"))
    done = headstart_cli("compare", hard, "--recipes", recipes, "--json", cwd=tmp_path)
    assert done.code == 0, done.err
    folder = tmp_path / "runs" / f"{hard.name}-comparison"
    assert (folder / "report.html").is_file()
    kept = json.loads((folder / "comparison.json").read_text("utf-8"))
    assert done.json["verdict"] == kept["verdict"]
    assert done.json["pairs"] == kept["pairs"]
    assert [row["name"] for row in done.json["rows"]] == ["small", "exact"]
    assert kept["verdict"] in done.err
    again = headstart_cli("compare", hard, "--recipes", recipes, "--out", folder, "--json", cwd=tmp_path)
    assert again.code == 2
    assert "already holds a comparison" in again.json["error"]


@pytest.mark.slow
def test_command_line_for_people(hard: Path, variants: dict[str, Path], tmp_path: Path) -> None:
    recipes = ",".join(names_of(variants, "small", "exact"))
    broken = Path(shutil.copytree(hard, tmp_path / "broken"))
    (broken / "disc" / "broken.png").write_bytes(b"no picture")
    done = headstart_cli("compare", broken, "--recipes", recipes, "--out", tmp_path / "out", "--holdout", "0.3")
    assert done.code == 3, done.err
    assert "broken.png" in done.err
    assert "held-out images" in done.out
    assert "Use " in done.out
    assert "Rule of thumb:" in done.out
    quiet = headstart_cli(
        "compare", hard, "--recipes", recipes, "--out", tmp_path / "out", "--quiet", "--overwrite"
    )  # fmt: skip
    assert (quiet.code, quiet.out, quiet.err) == (0, "", "")


# With PyTorch


@pytest.mark.slow
def test_all_strategies_on_the_same_images(tmp_path: Path, runtime: hs.Runtime) -> None:
    few = write_images(tmp_path / "few", {"disc": 16, "stripes": 16, "noise": 8})
    texts = {
        "still": {"strategy": "probe"},
        "tuned": {"strategy": "finetune", "start": "random"},
        "anew": {"strategy": "scratch"},
        "careless": {"strategy": "finetune", "start": "random", "validation": 0.0},
    }
    for name, text in texts.items():
        recipe = text | TINY | ({} if name == "still" else {"batch_size": 8, "epochs": 1})
        (tmp_path / f"{name}.toml").write_text(
            "".join(f"{key} = {json.dumps(value)}\n" for key, value in recipe.items()), "utf-8"
        )
    comparison = hs.compare(
        few, recipes=[str(tmp_path / f"{name}.toml") for name in texts], folder=tmp_path / "out", runtime=runtime
    )
    assert list(comparison.runs) == list(texts)
    held = [predictions(tmp_path / "out" / name) for name in texts]
    assert all(one.keys() == held[0].keys() for one in held)
    assert len(comparison.pairs) == 6
    assert any("careless would let the images" in note for note in comparison.notes)
    assert not any("numbers on them are optimistic" in note for note in comparison.runs["careless"].fitted.notes)
    assert not (tmp_path / "out" / "tuned" / "checkpoints").exists()


@pytest.fixture
def some_photos(photos: Path, tmp_path: Path) -> Path:
    """A sixth of the photos, in train and val."""
    for path in sorted(photos.rglob("*.jpg"))[::6]:
        copy = tmp_path / "photos" / path.relative_to(photos)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    return tmp_path / "photos"


@pytest.mark.slow
def test_strategies_by_name_on_photos(some_photos: Path, tmp_path: Path) -> None:
    """lite0 by name, with the flips that the images allow."""
    done = headstart_cli(
        "compare", some_photos, "--strategies", "probe,finetune", "--epochs", "1", "--out", tmp_path / "out", "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    rows = {row["name"]: row for row in done.json["rows"]}
    assert min(row["accuracy"] for row in rows.values()) > 0.83  # at least 21 of 25 val images
    assert rows["probe"]["model_bytes"] < rows["finetune"]["model_bytes"]
    assert done.json["chosen"] == "probe"
    assert f"{rows['probe']['n']} held-out images cannot separate" in done.json["verdict"]
    assert rows["probe"]["n"] == len(list((some_photos / "val").rglob("*.jpg")))


@pytest.mark.parametrize("width", [80, 120])
def test_a_wide_table_becomes_two_that_fit_the_terminal(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    name, cells = "probe timm:resnet18.a1_in1k", [f"{'x' * 11}{i}" for i in range(5)]
    Output().wide_table(["Candidate", *"abcde"], [[name, *cells]], right=(1, 2, 3, 4, 5), second=4)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= width
    assert sum(line.startswith(name) for line in lines) == (2 if width == 80 else 1)  # whole, on one line
    assert all(sum(cell in line for line in lines) == 1 for cell in cells)
