"""The report as a person has it: in a real browser, from a file, without a network."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import headstart
from browser import DESKTOP, PHONE, TABLET, opened
from headstart.core.text import printable
from helpers import write_images

VIEWS = [(size, scheme) for size in (PHONE, TABLET, DESKTOP) for scheme in ("light", "dark")]


@pytest.fixture(scope="module")
def photo_run(photos: Path, warm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on real photos."""
    runtime = headstart.Runtime(cache=warm)
    return headstart.train(photos, runtime=runtime).save(tmp_path_factory.mktemp("report") / "photos", runtime=runtime)


# Names that would run, if they were markup, a template, or the end of a script.
HOSTILE = (
    "<img src=x onerror=alert(1)>",
    '"><script>alert(2)<!script>',
    "</script><script>alert(3)</script>".replace("/", "\N{FRACTION SLASH}"),
    "{{7*7}}{% raw %}",
    "' onmouseover='alert(4)",
    "\u202egnp.sgod\u2028",
)


@pytest.fixture(scope="module")
def hostile_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose classes and files have hostile names, in few images: measured by cross-validation."""
    folder = tmp_path_factory.mktemp("hostile")
    source = write_images(folder / "{{source}} <b>", {"disc": 8, "stripes": 8, "noise": 8, "disc2": 8})
    for label, name in zip(("disc", "stripes", "noise", "disc2"), HOSTILE, strict=False):
        (source / label).rename(source / name)
        for number, file in enumerate(sorted((source / name).iterdir())):
            file.rename(file.with_name(f"{HOSTILE[number % len(HOSTILE)]}{number}.png"))
    run = headstart.train(source)
    return run.save(folder / "run")


@pytest.mark.slow
@pytest.mark.parametrize(("size", "scheme"), VIEWS)
def test_it_is_whole_at_every_width_in_light_and_dark(
    photo_run: Path, browser: Any, size: tuple[int, int], scheme: str
) -> None:
    with opened(browser, photo_run / "report.html", size, scheme) as one:
        assert one.requests == []
        assert one.faults == []
        assert one.overflowing() == []
        assert one.empty_sections() == []
        assert one.broken_pictures() == []
        background = one.page.evaluate("getComputedStyle(document.body).backgroundColor")
        brightness = sum(int(value) for value in background[4:-1].split(","))
        assert (brightness < 200) == (scheme == "dark")


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(photo_run: Path, browser: Any, scheme: str) -> None:
    with opened(browser, photo_run / "report.html", DESKTOP, scheme, bypass_csp=True) as one:
        one.page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        assert one.violations() == []


@pytest.mark.slow
def test_it_shows_what_was_measured(photo_run: Path, browser: Any) -> None:
    metrics = json.loads((photo_run / "metrics.json").read_text())
    evaluation = metrics["evaluation"]
    mistakes = evaluation["n"] - evaluation["correct"]
    with opened(browser, photo_run / "report.html") as one:
        text = one.page.inner_text("main")
        assert f"{100 * evaluation['accuracy']:.1f}\u00a0%" in one.page.inner_text("h1")
        low, high = (round(100 * end) for end in evaluation["accuracy_interval"])
        words = f"expect between {low} and {high} of 100 new images like these to be classified correctly"
        assert words in " ".join(text.split())
        assert one.count("#mistakes .exhibit") == mistakes
        assert one.count("#mistakes .exhibit .shots img") == 4 * mistakes
        assert one.count("#uncertain .exhibit") == 12
        assert one.count("#classes tbody tr") == 2
        assert one.count("#map g[data-key]") == metrics["counts"]["images"]
        assert one.count("#map g.wrong") == mistakes
        assert one.count("#reliability circle.point") >= 2
        assert one.count("#growth circle.point") == 5  # four sizes and the forecast
        counts = one.page.locator(".matrix td").all_inner_texts()
        assert sum(int(count) for count in counts if count != "·") == evaluation["n"]


@pytest.mark.slow
def test_headings_are_in_order_and_the_contents_lead_to_sections(photo_run: Path, browser: Any) -> None:
    with opened(browser, photo_run / "report.html") as one:
        levels = one.headings()
        assert levels.count(1) == 1
        assert levels[0] == 1
        assert all(after <= before + 1 for before, after in pairwise(levels))
        targets = one.page.evaluate("[...document.querySelectorAll('.contents a')].map(a => a.hash.slice(1))")
        sections = one.page.evaluate("[...document.querySelectorAll('main > section')].map(s => s.id)")
        assert targets == sections
        one.page.keyboard.press("Tab")
        assert one.page.evaluate("document.activeElement.className") == "skip"


@pytest.mark.slow
def test_a_cell_of_the_matrix_opens_its_images_by_mouse_and_by_keyboard(photo_run: Path, browser: Any) -> None:
    with opened(browser, photo_run / "report.html") as one:
        page = one.page
        link = page.locator(".matrix td.miss a").first
        count = int(link.inner_text())
        dialog = page.locator(link.get_attribute("href"))
        assert not dialog.is_visible()
        link.click()
        assert dialog.is_visible()
        assert dialog.locator("img").count() == count
        assert dialog.locator("img").evaluate_all("images => images.every(i => i.naturalWidth > 0)")
        dialog.get_by_text("Close").click()
        assert not dialog.is_visible()
        link.focus()
        page.keyboard.press("Enter")
        assert dialog.is_visible()
        assert page.evaluate("document.activeElement.closest('dialog') !== null")
        page.keyboard.press("Escape")
        assert not dialog.is_visible()
        assert page.evaluate("document.activeElement.matches('.matrix a')")
        assert one.faults == []


@pytest.mark.slow
def test_without_scripts_a_cell_still_opens_its_images(photo_run: Path, browser: Any) -> None:
    with opened(browser, photo_run / "report.html", java_script_enabled=False) as one:
        link = one.page.locator(".matrix td.miss a").first
        dialog = one.page.locator(link.get_attribute("href"))
        assert not dialog.is_visible()
        link.click()
        assert dialog.is_visible()
        dialog.get_by_text("Close").click()
        assert not dialog.is_visible()


@pytest.mark.slow
@pytest.mark.parametrize("size", [PHONE, DESKTOP])
def test_the_map_shows_a_picture_on_hover_and_on_focus(photo_run: Path, browser: Any, size: tuple[int, int]) -> None:
    with opened(browser, photo_run / "report.html", size) as one:
        page, tip = one.page, one.page.locator("#map .tip")
        points = page.locator("#map g[data-key]")
        assert not tip.is_visible()
        points.last.hover(force=True)
        assert tip.is_visible()
        assert tip.locator("img").evaluate("image => image.naturalWidth") > 0
        assert tip.inner_text().strip() == points.last.get_attribute("aria-label")
        page.mouse.move(1, 1)
        assert not tip.is_visible()
        assert page.locator("#map g[tabindex='0']").count() == 1  # one stop of the Tab key
        page.locator("#map g[tabindex='0']").focus()
        seen = []
        for key in ("ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp", "End", "Home"):
            page.keyboard.press(key)
            assert tip.is_visible()
            assert tip.locator("img").evaluate("image => image.naturalWidth") > 0
            seen.append(page.evaluate("document.activeElement.dataset.key"))
        assert len(set(seen)) >= 4
        assert one.overflowing() == []
        page.keyboard.press("Escape")
        assert not tip.is_visible()
        assert one.faults == []


@pytest.mark.slow
def test_tables_sort(photo_run: Path, browser: Any) -> None:
    with opened(browser, photo_run / "report.html") as one:
        head, body = one.page.locator("#classes thead th"), "#classes tbody tr"
        recall = "rows => rows.map(row => Number(row.cells[3].dataset.sort))"
        head.nth(3).locator("button").click()
        assert head.nth(3).get_attribute("aria-sort") == "ascending"
        values = one.page.locator(body).evaluate_all(recall)
        assert values == sorted(values)
        head.nth(3).locator("button").focus()
        one.page.keyboard.press("Enter")
        assert one.page.locator(body).evaluate_all(recall) == sorted(values, reverse=True)


@pytest.mark.slow
def test_names_are_text_whatever_they_hold(hostile_run: Path, browser: Any) -> None:
    with opened(browser, hostile_run / "report.html") as one:
        page = one.page
        for point in page.locator("#map g[data-key]").all()[:6]:
            point.hover(force=True)
        for link in page.locator(".matrix a").all():
            link.focus()
            page.keyboard.press("Enter")
            page.keyboard.press("Escape")
        assert one.faults == []
        assert one.requests == []
        assert one.overflowing() == []
        assert page.evaluate("document.scripts.length") == 2  # ours, and the pictures of the map
        assert page.evaluate("document.querySelectorAll('[onerror],[onmouseover],b,img[src=x]').length") == 0
        text = page.inner_text("#classes table")
        for name in HOSTILE[:4]:
            assert printable(name) in text
        assert "{{source}} <b>" in page.inner_text("h1")
        paths = page.inner_text("#uncertain")
        assert "49" not in page.inner_text("h1")
        assert "\\u202egnp" in paths or "\\u202e" in page.content()


def test_names_are_text_on_a_phone_too(hostile_run: Path, browser: Any) -> None:
    with opened(browser, hostile_run / "report.html", PHONE, "dark") as one:
        assert one.overflowing() == []
        assert one.faults == []
        assert one.broken_pictures() == []


def test_no_name_is_anything_but_text_in_the_file(hostile_run: Path) -> None:
    page = (hostile_run / "report.html").read_text("utf-8")
    for mark in ("<img src=x", '"><script>alert', "alert(4)'", "\u202e", "\u2028"):
        assert mark not in page
    assert "default-src 'none'" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page


@pytest.fixture(scope="module")
def comparison_file(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a comparison of two runs that disagree on some images."""
    import dataclasses

    from headstart.api import comparison_page

    run = headstart.train(shapes)
    probabilities = run.fitted.held_out.probabilities.copy()
    probabilities[:5] = probabilities[:5, ::-1]
    held_out = dataclasses.replace(run.fitted.held_out, probabilities=probabilities)
    other = dataclasses.replace(run, fitted=dataclasses.replace(run.fitted, held_out=held_out))
    names = ("probe", "<script>alert(1)</script>")
    row = {"accuracy": 0.9, "accuracy_interval": [0.8, 0.95], "log_loss": 0.3, "seconds": 2.5}
    pair = {"a": names[0], "b": names[1], "difference": 0.1, "difference_interval": [-0.01, 0.2], "p_value": 0.06}
    comparison = {
        "rows": [{"strategy": name, **row} for name in names],
        "pairs": [pair],
        "verdict": "Use probe: it is the cheapest of both, which 36 images cannot tell apart.",
    }
    file = tmp_path_factory.mktemp("comparison") / "report.html"
    file.write_text(comparison_page(comparison, dict(zip(names, (run, other), strict=True))), "utf-8")
    return file


@pytest.mark.slow
@pytest.mark.parametrize("size", [PHONE, DESKTOP])
def test_the_page_of_a_comparison(comparison_file: Path, browser: Any, size: tuple[int, int]) -> None:
    with opened(browser, comparison_file, size) as one:
        assert one.requests == []
        assert one.faults == []
        assert one.overflowing() == []
        assert one.empty_sections() == []
        assert one.broken_pictures() == []
        assert one.headings()[0] == 1
        assert "it is the cheapest of both" in one.page.inner_text("#verdict")
        assert one.count("#verdict table") == 2
        assert 1 <= one.count("#disagreements img") <= 5
        assert "<script>alert(1)</script>" in one.page.inner_text("#verdict")
        assert one.violations() == []
