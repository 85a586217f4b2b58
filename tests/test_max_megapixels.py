"""`--max-megapixels` reaches the decoder from every command that reads images, and from Python."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import headstart as hs
from headstart.core.errors import ImageError
from helpers import draw, headstart_cli, write_images

LARGE = (1300, 1000)  # pixels: more than one megapixel, and fewer than two


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small pictures of two classes, and a larger one in each: `disc/large.png` and `noise/large.png`."""
    folder = write_images(tmp_path_factory.mktemp("photos"), {"disc": 12, "noise": 12})
    for label in ("disc", "noise"):
        draw(label, 99, LARGE).save(folder / label / "large.png")
    return folder


def _two_recipes(folder: Path) -> str:
    """Names of two recipes of the probe, for `compare`."""
    paths = [folder / f"{fit}.toml" for fit in ("crop", "pad")]
    for path in paths:
        path.write_text(f'fit = "{path.stem}"\n', encoding="utf-8")
    return ",".join(map(str, paths))


COMMANDS: dict[str, Callable[[Path, Path, Path], list[str | Path]]] = {
    "train": lambda photos, model, out: ["train", photos, "--out", out],
    "check": lambda photos, model, out: ["check", photos],
    "evaluate": lambda photos, model, out: ["evaluate", model, photos, "--allow-missing"],
    "predict": lambda photos, model, out: ["predict", model, photos / "disc"],
    "explain": lambda photos, model, out: ["explain", model, photos / "disc" / "large.png", photos / "disc" / "000.png",
                                           "--out", out],
    "compare": lambda photos, model, out: ["compare", photos, "--recipes", _two_recipes(out.parent), "--out", out],
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_command(photos: Path, model: Path, tmp_path: Path, name: str) -> None:
    command = [*COMMANDS[name](photos, model, tmp_path / "out"), "--json"]  # which cuts no long path short
    if name == "explain":  # it looks for the training images too, which the model's own limit let in
        command += ["--neighbours", "0"]
    refused = headstart_cli(*command, "--max-megapixels", "1")
    assert refused.code == 3, refused.err
    told = refused.out + refused.err
    assert "large.png" in told
    assert "1 megapixel" in told
    shutil.rmtree(tmp_path / "out", ignore_errors=True)
    taken = headstart_cli(*command, "--max-megapixels", "2")
    assert taken.code == 0, taken.err


@pytest.mark.slow
def test_python(photos: Path, model: Path) -> None:
    large = photos / "disc" / "large.png"
    assert hs.load(model).predict(large).label
    strict = hs.load(model, max_megapixels=1)
    assert strict.predict(photos / "disc" / "000.png").label
    with pytest.raises(ImageError, match="limit of 1 megapixel"):
        strict.predict(large)
    run = hs.train(photos, hs.Recipe(max_megapixels=1))
    assert [Path(skip.path).name for skip in run.skipped] == ["large.png"] * 2
    report = hs.check(photos, recipe=hs.Recipe(max_megapixels=1))
    assert len([one for one in report.findings if "large.png" in str(one)]) >= 2
