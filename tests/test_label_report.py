"""The report of several labels an image: what it says is what was measured, in a real browser too."""

from __future__ import annotations

import csv
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import headstart
from browser import DESKTOP, PHONE, opened
from headstart.core.errors import StorageError
from headstart.evaluation.label_curves import f1_interval, label_reliability, threshold_curve
from headstart.evaluation.labels_calibration import labels_calibration_error
from headstart.report.analysed_images import Picture
from headstart.report.analysed_labels import LabelAnalysis
from headstart.report.label_page import label_page
from headstart.report.measured_labels import Measured
from headstart.report.similar import like_their_own, like_their_own_label
from helpers import headstart_cli


@pytest.fixture(scope="module")
def saved(labelled: headstart.Run, warm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return labelled.save(tmp_path_factory.mktemp("report") / "run", runtime=headstart.Runtime(cache=warm))


@pytest.fixture(scope="module")
def analysis(saved: Path) -> dict[str, Any]:
    return dict(json.loads((saved / "analysis.json").read_text()))


@pytest.fixture(scope="module")
def told(saved: Path) -> list[dict[str, Any]]:
    """The lines of predictions.csv, which are written by other code: labels and probabilities of each image."""
    lines = list(csv.DictReader((saved / "predictions.csv").read_text().splitlines()))
    return [
        {
            "path": line["path"],
            "labels": set(filter(None, line["labels"].split("|"))),
            "predicted": set(filter(None, line["predicted"].split("|"))),
            "probabilities": {name: float(value) for name, value in line.items() if name.startswith("digit ")},
        }
        for line in lines
    ]


# Curves, intervals, calibration


@given(
    st.lists(st.tuples(st.integers(0, 40).map(lambda x: x / 40), st.booleans()), min_size=1, max_size=30),
    st.integers(0, 1000).map(lambda x: x / 1000),
)
def test_a_curve_counts_what_each_threshold_takes(pairs: list[tuple[float, bool]], threshold: float) -> None:
    p, y = np.array([a for a, _ in pairs]), np.array([b for _, b in pairs])
    curve = threshold_curve(p, y, threshold=threshold)
    assert threshold in curve.cuts
    for cut, correct, found in zip(curve.cuts, curve.correct, curve.found, strict=True):
        assert (correct, found) == ((y & (p >= cut)).sum(), (p >= cut).sum())
    assert (curve.positives, curve.images) == (y.sum(), len(y))


def test_the_interval_of_f1_covers_it() -> None:
    """In these 2,000 sets each: 95.1, 95.0 and 95.6 %."""
    rng = np.random.default_rng(0)
    for share, sure in ((0.1, 0.9), (0.3, 0.7), (0.5, 0.95)):
        hit, false = share * sure, (1 - share) * (1 - sure) / 2
        true = 2 * hit / (hit + false + share)
        counts = rng.multinomial(150, [hit, share - hit, false, 1 - share - false], 2000)
        covered = []
        for both, missed, added, _ in counts.tolist():
            found = f1_interval(both, both + added, both + missed)
            covered.append(found is not None and found[0] <= true <= found[1])
        assert 0.93 < np.mean(covered) < 0.975
    assert f1_interval(0, 0, 0) is None


def test_the_reliability_of_labels_adds_up_to_their_calibration_error() -> None:
    rng = np.random.default_rng(1)
    p = rng.random((300, 4))
    y = rng.random((300, 4)) < p**2
    images = np.repeat(np.arange(300), 4)
    bins = label_reliability(p.ravel(), y.ravel(), images)
    assert sum(one.images for one in bins) == p.size
    error = sum(one.images * abs(one.confidence - one.accuracy) for one in bins) / p.size
    assert error == pytest.approx(labels_calibration_error(p, y, np.ones(y.shape, bool)).error)
    # The labels of an image that are one and the same count once.
    twice = label_reliability(np.repeat(p.ravel(), 4), np.repeat(y.ravel(), 4), np.repeat(np.arange(p.size), 4))
    once = label_reliability(p.ravel(), y.ravel(), np.arange(p.size))
    for one, other in zip(once, twice, strict=True):
        assert other.accuracy_interval == pytest.approx(one.accuracy_interval, abs=0.03)


def test_neighbours_of_a_label_are_those_of_a_class() -> None:
    """With exactly one label an image, the share of a label is the mean over the images of a class."""
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(60, 5)).astype(np.float32), np.arange(60) % 3
    shares = like_their_own(features, labels)
    expected = [shares[labels == i].mean() for i in range(3)]
    assert like_their_own_label(features, labels[:, None] == np.arange(4)) == [*map(pytest.approx, expected), None]


# What is shown


