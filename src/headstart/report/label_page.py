"""The report of a run with several labels an image: from its analysis and its pictures to a page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from headstart.report import figures
from headstart.report.picked import MATRIX_CLASSES
from headstart.report.picture_map import OnMap, picture_map
from headstart.report.pictures import BUDGET_BYTES, Pictures
from headstart.report.render import percent, render
from headstart.report.run_page import WIDE_CLASSES, command_of, evidence, findings, in_words, source_name

NO_LABEL = "no label"


def label_page(
    analysis: Mapping[str, Any],
    jpegs: Mapping[int, bytes],
    *,
    run: str = "",
    budget_bytes: int = BUDGET_BYTES,
) -> str:
    """The page of a run.

    Args:
        analysis: See `headstart.report.label_analysis`.
        jpegs: JPEG files by the place of their image in the analysis; those that are missing have a placeholder.
        run: The run folder, for the commands that the page names.
        budget_bytes: For all pictures.
    """
    pictures = Pictures(jpegs, budget_bytes)
    sections: dict[str, Any] = {
        "findings": findings(analysis, pictures, _image),
        "mistakes": evidence(analysis, "mistakes", pictures, _image),
        "uncertain": evidence(analysis, "uncertain", pictures, _image),
        "dialogs": _dialogs(analysis, pictures),
        "map": picture_map(
            analysis["map"], pictures, lambda place: _on_map(analysis, place), analysis["combinations"]
        ) | {"classes": [{**one, "label": analysis["classes"][one["class"]]} for one in analysis["map"]["classes"]]},
    }  # fmt: skip
    return render(
        "labels.html.j2",
        a=analysis,
        name=source_name(analysis["source"]),
        run=run or "RUN",
        missing=len(analysis["images"]) - len(jpegs),
        left_out=pictures.left_out,
        training=figures.training(analysis["details"].get("history") or [], analysis["details"].get("best_epoch")),
        reliability=figures.reliability(analysis["reliability"], "pair"),
        curves=_curves(analysis),
        strategy=in_words(analysis["strategy"]),
        advice=None,
        labels=_labels(analysis),
        together=_together(analysis),
        parts=sorted(analysis["parts"].items()),
        command=command_of(analysis, run),
        **sections,
    )


def _names(a: Mapping[str, Any], places: list[int]) -> str:
    return ", ".join(a["classes"][place] for place in places) or NO_LABEL


def _image(a: Mapping[str, Any], place: int, pictures: Pictures) -> dict[str, Any]:
    """An image as the page shows it."""
    one = a["images"][place]
    words = f"{one['path']}: {_names(a, one['labels'])}"
    shown = {
        "place": place, "path": one["path"], "file": PurePath(one["path"]).name, "labels": one["labels"],
        "unknown": [a["classes"][label] for label in one["unknown"]], "measured": "predicted" in one,
    }  # fmt: skip
    if "predicted" in one:
        missed, added = one["missed"], one["added"]
        shown["missed"] = [(a["classes"][label], probability) for label, probability in missed]
        shown["added"] = [(a["classes"][label], probability) for label, probability in added]
        lost = {label for label, _ in missed}
        shown["found"] = [a["classes"][label] for label in one["labels"] if label not in lost]
        words += "".join(
            f", {how} {', '.join(f'{name} ({percent(probability, 0)})' for name, probability in which)}"
            for how, which in (("missed", shown["missed"]), ("added", shown["added"]))
            if which
        ) or ", predicted right"  # fmt: skip
    return shown | {
        "names": [a["classes"][label] for label in one["labels"]],
        "alt": words,
        "src": pictures.take(place),
    }


def _on_map(a: Mapping[str, Any], place: int) -> OnMap:
    one = a["images"][place]
    words = f"{_names(a, one['labels'])}, {one['path']}"
    right = not one["missed"] and not one["added"] if "predicted" in one else None
    if right is None:
        words += ", training image"
    elif right:
        words += ", predicted right"
    else:
        words += "".join(
            f", {how} {_names(a, [label for label, _ in one[how]])}" for how in ("missed", "added") if one[how]
        )
    return OnMap(a["combination_of"][str(place)], words, right)


def _dialogs(a: Mapping[str, Any], pictures: Pictures) -> dict[str, dict[str, Any]]:
    """The images of which a label was missed, or to which it was added, by the names of their places on the page."""
    return {
        f"{one['kind']}-{one['label']}": {
            "label": a["classes"][one["label"]],
            "kind": one["kind"],
            "count": one["images"],
            "images": [
                {**image, "probability": dict(a["images"][place][one["kind"]])[one["label"]]}
                for place in one["shown"]
                for image in [_image(a, place, pictures)]
            ],
        }
        for one in a["wrong"]
    }


def _labels(a: Mapping[str, Any]) -> dict[str, Any]:
    learnt = a["counts"].get("train") or a["counts"].get("cross-validation") or {}
    rows = [
        {
            **one,
            "learnt": learnt.get(one["label"], 0),
            "threshold": a["thresholds"][one["place"]],
            "missed": one["positives"] - one["correct"],
            "added": one["predicted"] - one["correct"],
        }
        for one in a["evaluation"]["labels"]
    ]
    with_curve = {one["label"] for one in a["curves"]}
    return {"rows": rows, "left_out": len(a["classes"]) - len(rows), "with_curve": with_curve}


def _curves(a: Mapping[str, Any]) -> list[dict[str, Any]]:
    ranked = {one["place"]: one["average_precision"] for one in a["evaluation"]["labels"]}
    return [{**_curve(a, one), "average_precision": ranked[one["label"]]} for one in a["curves"]]


def _curve(a: Mapping[str, Any], curve: Mapping[str, Any]) -> dict[str, Any]:
    """The chart of a label's threshold, and the numbers at each step for the slider."""
    threshold = a["thresholds"][curve["label"]]
    cuts = curve["cuts"]
    at = min(range(len(cuts)), key=lambda i: abs(cuts[i] - threshold))
    return {
        "label": a["classes"][curve["label"]],
        "place": curve["label"],
        "chart": figures.thresholds(curve, threshold),
        "at": at,
        "threshold": cuts[at],
        "correct": curve["correct"][at],
        "found": curve["found"][at],
        "positives": curve["positives"],
        "images": curve["images"],
        "cuts": " ".join(f"{cut:.6g}" for cut in cuts),
        "corrects": " ".join(map(str, curve["correct"])),
        "founds": " ".join(map(str, curve["found"])),
    }


def _together(a: Mapping[str, Any]) -> dict[str, Any]:
    """Which labels occur together, as a matrix or a list; and which are added where another is missed."""
    names = a["classes"]
    pairs = [{**one, "names": (names[one["first"]], names[one["second"]])} for one in a["together"]]
    result: dict[str, Any] = {
        "pairs": pairs,
        "all": len(a["evaluation"]["together"]),
        "confused": [(names[missed], names[added], count) for missed, added, count in a["confused"]],
        "matrix": None,
        "wide": len(names) <= WIDE_CLASSES,
    }
    if len(names) <= MATRIX_CLASSES:
        have = [one["positives"] for one in sorted(a["evaluation"]["labels"], key=lambda one: one["place"])]
        counts = {
            (i, j): n for first, second, n in a["evaluation"]["together"] for i, j in ((first, second), (second, first))
        }
        result["matrix"] = [
            [
                {"count": have[i] if i == j else counts.get((i, j), 0), "own": i == j,
                 "share": counts.get((i, j), 0) / have[i] if have[i] else 0.0}
                for j in range(len(names))
            ]
            for i in range(len(names))
        ]  # fmt: skip
    return result
