"""A model of several labels in the verbs that show or publish it: its card, its pages in a browser, `push`."""

from __future__ import annotations

import base64
import contextlib
import csv
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import ModelCard

import headstart
from browser import PHONE, opened
from headstart.prediction.occlusion import log_odds
from helpers import headstart_cli
from serving import serving
from test_serve_page import at, classify

SAME = 1e-4


@pytest.fixture(scope="module")
def folder(labelled: headstart.Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return labelled.save(tmp_path_factory.mktemp("verbs") / "run", report=False)


# The card


def test_the_card_tells_of_labels_and_its_code_runs(
    folder: Path, canvases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = headstart.card(folder, name="Digits", licence="mit")
    evaluation = json.loads((folder / "metrics.json").read_text())["evaluation"]
    (result,) = ModelCard(text).data.eval_results
    assert (result.metric_type, result.metric_value) == (
        "mean_average_precision", pytest.approx(evaluation["mean_average_precision"], abs=1e-6),
    )  # fmt: skip
    assert "Says of each of 3 labels whether it is true of an image: 'digit 0', 'digit 1', 'digit 4'." in text
    for one in evaluation["labels"]:
        assert re.search(rf"\\| {one['label']} \\| {one['positives']} \\|.*{100 * one['recall']:.1f} %", text)
    shutil.copy(folder / "model.onnx", tmp_path)
    shutil.copy(canvases / "000.png", tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    printed = []
    for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        with contextlib.redirect_stdout(io.StringIO()) as out:
            exec(compile(code, "card", "exec"), {"__name__": "__main__"})
        printed.append(out.getvalue())
    expected = headstart.load("model.onnx").predict("photo.jpg")
    assert printed[0].strip() == repr(expected)
    assert [line.rpartition(" ")[0] for line in printed[1].splitlines()] == list(expected.labels)  # type: ignore[attr-defined]


def test_push_would_upload_model_card_and_labels(folder: Path) -> None:
    done = headstart_cli("push", folder, "me/digits", "--dry-run", "--json")
    assert done.code == 0, done.err
    assert set(done.json["files"]) == {"model.onnx", "README.md", "labels.json"}


# Explanations


def test_log_odds_of_a_label_do_not_depend_on_the_others() -> None:
    probabilities = np.array([0.8, 0.9, 0.1])
    assert log_odds(probabilities, 0, exclusive=False) == pytest.approx(np.log(4))
    assert log_odds(probabilities, 0) == pytest.approx(np.log(0.8))


def test_the_map_of_a_label_is_exact(folder: Path, canvases: Path) -> None:
    model = headstart.load(folder / "model.onnx")
    for label in model.classes:
        one = headstart.explain(model, canvases / "003.png", label)
        assert (one.label, one.method) == (label, "cam")
        expected = log_odds(np.array([one.probability]), 0, exclusive=False)
        assert one.grid.mean() + one.offset == pytest.approx(expected, abs=1e-3)


@pytest.mark.slow
def test_the_page_of_explanations_names_labels(folder: Path, canvases: Path, tmp_path: Path, browser: Any) -> None:
    out = tmp_path / "why"
    done = headstart_cli(
        "explain",
        folder / "model.onnx",
        canvases / "000.png",
        "--out",
        out,
        "--source",
        canvases / "list.csv",
        "--json",
    )
    assert done.code == 0, done.err
    (one,) = done.json["explanations"]
    assert one["predicted"] == list(headstart.load(folder / "model.onnx").predict(canvases / "000.png").labels)  # type: ignore[attr-defined]
    with opened(browser, out / "explanations.html") as page:
        assert f"the map explains {one['label']}" in page.page.inner_text("main")
        assert (page.requests, page.faults) == ([], [])


# Pages in a browser


def rows_of(lines: list[str]) -> list[dict[str, Any]]:
    return [
        {**row, "labels": json.loads(row["labels"]), "probabilities": json.loads(row["probabilities"])}
        for row in csv.DictReader(lines)
    ]


@pytest.mark.slow
def test_the_page_in_one_file_says_what_python_says(folder: Path, canvases: Path, tmp_path: Path, browser: Any) -> None:
    page = headstart.export(folder, "html", out=tmp_path / "digits.html").path
    names = ["000.png", "001.png", "002.png", "003.png"]
    wanted = rows_of(
        headstart_cli("predict", folder / "model.onnx", *names, "--format", "csv", cwd=canvases).out.splitlines()
    )
    with opened(browser, page, PHONE, "dark", bypass_csp=True) as one:
        one.page.wait_for_selector("#verified:has-text('Checked in this browser')", timeout=60_000)
        one.page.set_input_files("#choose-files", [canvases / name for name in names])
        one.page.wait_for_selector("#status:has-text('Done.')", timeout=60_000)
        said = one.page.locator(".result .label").all_inner_texts()
        assert said == [", ".join(row["labels"]) or "No label" for row in wanted]
        bold = one.page.locator(".result").evaluate_all(
            "all => all.map(one => [...one.querySelectorAll('.found th')].map(th => th.textContent).sort())"
        )
        assert bold == [sorted(row["labels"]) for row in wanted]
        marks = one.page.locator(".result").first.locator(".bar i").evaluate_all("all => all.map(i => i.style.left)")
        thresholds = headstart.load(folder / "model.onnx").metadata.thresholds
        assert sorted(float(mark[:-1]) for mark in marks) == pytest.approx(
            sorted(100 * x for x in thresholds), abs=0.01
        )
        assert one.page.locator("#sets").is_hidden()
        (image, labels) = next((name, row["labels"]) for name, row in zip(names, wanted, strict=True) if row["labels"])
        card = one.page.locator(f".result:has-text('{image}')")
        offered = card.locator("button.link")
        assert sorted(offered.all_inner_texts()) == [f"Show the evidence for {label}" for label in sorted(labels)]
        call = """async ([text, label]) => window.headstart.activationMap(
            new Blob([Uint8Array.from(atob(text), (one) => one.charCodeAt(0))]), label)"""
        text = base64.b64encode((canvases / image).read_bytes()).decode()
        for place, label in enumerate(sorted(labels)):
            grid = headstart.explain(headstart.load(folder / "model.onnx"), canvases / image, label).grid
            there = np.array(one.page.evaluate(call, [text, label]))
            assert np.abs(there - grid).max() < 1e-3 * np.abs(grid).max()
            offered.nth(place).click()  # each takes the place of the one before
            card.locator(".map").wait_for()
            assert card.locator("canvas:visible").count() == 1
            assert card.locator("button.link:has-text('Show the image')").count() == 1
        one.page.locator("summary").first.click()
        assert one.page.locator("#class-column").inner_text() == "Labels"
        with one.page.expect_download() as download:
            one.page.click("#save")
        found = rows_of(Path(download.value.path()).read_text("utf-8-sig").splitlines())
        assert one.violations() == []
        assert [what for what in one.overflowing() if "<input" not in what] == []
        assert [url for url in one.requests if not url.startswith("blob:")] == []
        assert one.faults == []
    assert [row["path"] for row in found] == names
    for row, other in zip(found, wanted, strict=True):
        assert (row["labels"], row["familiar"], row["error"]) == (other["labels"], other["familiar"], "")
        assert row["probabilities"] == pytest.approx(other["probabilities"], abs=SAME)
        assert list(row["probabilities"]) == list(other["probabilities"])


@pytest.mark.slow
def test_the_page_of_a_server_says_what_the_server_says(folder: Path, canvases: Path, browser: Any) -> None:
    pytest.importorskip("fastapi", reason="no web framework: pip install '.[serve]'")
    names = ["000.png", "001.png"]
    expected = headstart.load(folder / "model.onnx").predict([canvases / name for name in names])
    with serving(folder, "--workers", "1") as server, at(browser, f"http://127.0.0.1:{server.port}/") as one:
        classify(one, {name: (canvases / name).read_bytes() for name in names})
        said = one.page.locator(".result .label").all_inner_texts()
        assert said == [", ".join(each.labels) or "No label" for each in expected]  # type: ignore[attr-defined]
        assert one.count(".result .bars tr") == 6
        named = [each.as_dict()["probabilities"] for each in expected]
        likely = [max(one, key=one.__getitem__) for one in named]
        buttons = one.page.locator("button.link")
        assert buttons.all_inner_texts() == [f"Show the evidence for {label}" for label in likely]
        buttons.first.click()
        one.page.wait_for_selector("canvas.map")
        assert (one.requests, one.faults) == ([], [])
