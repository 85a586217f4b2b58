"""Draw the pictures of the README and the documentation anew: `python scripts/draw_pictures.py`, about a minute.

They show pages that Headstart makes of the digits of `headstart demo`, in Chromium, by day and by night.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

from headstart.core.progress import Silent
from headstart.data.demo import write_digits

FOLDER = Path(__file__).parent.parent / "docs" / "pictures"
SCHEMES = ("light", "dark")
PANEL_PX, WIDE_PX = 560, 900  # of the window, in CSS pixels
SCALE = 1.5  # so that text is sharp on dense screens, at the size that pages show it in
MOST_BYTES = 150_000
PREDICTED = ("7/0240.png", "9/1060.png", "2/0050.png")  # sure of 7, mistakes 9 for 8, sure of 2


def main() -> None:
    """Make the pages, and a picture of each in both schemes."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as driver:
        desk = Path(scratch)
        make(desk)
        chromium = driver.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        for scheme in SCHEMES:
            with window(chromium, PANEL_PX, scheme) as page:
                save(beside(report(page, desk)), f"report-{scheme}")
                save(check(page, desk), f"check-{scheme}")
            with window(chromium, WIDE_PX, scheme) as page:
                save(classified(page, desk), f"page-{scheme}")
        chromium.close()


def make(desk: Path) -> None:
    """Train on the digits, check them, and export the model as a page."""
    write_digits(desk / "digits", Silent())
    unlike = Image.new("RGB", (96, 96), "white")
    unlike.paste("orange", (0, 48, 96, 96))
    unlike.save(desk / "flag.png")
    run(desk, "train", "digits", "--out", "run")
    run(desk, "check", "digits", "--html", "check.html")
    run(desk, "export", "run", "--to", "html", "--out", "page.html", "--name", "Handwritten digits")


def run(desk: Path, *command: str) -> None:
    """Run a command of Headstart."""
    subprocess.run([sys.executable, "-m", "headstart", *command, "--quiet"], cwd=desk, check=True)  # noqa: S603


@contextmanager
def window(chromium: Any, width: int, scheme: str) -> Iterator[Any]:
    """A page of Chromium, as wide as it is to be shown."""
    context = chromium.new_context(
        viewport={"width": width, "height": 1200}, color_scheme=scheme, device_scale_factor=SCALE
    )
    yield context.new_page()
    context.close()


def report(page: Any, desk: Path) -> list[Image.Image]:
    """The report's beginning, and its first mistakes."""
    page.goto((desk / "run" / "report.html").as_uri())
    begin = top(page, "#mistakes") - 15
    height = bottom(page, "#mistakes .exhibit:nth-child(2)") - begin + 15
    return [shot(page, desk, 0, height), shot(page, desk, begin, height)]


def check(page: Any, desk: Path) -> Image.Image:
    """The first findings of the data check."""
    page.goto((desk / "check.html").as_uri())
    return shot(page, desk, 0, bottom(page, "#label .finding:nth-of-type(2)"))


def classified(page: Any, desk: Path) -> Image.Image:
    """The page that classifies, with images of the test split and one that is no digit."""
    page.goto((desk / "page.html").as_uri())
    page.wait_for_selector("#status:has-text('Ready.')", timeout=60_000)
    images = [*(desk / "digits" / "test" / name for name in PREDICTED), desk / "flag.png"]
    page.locator("#choose-files").set_input_files(images)
    page.wait_for_selector("#status:has-text('Done.')", timeout=60_000)
    page.get_by_text("Show the evidence for 8").first.click()
    page.wait_for_timeout(2000)
    page.mouse.move(0, 0)
    return shot(page, desk, 0, bottom(page, "#cards") + 12)


def top(page: Any, selector: str) -> int:
    """Where an element begins, in CSS pixels from the top of the page."""
    return int(page.locator(selector).first.bounding_box()["y"] + page.evaluate("scrollY"))


def bottom(page: Any, selector: str) -> int:
    """Where an element ends."""
    box = page.locator(selector).first.bounding_box()
    return int(box["y"] + box["height"] + page.evaluate("scrollY"))


def shot(page: Any, desk: Path, begin: int, height: int) -> Image.Image:
    """A picture of a part of the page."""
    file = desk / "shot.png"
    clip = {"x": 0, "y": begin, "width": page.viewport_size["width"], "height": height}
    page.screenshot(path=file, full_page=True, clip=clip)
    with Image.open(file) as image:
        return image.convert("RGB")


def beside(parts: list[Image.Image]) -> Image.Image:
    """Pictures side by side."""
    whole = Image.new("RGB", (sum(part.width for part in parts), parts[0].height))
    left = 0
    for part in parts:
        whole.paste(part.crop((0, 0, part.width, whole.height)), (left, 0))
        left += part.width
    return whole


def save(image: Image.Image, name: str) -> None:
    """Write a picture, small enough for a page that is read on a phone."""
    file = FOLDER / f"{name}.webp"
    image.save(file, quality=82, method=6)
    print(f"{file.name}: {image.width} x {image.height}, {file.stat().st_size / 1000:.0f} kB")
    if file.stat().st_size > MOST_BYTES:
        raise SystemExit(f"{file.name} is larger than {MOST_BYTES / 1000:.0f} kB")


if __name__ == "__main__":
    main()
