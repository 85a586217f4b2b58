"""The report of a run: from its analysis and its pictures to a page."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from headstart.checks import CHECKS
from headstart.report import figures
from headstart.report.pictures import BUDGET_BYTES, Pictures
from headstart.report.render import percent, render
from headstart.settings.strategies import spec_of

WIDE_CLASSES = 8  # up to these, the columns of the matrix carry names instead of numbers
COLOURS = 8  # classes with a colour of their own on the map; nobody distinguishes more
SHAPES = ("circle", "square", "triangle", "diamond", "cross", "ring", "star", "bar")


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
        "findings": _findings(analysis, pictures),
        "mistakes": _evidence(analysis, "mistakes", pictures),
        "uncertain": _evidence(analysis, "uncertain", pictures),
        "confusion": _confusion(analysis, pictures),
        "map": _map(analysis, pictures),
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
        strategy=_strategy(analysis["strategy"]),
        advice=analysis["advice"],
        classes=_classes(analysis),
        command=_command(analysis, run),
        **sections,
    )


def source_name(source: str) -> str:
    """What a person calls a source: the last part of its path."""
    return PurePath(source).name or source


def _strategy(name: str) -> str:
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


def _findings(a: Mapping[str, Any], pictures: Pictures) -> list[dict[str, Any]]:
    return [
        {
            # A newer check, whose run is drawn again, may know more kinds.
            "heading": CHECKS[kind["kind"]].heading if kind["kind"] in CHECKS else kind["kind"],
            "count": kind["count"],
            "shown": [
                {**one, "images": [_image(a, place, pictures) for place in one["images"]]} for one in kind["shown"]
            ],
        }
        for kind in a["findings"]
    ]


def _evidence(a: Mapping[str, Any], name: str, pictures: Pictures) -> list[dict[str, Any]]:
    return [
        {
            **_image(a, one["image"], pictures),
            "neighbours": [
                {**_image(a, other["image"], pictures), "similarity": other["similarity"]}
                for other in one["neighbours"]
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


def _map(a: Mapping[str, Any], pictures: Pictures) -> dict[str, Any]:
    """The points of the map with their colours, and the pictures that the page does not hold already."""
    drawing = figures.map_of(a["map"]["points"])
    labels = [a["images"][place]["label"] for place, _, _ in a["map"]["points"]]
    by_size = sorted(set(labels), key=lambda label: (-labels.count(label), label))
    styles = {label: number for number, label in enumerate(sorted(by_size[:COLOURS]))}
    points, extra = [], {}
    for (place, _, _), (x, y) in zip(a["map"]["points"], drawing["places"], strict=True):
        held = pictures.on_page(place)
        image = _image_words(a, place)
        if not held and (src := pictures.take(place)):
            extra[str(place)] = src
        style = styles.get(image["label_place"])
        points.append({
            "place": place, "x": x, "y": y, "words": image["words"], "right": image["right"],
            "style": "other" if style is None else str(style), "shape": "dot" if style is None else SHAPES[style],
        })  # fmt: skip
    # What is drawn last is on top: mistakes.
    points.sort(key=lambda point: point["right"] is False)
    return {
        **drawing,
        "points": points,
        "pictures": extra,
        "legend": [(str(number), SHAPES[number], a["classes"][label]) for label, number in styles.items()],
        "others": len(by_size) > COLOURS,
        "classes": [{**one, "label": a["classes"][one["class"]]} for one in a["map"]["classes"]],
        "left_out": a["map"]["left_out"],
        "kept_neighbours": a["map"]["kept_neighbours"],
        "mistakes": sum(point["right"] is False for point in points),
    }


def _image_words(a: Mapping[str, Any], place: int) -> dict[str, Any]:
    one = a["images"][place]
    label = a["classes"][one["label"]]
    right = one["predicted"] == one["label"] if "predicted" in one else None
    words = f"{label}, {one['path']}"
    if right is not None:
        guess = a["classes"][one["predicted"]]
        words += f", {'correctly' if right else 'wrongly'} predicted as {guess} ({percent(one['probability'], 0)})"
    else:
        words += ", training image"
    return {"label_place": one["label"], "words": words, "right": right}


def _command(a: Mapping[str, Any], run: str) -> str:
    """The command that gives the same run again."""
    parts = ["headstart", "train", a["source"], "--recipe", str(PurePath(run or "RUN") / "recipe.toml")]
    options = {"path": "--path-column", "label": "--label-column", "split": "--split-column", "group": "--group-column"}
    for column, option in options.items():
        if (name := a["columns"].get(column)) is not None and name != column:
            parts += [option, name]
    if root := a["columns"].get("root"):
        parts += ["--root", root]
    return shlex.join(map(str, parts))
