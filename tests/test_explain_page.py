"""The page of explanations, in a real browser."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from browser import DESKTOP, PHONE, opened
from headstart.data.traits import thumbnail
from headstart.prediction.answers import Prediction
from headstart.prediction.explanation import Explanation, Neighbour
from headstart.preprocess.frame import Frame
from headstart.report.explanations import entry, explanations_page
from helpers import draw

HOSTILE = "<img src=x onerror=alert(1)> \u202e and a very long name without any place to break " + "x" * 90


def explanation(
    size: tuple[int, int], *, familiar: bool | None, supported: bool = True, label: str = "a"
) -> Explanation:
    prediction = Prediction("a", 0.9, (("a", 0.9), (HOSTILE, 0.09), ("c", 0.01)), familiar=familiar)
    grid = np.random.default_rng(0).normal(size=(7, 7)).astype(np.float32)
    return Explanation(
        label=label, probability=0.9 if label == "a" else 0.09, prediction=prediction, method="cam",
        grid=grid if supported else -np.abs(grid), frame=Frame(0.1, 0.2, 0.9, 0.8), offset=0.0,
        pixels=np.asarray(draw("stripes", 1, size)), embedding=np.zeros(3, np.float32),
    )  # fmt: skip


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    near = tuple(
        Neighbour(f"train/{name}.jpg", name, 0.5, digest)
        for name, digest in ((HOSTILE, "0"), ("b", "1"), ("c", "missing"))
    )
    cases = {
        "new/wide.jpg": explanation((800, 300), familiar=True),
        f"new/{HOSTILE}.jpg": explanation((200, 700), familiar=False, label=HOSTILE),
        "tiny.png": explanation((30, 20), familiar=None, supported=False),
    }
    entries = [entry(path, one, one.overlay()) for path, one in cases.items()]
    entries = [replace(entry(path, one, one.overlay()), neighbours=near) for path, one in cases.items()]
    jpeg = thumbnail(Image.fromarray(np.asarray(draw("disc", 1))), 96)
    pictures, skipped = {"0": jpeg, "1": jpeg}, [(HOSTILE, "empty file")]
    text = explanations_page(HOSTILE, entries, total=5, pictures=pictures, skipped=skipped, notes=[HOSTILE])
    file = tmp_path_factory.mktemp("page") / "page.html"
    file.write_text(text, "utf-8")
    return file


@pytest.mark.slow
@pytest.mark.parametrize("size", [PHONE, DESKTOP])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_in_a_browser(browser: Any, page: Path, size: tuple[int, int], scheme: str) -> None:
    with opened(browser, page, size, scheme) as one:
        assert one.requests == []
        assert one.faults == []
        assert one.overflowing() == []
        assert one.empty_sections() == []
        assert one.broken_pictures() == []
        assert one.headings()[0] == 1
        assert one.count("section") == 1 + 3 + 1
        assert one.count("main img") == 3 * (2 + 2)
        assert one.count(".thumb.missing") == 3
        text = one.page.inner_text("body")
        assert "This page shows the first 3" in text
        assert "No region of this image is evidence for a" in text
        assert "unlike the training images" in text
        assert "\u202e" not in text
        assert one.violations() == []
