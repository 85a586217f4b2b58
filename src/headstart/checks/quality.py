"""Images that the network can see little in: small, extremely long, blurred, dark, bright, of one colour.

A trait that a fifth of the images share is how they were taken, not a fault of single ones: that is one finding.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

from headstart.checks.findings import Finding
from headstart.checks.subject import Subject
from headstart.core.text import counted, quoted
from headstart.settings.recipe import FULL_RANGE

if TYPE_CHECKING:
    from numpy.typing import NDArray

COMMON = 0.2
# Sides are enlarged to more than twice their length.
SMALL_SHARE = 0.5
# Of the longer to the shorter side: the square that is cut out of its middle is less than a third of the image.
MAX_RATIO = 3.0
# Mean luma in 0..255 below or above which little is to be seen, and how far from the set's own median that must be:
# scans on white paper lie at 210 to 245 in all. A sharp subject on white or black has more than that contrast.
DARK, BRIGHT, UNLIKE_OTHERS, FAINT = 25.0, 235.0, 60.0, 25.0
# Standard deviation of the luma, in 0..127: a sheet of paper with noise has 2 to 4, fog 10 and more.
UNIFORM = 5.0
# Sharpness, by itself and against the contrast, as a share of what is usual among the images of the class and in all.
# On ants-bees no photo is under both shares; blurred with a radius of 3 of 500 pixels, all but one in fifty are.
BLUR, BLUR_TO_CONTRAST = 0.25, 0.4
# Of the range of 16 bits: what all images leave unused beyond it, no camera has seen. Fewer bits were stored in 16.
DIM = 0.25
MIN_FOR_USUAL = 20  # images that are needed to say what is usual in a class

# Problem -> its words for one image, and for many.
_WORDS = {
    "small": ("is smaller than half of the network's input", "are smaller than half of the network's input"),
    "shape": ("is extremely long or wide", "are extremely long or wide"),
    "uniform": ("is almost a single colour", "are almost a single colour"),
    "dark": ("is very dark", "are very dark"),
    "bright": ("is very bright", "are very bright"),
    "blur": ("looks blurred", "look blurred"),
}


def find(subject: Subject) -> list[Finding]:
    """The images of doubtful quality, and one finding for each problem that many share."""
    problems, common = _problems(subject)
    findings = _range(subject)
    for problem, share in common.items():
        images = round(share * len(subject))
        findings.append(Finding(
            "quality",
            f"{images:,} of {counted(len(subject), 'image')} {_WORDS[problem][1]}{_more(subject, problem)}: they were "
            "taken that way. Expect lower accuracy than with better images, and only on new images of this kind.",
            facts={"problems": [problem], "images": images, "share": round(share, 4)}, severity=100 + share,
        ))  # fmt: skip
    for place, found in sorted(problems.items()):
        row, traits = subject.data.table.rows[place], subject.data.traits[place]
        words = ", ".join(f"{_WORDS[problem][0]} ({said})" for problem, said in found.items())
        findings.append(Finding(
            "quality",
            f"{quoted(row.path)} {words}. Look at it: keep it only if new images may look like that.",
            (row.path,),
            {"problems": list(found), "label": row.label, "width": traits.width, "height": traits.height,
             "brightness": round(traits.brightness, 1), "contrast": round(traits.contrast, 1),
             "sharpness": round(traits.sharpness, 2), "split": row.split},
            severity=len(found) + (10 if "uniform" in found else 0),
        ))  # fmt: skip
    return findings


def _range(subject: Subject) -> list[Finding]:
    """What 16-bit images use of their range: hardly any of it, or more than the white level leaves."""
    peaks = _peaks(subject)
    number, largest, white = int((peaks > 0).sum()), int(peaks.max(initial=0)), subject.white_level
    facts = {"problems": ["range"], "images": number, "largest": largest}
    deep = counted(number, "image")
    if _is_dim(subject):
        level = 2 ** largest.bit_length() - 1
        return [Finding(
            "quality",
            f"{deep} of 16 bits {'uses' if number == 1 else 'use'} only 0 to {largest:,} of {FULL_RANGE:,}: nearly "
            f"black to the network. Train with --white-level {level} (Recipe(white_level={level}) in Python), which "
            "makes that value white; the model file stores it.",
            facts=facts | {"white_level": level}, severity=102,
        )]  # fmt: skip
    if white < FULL_RANGE and largest > white:
        over = int((peaks > white).sum())
        have = "has" if over == 1 else "have"
        return [Finding(
            "quality",
            f"{over:,} of {deep} of 16 bits {have} values above the white level of {white:,}, up to {largest:,}: they "
            "all become white. Raise the level if they hold detail.",
            facts=facts | {"white_level": white, "over": over}, severity=102,
        )]  # fmt: skip
    return []


def _peaks(subject: Subject) -> NDArray[np.int64]:
    """The largest value of each 16-bit image, 0 for others, (N,)."""
    return np.array([one.peak for one in subject.data.traits], np.int64)


def _is_dim(subject: Subject) -> bool:
    """Whether the 16-bit images, decoded by the whole range, all stay below `DIM` of it."""
    largest = _peaks(subject).max(initial=0)
    return bool(subject.white_level == FULL_RANGE and 0 < largest <= DIM * FULL_RANGE)


def _problems(subject: Subject) -> tuple[dict[int, dict[str, str]], dict[str, float]]:
    """The problems of each image that has any, in words; and the share of each common problem."""
    traits = subject.data.traits
    width, height, light, contrast, sharpness = (
        np.array([getattr(one, name) for one in traits], np.float64)
        for name in ("width", "height", "brightness", "contrast", "sharpness")
    )
    ratio = np.maximum(width, height) / np.minimum(width, height)
    usual_light = float(np.median(light))
    dim = (_peaks(subject) > 0) & _is_dim(subject)  # one finding says why these are dark
    uniform = (contrast < UNIFORM) & ~dim
    crisp = sharpness / np.maximum(contrast, UNIFORM)
    blurred = (sharpness < BLUR * _usual(sharpness, subject.labels)) & (
        crisp < BLUR_TO_CONTRAST * _usual(crisp, subject.labels)
    )
    least = subject.input_px * SMALL_SHARE
    flags = {
        "small": np.minimum(width, height) < least,
        "shape": ratio > MAX_RATIO,
        "uniform": uniform,
        "dark": (light < DARK) & (contrast < FAINT) & ~dim,
        "bright": (light > BRIGHT) & (contrast < FAINT),
        "blur": blurred & ~uniform,
    }
    alone = {"dark": usual_light - light > UNLIKE_OTHERS, "bright": light - usual_light > UNLIKE_OTHERS}
    enough = len(traits) >= 1 / COMMON
    common = {name: float(flag.mean()) for name, flag in flags.items() if enough and flag.mean() >= COMMON}
    found: dict[int, dict[str, str]] = defaultdict(dict)
    for name, flag in flags.items():
        if name in common:
            continue
        for place in np.flatnonzero(flag & alone.get(name, True)).tolist():
            found[place][name] = {
                "small": f"{width[place]:.0f} x {height[place]:.0f} pixels",
                "shape": f"{width[place]:.0f} x {height[place]:.0f} pixels",
                "uniform": f"contrast {contrast[place]:.1f} of 127",
                "dark": f"mean brightness {light[place]:.0f} of 255",
                "bright": f"mean brightness {light[place]:.0f} of 255",
                "blur": f"sharpness {sharpness[place]:.1f}",
            }[name]
    return found, common


def _usual(values: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """The median of all images, or of those of the same class where that is smaller, for each image, (N,)."""
    result = np.full(len(values), np.median(values))
    for label, images in zip(*np.unique(labels, return_counts=True), strict=True):
        if images >= MIN_FOR_USUAL:
            rows = labels == label
            result[rows] = np.minimum(result[rows], np.median(values[rows]))
    return np.maximum(result, 1e-9)


def _more(subject: Subject, problem: str) -> str:
    if problem not in {"small", "shape"}:
        return ""
    shorter = np.median([min(one.width, one.height) for one in subject.data.traits])
    network = f", the input {subject.input_px}" if subject.input_px else ""
    return f" (the shorter side is usually {shorter:.0f} pixels{network})"
