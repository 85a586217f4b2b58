"""Folders that are not classes although they hold images: the classes are one level further down, or elsewhere."""

from __future__ import annotations

import re
import shlex
from collections import defaultdict
from collections.abc import Sequence

from headstart.core.errors import SourceError
from headstart.core.text import listed, quoted

# Names of folders that stand for a split; in the order in which they are looked for.
_SPLITS = (("train", re.compile("train", re.I)), ("val", re.compile("val", re.I)), ("test", re.compile("test", re.I)))
IMAGE_FOLDERS = {"images", "image", "imgs", "img", "photos", "pictures", "jpegimages", "jpgs", "pngs"}
_ANNOTATIONS = {
    "annotations", "annotation", "annots", "labels", "masks", "mask", "trimaps", "segmentation", "segmentations",
    "segmentationclass", "segmentationobject", "bboxes", "boxes", "keypoints", "groundtruth", "ground_truth",
}  # fmt: skip
_ENOUGH = 0.5  # of the names of the folders inside occur in several of those at the top


def refuse_one_level_off(files: Sequence[Sequence[str]], splits: Sequence[str], source: str) -> None:
    """Refuse a tree whose class folders seem to be something else.

    Args:
        files: Parts of each file's path, below the split folders.
        splits: Names of the split folders, if there are some.
        source: What the user pointed at.

    Raises:
        SourceError: All images lie deeper, and the folders inside repeat from one "class" to the next; or images stand
            beside annotations. The error ends with the commands for both readings.
    """
    flat: set[str] = set()  # folders with an image directly inside
    inner: dict[str, set[str]] = defaultdict(set)
    for parts in files:
        if len(parts) < 2:
            continue
        top, *rest = parts
        while len(rest) > 1 and rest[0] == top:  # training_set/training_set/CLASS
            rest = rest[1:]
        if len(rest) > 1:
            inner[top].add(rest[0])
        else:
            flat.add(top)
    tops = sorted(flat | inner.keys())
    train = f"headstart train {shlex.quote(source)}"
    if len(tops) > 1 and not splits and all(top.lower() in IMAGE_FOLDERS | _ANNOTATIONS for top in tops):
        images = next((top for top in tops if top.lower() in IMAGE_FOLDERS), None)
        if images is not None:
            raise SourceError(
                f"The folders of {quoted(source)} do not look like classes: {listed(tops)}.",
                f"Point at the images alone: {train.rstrip('/')}/{images}; or, if they are classes: "
                f"{train} --class-level 1.",
            )
    deep = {top: names for top, names in inner.items() if top not in flat}
    everywhere = [name for names in deep.values() for name in names]
    every = set(everywhere)
    repeated = {name for name in every if everywhere.count(name) > 1}
    if len(repeated) < 2 or len(repeated) < _ENOUGH * len(every):
        return
    given = {} if splits else _looking_like_splits(tops)
    if len(deep) < len(tops) and not given:
        return
    first = (
        f"{train} --split-folders {shlex.quote(','.join(f'{split}={top}' for split, top in given.items()))}"
        if given
        else f"{train} --class-level 2"
    )
    raise SourceError(
        f"The folders {listed(tops, 4)} of {quoted(source)} hold the same folders each: {listed(sorted(repeated), 4)}. "
        "Which of them are the classes?",
        f"If {listed(sorted(repeated), 2)} are classes: {first}; if {listed(tops, 2)} are: {train} --class-level 1.",
    )


def _looking_like_splits(tops: Sequence[str]) -> dict[str, str]:
    """The folder of each split, if the names show it; empty if they do not."""
    found: dict[str, str] = {}
    for split, pattern in _SPLITS:
        named = [top for top in tops if pattern.search(top) and top not in found.values()]
        if len(named) == 1:
            found[split] = named[0]
        elif named:
            return {}
    return found if "train" in found and len(found) > 1 else {}
