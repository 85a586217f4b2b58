"""The program: its JSON contract, exit codes, help, and what it keeps out of memory."""

from __future__ import annotations

import inspect
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer

import headstart.cli
from headstart.cli.main import COMMANDS
from headstart.core.tables import resolve
from helpers import draw, headstart_cli, write_images


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """A working folder with `photos` (one file is no image), the run of `train`, and what it printed as JSON."""
    folder = tmp_path_factory.mktemp("cli")
    write_images(folder / "photos", {"disc": 90, "stripes": 90, "noise": 90})
    (folder / "photos" / "disc" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 not a photo")
    (folder / "photos" / ".DS_Store").write_bytes(b"litter")
    done = headstart_cli("train", "photos", "--json", cwd=folder)
    assert done.code == 3, done.err
    return folder, done.json


@pytest.mark.slow
def test_train_prints_the_contract(trained: tuple[Path, dict]) -> None:
    _, document = trained
    assert {"run", "strategy", "backbone", "classes", "counts", "evaluation", "seconds", "skipped"} <= set(document)
    assert document["strategy"] == "probe"
    assert document["backbone"] == "lite0"
    assert document["classes"] == ["disc", "noise", "stripes"]
    assert document["evaluation"]["split"] == "test"
    assert document["evaluation"]["n"] == 54
    low, high = document["evaluation"]["accuracy_interval"]
    assert low <= document["evaluation"]["accuracy"] <= high
    assert document["evaluation"]["accuracy"] > 0.9
    assert document["seconds"]["total"] >= document["seconds"]["embed"] > 0
    assert document["counts"]["train"] == {"disc": 72, "noise": 72, "stripes": 72}
    assert document["counts"]["ignored"] == 1
    (skipped,) = document["skipped"]
    assert skipped["path"] == "disc/broken.jpg"
    assert "JPEG" in skipped["reason"]


def test_run_folder_holds_what_was_printed(trained: tuple[Path, dict]) -> None:
    folder, document = trained
    run = folder / document["run"]
    assert sorted(path.name for path in run.iterdir()) == [
        "analysis.json", "metrics.json", "model.onnx", "predictions.csv", "recipe.toml", "report.html", "splits.csv",
    ]  # fmt: skip
    seconds = {part: value for part, value in document["seconds"].items() if part != "process"}  # known at the end
    assert 0 < seconds["total"] < document["seconds"]["process"]
    assert json.loads((run / "metrics.json").read_text()) == {**document, "seconds": seconds}
    lines = (run / "predictions.csv").read_text().splitlines()
    assert len(lines) == 1 + document["evaluation"]["n"]
    right = sum(",yes," in line for line in lines[1:])
    assert right == document["evaluation"]["correct"]
    assert len((run / "splits.csv").read_text().splitlines()) == 1 + 270


def test_splits_csv_is_a_manifest_that_gives_the_same_run(trained: tuple[Path, dict]) -> None:
    folder, document = trained
    splits = folder / document["run"] / "splits.csv"
    done = headstart_cli("train", splits, "--root", "photos", "--out", "again", "--json", "--overwrite", cwd=folder)
    assert done.code == 0, done.err
    assert done.json["evaluation"] == document["evaluation"]
    assert done.json["details"]["embedded"] == 0


def test_recipe_toml_reads_back(trained: tuple[Path, dict]) -> None:
    from headstart import Recipe

    folder, document = trained
    assert Recipe.from_toml((folder / document["run"] / "recipe.toml").read_text()) == Recipe()


def few(folder: Path) -> Path:
    """Six images of each class, and one that is broken."""
    source = write_images(folder / "few", {"disc": 6, "stripes": 6, "noise": 6})
    shutil.copy(folder / "photos" / "disc" / "broken.jpg", source / "disc")
    return source


@pytest.mark.slow
def test_evaluate_prints_the_contract(trained: tuple[Path, dict]) -> None:
    folder, document = trained
    done = headstart_cli("evaluate", f"{document['run']}/model.onnx", "photos", "--json", cwd=folder)
    assert done.code == 3
    assert set(done.json) >= {"evaluation", "skipped"}
    assert done.json["evaluation"]["n"] == 270
    assert done.json["skipped"][0]["path"] == "disc/broken.jpg"


def test_evaluating_the_held_out_images_gives_what_train_said(trained: tuple[Path, dict]) -> None:
    """The model file, run on files, agrees with the numbers that were computed from cached embeddings."""
    folder, document = trained
    splits = folder / document["run"] / "splits.csv"
    done = headstart_cli("evaluate", f"{document['run']}/model.onnx", splits, "--root", "photos", "--json", cwd=folder)
    assert done.code == 0, done.err
    for key in ("split", "n", "correct", "confusion", "accuracy_interval"):
        assert done.json["evaluation"][key] == document["evaluation"][key]
    assert done.json["evaluation"]["log_loss"] == pytest.approx(document["evaluation"]["log_loss"], abs=1e-4)


def test_predict_jsonl_is_a_line_an_image(trained: tuple[Path, dict]) -> None:
    folder, document = trained
    done = headstart_cli("predict", f"{document['run']}/model.onnx", "photos/disc", "--format", "jsonl", "--top", "2",
                         cwd=folder)  # fmt: skip
    assert done.code == 3
    lines = [json.loads(line) for line in done.out.splitlines()]
    assert len(lines) == 91
    by_path = {line["path"]: line for line in lines}
    assert set(by_path["photos/disc/broken.jpg"]) == {"path", "error"}
    good = by_path["photos/disc/000.png"]
    assert set(good) == {"path", "label", "probability", "familiar", "distance", "top"}
    assert good["top"][0] == {"label": good["label"], "probability": good["probability"]}
    assert len(good["top"]) == 2


def test_predict_csv_and_json_and_table_agree(trained: tuple[Path, dict]) -> None:
    folder, document = trained
    model = f"{document['run']}/model.onnx"
    table = headstart_cli("predict", document["run"], "photos/noise/00?.png", cwd=folder)
    csv = headstart_cli("predict", model, "photos/noise/00?.png", "--format", "csv", cwd=folder)
    as_json = headstart_cli("predict", model, "photos/noise/00?.png", "--json", cwd=folder)
    assert (table.code, csv.code, as_json.code) == (0, 0, 0)
    records = as_json.json["predictions"]
    assert len(records) == 10
    for record, line in zip(records, csv.out.splitlines()[1:], strict=True):
        assert line.split(",")[:2] == [record["path"], record["label"]]
        assert f"{100 * record['probability']:.1f} %" in table.out


def test_an_existing_run_is_kept(trained: tuple[Path, dict]) -> None:
    folder, document = trained
    before = (folder / document["run"] / "model.onnx").read_bytes()
    done = headstart_cli("train", "photos", "--out", document["run"], cwd=folder)
    assert done.code == 2
    assert "already holds a run" in done.err
    assert "--overwrite" in done.err
    assert (folder / document["run"] / "model.onnx").read_bytes() == before


def test_default_folder_never_replaces(trained: tuple[Path, dict]) -> None:
    folder, document = trained
    assert document["run"] == "runs/photos"
    done = headstart_cli("train", "photos", "--json", cwd=folder)
    assert done.json["run"] == "runs/photos-2"


@pytest.mark.slow
def test_quiet_and_json_keep_streams_apart(trained: tuple[Path, dict]) -> None:
    folder, document = trained
    model = f"{document['run']}/model.onnx"
    quiet = headstart_cli("evaluate", model, few(folder), "--quiet", cwd=folder)
    assert (quiet.out, quiet.err) == ("", "")
    both = headstart_cli("verify", model, "--json", cwd=folder)
    assert both.json["passed"] is True
    assert "Verified" in both.err


@pytest.mark.slow
def test_strict_makes_a_skip_an_error(trained: tuple[Path, dict]) -> None:
    folder, document = trained
    source, model = few(folder), f"{document['run']}/model.onnx"
    for command in (["train", source, "--out", "strict"], ["evaluate", model, source], ["predict", model, source]):
        done = headstart_cli(*command, "--strict", cwd=folder)
        assert done.code == 2, done.out
        assert "broken.jpg" in done.err
    assert not (folder / "strict").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train"], ["Missing argument 'SOURCE'", "headstart train --help"]),
        (["train", "nowhere"], ["There is no file or folder 'nowhere'"]),
        (["train", "photo"], ["Did you mean 'photos'?"]),
        (["train", "photos", "--backbone", "lit0"], ["There is no backbone 'lit0'", "Did you mean 'lite0'"]),
        (["train", "photos", "--strategy", "prob"], ["Did you mean 'probe'?"]),
        (["train", "photos", "--fit", "crp"], ["Did you mean 'crop'?", "squash"]),
        (["train", "photos", "--holdout", "0.9"], ["holdout", "0.5"]),
        (["train", "photos", "--folds", "1"], ["folds", "2"]),
        (["train", "photos", "--epochs", "3"], ["epochs = '3' has no meaning for the strategy 'probe'"]),
        (["train", "photos", "--epoch", "3"], ["--epoch"]),
        (["tran", "photos"], ["tran"]),
        (["predict", "runs/photos/model.onnx", "nothing*.jpg"], ["nothing*.jpg"]),
        (["predict", "runs", "photos"], ["is a folder of runs", "such as 'runs/photos'"]),
        (["predict", "nowhere.onnx", "photos"], ["There is no model file"]),
        (["verify", "photos/disc/000.png"], ["not a valid ONNX file"]),
    ],
)
def test_bad_usage_says_what_to_do(trained: tuple[Path, dict], arguments: list[str], words: list[str]) -> None:
    done = headstart_cli(*arguments, cwd=trained[0])
    assert done.code == 2
    assert "Traceback" not in done.err
    for word in words:
        assert word in done.err


