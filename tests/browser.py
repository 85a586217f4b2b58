"""A real browser for the tests of pages: Debian's Chromium, driven by Playwright; none is ever downloaded.

Where it is installed, `chromium-headless-shell` is taken: the same engine without the program around it, in two thirds
of the time.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

# What a page would do to a reader: these are told by every test that opens one.
PHONE, TABLET, DESKTOP = (360, 800), (768, 1024), (1440, 900)


def installed(*names: str) -> str | None:
    """The first of these programs that there is; or the one that `HEADSTART_TEST_CHROMIUM` names."""
    named = os.environ.get("HEADSTART_TEST_CHROMIUM")
    return named or next((path for name in names if (path := shutil.which(name))), None)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium. The test is skipped where there is none, or no Playwright."""
    path = installed("chromium-headless-shell", "chromium")
    if path is None:
        pytest.skip("no browser: install Debian's chromium, or name one with HEADSTART_TEST_CHROMIUM")
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install '.[dev]'")
    with playwright.sync_playwright() as driver:
        # As root, and in a container, its own sandbox cannot be set up; the pages are our own.
        chromium = driver.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield chromium
        chromium.close()


@dataclass
class Opened:
    """A page in the browser, and what it did.

    Attributes:
        page: Playwright's page.
        requests: What it asked for besides itself; a page of ours asks for nothing.
        faults: Messages of its console, errors of its scripts, and dialogs that it opened.
    """

    page: Any
    requests: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def count(self, selector: str) -> int:
        """Elements that match."""
        return int(self.page.locator(selector).count())

    def overflowing(self) -> list[str]:
        """Elements whose content is wider than they are, and is neither scrolled nor drawn; and the page itself."""
        return list(self.page.evaluate(_OVERFLOWING))

    def empty_sections(self) -> list[str]:
        """Sections that show nothing below their heading."""
        return list(self.page.evaluate(
            "[...document.querySelectorAll('section')].filter(s => s.innerText.trim().split('\\n').length < 2)"
            ".map(s => s.id)"
        ))  # fmt: skip

    def broken_pictures(self) -> list[str]:
        """Pictures that could not be shown, or have no alternative text."""
        return list(self.page.evaluate(
            "[...document.querySelectorAll('main img')].filter(i => !i.closest('.tip'))"
            ".filter(i => !i.naturalWidth || !i.alt.trim()).map(i => i.outerHTML.slice(0, 200))"
        ))  # fmt: skip

    def headings(self) -> list[int]:
        """Levels of the headings in the order of the page."""
        return list(self.page.evaluate(
            "[...document.querySelectorAll('h1,h2,h3,h4,h5,h6')].map(h => Number(h.tagName[1]))"
        ))  # fmt: skip

    def violations(self) -> list[str]:
        """What axe-core finds against WCAG 2.1 A and AA: contrast, names, landmarks, structure."""
        axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="no axe-core: pip install '.[dev]'")
        found = axe.Axe().run(
            self.page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]}
        )
        return [
            f"{one['id']}: {one['nodes'][0]['html'][:200]} ({len(one['nodes'])})"
            for one in found.response["violations"]
        ]


_OVERFLOWING = """() => {
  const found = [];
  const root = document.documentElement;
  if (root.scrollWidth > root.clientWidth) found.push(`the page: ${root.scrollWidth} > ${root.clientWidth}`);
  const scrolls = (e) => e && (/(auto|scroll)/.test(getComputedStyle(e).overflowX) || scrolls(e.parentElement));
  for (const e of document.querySelectorAll('body *')) {
    if (e.closest('svg') || e.closest('.skip') || !e.offsetParent) continue;
    const box = e.getBoundingClientRect();
    if (!scrolls(e) && (box.right > root.clientWidth + 1 || box.left < -1))
      found.push(`outside: ${e.outerHTML.slice(0, 120)}`);
    if (!scrolls(e) && getComputedStyle(e).display !== 'inline' && e.scrollWidth > e.clientWidth + 1)
      found.push(`too narrow: ${e.outerHTML.slice(0, 120)}`);
  }
  return found;
}"""


@contextmanager
def opened(
    browser: Any, path: Path, size: tuple[int, int] = DESKTOP, scheme: str = "light", **options: Any
) -> Iterator[Opened]:
    """Open a page from the disk, without any network."""
    width, height = size
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme=scheme,
        offline=True,
        reduced_motion="reduce",
        **options,
    )
    try:
        page = context.new_page()
        one = Opened(page)
        address = path.absolute().as_uri()
        page.on(
            "request",
            lambda request: (
                one.requests.append(request.url)
                if not request.url.startswith(("data:", address.split("#")[0]))
                else None
            ),
        )
        page.on("console", lambda message: one.faults.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: one.faults.append(f"error: {error}"))

        def dismissed(dialog: Any) -> None:
            one.faults.append(f"dialog: {dialog.message}")
            dialog.dismiss()

        page.on("dialog", dismissed)
        page.goto(address)
        yield one
    finally:
        context.close()
