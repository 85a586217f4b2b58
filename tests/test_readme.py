"""The README and the docs say what is true: their commands and examples are run."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import headstart
from helpers import draw, headstart_cli, write_images

ROOT = Path(__file__).parent.parent


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of a language on a page."""
    return re.findall(rf"^```{language}\n(.*?)^```$", (ROOT / page).read_text("utf-8"), re.MULTILINE | re.DOTALL)


COMMANDS = [line for block in blocks("README.md", "sh") for line in block.splitlines() if line.startswith("headstart ")]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the README speaks of: `photos` with two classes, and `new` photos."""
    folder = tmp_path_factory.mktemp("desk")
    write_images(folder / "photos", {"cat": 130, "noise": 130})
    (folder / "new").mkdir()
    for number in (1, 2):
        draw("stripes", 900 + number).save(folder / "new" / f"{number}.png")
    return folder


def test_commands_of_the_readme(desk: Path) -> None:
    assert [command.split()[1] for command in COMMANDS[:4]] == ["train", "predict", "evaluate", "verify"]
    for command in COMMANDS:
        done = headstart_cli(*shlex.split(command)[1:], cwd=desk, HEADSTART_CACHE=str(desk / "cache"))
        assert done.code == 0, f"{command}\n{done.err}"
        assert done.out


@pytest.mark.parametrize(
    ("page", "number", "says"),
    [
        ("README.md", 0, r"(cat|noise) [01]\.\d+"),
        ("README.md", 1, r"^[01]\.\d+$"),
        ("docs/training.md", 0, r"^[01]\.\d+$"),
    ],
)
def test_python_of_the_docs(desk: Path, page: str, number: int, says: str) -> None:
    code = blocks(page, "python")[number]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=desk, check=False)
    assert done.returncode == 0, done.stderr
    assert re.search(says, done.stdout, re.MULTILINE)


def test_every_python_block_is_run() -> None:
    assert [len(blocks(page, "python")) for page in ("README.md", "docs/training.md")] == [2, 1]


def test_reader_of_the_model_file_page(model: Path, shapes: Path, tmp_path: Path) -> None:
    """Plain ONNX Runtime gives what Headstart gives."""
    (code,) = blocks("docs/model-file.md", "python")
    shutil.copy(model, tmp_path / "model.onnx")
    shutil.copy(shapes / "disc" / "003.png", tmp_path / "photo.png")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    label, probability = done.stdout.split()
    expected = headstart.load(model).predict(tmp_path / "photo.png")
    assert label == expected.label
    assert float(probability) == pytest.approx(expected.probability, abs=1e-6)


def test_metadata_keys_are_those_of_the_page(model: Path) -> None:
    import json

    import onnx

    (entry,) = onnx.load(model).metadata_props
    table = (ROOT / "docs/model-file.md").read_text("utf-8").split("## Metadata")[1]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == set(json.loads(entry.value))


def test_ci_runs_the_two_commands_of_the_readme() -> None:
    ci = (ROOT / ".ci" / "run").read_text("utf-8")
    two = [line for block in blocks("README.md", "sh") for line in block.splitlines() if line.startswith("pip ")]
    assert two == ["pip install . && headstart demo", "pip install '.[dev]' && pytest"]
    assert 'pip install --quiet . && (cd "$work" && headstart demo)' in ci
    assert f"\n{two[1]}\n" in ci


def test_nothing_is_left_to_fill_in() -> None:
    assert not re.search(r"@[A-Z_]+@", (ROOT / "README.md").read_text("utf-8"))


def test_links_lead_somewhere() -> None:
    for page in ("README.md", "CONTRIBUTING.md", "docs/training.md"):
        for target in re.findall(r"\]\((?!http)([^)#]+)", (ROOT / page).read_text("utf-8")):
            assert (ROOT / target).exists(), f"{page}: {target}"


def test_every_option_of_the_readme_exists() -> None:
    text = "".join((ROOT / page).read_text("utf-8") for page in ("README.md", "docs/training.md"))
    known = "".join(
        headstart_cli(*command, "--help").out
        for command in (["train"], ["predict"], ["evaluate"], ["demo"], ["cache"], ["backbones"], ["recipes"], [])
    )
    for option in set(re.findall(r"`(--[a-z-]+)`", text)):
        assert option in known, option
