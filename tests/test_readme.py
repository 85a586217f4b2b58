"""The README and the docs say what is true: their commands and examples are run."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import shutil
from pathlib import Path

import pytest

import headstart
from headstart.cli.main import COMMANDS
from helpers import draw, headstart_cli, write_images

ROOT = Path(__file__).parent.parent


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of a language on a page."""
    return re.findall(rf"^```{language}\n(.*?)^```$", (ROOT / page).read_text("utf-8"), re.MULTILINE | re.DOTALL)


def commands(page: str) -> list[str]:
    """The commands of a page, in their order."""
    lines = [line for block in blocks(page, "sh") for line in block.splitlines()]
    return [line.split(" #")[0] for line in lines if line.startswith("headstart ")]


PAGES = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md"))
# Of each class: enough for the whole batch that fine-tuning takes, of what is neither held out nor chooses the epoch.
PHOTOS = 28
# What these speak of is there before: `photos`, `new`, and a run of them.
NAMES = ("checking", "choosing", "comparing", "deploy", "every-day", "explaining", "own-photos", "report", "training")
RUN_PAGES = [f"docs/{name}.md" for name in NAMES]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the README speaks of: `photos` of two classes, `others`, `new` ones. Do not change it."""
    folder = tmp_path_factory.mktemp("desk")
    for name, count, seed in (("photos", PHOTOS, 0), ("others", 2, 700)):  # a class as easily told as cats are
        write_images(folder / name, {"disc": count, "noise": count}, seed=seed)
        (folder / name / "disc").rename(folder / name / "cat")
    (folder / "new").mkdir()
    for number in (1, 2):
        draw("stripes", 900 + number).save(folder / "new" / f"{number}.png")
    return folder


@pytest.fixture
def own_desk(desk: Path, warm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A desk of one's own, whose photos are embedded once for all pages."""
    monkeypatch.setenv("HEADSTART_CACHE", str(warm))
    return Path(shutil.copytree(desk, tmp_path / "desk"))


@pytest.fixture(scope="module")
def trained() -> set[str]:
    """The commands of all pages so far that train a network."""
    return set()


# What the pages say of these commands holds for any number of epochs, for any budget, and for however many layers.
LESS = {
    r"--epochs \d+": "--epochs 1", r"epochs=\d+": "epochs=1", r"--budget 1m": "--budget 0.2m",
    r"(--strategy finetune --epochs 1)": r"\1 --unfreeze last --retries 0",
    r'"epochs": 1}': '"epochs": 1, "unfreeze": "last", "retries": 0}',
}  # fmt: skip


def shortened(text: str) -> str:
    for more, less in LESS.items():
        text = re.sub(more, less, text)
    return text


def run_commands(page: str, desk: Path, trained: set[str]) -> None:
    """Run what a page says; the same training of a network only for the first of the pages that tell of it."""
    for command in map(shortened, commands(page)):
        training = re.sub(r" --out \S+", "", command)
        if training in trained:
            continue
        done = headstart_cli(*shlex.split(command)[1:], cwd=desk)
        assert done.code == 0, f"{command}\n{done.err}"
        assert done.out, command
        if "--strateg" in command:  # also of a comparison of strategies
            trained.add(training)


def run_python(code: str, desk: Path) -> str:
    """What a block of Python prints, which sees nothing of this module."""
    out = io.StringIO()
    with contextlib.chdir(desk), contextlib.redirect_stdout(out):
        exec(compile(shortened(code), "docs", "exec", dont_inherit=True), {"__name__": "__main__"})
    return out.getvalue()


@pytest.mark.slow
def test_commands_of_the_readme(own_desk: Path, trained: set[str]) -> None:
    assert [command.split()[1] for command in commands("README.md")[:4]] == ["train", "predict", "evaluate", "verify"]
    run_commands("README.md", own_desk, trained)


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN_PAGES)
def test_commands_and_python_of_the_docs(own_desk: Path, trained: set[str], page: str) -> None:
    if not any("--out runs/photos" in command for command in commands(page)):
        headstart.train(own_desk / "photos").save(own_desk / "runs" / "photos")
    run_commands(page, own_desk, trained)
    for code in blocks(page, "python") if page != "docs/training.md" else ():  # that one has a test of its own
        run_python(code, own_desk)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("page", "says"),
    [
        ("README.md", r"(cat|noise) [01]\.\d+"),
        pytest.param("docs/training.md", r"^[01]\.\d+$", marks=pytest.mark.slow),
    ],
)
def test_python_of_the_docs(own_desk: Path, page: str, says: str) -> None:
    (code,) = blocks(page, "python")
    assert re.search(says, run_python(code, own_desk), re.MULTILINE)


