"""The README and the docs say what is true: their commands and examples are run."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import headstart
from helpers import draw, headstart_cli, headstart_process, write_images

ROOT = Path(__file__).parent.parent


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of a language on a page."""
    return re.findall(rf"^```{language}\n(.*?)^```$", (ROOT / page).read_text("utf-8"), re.MULTILINE | re.DOTALL)


COMMAND_NAMES = (
    "train", "predict", "evaluate", "demo", "cache", "backbones", "recipes", "check", "compare", "report", "explain",
)  # fmt: skip


def commands(page: str) -> list[str]:
    """The commands of a page, in their order."""
    lines = [line for block in blocks(page, "sh") for line in block.splitlines()]
    return [line.split(" #")[0] for line in lines if line.startswith("headstart ")]


PAGES = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md"))
# What these speak of is there before: `photos`, `new`, and a run of them.
RUN_PAGES = [f"docs/{name}.md" for name in ("checking", "choosing", "comparing", "explaining", "report")]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the README speaks of: `photos` with two classes, and `new` photos."""
    folder = tmp_path_factory.mktemp("desk")
    write_images(folder / "photos", {"cat": 40, "noise": 40})
    (folder / "new").mkdir()
    for number in (1, 2):
        draw("stripes", 900 + number).save(folder / "new" / f"{number}.png")
    return folder


def run_commands(page: str, desk: Path) -> None:
    for command in commands(page):
        done = headstart_process(*shlex.split(command)[1:], cwd=desk, timeout=300, HEADSTART_CACHE=str(desk / "cache"))
        assert done.code == 0, f"{command}\n{done.err}"
        assert done.out, command


def test_commands_of_the_readme(desk: Path) -> None:
    assert [command.split()[1] for command in commands("README.md")[:4]] == ["train", "predict", "evaluate", "verify"]
    run_commands("README.md", desk)


@pytest.fixture
def used_desk(desk: Path, tmp_path: Path) -> Path:
    """A desk of one's own, with a run in `runs/photos`."""
    for name in ("photos", "new"):
        shutil.copytree(desk / name, tmp_path / name)
    cache = str(tmp_path / "cache")
    done = headstart_process("train", "photos", "--out", "runs/photos", "-q", cwd=tmp_path, HEADSTART_CACHE=cache)
    assert done.code == 0, done.err
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN_PAGES)
def test_commands_and_python_of_the_docs(used_desk: Path, page: str) -> None:
    if any("--out runs/photos" in command for command in commands(page)):
        shutil.rmtree(used_desk / "runs")
    run_commands(page, used_desk)
    for code in blocks(page, "python"):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, cwd=used_desk, check=False,
            env=os.environ | {"HEADSTART_CACHE": str(used_desk / "cache")},
        )  # fmt: skip
        assert done.returncode == 0, f"{code}\n{done.stderr}"


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
    # The settings are a table without code, which a test of its own holds to them.
    assert blocks("docs/settings.md", "python") == commands("docs/settings.md") == []
    others = {"docs/training.md", "docs/model-file.md", "docs/sources.md", "docs/settings.md"}
    assert set(PAGES) == {*RUN_PAGES, *others}


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
    for page in ("README.md", "CHANGELOG.md", *PAGES):
        assert not re.search(r"@[A-Z_]+@|^FIGURES$", (ROOT / page).read_text("utf-8"), re.MULTILINE), page


def test_links_lead_somewhere() -> None:
    for page in ("README.md", "CONTRIBUTING.md", *PAGES):
        for target in re.findall(r"\]\((?!http)([^)#]+)", (ROOT / page).read_text("utf-8")):
            assert (ROOT / page).parent.joinpath(target).exists(), f"{page}: {target}"


def test_every_option_of_the_readme_exists() -> None:
    text = "".join((ROOT / page).read_text("utf-8") for page in ("README.md", *PAGES))
    known = "".join(headstart_cli(*command, "--help").out for command in ([], *([name] for name in COMMAND_NAMES)))
    for option in set(re.findall(r"`(--[a-z-]+)`", text)):
        assert option in known, option
