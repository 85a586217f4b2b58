"""What a tree of folders means: class folders, or split folders with class folders inside."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from headstart.core.errors import SourceError
from headstart.core.text import counted, listed, portable, quoted
from headstart.data.table import Row, Skipped, Split

SPLIT_NAMES: dict[str, Split] = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip

# What counts as a manifest though nobody has named it; a .json or .txt beside class folders is mostly something else.
MANIFESTS = (".csv", ".tsv", ".jsonl")

_LITTER = {"thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "icon\r", "$recycle.bin", "@eadir"}


def is_litter(name: str) -> bool:
    """Whether a file or folder is hidden or written by the operating system."""
    return name.startswith(".") or name.lower() in _LITTER


@dataclass
class Tree:
    """What a walk over a folder or a zip file found.

    Attributes:
        files: Paths of regular files relative to the root, with ``/`` between the parts.
        folders: Paths of all folders, likewise.
        skipped: What is there and cannot be read, with reasons.
        ignored: Number of hidden files and litter; a hidden folder counts with what is inside.
        notes: Sentences that a person should read.
    """

    files: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    ignored: int = 0
    notes: list[str] = field(default_factory=list)


def look_through(tree: Tree) -> tuple[Tree, str]:
    """Enter the single folder that everything lies in, which most archives have, as often as there is one.

    Returns:
        What lies in it, and its path with a ``/`` at its end; or all as it is, and an empty path.
    """
    prefix = ""
    while (inner := _only_folder(tree)) is not None:
        prefix += f"{inner}/"
        tree = _enter(tree, inner)
    return tree, prefix


def _only_folder(tree: Tree) -> str | None:
    """The one folder that everything lies in, unless it is a class or a split itself."""
    top = {path.split("/", 1)[0] for path in [*tree.files, *tree.folders]}
    if len(top) != 1 or any("/" not in file for file in tree.files):
        return None
    (name,) = top
    holds_folders = any(folder.startswith(f"{name}/") for folder in tree.folders)
    holds_manifest = any(
        file.count("/") == 1 and PurePosixPath(file).suffix.lower() in MANIFESTS for file in tree.files
    )
    return name if name.lower() not in SPLIT_NAMES and (holds_folders or holds_manifest) else None


def _enter(tree: Tree, folder: str) -> Tree:
    prefix = f"{folder}/"
    cut = len(prefix)
    return Tree(
        files=[file[cut:] for file in tree.files],  # all lie below the folder
        folders=[name[cut:] for name in tree.folders if name.startswith(prefix)],
        skipped=[Skipped(skip.path.removeprefix(prefix), skip.reason) for skip in tree.skipped],
        ignored=tree.ignored,
        notes=tree.notes,
    )


def interpret(tree: Tree, source: str) -> tuple[list[Row], list[Skipped], list[str]]:
    """Give every file of a tree its label and split by the folders it lies in.

    Returns:
        Rows in order of their paths, skipped files with reasons, notes.

    Raises:
        SourceError: The folders at the top are partly splits and partly classes, or two of them are the
            same split.
    """
    top = sorted({path.split("/", 1)[0] for path in [*tree.folders, *(f for f in tree.files if "/" in f)]})
    splits = {name: SPLIT_NAMES[name.lower()] for name in top if name.lower() in SPLIT_NAMES}
    if splits:
        _check_splits(top, splits, tree.folders, source)
    rows: list[Row] = []
    skipped = list(tree.skipped)
    outside = "not inside a class folder (SPLIT/CLASS/IMAGE)" if splits else "not inside a class folder"
    for path in sorted(tree.files):
        parts = path.split("/")
        if splits and len(parts) > 2:
            rows.append(Row(path, portable(parts[1]), splits[parts[0]]))
        elif not splits and len(parts) > 1:
            rows.append(Row(path, portable(parts[0])))
        else:
            skipped.append(Skipped(path, outside))
    classes = {row.label for row in rows if row.label is not None}
    depth = 1 if splits else 0
    named = {portable(parts[depth]) for folder in tree.folders if len(parts := folder.split("/")) > depth}
    notes = list(tree.notes)
    if empty := sorted(named - classes):
        notes.append(f"Class folders without a file, left out: {listed(empty)}.")
    if deeper := sum(row.path.count("/") > depth + 1 for row in rows):
        notes.append(
            f"{counted(deeper, 'image lies', 'images lie')} in a folder inside a class folder, "
            "and counts for the class folder's name."
        )
    return rows, skipped, notes + twin_notes(classes)


def twin_notes(classes: Iterable[str]) -> list[str]:
    """A note for classes whose names differ only in case or in Unicode form: most likely one class."""
    by_form: dict[str, list[str]] = {}
    for name in sorted(classes):
        by_form.setdefault(unicodedata.normalize("NFC", name).casefold(), []).append(name)
    return [
        f"Classes that differ only in case or Unicode form: {listed(names)}. They are used as "
        f"{len(names)} classes; rename the folders if they are one."
        for names in by_form.values()
        if len(names) > 1
    ]


def _check_splits(top: list[str], splits: dict[str, Split], folders: list[str], source: str) -> None:
    others = [name for name in top if name not in splits]
    if others:
        raise SourceError(
            f"{quoted(source)} holds split folders ({listed(splits)}) beside other folders ({listed(others)}).",
            "Keep only splits (train, val, test) or only classes at the top; if the split names are classes, list the "
            "images in a manifest with path,label.",
        )
    if len(set(splits.values())) < len(splits):
        raise SourceError(
            f"{quoted(source)} holds several folders for one split: {listed(splits)}.",
            "Keep one of train, one of val | valid | validation, and one of test.",
        )
    if folders and not any("/" in folder for folder in folders):
        raise SourceError(
            f"The split folders of {quoted(source)} hold no class folders.",
            "Expected SPLIT/CLASS/IMAGE, such as train/cats/1.jpg.",
        )
