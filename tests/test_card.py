"""The model card: read as the Hugging Face Hub reads it, and as a person sees it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt

import headstart
from helpers import draw, headstart_cli

NASTY = "a|b <script>alert(1)</script> *x* [y](z) _u_ `c` & #1\nnext"


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose classes have names that Markdown would read."""
    source = tmp_path_factory.mktemp("odd")
    lines = []
    for number, label in enumerate((NASTY, "plain")):
        for seed in range(12):
            name = f"{number}-{seed}.png"
            draw(("disc", "stripes")[number], seed).save(source / name)
            lines.append(json.dumps({"path": name, "label": label}))
    (source / "list.jsonl").write_text("\n".join(lines))
    run = headstart.train(source / "list.jsonl")
    return run.save(source / "run") / "model.onnx"


def shown(text: str) -> str:
    """What a page of the card shows: its HTML, by another program's reading of Markdown."""
    return MarkdownIt("commonmark").enable("table").render(text.split("\n---\n", 1)[1])


def test_the_hub_reads_its_header(model: Path) -> None:
    text = headstart.card(model, name="Shapes: 3 of them", licence="apache-2.0")
    data = ModelCard(text).data
    metadata = headstart.load(model).metadata
    assert (data.license, data.library_name, data.pipeline_tag) == ("apache-2.0", "headstart", "image-classification")
    assert data.model_name == "Shapes: 3 of them"
    (result,) = data.eval_results
    assert metadata.evaluation is not None
    assert (result.metric_type, result.metric_value) == (
        "accuracy",
        pytest.approx(metadata.evaluation["accuracy"], abs=1e-6),
    )
    assert "license" not in ModelCard(headstart.card(model)).data.to_dict()


def test_names_are_shown_and_not_run(odd: Path) -> None:
    text = headstart.card(odd, name=NASTY)
    html = shown(text)
    assert "<script>" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt; *x* [y](z) _u_ `c` &amp; #1" in html
    rows = re.findall(r"<tr>(.*?)</tr>", html, re.DOTALL)
    assert {row.count("<td") for row in rows if "alert" in row} == {5}  # a cell for each column
    assert ModelCard(text).data.model_name == NASTY


def test_what_it_tells_to_do_works(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = headstart.card(model)
    os.link(model, tmp_path / "model.onnx")
    draw("stripes", 40, (200, 133)).save(tmp_path / "photo.jpg", quality=95)
    monkeypatch.chdir(tmp_path)
    first, second = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    printed = []
    for code in (first, second):
        with contextlib.redirect_stdout(io.StringIO()) as out:
            exec(compile(code, "card", "exec"), {"__name__": "__main__"})
        printed.append(out.getvalue())
    expected = headstart.load("model.onnx").predict("photo.jpg")
    assert printed[0].strip() == repr(expected)
    label, probability = printed[1].split()
    assert label == expected.label
    assert float(probability) == pytest.approx(expected.probability, abs=1e-6)


def test_the_command(model: Path, tmp_path: Path) -> None:
    printed = headstart_cli("card", model.parent)
    assert printed.out == headstart.card(model)
    target = tmp_path / "new" / "README.md"
    assert headstart_cli("card", model, "--out", target).code == 0
    assert target.read_text() == printed.out
    refused = headstart_cli("card", model, "--out", target)
    assert refused.code != 0
    assert "--overwrite" in refused.err
    record = headstart_cli("card", model, "--json").json
    assert record == {"path": None, "card": printed.out}
