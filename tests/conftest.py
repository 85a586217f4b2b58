"""Fixtures that the tests share: an isolated cache, small image sets, a trained model, real photos."""

from __future__ import annotations

import gc
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # threads of several processes wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import exporting
from browser import browser  # noqa: F401  a fixture
from helpers import write_images

if TYPE_CHECKING:
    import headstart

HERE = Path(__file__).parent
PHOTOS = Path(os.environ.get("HEADSTART_TEST_PHOTOS", HERE.parent.parent / "shared" / "data" / "ants-bees"))


# The files that take longest, in this order: what begins last with a long file works alone in the end.
LONGEST = (
    "test_serve_faults", "test_readme", "test_ray", "test_choices", "test_export", "test_strategies", "test_ray_train",
    "test_ray_serve", "test_compare", "test_auto", "test_processes", "test_resume", "test_duplicates", "test_novelty",
    "test_export_page", "test_explain_faithful", "test_hub", "test_comparison", "test_check_several", "test_interrupt",
    "test_folds", "test_cli_train", "test_multi_label", "test_report_page", "test_conformal", "test_train_embeddings",
    "test_streamed_head", "test_serve_jobs", "test_sources", "test_files", "test_demo", "test_loop",
)  # fmt: skip


def pytest_collection() -> None:
    """What is imported is no garbage: to look through it takes a seventh of a second each time."""
    gc.disable()


def pytest_collection_finish() -> None:
    """What comes now may be."""
    gc.freeze()
    gc.enable()


def pytest_unconfigure() -> None:
    """At the end it is: libraries complain of what is left over."""
    gc.unfreeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long files first; all others as they are."""
    place = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(LONGEST)))


@pytest.fixture(scope="session")
def photos() -> Path:
    """The ants-bees set of the PyTorch tutorial; tests that need real photos are skipped without it."""
    if not (PHOTOS / "train").is_dir():
        pytest.skip("no real photos: set HEADSTART_TEST_PHOTOS to the ants-bees folder")
    return PHOTOS


# Whose subject is the cache itself, or what a first run does.
EMPTY_CACHE = {
    "test_cache",
    "test_backbones",
    "test_files",
    "test_interrupt",
    "test_surroundings",
    "test_hub",
    "test_sources",
}


@pytest.fixture(scope="session", autouse=True)
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The cache folder of all tests, also of the programs that they start: what is drawn often is embedded once."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder, exports = base / "warm", base / "exports"
    for one in (folder, exports):
        one.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADSTART_CACHE", str(folder))
        patch.setenv(exporting.FOLDER, str(exports))
        yield folder


@pytest.fixture
def cache(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A cache folder without an embedding in place of `warm`, for a test of what is in it, or of a first run."""
    folder = tmp_path_factory.mktemp("cache")
    if request.module.__name__ not in EMPTY_CACHE:
        shutil.copytree(request.getfixturevalue("embedders"), folder / "embedders", copy_function=os.link)
    monkeypatch.setenv("HEADSTART_CACHE", str(folder))
    return folder


@pytest.fixture(scope="session")
def embedders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a cache with the embedder of lite0, which takes half a second to build."""
    from headstart.backbones.embedder import load_embedder
    from headstart.settings.recipe import Recipe

    folder = tmp_path_factory.mktemp("embedders")
    load_embedder(Recipe(), folder)
    return folder / "embedders"


@pytest.fixture(autouse=True)
def own_cache(request: pytest.FixtureRequest) -> None:
    """An empty cache for each test of the files in `EMPTY_CACHE`."""
    if request.module.__name__ in EMPTY_CACHE:
        request.getfixturevalue("cache")


# Whose subject is what PyTorch's exporter makes of a network.
EXPORTS_ANEW = {"test_export", "test_export_torch", "test_sources"}


def pytest_runtest_setup(item: pytest.Function) -> None:
    """PyTorch's exporter is asked once for each network, see `exporting`."""
    once = exporting.install()
    if once is not None:
        once.anew = item.module.__name__ in EXPORTS_ANEW


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The 1,797 handwritten digits of scikit-learn, in `train` and `val`. Do not change it: copy it."""
    from headstart.core.progress import Silent
    from headstart.data.demo import write_digits

    return write_digits(tmp_path_factory.mktemp("digits") / "digits", Silent())


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders with 12 pictures each of discs, stripes and noise. Do not change it: copy it."""
    return write_images(tmp_path_factory.mktemp("shapes"), {"disc": 12, "stripes": 12, "noise": 12})


@pytest.fixture(scope="session")
def model(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file that was trained on `shapes`. Do not change it: copy it."""
    import headstart

    run = headstart.train(shapes)
    return run.save(tmp_path_factory.mktemp("run") / "shapes") / "model.onnx"


@pytest.fixture(scope="session")
def canvases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Canvases of up to three handwritten digits, of which a 0, a 1 and a 4 are labels and others are not."""
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_digits

    folder, digits, rng = tmp_path_factory.mktemp("canvases"), load_digits(), np.random.default_rng(0)
    lines = ["path,labels"]
    for number in range(150):
        places = rng.permutation(4)[: rng.integers(1, 4)]
        cells = [np.zeros((8, 8)) for _ in range(4)]
        shown = set()
        for place in places:
            digit = int(rng.choice([0, 1, 4, 7]))
            cells[place] = digits.images[rng.choice(np.flatnonzero(digits.target == digit))]
            shown |= {digit} - {7}
        pixels = np.vstack([np.hstack(cells[:2]), np.hstack(cells[2:])])
        Image.fromarray(np.uint8(15 * pixels)).resize((96, 96)).save(folder / f"{number:03}.png")
        lines.append(f"{number:03}.png,{'|'.join(f'digit {one}' for one in sorted(shown))}")
    (folder / "list.csv").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="session")
def labelled(canvases: Path, warm: Path) -> headstart.Run:
    """A run with several labels an image, measured by cross-validation."""
    import headstart

    return headstart.train(canvases / "list.csv", headstart.Recipe(fit="squash"), runtime=headstart.Runtime(cache=warm))
