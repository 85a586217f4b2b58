"""The camera of the page, in a real Chromium whose camera shows a picture of ours."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import headstart
from browser import installed, opened
from helpers import draw
from test_export_page import done, ready

SIZE = (640, 480)


@pytest.fixture(scope="module")
def page(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return headstart.export(model, "html", out=tmp_path_factory.mktemp("page") / "shapes.html").path


def scene() -> Image.Image:
    """What is before the camera. Other than the other pictures: of colours, and not the same when it is mirrored."""
    return draw("stripes", 11, SIZE)


def video(path: Path, picture: Image.Image) -> Path:
    """One frame as YUV4MPEG2, which Chromium shows again and again."""
    luma, *chroma = picture.convert("YCbCr").split()
    planes = [luma, *(plane.resize((SIZE[0] // 2, SIZE[1] // 2), Image.Resampling.BOX) for plane in chroma)]
    # A camera's luma has 16 to 235 levels, its chroma 16 to 240.
    ranges = ((16, 219), (16, 224), (16, 224))
    levels = [
        low + np.asarray(plane, np.float64) / 255 * span for plane, (low, span) in zip(planes, ranges, strict=True)
    ]
    frame = b"".join(np.round(one).astype(np.uint8).tobytes() for one in levels)
    path.write_bytes(f"YUV4MPEG2 W{SIZE[0]} H{SIZE[1]} F10:1 Ip A1:1 C420\n".encode() + 5 * (b"FRAME\n" + frame))
    return path


def whole() -> str:
    """The browser that asks whether a page may use the camera; without its windows it never answers."""
    return installed("chromium") or pytest.skip("no browser with windows: install Debian's chromium")


@pytest.fixture
def with_camera(browser: Any, tmp_path: Path) -> Iterator[Any]:
    """A Chromium with a camera that it may use."""
    chromium = browser.browser_type.launch(
        executable_path=whole(),
        args=[
            "--no-sandbox", "--disable-gpu", "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream",
            f"--use-file-for-fake-video-capture={video(tmp_path / 'scene.y4m', scene())}",
        ],
    )  # fmt: skip
    yield chromium
    chromium.close()


@pytest.mark.slow
def test_a_photo_is_taken_and_classified(page: Path, model: Path, with_camera: Any) -> None:
    expected = headstart.load(model).predict(scene())
    with opened(with_camera, page, bypass_csp=True) as one:
        ready(one)
        one.page.click("#open-camera")
        one.page.click("#camera-buttons >> text=Take a photo")  # as soon as it can be
        one.page.wait_for_selector("#camera-words:has-text('Photo 1 was taken')")
        one.page.click("#camera-buttons >> text=Take a photo")
        one.page.wait_for_selector("#camera-words:has-text('Photo 2 was taken')")
        one.page.wait_for_selector("#rows tr:nth-child(2)", state="attached", timeout=60_000)
        done(one)
        one.page.click("#camera-buttons >> text=Close")
        assert one.page.locator("#camera").is_hidden()
        # The camera is let go of.
        one.page.wait_for_function("document.getElementById('camera-picture').srcObject === null")
        labels = [text.split() for text in one.page.locator(".result .label").all_inner_texts()]
        # Its colours come by way of a video: nearly the same.
        assert [label for label, *_ in labels] == [expected.label] * 2
        assert all(abs(float(percent) / 100 - expected.probability) < 0.05 for _, percent, _ in labels), labels
        shown = one.page.locator(".result").first.inner_text()
        assert "camera-1.png" in shown
        assert [url for url in one.requests if not url.startswith("blob:")] == []
        assert one.faults == []


@pytest.mark.slow
@pytest.mark.parametrize(("flag", "says"), [
    ("--use-fake-device-for-media-stream", "Access to the camera was denied."),
    ("--use-fake-ui-for-media-stream", "This device has no camera."),
])  # fmt: skip
def test_without_a_camera_it_says_why(page: Path, browser: Any, flag: str, says: str) -> None:
    chromium = browser.browser_type.launch(executable_path=whole(), args=["--no-sandbox", "--disable-gpu", flag])
    try:
        with opened(chromium, page) as one:
            ready(one)
            one.page.click("#open-camera")
            one.page.wait_for_selector(f"#camera-words:has-text('{says}')", timeout=20_000)
            assert one.page.locator("#camera-buttons >> text=Take a photo").is_disabled()
            one.page.click("#camera-buttons >> text=Close")
            assert one.faults == []
    finally:
        chromium.close()
