"""The programs of docs/other-languages.md: run where their libraries are, they give what Headstart gives."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

import headstart
from helpers import draw

PAGE = Path(__file__).parent.parent / "docs" / "other-languages.md"
SAME = 1e-5


def program(language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return str(found)


def pictures(folder: Path) -> list[Path]:
    """JPEGs in colour, in grey and turned, and a PNG; not square, so that a wrong turn is seen."""
    image = draw("stripes", 5, (301, 190))
    turned = Image.Exif()
    turned[0x0112] = 6
    image.save(folder / "colour.jpg", quality=92)
    image.convert("L").save(folder / "grey.jpg", quality=92)
    image.save(folder / "turned.jpg", quality=92, exif=turned)
    image.save(folder / "png.jpg", "PNG")
    return sorted(folder.glob("*.jpg"))


def agrees(command: list[str], folder: Path, model: Path) -> None:
    classifier = headstart.load(model)
    shutil.copy(model, folder / "model.onnx")
    (folder / "pictures").mkdir()
    told = set()
    for path in pictures(folder / "pictures"):
        shutil.copy(path, folder / "photo.jpg")
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
        label, probability = done.stdout.split()
        expected = classifier.predict(path)
        assert label == expected.label, path.name
        assert abs(float(probability) - expected.probability) < SAME, path.name
        told.add(probability)
    assert len(told) > 2  # the turn, and the colours, make a difference


def test_javascript(model: Path, tmp_path: Path) -> None:
    modules, node = os.environ.get("HEADSTART_TEST_NODE_MODULES"), shutil.which("node")
    if not modules or not node:
        pytest.skip("name a folder node_modules with onnxruntime-node and sharp: HEADSTART_TEST_NODE_MODULES")
    (tmp_path / "node_modules").symlink_to(Path(modules).absolute())
    (tmp_path / "predict.mjs").write_text(program("js"))
    agrees([node, "predict.mjs"], tmp_path, model)


def test_cpp(model: Path, tmp_path: Path) -> None:
    flags, compiler = os.environ.get("HEADSTART_TEST_CPP"), shutil.which("g++")
    if not flags or not compiler:
        pytest.skip("say where ONNX Runtime, OpenCV and nlohmann's JSON are: HEADSTART_TEST_CPP='-I... -L... -Wl,...'")
    (tmp_path / "predict.cpp").write_text(program("cpp"))
    libraries = ["-lonnxruntime", "-lopencv_imgcodecs", "-lopencv_core"]
    built = subprocess.run(
        [compiler, "-std=c++17", "predict.cpp", "-o", "predict", *shlex.split(flags), *libraries],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    agrees(["./predict"], tmp_path, model)