def test_what_was_missed_and_added_is_that_of_the_predictions(
    analysis: dict[str, Any], told: list[dict[str, Any]]
) -> None:
    by_path = {one["path"]: one for one in told}
    names = analysis["classes"]
    for one in analysis["images"]:
        line = by_path[one["path"]]
        assert {names[i] for i in one["labels"]} == line["labels"]
        assert {names[i] for i, _ in one["missed"]} == line["labels"] - line["predicted"]
        assert {names[i] for i, _ in one["added"]} == line["predicted"] - line["labels"]
        for i, probability in [*one["missed"], *one["added"]]:
            assert probability == pytest.approx(line["probabilities"][names[i]], abs=1e-4)
    wrong = [one for one in told if one["labels"] != one["predicted"]]
    assert analysis["wrong_images"] == len(wrong)
    for kind in ("missed", "added"):
        counts = {names[one["label"]]: one["images"] for one in analysis["wrong"] if one["kind"] == kind}
        others = ("labels", "predicted") if kind == "missed" else ("predicted", "labels")
        assert counts == {
            name: number for name in names
            if (number := sum(name in one[others[0]] - one[others[1]] for one in told))
        }  # fmt: skip
    confused = {(names[i], names[j]): n for i, j, n in analysis["confused"]}
    assert confused == {
        (a, b): number for a in names for b in names
        if (number := sum(a in o["labels"] - o["predicted"] and b in o["predicted"] - o["labels"] for o in told))
    }  # fmt: skip
    for pair in analysis["together"]:
        both = {names[pair["first"]], names[pair["second"]]}
        assert pair["images"] == sum(both <= one["labels"] for one in told)
        assert pair["found"] == sum(both <= one["labels"] & one["predicted"] for one in told)


def test_the_worst_mistakes_come_first(analysis: dict[str, Any]) -> None:
    def loss(place: int) -> float:
        one = analysis["images"][place]
        missed, added = ([p for _, p in one[kind]] for kind in ("missed", "added"))
        return float(-np.log([*missed, *(1 - np.array(added))]).sum())

    losses = [loss(one["image"]) for one in analysis["mistakes"]]
    assert losses == sorted(losses, reverse=True)
    assert all(one["neighbours"] for one in analysis["mistakes"])
    right = [analysis["images"][one["image"]] for one in analysis["uncertain"]]
    assert right
    assert not any(one["missed"] or one["added"] for one in right)


def test_what_is_not_known_is_neither_missed_nor_added() -> None:
    labels = np.array([[1, -1, 0], [-1, 0, 1]], np.int8)
    one = Measured(labels, np.array([0, 1]), np.array([[0.1, 0.9, 0.9], [0.9, 0.1, 0.9]]), np.full((2, 3), 0.5))
    assert one.missed.tolist() == [[True, False, False], [False] * 3]
    assert one.added.tolist() == [[False, False, True], [False] * 3]
    assert one.right.tolist() == [False, True]
    assert one.confused() == ((0, 2, 1),)
    assert one.describe(0, Picture(path="", sha256="", part="")).unknown == (1,)
    assert sum(bar.images for bar in one.reliability()) == 4


def test_the_page_is_drawn_again_from_what_is_kept(saved: Path, warm: Path, tmp_path: Path) -> None:
    drawn = headstart_cli("report", saved, "--out", tmp_path / "again.html", HEADSTART_CACHE=str(warm))
    assert drawn.code == 0, drawn.err
    assert (tmp_path / "again.html").read_text() == (saved / "report.html").read_text()


def test_an_analysis_of_another_task_is_damaged(saved: Path, tmp_path: Path) -> None:
    record = json.loads((saved / "analysis.json").read_text())
    for wrong in ({"task": "boxes"}, {"task": "classes"}, {"curves": None}):
        (tmp_path / "analysis.json").write_text(json.dumps(record | wrong))
        with pytest.raises(StorageError, match="is damaged"):
            headstart.draw_report(tmp_path)
    (tmp_path / "analysis.json").write_text(json.dumps(record | {"schema": 3}))
    with pytest.raises(StorageError, match="newer Headstart"):
        headstart.draw_report(tmp_path)


def test_names_of_labels_cannot_become_markup(analysis: dict[str, Any], browser: Any, tmp_path: Path) -> None:
    hostile = [
        "<img src=x onerror=alert(1)>", "</script><script>alert(2)</script>", "{{7*7}}\u202e\"' onclick='alert(3)",
    ]  # fmt: skip
    words = json.dumps(analysis)
    for name, other in zip(analysis["classes"], hostile, strict=True):
        words = words.replace(json.dumps(name)[1:-1], json.dumps(other)[1:-1])
    (tmp_path / "page.html").write_text(label_page(LabelAnalysis.from_json(json.loads(words)), {}))
    with opened(browser, tmp_path / "page.html") as one:
        assert (one.requests, one.faults) == ([], [])
        text = one.page.inner_text("#labels")
        assert hostile[0] in text
        assert "{{7*7}}" in text