@pytest.mark.slow
def test_commands_and_python_of_the_tutorial(tmp_path: Path, digits: Path, warm: Path) -> None:
    """They run on images of `headstart demo`: on a third of them, and those that it names."""
    named = set(re.findall(r"headstart-demo/digits/(\S+\.png)", (ROOT / "docs/tutorial.md").read_text("utf-8")))
    some = {str(path.relative_to(digits)) for path in sorted(digits.rglob("*.png"))[::3]}
    for name in named | some:
        link = tmp_path / "headstart-demo" / "digits" / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.hardlink_to(digits / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADSTART_CACHE", str(warm))
        run_commands("docs/tutorial.md", tmp_path, set())
        (code,) = blocks("docs/tutorial.md", "python")
        assert run_python(code, tmp_path).startswith("7 (('7', ")


def test_every_python_block_is_run() -> None:
    # These are text and tables without code that is run.
    others = {f"docs/{name}.md" for name in ("index", "limits", "measured", "other-languages", "settings")}
    assert [page for page in sorted(others) if blocks(page, "python") or commands(page)] == []
    elsewhere = {"docs/multi-label.md", "docs/scale.md"}  # by tests/test_multi_label.py and tests/test_sharded_embed.py
    assert set(PAGES) == {*RUN_PAGES, *others, *elsewhere, "docs/model-file.md", "docs/sources.md", "docs/tutorial.md"}


@pytest.mark.slow
def test_reader_of_the_model_file_page(model: Path, shapes: Path, tmp_path: Path) -> None:
    """Plain ONNX Runtime gives what Headstart gives."""
    (code,) = blocks("docs/model-file.md", "python")
    shutil.copy(model, tmp_path / "model.onnx")
    shutil.copy(shapes / "disc" / "003.png", tmp_path / "photo.png")
    label, probability = run_python(code, tmp_path).split()
    expected = headstart.load(model).predict(tmp_path / "photo.png")
    assert label == expected.label
    assert float(probability) == pytest.approx(expected.probability, abs=1e-6)


def test_metadata_keys_are_those_of_the_page(model: Path) -> None:
    import json

    import onnx

    (entry,) = onnx.load(model).metadata_props
    table = (ROOT / "docs/model-file.md").read_text("utf-8").split("## Metadata")[1]
    # Of a model whose images are of one class each, the task and its thresholds are not written.
    several = {"task", "thresholds"}
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == {*json.loads(entry.value), *several}
    assert not several & json.loads(entry.value).keys()


def test_ci_runs_the_two_commands_of_the_readme() -> None:
    ci = (ROOT / ".ci" / "run").read_text("utf-8")
    two = [line for block in blocks("README.md", "sh") for line in block.splitlines() if line.startswith("pip ")]
    assert two == ["pip install . && headstart demo", "pip install '.[dev]' && pytest"]
    # The wheel is what `pip install .` makes of this folder: scripts/check_packages.py compares them.
    assert 'pip install --quiet "$work"/dist/*.whl && (cd "$work" && headstart demo)' in ci
    assert f"\n{two[1]}\n" in ci


def test_nothing_is_left_to_fill_in() -> None:
    for page in ("README.md", "CHANGELOG.md", *PAGES):
        assert not re.search(r"@[A-Z_]+@|^FIGURES$", (ROOT / page).read_text("utf-8"), re.MULTILINE), page


def test_links_and_pictures_lead_somewhere() -> None:
    pictures = set()
    for page in ("README.md", "CONTRIBUTING.md", *PAGES):
        text = (ROOT / page).read_text("utf-8")
        for target in re.findall(r'src(?:set)?="([^"]+)"', text):
            pictures.add((ROOT / page).parent.joinpath(target))
        for target in re.findall(r"\]\((?!http)([^)#]+)", text):
            made = page == "docs/index.md" and target.startswith(("command-line/", "python/"))  # by the site alone
            assert made or (ROOT / page).parent.joinpath(target).exists(), f"{page}: {target}"
    assert pictures == set((ROOT / "docs" / "pictures").iterdir())
    assert max(picture.stat().st_size for picture in pictures) < 150_000


def test_every_option_of_the_readme_exists() -> None:
    text = "".join((ROOT / page).read_text("utf-8") for page in ("README.md", *PAGES))
    known = "".join(headstart_cli(*command, "--help").out for command in ([], *([name] for name in COMMANDS)))
    for option in set(re.findall(r"`(--[a-z-]+)`", text)):
        assert option in known, option
