"""The report of a run: from its analysis and its pictures to a page."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Any

from headstart.checks import CHECKS
from headstart.report import figures
from headstart.report.picture_map import OnMap, picture_map
from headstart.report.pictures import BUDGET_BYTES, Pictures
from headstart.report.render import percent, render
from headstart.settings.strategies import spec_of

ImageOf = Callable[[Mapping[str, Any], int, Pictures], dict[str, Any]]  # an image of the analysis as its page shows it
WIDE_CLASSES = 8  # up to these, the columns of the matrix carry names instead of numbers


def run_page(
    analysis: Mapping[str, Any],
    jpegs: Mapping[int, bytes],
    *,
    run: str = "",
    note: str = "",
    budget_bytes: int = BUDGET_BYTES,
) -> str:
    """The page of a run.

    Args:
        analysis: See `headstart.report.analysis`.
        jpegs: JPEG files by the place of their image in the analysis; those that are missing have a placeholder.
        run: The run folder, for the commands that the page names.
        note: A sentence that belongs at its top.
        budget_bytes: For all pictures.
    """
    pictures = Pictures(jpegs, budget_bytes)
    sections: dict[str, Any] = {
        "summary": _summary(analysis),
        "comparison": analysis["comparison"],
        "findings": findings(analysis, pictures, _image),
        "mistakes": evidence(analysis, "mistakes", pictures, _image),
        "uncertain": evidence(analysis, "uncertain", pictures, _image),
        "confusion": _confusion(analysis, pictures),
        "map": picture_map(analysis["map"], pictures, lambda place: _on_map(analysis, place), analysis["classes"]),
    }
    return render(
        "run.html.j2",
        a=analysis,
        name=source_name(analysis["source"]),
        run=run or "RUN",
        note=note,
        missing=len(analysis["images"]) - len(jpegs),
        left_out=pictures.left_out,
        training=figures.training(analysis["details"].get("history") or [], analysis["details"].get("best_epoch")),
        reliability=figures.reliability(analysis["reliability"]),
        growth=figures.growth(analysis["learning_curve"]),
        strategy=in_words(analysis["strategy"]),
        advice=analysis["advice"],
        classes=_classes(analysis),
        parts=[(part, sum(by.values())) for part, by in sorted(analysis["counts"].items()) if isinstance(by, dict)],
        command=command_of(analysis, run),
        **sections,
    )


def source_name(source: str) -> str:
    """What a person calls a source: the last part of its path."""
    return PurePath(source).name or source


def in_words(name: str) -> str:
    """A strategy, and what it makes of the network."""
    label = spec_of(name).label
    return f"{name}: {label}" if label else name


def _summary(a: Mapping[str, Any]) -> dict[str, Any]:
    evaluation = a["evaluation"]
    low, high = evaluation["accuracy_interval"]
    where = (
        "images, each predicted by a model that was not trained on it"
        if evaluation["split"] == "cross-validation"
        else f"{evaluation['split']} images, which the model had not seen"
    )
    return {
        "where": where,
        "low": round(100 * low),
        "high": round(100 * high),
        "guess": round(100 * a["majority"]["accuracy"]),
        "guess_class": a["classes"][a["majority"]["class"]],
        "better_than_guessing": low > a["majority"]["accuracy"],
    }


def _image(a: Mapping[str, Any], place: int, pictures: Pictures) -> dict[str, Any]:
    """An image as the page shows it."""
    one = a["images"][place]
    label = a["classes"][one["label"]]
    words = f"{one['path']}: {label}"
    shown = {"place": place, "path": one["path"], "file": PurePath(one["path"]).name, "label": label, "guess": None}
    if "predicted" in one:
        guess = a["classes"][one["predicted"]]
        right = one["predicted"] == one["label"]
        words += f", {'correctly' if right else 'wrongly'} predicted as {guess} ({percent(one['probability'], 0)})"
        shown |= {"guess": guess, "right": right, "probability": one["probability"],
                  "probability_of_label": one["probability_of_label"]}  # fmt: skip
    return shown | {"alt": words, "src": pictures.take(place)}


def findings(a: Mapping[str, Any], pictures: Pictures, image: ImageOf) -> list[dict[str, Any]]:
    """What the data check found, with its pictures as `image` shows them."""
    return [
        {
            # A newer check, whose run is drawn again, may know more kinds.
            "heading": CHECKS[kind["kind"]].heading if kind["kind"] in CHECKS else kind["kind"],
            "count": kind["count"],
            "shown": [
                {**one, "images": [image(a, place, pictures) for place in one["images"]]} for one in kind["shown"]
            ],
        }
        for kind in a["findings"]
    ]


def evidence(a: Mapping[str, Any], name: str, pictures: Pictures, image: ImageOf) -> list[dict[str, Any]]:
    """Images that are shown with the training images that are most like them."""
    return [
        {
            **image(a, one["image"], pictures),
            "neighbours": [
                {**image(a, other["image"], pictures), "similarity": other["similarity"]} for other in one["neighbours"]
            ],
        }
        for one in a[name]
    ]


def _confusion(a: Mapping[str, Any], pictures: Pictures) -> dict[str, Any]:
    """The matrix, or the list of the most frequent mistakes; and the images behind the cells."""
    classes, cells = a["classes"], a["cells"]
    shown = [
        {
            "id": f"cell-{cell['true']}-{cell['predicted']}",
            "true": classes[cell["true"]],
            "predicted": classes[cell["predicted"]],
            "right": cell["true"] == cell["predicted"],
            "count": cell["images"],
            "images": [_image(a, place, pictures) for place in cell["shown"]],
        }
        for cell in cells
    ]
    with_images = {one["id"] for one in shown if one["images"]}
    mistakes = a["evaluation"]["n"] - a["evaluation"]["correct"]
    listed = [one for one in shown if not one["right"]]
    result = {
        "dialogs": [one for one in shown if one["images"]],
        "mistakes": mistakes,
        "listed": listed,
        "listed_images": sum(one["count"] for one in listed),
        "matrix": None,
        "wide": len(classes) <= WIDE_CLASSES,
    }
    if (confusion := a["evaluation"]["confusion"]) is not None:
        counts = {(true, predicted): count for true, predicted, count in confusion}
        places = range(len(classes))
        rows = []
        for i in places:
            total = sum(counts.get((i, j), 0) for j in places)
            rows.append([
                {
                    "count": counts.get((i, j), 0),
                    "share": counts.get((i, j), 0) / total if total else 0.0,
                    "id": f"cell-{i}-{j}" if f"cell-{i}-{j}" in with_images else None,
                    "right": i == j,
                }
                for j in places
            ])  # fmt: skip
        result["matrix"] = rows
    return result


def _classes(a: Mapping[str, Any]) -> dict[str, Any]:
    learnt = a["counts"].get("train") or a["counts"].get("cross-validation") or {}
    rows = [{**one, "learnt": learnt.get(one["label"], 0)} for one in a["evaluation"]["classes"]]
    return {"rows": rows, "left_out": len(a["classes"]) - len(rows)}


def _on_map(a: Mapping[str, Any], place: int) -> OnMap:
    one = a["images"][place]
    label = a["classes"][one["label"]]
    right = one["predicted"] == one["label"] if "predicted" in one else None
    words = f"{label}, {one['path']}"
    if right is not None:
        guess = a["classes"][one["predicted"]]
        words += f", {'correctly' if right else 'wrongly'} predicted as {guess} ({percent(one['probability'], 0)})"
    else:
        words += ", training image"
    return OnMap(one["label"], words, right)


def command_of(a: Mapping[str, Any], run: str) -> str:
    """The command that gives the same run again."""
    parts = ["headstart", "train", a["source"], "--recipe", str(PurePath(run or "RUN") / "recipe.toml")]
    options = {"path": "--path-column", "label": "--label-column", "split": "--split-column", "group": "--group-column"}
    for column, option in options.items():
        if (name := a["columns"].get(column)) is not None and name != column:
            parts += [option, name]
    if root := a["columns"].get("root"):
        parts += ["--root", root]
    return shlex.join(map(str, parts))
