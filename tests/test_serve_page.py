"""The page of a server, in a real Chromium: it shows what the server says, also of files that no browser decodes."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import headstart
from browser import DESKTOP, PHONE, Opened
from headstart.api.explaining import training_source
from helpers import draw
from serving import Server, serving

pytest.importorskip("fastapi", reason="no web framework: pip install '.[serve]'")

TOKEN = "0123456789abcdef0123"
GOLDEN = Path(__file__).parent / "golden"
LINKS = "all => all.map((one) => one.textContent)"
CELLS = "all => all.map((row) => [...row.children].map((cell) => cell.textContent))"
PREDICT = "/v1/models/shapes/predict"
PIXELS = "one => [...one.getContext('2d').getImageData(0, 0, one.width, one.height).data]"


@pytest.fixture(scope="module")
def server(model: Path) -> Iterator[Server]:
    with serving(model.parent, "--workers", "1") as one:
        end = time.monotonic() + 60
        while not one.ask(PREDICT + "?neighbours=1", saved("PNG")).json["predictions"][0]["neighbours"]:
            assert time.monotonic() < end
            time.sleep(0.1)
        yield one


def saved(kind: str, label: str = "disc") -> bytes:
    file = io.BytesIO()
    draw(label, 95, (160, 120)).save(file, kind)
    return file.getvalue()


@contextmanager
def at(browser: Any, address: str, size: tuple[int, int] = DESKTOP) -> Iterator[Opened]:
    """Open an address; what the page asks another host for is told."""
    context = browser.new_context(viewport={"width": size[0], "height": size[1]}, reduced_motion="reduce")
    try:
        page = context.new_page()
        one = Opened(page)
        origin = "/".join(address.split("/")[:3]) + "/"
        own = (origin, "data:", "blob:")
        page.on("request", lambda request: request.url.startswith(own) or one.requests.append(request.url))
        page.on("console", lambda message: one.faults.append(message.text))
        page.on("pageerror", lambda error: one.faults.append(str(error)))
        page.goto(address)
        yield one
    finally:
        context.close()


def classify(one: Opened, files: dict[str, bytes]) -> None:
    given = [{"name": name, "mimeType": "", "buffer": content} for name, content in files.items()]
    one.page.set_input_files("#choose-files", given)
    one.page.wait_for_selector("#status:has-text('Done.')", timeout=60_000)


@pytest.mark.slow
def test_it_shows_what_the_server_says(server: Server, model: Path, browser: Any) -> None:
    heic = (GOLDEN / "quadrants.heic").read_bytes()
    files = {"a.png": saved("PNG"), "<i>b.tif": saved("TIFF", "stripes"), "c.heic": heic, "d.jpg": b"x"}
    with at(browser, f"http://127.0.0.1:{server.port}/") as one:
        assert one.page.inner_text("h1") == "shapes"
        assert "sent to this server" in one.page.inner_text(".private")
        classify(one, files)
        rows = one.page.eval_on_selector_all("#rows tr", CELLS)
        classifier = headstart.load(model)
        for row, (name, content) in zip(rows[:3], list(files.items())[:3], strict=True):
            said = classifier.predict(content)
            assert row[:2] == [name, said.label]
            assert row[2].replace("\u00a0", " ") in {f"{100 * said.probability:.1f} %", "> 99.9 %"}
        assert rows[3][0] == "d.jpg"
        assert "Not classified" in rows[3][1]
        assert one.count("#cards .result") == 4
        assert one.count("#cards .neighbours") == 3
        assert one.count("#cards .neighbours img") == 12
        assert one.page.eval_on_selector_all(".neighbours img", "all => all.every((one) => one.naturalWidth > 0)")
        assert one.count("#cards canvas.thumb") == 1  # of a TIFF or HEIC file, a browser has no picture
        assert one.violations() == []
        one.page.select_option("#coverage", "0.8")
        one.page.wait_for_selector("#rows tr:nth-child(3) td:nth-child(5)", timeout=60_000, state="attached")
        assert one.requests == []
        assert [fault for fault in one.faults if "422" not in fault] == []  # the browser's own line on d.jpg


@pytest.mark.slow
def test_sets_of_another_size_that_are_asked_for_while_an_image_is_on_its_way(server: Server, browser: Any) -> None:
    held: list[Any] = []
    with at(browser, f"http://127.0.0.1:{server.port}/") as one:
        one.page.route("**/predict*", lambda route: route.continue_() if held else held.append(route), times=2)
        one.page.set_input_files("#choose-files", [{"name": "a.png", "mimeType": "", "buffer": saved("PNG")}])
        end = time.monotonic() + 60
        while not held:
            assert time.monotonic() < end
            one.page.wait_for_timeout(20)
        one.page.select_option("#coverage", "0.8")
        held[0].continue_()
        one.page.wait_for_selector("#status:has-text('Done.')", timeout=60_000)
        ((*_, labels),) = one.page.eval_on_selector_all("#rows tr", CELLS)
        assert "disc" in labels
        assert one.requests == one.faults == []


@pytest.mark.slow
@pytest.mark.parametrize("size", [(160, 120), (90, 200)], ids=["wide", "high"])
def test_it_shows_the_evidence_as_the_exported_page_does(server: Server, model: Path, browser: Any, size: Any) -> None:
    file = io.BytesIO()
    draw("disc", 95, size).save(file, "PNG")
    page = Path(headstart.export(model, "html", out=model.parent / f"page-{size[0]}.html", overwrite=True).path)
    shown = []
    for address in (f"http://127.0.0.1:{server.port}/", page.as_uri()):
        with at(browser, address) as one:
            classify(one, {"a.png": file.getvalue()})
            one.page.click("text=Show the evidence for disc")
            one.page.wait_for_selector("canvas.map[role=img]")
            assert one.page.inner_text("#cards button.link") == "Show the image"
            shown.append(one.page.eval_on_selector("canvas.map", PIXELS))
            assert one.faults == []
    served, exported = (np.array(pixels) for pixels in shown)
    assert served.shape == exported.shape
    assert np.ptp(served) > 100
    assert np.abs(served - exported).max() <= 2  # of 255: values travel with six digits


def test_what_has_no_picture_or_no_map_has_no_button(server: Server, browser: Any, tmp_path: Path) -> None:
    with at(browser, f"http://127.0.0.1:{server.port}/") as one:
        classify(one, {"a.tif": saved("TIFF")})
        one.page.wait_for_selector("text=This browser cannot display")
        assert one.count("#cards button.link") == 0
        one.page.click("#clear")
        one.page.route("**/predict?activation_map*", lambda route: route.abort())
        classify(one, {"a.png": saved("PNG")})
        one.page.click("text=Show the evidence")
        one.page.wait_for_selector("text=No map can be shown")


def test_a_phone_shows_it_whole(server: Server, browser: Any) -> None:
    with at(browser, f"http://127.0.0.1:{server.port}/page/shapes", PHONE) as one:
        classify(one, {"a.png": saved("PNG")})
        assert [what for what in one.overflowing() if "<input" not in what] == []
        assert one.faults == one.requests == []


def test_the_nearest_images_are_those_of_explain(server: Server, model: Path) -> None:
    content = saved("PNG")
    found = server.ask(PREDICT + "?neighbours=3", content).json["predictions"][0]["neighbours"]
    explained = headstart.explain(headstart.load(model), content, source=training_source(model))
    wanted = explained.neighbours[:3]
    assert [(one["path"], one["label"]) for one in found] == [(one.path, one.label) for one in wanted]
    assert [one["similarity"] for one in found] == pytest.approx([one.similarity for one in wanted], abs=1e-5)


@pytest.mark.slow
def test_a_token_in_the_address_becomes_a_cookie(model: Path, browser: Any) -> None:
    with serving(model.parent, f"other={model}", "--workers", "1", "--no-neighbours", HEADSTART_TOKEN=TOKEN) as one:
        assert one.ask("/").status == one.ask("/?token=wrong").status == one.ask("/page/shapes").status == 401
        answer = one.ask(f"/?token={TOKEN}")
        assert (answer.status, answer.headers["location"]) == (303, "/")
        for part in ("HttpOnly", "SameSite=Strict", "Path=/"):
            assert part in answer.headers["set-cookie"]
        assert one.ask(f"//evil.example?token={TOKEN}").status == 401
        assert one.ask(f"/v1/models?token={TOKEN}").status == 401
        with at(browser, f"http://127.0.0.1:{one.port}/?token={TOKEN}") as page:
            assert "token" not in page.page.url
            assert page.page.eval_on_selector_all("a", LINKS) == [
                "shapes",
                "other",
            ]
            page.page.click("text=other")
            classify(page, {"a.png": saved("PNG")})
            assert page.count("#cards .neighbours") == 0
            assert page.faults == page.requests == []


def test_the_page_may_not_be_framed_and_asks_nobody_else(server: Server) -> None:
    policy = server.ask("/").headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "connect-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert server.ask("/").headers["x-frame-options"] == "DENY"
    assert server.ask("/page/none").status == 404


def test_a_picture_is_small(server: Server) -> None:
    (record,) = server.ask(PREDICT + "?neighbours=1", saved("PNG")).json["predictions"]
    picture = base64.b64decode(record["neighbours"][0]["picture"])
    assert max(Image.open(io.BytesIO(picture)).size) <= 96