def test_errors_are_json_too(trained: tuple[Path, dict]) -> None:
    done = headstart_cli("train", "photo", "--json", cwd=trained[0])
    assert done.code == 2
    assert "Did you mean" in done.json["hint"]


def test_a_fault_of_ours_is_1_with_a_traceback(tmp_path: Path) -> None:
    code = (
        "import headstart.api as api\n"
        "def fail(*a, **k): raise ZeroDivisionError('planted')\n"
        "api.read = fail\n"
        "from headstart.cli.main import main\n"
        "main(['train', 'x'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "please report" in done.stderr


@pytest.mark.parametrize(
    "arguments", [["--help"], ["train", "--help"], ["--version"], ["cache", "--help"], ["recipes"], []]
)
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\n"
        "from headstart.cli.main import run\n"
        f"run({arguments!r})\n"
        "heavy = {'numpy', 'onnx', 'onnxruntime', 'PIL', 'sklearn', 'scipy', 'torch', 'rich.table'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_help_imports_no_command_and_a_command_no_other() -> None:
    files = {name: spec.function.partition(":")[0] for name, spec in COMMANDS.items()}
    for arguments, called in (["--help"], set()), (["recipes", "-q"], {"recipes"}), (["cache", "where"], {"cache"}):
        code = (
            "import sys\n"
            "from headstart.cli.main import run\n"
            f"assert run({arguments!r}) == 0\n"
            f"print([name for name, file in {files}.items() if file in sys.modules])\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == str([*called])


@pytest.mark.parametrize("name", COMMANDS)
def test_the_first_words_of_a_command_are_those_of_its_own_help(name: str) -> None:
    command = resolve(COMMANDS[name].function)
    own = command.info.help if isinstance(command, typer.Typer) else inspect.getdoc(command)
    assert own.partition("\n\n")[0] == COMMANDS[name].help
    assert headstart_cli(name, "--help").out.startswith(f"Usage: headstart {name} ")


def test_every_file_of_a_command_is_in_the_table() -> None:
    folder = Path(headstart.cli.__file__).parent
    defined = {path.stem for path in folder.glob("*.py") if f"\ndef {path.stem}(" in path.read_text(encoding="utf-8")}
    assert defined - {"main"} == set(COMMANDS) - {"cache"}  # whose commands have names of their own


@pytest.mark.slow
def test_train_evaluate_and_predict_never_import_torch(shapes: Path, tmp_path: Path) -> None:
    shutil.copytree(shapes, tmp_path / "photos")
    code = (
        "import sys\n"
        "from headstart.cli.main import run\n"
        "assert run(['train', 'photos', '--out', 'run', '--quiet']) == 0\n"
        "assert run(['evaluate', 'run/model.onnx', 'photos', '--quiet']) == 0\n"
        "assert run(['predict', 'run/model.onnx', 'photos', '--quiet']) == 0\n"
        "print(sorted({'torch', 'torchvision', 'timm', 'matplotlib', 'ray'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("form", [[], ["--json"], ["--format", "csv"]])
def test_predict_imports_nothing_that_it_does_not_need(model: Path, tmp_path: Path, form: list[str]) -> None:
    draw("disc", 1).save(tmp_path / "one.png")
    heavy = {"torch", "sklearn", "scipy", "jinja2", "sqlite3", "headstart.strategies", "headstart.checks",
             "headstart.report", "headstart.backbones"}  # fmt: skip
    heavy |= {"rich"} if form else set()  # which draws tables
    code = (
        "import sys\n"
        "from headstart.cli.main import run\n"
        f"assert run(['predict', {str(model)!r}, 'one.png', *{form!r}]) == 0\n"
        f"print(sorted({heavy!r} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_what_others_leave_to_the_end_is_done(tmp_path: Path) -> None:
    """Handlers run, threads are waited for, what was printed arrives, and the code stays."""
    code = (
        "import atexit, logging, sys, tempfile, threading, time\n"
        "from headstart.cli import main\n"
        "atexit.register(lambda: print('handler'))\n"
        "logging.basicConfig(filename='log', level='INFO')\n"
        "kept = tempfile.TemporaryDirectory(dir='.')\n"
        "def late():\n"
        "    time.sleep(0.5); logging.info('late'); print('late')\n"
        "def run(arguments):\n"
        "    sys.stdout.write('words without an end ')\n"
        "    if arguments: threading.Thread(target=late).start(); time.sleep(1)\n"
        "    return 3\n"
        "main.run = run\n"
        "main.main(sys.argv[1:])\n"
    )
    for arguments, words in ([], ""), (["x"], "late\n"):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=tmp_path, check=False
        )
        assert (done.returncode, done.stdout, done.stderr) == (3, f"words without an end {words}handler\n", "")
        assert [path.name for path in tmp_path.iterdir()] == ["log"]
    assert (tmp_path / "log").read_text() == "INFO:root:late\n"


@pytest.mark.slow
def test_nothing_is_said_of_what_is_left_in_memory(tmp_path: Path) -> None:
    """Triton, which comes with PyTorch, lists what was not collected when the program ends."""
    pytest.importorskip("torch")
    code = (
        "import sys\n"
        "from headstart.cli import main\n"
        "def run(arguments):\n"
        "    import torch\n"
        "    try:\n"
        "        import triton._C.libtriton\n"
        "    except ImportError:\n"
        "        pass\n"
        "    return 0\n"
        "main.run = run\n"
        "main.main([])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