def test_a_notebook_shows_labels_and_the_worst_mistakes(
    labelled: headstart.Run, analysis: dict[str, Any], warm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADSTART_CACHE", str(warm))
    html = labelled._repr_html_()
    assert "mean average precision" in html
    for one in analysis["evaluation"]["labels"]:
        assert f"{100 * one['average_precision']:.1f} %" in html
    shown = [analysis["images"][one["image"]]["path"] for one in analysis["mistakes"][:12]]
    assert html.count("<img") == len(shown)
    assert all(path in html for path in shown)
    assert f"{analysis['wrong_images']} images with a label missed or added" in html


# In a browser


@pytest.mark.slow
@pytest.mark.parametrize(("size", "scheme"), [(PHONE, "dark"), (DESKTOP, "light")])
def test_it_is_whole_at_every_width_in_light_and_dark(
    saved: Path, browser: Any, size: tuple[int, int], scheme: str
) -> None:
    with opened(browser, saved / "report.html", size, scheme, bypass_csp=True) as one:
        assert (one.requests, one.faults) == ([], [])
        one.page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        assert one.overflowing() == []
        assert one.empty_sections() == []
        assert one.broken_pictures() == []
        assert one.violations() == []
        levels = one.headings()
        assert levels[0] == 1
        assert all(after <= before + 1 for before, after in pairwise(levels))
        targets = one.page.evaluate("[...document.querySelectorAll('.contents a')].map(a => a.hash.slice(1))")
        assert targets == one.page.evaluate("[...document.querySelectorAll('main > section')].map(s => s.id)")


def test_a_threshold_is_moved_by_the_keyboard(saved: Path, told: list[dict[str, Any]], browser: Any) -> None:
    """At each place of the slider the page counts what the saved predictions say."""
    with opened(browser, saved / "report.html") as one:
        page = one.page
        page.locator("#labels a[href='#curve-1']").click()  # unfolds the curve of the label
        curve = page.locator("#curve-1")
        slider = curve.locator("input[type=range]")
        slider.wait_for()
        at_first = curve.locator("output").inner_text()
        slider.focus()
        for key, times in (("ArrowRight", 3), ("PageUp", 2), ("Home", 1), ("PageUp", 4), ("End", 1), ("ArrowLeft", 2)):
            for _ in range(times):
                page.keyboard.press(key)
            if key == "End":  # at 1, where six decimals in the file are too few
                continue
            place = int(slider.input_value())
            cut = float(curve.get_attribute("data-cuts").split(" ")[place])
            has = [line for line in told if "digit 1" in line["labels"]]
            found = [line for line in told if line["probabilities"]["digit 1"] >= cut]
            both = sum("digit 1" in line["labels"] for line in found)
            shown = {name: curve.locator(f"[data-at={name}]").inner_text() for name in ("correct", "missed", "added")}
            assert shown == {"correct": str(both), "missed": str(len(has) - both), "added": str(len(found) - both)}
            assert curve.locator("[data-at=recall]").inner_text() == f"{100 * both / len(has):.1f}\u00a0%"
            assert slider.get_attribute("aria-valuetext").endswith(
                f"{len(has) - both} missed, {len(found) - both} added"
            )
            line, axis = curve.locator("line.rule"), curve.locator("line.axis")
            start, end = (float(axis.get_attribute(name)) for name in ("x1", "x2"))
            assert float(line.get_attribute("x1")) == pytest.approx(start + cut * (end - start))
        curve.get_by_role("button").click()
        assert curve.locator("output").inner_text() == at_first
        assert one.faults == []


@pytest.mark.slow
def test_missed_images_are_shown_by_mouse_and_without_scripts(
    saved: Path, analysis: dict[str, Any], browser: Any
) -> None:
    expected = next(one for one in analysis["wrong"] if one["kind"] == "missed")
    for scripts in (True, False):
        with opened(browser, saved / "report.html", java_script_enabled=scripts) as one:
            link = one.page.locator(f"#labels a[href='#missed-{expected['label']}']")
            assert int(link.inner_text()) == expected["images"]
            dialog = one.page.locator(f"#missed-{expected['label']}")
            assert not dialog.is_visible()
            link.click()
            assert dialog.is_visible()
            assert dialog.locator("figure").count() == len(expected["shown"])
            assert one.page.locator("#thresholds .slide").first.is_visible() is scripts
