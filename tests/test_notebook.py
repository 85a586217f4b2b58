"""What Python prints of the public objects, and what a notebook shows: short, self-contained, and safe."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import headstart as hs
from helpers import draw, write_images

HOSTILE = "<img src=x onerror=alert(1)>'\"&\u202e"
TAGS = {"p", "span", "strong", "table", "thead", "tbody", "tr", "th", "td", "div", "figure", "figcaption", "img"}


class Reader(HTMLParser):
    """The text and the pictures of a piece of HTML, where it holds nothing else."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text: list[str] = []
        self.pictures: list[bytes] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in TAGS, tag
        values = dict(attrs)
        assert values.keys() <= {"style", "src", "alt"}, values
        assert len(values) == len(attrs)
        assert not re.search(r"url|expression|[<>{}\\]", values.get("style") or "")
        if tag == "img":
            kind, data = (values["src"] or "").split(",")
            assert kind == "data:image/jpeg;base64"
            self.pictures.append(base64.b64decode(data, validate=True))
        else:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(data)

    @property
    def words(self) -> str:
        return " ".join(self.text)


def shown(value: Any) -> Reader:
    html = value._repr_html_()
    assert type(html).__mro__[-2] is str or isinstance(html, str)
    assert "\u202e" not in html
    assert "http" not in html
    return Reader(html)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> hs.Run:
    """A run whose classes and files are called as an attacker would; with mistakes, since one class holds another's."""
    folder = tmp_path_factory.mktemp("hostile") / "images"
    write_images(folder, {"disc": 12, "noise": 12})
    (folder / "disc").rename(folder / HOSTILE.replace("/", ""))
    wrong = folder / HOSTILE
    for number in range(3):
        draw("noise", 900 + number).save(wrong / f"{HOSTILE}{number}.png")
    return hs.train(folder)


def test_predictions(model: Path) -> None:
    classifier = hs.load(model)
    prediction = classifier.predict(draw("disc", 4), coverage=0.9)
    assert re.fullmatch(
        r"Prediction\(label='disc', probability=[01]\.\d{3}, familiar=(True|False), labels=\['disc'.*\]\)",
        repr(prediction),
    )
    page = shown(prediction)
    for label, probability in prediction.top:
        assert label in page.text
        assert f"{100 * probability:.1f} %" in page.text
    assert "The true class is one of: 'disc'" in page.words
    assert ("unlike" in page.words) == (prediction.familiar is False)
    assert "unlike" in shown(replace(prediction, familiar=False)).words
    odd = hs.Prediction(HOSTILE, 0.5, ((HOSTILE, 0.5),), labels=(HOSTILE,))
    assert (
        repr(odd) == f"Prediction(label='{HOSTILE[:-1]}\\u202e', probability=0.500, labels=['{HOSTILE[:-1]}\\u202e'])"
    )
    assert f"{HOSTILE[:-1]}\\u202e" in shown(odd).text


def test_classifiers(model: Path, hostile: hs.Run) -> None:
    classifier = hs.load(model)
    assert re.fullmatch(
        r"Classifier\(3 classes: 'disc', 'noise', 'stripes'; probe on lite0, accuracy 0\.\d{3} on 36 images, "
        r"cross-validation, \d\.\d MB\)",
        repr(classifier).replace("1.000", "0.999"),
    )
    assert {"disc", "noise", "stripes", "Classifier of 3 classes", "probe on lite0"} <= set(shown(classifier).text)
    assert f"{HOSTILE[:-1]}\\u202e" in shown(hostile.classifier).text
    assert "\u202e" not in repr(hostile.classifier)


def test_evaluations_and_runs(hostile: hs.Run) -> None:
    evaluation = hostile.evaluation
    low, high = evaluation.accuracy_interval
    assert repr(evaluation) == (
        f"Evaluation(accuracy {evaluation.accuracy:.3f} ({low:.3f} to {high:.3f}) on 27 images, cross-validation)"
    )
    page = shown(evaluation)
    assert f"{100 * evaluation.accuracy:.1f} %" in page.text
    assert f"{100 * low:.1f} to {100 * high:.1f} %" in page.text
    for one in evaluation.classes:
        assert f"{one.images:,}" in page.text
    assert repr(hostile).startswith("Run(probe: accuracy 0.")
    assert len(repr(hostile)) < 1000
    page = shown(hostile)
    mistakes = evaluation.n - evaluation.correct
    assert mistakes >= 2
    assert f"{mistakes} mistakes, the most confident first:" in page.text
    assert len(page.pictures) == min(mistakes, 12)
    for picture in page.pictures:
        assert Image.open(io.BytesIO(picture)).format == "JPEG"
    probabilities = hostile.fitted.held_out.probabilities
    for row, values in zip(hostile.fitted.held_out.rows, probabilities, strict=True):
        image = hostile.fitted.data.table.rows[row]
        guess = hostile.fitted.data.targets.names[values.argmax()]
        told = any(image.path.split("/")[-1].replace("\u202e", "\\u202e") in words and "predicted" in words
                   for words in page.text)  # fmt: skip
        if guess != image.label and mistakes <= 12:
            assert told
    assert len(hostile._repr_html_()) < 200_000


def test_pictures_that_are_gone(hostile: hs.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "none"))
    table = replace(hostile.fitted.data.table, storage=type(hostile.fitted.data.table.storage)(tmp_path))
    page = shown(replace(hostile, fitted=replace(hostile.fitted, data=replace(hostile.fitted.data, table=table))))
    assert page.pictures == []
    assert "predicted" in page.words
    assert not list(tmp_path.iterdir())  # looking writes nothing


@pytest.mark.slow
def test_comparisons(hostile: hs.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from headstart.strategies import candidates as module

    recipes = ({"precision": "int8", "seed": 0}, {"precision": "float32", "seed": 0})
    plans = tuple(module.Plan(f"{HOSTILE}{number}", hs.Recipe(**one)) for number, one in enumerate(recipes))
    monkeypatch.setattr(module, "plan", lambda *_: plans)
    comparison = hs.compare(hostile.fitted.data.table)
    assert repr(comparison).startswith("Comparison(<img src=x")
    assert "\u202e" not in repr(comparison)
    page = shown(comparison)
    for run in comparison.runs.values():
        assert f"{100 * run.evaluation.accuracy:.1f} %" in page.text
    assert any(comparison.verdict.sentence[:20] in words for words in page.text)


def test_a_comparison_shows_what_failed(hostile: hs.Run) -> None:
    missing = f"file:/nowhere/{HOSTILE}"
    comparison = hs.compare(hostile.fitted.data.table, strategies=["probe"], backbones=["lite0", missing])
    words = shown(comparison).words
    problem = next(row.problem for row in comparison.rows if row.problem)
    assert problem.message in words
