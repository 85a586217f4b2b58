"""The documentation site: every command and every public name has its entry, and pages load nothing from elsewhere."""

from __future__ import annotations

import functools
import html
import http.server
import os
import re
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import headstart
import headstart.sklearn
from browser import DESKTOP
from headstart.cli.main import COMMANDS
from helpers import headstart_cli

ROOT = Path(__file__).parent.parent
PHONE = (390, 844)
SHOWN = (
    "index.html",
    "tutorial.html",
    "checking.html",
    "measured.html",
    "command-line/train.html",
    "python/classes.html",
)

pytestmark = pytest.mark.slow  # a build takes four seconds of one core


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site: the one that `HEADSTART_TEST_SITE` names, or a new one."""
    if built := os.environ.get("HEADSTART_TEST_SITE"):
        return Path(built)
    pytest.importorskip("mkdocs", reason="no mkdocs: pip install '.[docs]'")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", folder],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    """Where the site is served."""
    handler = functools.partial(_Quiet, directory=site)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Keep the output of the tests clean."""


def inventory(site: Path) -> dict[str, str]:
    """The places of all names that are documented, as other projects look them up."""
    content = (site / "objects.inv").read_bytes().split(b"\n", 4)[4]
    rows = (line.split(" ") for line in zlib.decompress(content).decode().splitlines())
    return {row[0]: row[3].replace("$", row[0]) for row in rows}


def test_every_public_name_has_an_entry(site: Path) -> None:
    names = {f"headstart.{name}" for name in headstart.__all__} - {"headstart.__version__"}
    names |= {f"headstart.sklearn.{name}" for name in headstart.sklearn.__all__}
    places = inventory(site)
    assert names - set(places) == set()
    for name in names:
        page, anchor = places[name].split("#")
        assert f'id="{anchor}"' in (site / page).read_text("utf-8"), name
    listing = (site / "python" / "index.html").read_text("utf-8")
    assert [name for name in (*headstart.__all__, *headstart.sklearn.__all__) if name not in listing] == []


def test_methods_have_entries_and_private_names_have_none(site: Path) -> None:
    places = inventory(site)
    assert {"headstart.Classifier.predict", "headstart.Run.save", "headstart.sklearn.ImageClassifier.fit"} <= set(
        places
    )
    assert [name for name in places if re.search(r"\._(?!_)", name)] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_an_entry_with_its_options(site: Path, name: str) -> None:
    page = html.unescape((site / "command-line" / f"{name}.html").read_text("utf-8"))
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", page))
    told = headstart_cli(name, "--help").out
    options = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", told))
    assert "--help" in options
    assert [option for option in options if option not in text] == []
    assert COMMANDS[name].help in text
    assert f'href="{name}.html"' in (site / "command-line" / "index.html").read_text("utf-8")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_pages_ask_no_other_host_and_fit_the_screen(
    site: Path, address: str, browser: Any, size: tuple[int, int], scheme: str
) -> None:
    context = browser.new_context(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
    try:
        page, asked, faults = context.new_page(), [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: faults.append(str(error)))
        for path in SHOWN:
            page.goto(f"{address}/{path}", wait_until="networkidle")
            assert page.evaluate("document.documentElement.scrollWidth") <= size[0], path
            assert page.evaluate("[...document.images].filter(i => !i.complete || !i.naturalWidth).length") == 0, path
            assert (
                page.locator("body").get_attribute("data-md-color-scheme")
                == {"light": "default", "dark": "slate"}[scheme]
            )
        assert faults == []
        assert [url for url in asked if not url.startswith((address, "data:"))] == []
    finally:
        context.close()


def test_blocks_are_set_apart(site: Path) -> None:
    """Where a code block, a list or a table follows a paragraph without an empty line, as GitHub allows it."""
    found = {}
    for page in site.rglob("*.html"):
        for text in re.findall(r"<p>(.*?)</p>", page.read_text("utf-8"), re.DOTALL):
            if "<div" in text or re.search(r"(?:^|\n)(?:- |\d+\. |\||```)", text):
                found[page.name] = text[:200]
    assert found == {}


def test_search_finds_an_option(site: Path, address: str, browser: Any) -> None:
    context = browser.new_context(viewport={"width": DESKTOP[0], "height": DESKTOP[1]})
    try:
        page = context.new_page()
        page.goto(f"{address}/index.html", wait_until="networkidle")
        page.locator("input.md-search__input").click()
        page.locator("input.md-search__input").press_sequentially("white-level")
        page.locator(".md-search-result", has_text="white").wait_for(timeout=20_000)  # not those of its beginning
        assert "white" in page.locator(".md-search-result").inner_text()
    finally:
        context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_are_accessible(address: str, browser: Any, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="no axe-core: pip install '.[dev]'")
    context = browser.new_context(color_scheme=scheme, reduced_motion="reduce")
    try:
        page = context.new_page()
        for path in ("tutorial.html", "python/sklearn.html"):
            page.goto(f"{address}/{path}", wait_until="networkidle")
            found = axe.Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]})
            assert [(path, one["id"], one["nodes"][0]["html"]) for one in found.response["violations"]] == []
    finally:
        context.close()


def test_nothing_on_a_page_comes_from_another_host(site: Path) -> None:
    """Not even where a browser would only fetch it for some readers."""
    loads = re.compile(r"<(?:script|link|img|iframe|source)\b[^>]*(?:src|href|srcset)=\"?(?:https?:)?//[^>]*>")
    pages = list(site.rglob("*.html"))
    assert len(pages) > len(COMMANDS)
    assert {page.name: found for page in pages if (found := loads.findall(page.read_text("utf-8")))} == {}


def test_limits_are_those_of_the_code() -> None:
    from headstart.data import archives, decode, storage, table
    from headstart.data.readers import idx
    from headstart.modelfile import guard, schema, wire
    from headstart.serving.limits import Limits
    from headstart.settings.recipe import MAX_MEGAPIXELS, Recipe

    limits, pixels = Limits(), Recipe().max_megapixels
    page = re.sub(r"\s+", " ", (ROOT / "docs" / "limits.md").read_text("utf-8"))
    for words in (
        f"size of an image file | {storage.MAX_FILE_BYTES >> 20} MiB",
        f"| {pixels} megapixels (`--max-megapixels`, up to {MAX_MEGAPIXELS})",
        f"| {pixels * decode.STORED_TIMES} megapixels ({decode.STORED_TIMES} times the limit)",
        f"| {decode._MAX_SIDE_PX:,} px",
        f"progressive JPEG | {decode._MAX_JPEG_SCANS}",
        f"| {archives.MAX_ZIP_RATIO} times, from {archives.ZIP_RATIO_FREE_BYTES >> 20} MiB on",
        f"IDX file, unpacked | {idx._MAX_BYTES >> 30} GiB",
        f"two classes of at least {table.MIN_IMAGES} images",
        f"size of the file | {(wire.MAX_MODEL_BYTES + 1) >> 30} GiB",
        f"size of its metadata | {wire.MAX_METADATA_BYTES >> 20} MiB",
        f"classes | {schema.MAX_CLASSES:,}",
        f"nodes of the graph | {guard.MAX_NODES:,}",
        f"multiplications per image | {guard.MAX_MULTIPLICATIONS / 1e9:.0f} billion",
        f"operator set | {guard.MIN_OPSET} to {guard.MAX_OPSET}",
        f"by default {limits.megabytes} MB and {limits.files} images per request, {limits.seconds} s each",
        f"{limits.waiting} waiting images",
    ):
        assert words in page, words
