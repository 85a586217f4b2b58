"""Values of a wrong kind, in every public verb: the package's own error, which names the argument."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import headstart as hs

RECIPE, RUNTIME, OWN = "a headstart.Recipe", "a headstart.Runtime", "a headstart.Own"
# verb -> its arguments that are right, and for each argument values that are wrong, with words of the error
VERBS: dict[str, tuple[list[str], dict[Any, tuple[list[Any], str]]]] = {
    "read": (["source"], {
        0: ([None, 5, b"photos", ["a", "b"], {}, object()], "expected a path or a DataFrame"),
        "columns": ([{}, "label", ["path"]], "headstart.Columns"),
        "decisions": ([5, {}, ["a"]], "decisions"),
    }),
    "load": (["model"], {
        0: ([None, 5, b"model", [], {}], "path is"),
        "max_megapixels": (["64", 6.5, True, []], "max_megapixels"),
    }),
    "train": (["source"], {
        0: ([None, 5, [], {}], "expected a path or a DataFrame"),
        1: (["probe", {}, 5], RECIPE),
        "strategy": ([5, ["probe"], b"probe"], "strategy"),
        "backbone": ([5, []], "backbone"),
        "precision": ([8, "int4"], "precision"),
        "fit": ([3, []], "fit"),
        "class_weight": ([{}, 1], "class_weight"),
        "seed": (["1", 1.5, [1]], "seed"),
        "start_from": ([5, []], "start_from"),
        "own": (["head", {}], OWN),
        "runtime": (["cpu", {}], RUNTIME),
    }),
    "evaluate": (["classifier", "source"], {
        0: (["model.onnx", Path("model.onnx"), None], "Load the model file first"),
        1: ([None, 5, []], "expected a path or a DataFrame"),
        "allow_missing": (["yes", 1, None], "allow_missing"),
        "runtime": ([2], RUNTIME),
    }),
    "embed": (["source"], {
        0: ([None, 5, []], "expected a path or a DataFrame"),
        "classifier": (["model.onnx", 5], "Load the model file first"),
        "recipe": (["lite0", {}], RECIPE),
        "runtime": ([4], RUNTIME),
    }),
    "embed_into": (["source", "folder"], {
        0: ([None, 5, []], "expected a path or a DataFrame"),
        1: ([None, 5, []], "out is"),
        "classifier": (["model.onnx", 5], "Load the model file first"),
        "recipe": (["lite0", {}], RECIPE),
        "shape": (["float16", {}], "headstart.api.sharding.Shape"),
        "overwrite": (["yes", 1], "overwrite"),
        "runtime": ([4], RUNTIME),
    }),
    "predict_into": (["classifier", "source", "folder"], {
        0: (["model.onnx", 5], "Load the model file first"),
        1: ([None, 5, []], "The source"),
        2: ([None, 5, []], "out is"),
        "wanted": ([3, {}], "headstart.prediction.record.Wanted"),
        "shard_rows": ([0, "512", True], "shard_rows"),
        "overwrite": (["yes", 1], "overwrite"),
        "runtime": ([4], RUNTIME),
    }),
    "watch": (["classifier", "folder"], {
        0: (["model.onnx", None], "Load the model file first"),
        1: ([None, 5, []], "folder is"),
        "top": (["3", 0, 1.5, True], "top"),
        "existing": (["yes", 1], "existing"),
        "settle_seconds": (["1", 0, -1, None], "settle_seconds"),
        "runtime": ([4], RUNTIME),
    }),
    "search": (["classifier", "image", "source"], {
        0: (["model.onnx", None], "Load the model file first"),
        1: ([None, 5, b"image"], "image is"),
        2: ([None, 5, []], "expected a path or a DataFrame"),
        "count": (["3", 0, 1.5, True], "count"),
        "runtime": ([4], RUNTIME),
    }),
    "check": (["source"], {
        0: ([None, 5, []], "expected a path or a DataFrame"),
        "decisions": ([5, {}], "decisions"),
        "recipe": (["probe"], RECIPE),
        "runtime": ([{}], RUNTIME),
    }),
    "compare": (["source"], {
        0: ([None, 5, []], "expected a path or a DataFrame"),
        "strategies": (["probe,finetune", 5, {"probe": 1}, [5, "probe"]], "strategies"),
        "backbones": (["lite0", [None, None]], "backbones"),
        "recipes": (["tutorial-finetune", [5]], "recipes"),
        "settings": ([["epochs", 5], "epochs=5"], "settings"),
        "folder": ([5, []], "folder"),
        "overwrite": (["yes", 1], "overwrite"),
        "runtime": (["x"], RUNTIME),
    }),
    "explain": (["classifier", "image"], {
        0: (["model.onnx", None], "Load the model file first"),
        1: ([None, 5, {}], "expected a path, bytes"),
        2: ([5, ["disc"]], "label"),
        "method": ([5, None, "camera"], "method"),
        "source": ([5, []], "expected a path or a DataFrame"),
        "runtime": ([4], RUNTIME),
    }),
    "export": (["model"], {
        0: ([None, 5, b"model", []], "model is"),
        "to": ([None, 5, ["html"]], "to"),
        "out": ([5, []], "out"),
        "name": ([5, b"pets"], "name"),
        "check": ([5, []], "check"),
        "bound": (["0.1", [0.1]], "bound"),
        "overwrite": (["yes", 1], "overwrite"),
    }),
    "card": (["model"], {
        0: ([None, 5, b"model", []], "model is"),
        "name": ([5, b"pets"], "name"),
        "licence": ([5, ["mit"], "Apache 2"], "licence"),
    }),
    "push": (["model"], {
        0: ([None, 5, b"model", []], "model is"),
        "repository": ([5, b"me/pets", "pets", "me/pets/x", "/pets", "me/\n"], "repository is"),
        "name": ([5, b"pets"], "name"),
        "licence": ([5, ["mit"], "Apache 2"], "licence"),
        "private": (["yes", 1], "private"),
        "branch": ([5, "", "a b"], "branch"),
        "message": ([5], "message"),
        "overwrite": (["yes", 1], "overwrite"),
        "dry_run": (["yes", 1], "dry_run"),
    }),
    "draw_report": (["run"], {
        0: ([None, 5, []], "folder"),
        1: ([5, []], "expected a path or a DataFrame"),
        "out": ([5, []], "out"),
        "runtime": ([4], RUNTIME),
    }),
    "resume": (["run"], {
        0: ([None, 5, []], "folder"),
        "choices": ([["seed"], "seed"], "choices"),
        "own": ([{}], OWN),
        "runtime": ([{}], RUNTIME),
    }),
}  # fmt: skip
CASES = [(verb, key, value, words) for verb, (_, wrong) in VERBS.items() for key, (values, words) in wrong.items()
         for value in values]  # fmt: skip


@pytest.mark.parametrize(("verb", "key", "value", "words"), CASES, ids=[f"{c[0]}-{c[1]}-{c[2]!r:.20}" for c in CASES])
def test_wrong_kinds(verb: str, key: Any, value: Any, words: str, model: Path, shapes: Path, tmp_path: Path) -> None:
    right = {
        "source": shapes, "model": model, "classifier": hs.load(model), "image": shapes / "disc" / "000.png",
        "run": model.parent, "folder": tmp_path,
    }  # fmt: skip
    arguments: list[Any] = [right[name] for name in VERBS[verb][0]]
    named: dict[str, Any] = {"export": {"to": "html"}, "push": {"repository": "me/pets"}}.get(verb, {})
    if isinstance(key, int):
        arguments[key : key + 1] = [value]
    else:
        named[key] = value
    call: Callable[..., Any] = getattr(hs, verb)
    with pytest.raises(hs.InputError) as caught:
        call(*arguments, **named)
    assert words in str(caught.value)
    assert "object at 0x" not in str(caught.value)


def test_every_verb_is_here() -> None:
    verbs = {name for name in hs.__all__ if name[0].islower()}
    assert verbs == set(VERBS)


@pytest.mark.parametrize("bad", [
    {"workers": "2"}, {"workers": 0}, {"workers": True}, {"cache": 5}, {"folder": []}, {"device": 0}, {"tracker": None},
    {"progress": print}, {"progress": None}, {"strict": "no"}, {"resume": 1}, {"main_process": None},
], ids=str)  # fmt: skip
def test_runtime(bad: dict[str, Any]) -> None:
    with pytest.raises(hs.OptionError, match=next(iter(bad))):
        hs.Runtime(**bad)


@pytest.mark.parametrize("bad", [
    {"path": 0}, {"label": ["a"]}, {"split": b"split"}, {"group": 1}, {"root": 5}, {"encoding": 8},
    {"label_pattern": 1}, {"class_level": "1"}, {"class_level": 0}, {"split_folders": {"train": "a"}},
], ids=str)  # fmt: skip
def test_columns(bad: dict[str, Any]) -> None:
    with pytest.raises(hs.OptionError, match=next(iter(bad)).replace("class_level", "class.level")):
        hs.Columns(**bad)


def test_a_root_may_be_text(shapes: Path, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("path,label\ndisc/000.png,disc\n")
    table = hs.read(tmp_path / "list.csv", columns=hs.Columns(root=str(shapes)))  # type: ignore[arg-type]
    assert table.storage.read(table.rows[0].path) == (shapes / "disc" / "000.png").read_bytes()


@pytest.mark.parametrize("bad", [
    {"head": "linear"}, {"loop": 5}, {"backbone": "lite0", "preprocess": "same"}, {"backbone": print},
    {"backbone": print, "preprocess": {"size_px": 224}},
    {"backbone": print, "preprocess": hs.Preprocess(size_px="224", fit="crop", crop_fraction=0.9, mean=(0, 0, 0),
                                                     std=(1, 1, 1))},
    {"backbone": print, "preprocess": hs.Preprocess(size_px=224, fit="crop", crop_fraction=0.9, mean=0.5, std=0.5)},
], ids="-".join)  # fmt: skip
def test_own(bad: dict[str, Any]) -> None:
    with pytest.raises(hs.OptionError):
        hs.Own(**bad)


@pytest.mark.parametrize(("call", "words"), [
    (lambda model, image: model.predict(image, top="3"), "top is '3' (str)"),
    (lambda model, image: model.predict(image, top=0), "top is 0 (int)"),
    (lambda model, image: model.predict(image, top=-1), "top is -1"),
    (lambda model, image: model.predict(image, top=2.5), "top is 2.5"),
    (lambda model, image: model.predict(image, top=None), "top is None"),
    (lambda model, image: model.predict(image, top=True), "top is True"),
    (lambda model, image: model.predict(image, coverage="a"), "coverage is 'a' (str)"),
    (lambda model, image: model.predict(image, coverage=[0.9]), "coverage is of type list"),
    (lambda model, image: model.predict(image, coverage=float("nan")), "coverage is nan"),
    (lambda model, image: model.predict(image, coverage=90), "above 0 and below 1"),
    (lambda model, image: model.predict(image, coverage=True), "coverage is True"),
    (lambda model, image: model.predict(image, allow_empty="no"), "allow_empty is 'no'"),
    (lambda model, image: model.measured_coverage("a"), "coverage is 'a'"),
    (lambda model, image: model.measured_coverage(None), "coverage is None"),
    (lambda model, image: hs.Classifier("model.onnx"), "content is 'model.onnx'"),
    (lambda model, image: hs.Classifier.load(None), "path is None"),
    (lambda model, image: hs.Recipe.from_dict([("seed", 1)]), "of type list"),
    (lambda model, image: hs.Recipe.from_dict({5: 1}), "5 (int)"),
    (lambda model, image: hs.Recipe.from_toml(b"seed = 1"), "TOML"),
])  # fmt: skip
def test_the_rest(call: Callable[..., Any], words: str, model: Path, shapes: Path) -> None:
    with pytest.raises(hs.InputError) as caught:
        call(hs.load(model), shapes / "disc" / "000.png")
    assert words in str(caught.value)


def test_numbers_of_numpy_are_numbers(model: Path, shapes: Path) -> None:
    import numpy as np

    classifier, image = hs.load(model), shapes / "disc" / "000.png"
    plain = classifier.predict(image, top=2, coverage=0.9)
    assert classifier.predict(image, top=np.int64(2), coverage=np.float64(0.9)) == plain  # type: ignore[call-overload]
    assert hs.Runtime(workers=np.int64(2)).workers == 2
    assert classifier.predict(image, coverage=np.float32(0.5)).labels


def test_saving(shapes: Path, tmp_path: Path) -> None:
    run = hs.train(shapes)
    for call in (
        lambda: run.save(None),
        lambda: run.save(tmp_path, overwrite="yes"),
        lambda: run.save(tmp_path, report=1),
        lambda: run.save(tmp_path, runtime={}),
    ):
        with pytest.raises(hs.OptionError):
            call()  # type: ignore[no-untyped-call]
    assert list(tmp_path.iterdir()) == []
