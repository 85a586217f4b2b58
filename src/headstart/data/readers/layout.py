"""What a tree of folders means: class folders, or split folders with class folders inside."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from headstart.core.errors import SourceError
from headstart.core.text import counted, listed, nearest, portable, quoted
from headstart.data.readers import Columns, patterns
from headstart.data.readers.levels import refuse_one_level_off
from headstart.data.table import Row, Skipped, Split

SPLIT_NAMES: dict[str, Split] = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
_LOOK_LIKE_IMAGES = re.compile(r"\.(jpe?g|png|bmp|gif|tiff?|webp|heic|heif|avif|jp2|p[abgnp]m|tga|jxl)$", re.IGNORECASE)


def looks_like_image(name: str) -> bool:
    """Whether a file is called as images are."""
    return _LOOK_LIKE_IMAGES.search(name) is not None


def split_of_file(name: str) -> Split | None:
    """Of a file such as ``data/train-00000-of-00002.parquet`` or ``train/0.tar``; None if the name does not say."""
    folder, _, last = name.rpartition("/")
    words = [*re.split(r"[-_.]", last)[:1], folder.rpartition("/")[2]]
    return next((SPLIT_NAMES[word.lower()] for word in words if word.lower() in SPLIT_NAMES), None)


# What counts as a list though nobody has named it; a .json or .txt beside class folders is mostly something else.
MANIFESTS = (".csv", ".tsv", ".jsonl", ".parquet")

# A name in an archive may have 32,767 parts; the folders of a single such entry would take a gigabyte.
MAX_DEPTH = 64

_LITTER = {"thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "icon\r", "$recycle.bin", "@eadir"}


def is_litter(name: str) -> bool:
    """Whether a file or folder is hidden or written by the operating system."""
    return name.startswith(".") or name.lower() in _LITTER


@dataclass
class Tree:
    """What a walk over a folder, or the directory of an archive, found.

    Attributes:
        files: Paths of regular files relative to the root, with ``/`` between the parts.
        folders: Paths of all folders, in the same form.
        skipped: What is there and cannot be read, with reasons.
        ignored: Number of hidden files and litter; a hidden folder counts with what is inside.
        notes: Remarks for the user.
        marks: Paths of the files in which Headstart has written down what it put into a folder.
    """

    files: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    ignored: int = 0
    notes: list[str] = field(default_factory=list)
    marks: list[str] = field(default_factory=list)


def look_through(tree: Tree) -> tuple[Tree, str]:
    """Enter the single folder that everything lies in, which most archives have, as often as there is one.

    Returns:
        What lies in it, and its path with a ``/`` at its end; or all as it is, and an empty path.
    """
    prefix = ""
    while (inner := _only_folder(tree)) is not None:
        prefix += f"{inner}/"
        tree = below(tree, f"{inner}/")
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


def below(tree: Tree, prefix: str) -> Tree:
    """The part of a tree in one of its folders.

    Args:
        tree: The whole.
        prefix: Path of the folder, with a ``/`` at its end.
    """
    cut = len(prefix)
    return Tree(
        files=[file[cut:] for file in tree.files if file.startswith(prefix)],
        folders=[name[cut:] for name in tree.folders if name.startswith(prefix)],
        skipped=[Skipped(skip.path.removeprefix(prefix), skip.reason, skip.decided) for skip in tree.skipped],
        ignored=tree.ignored,
        notes=tree.notes,
    )


def interpret(tree: Tree, source: str, columns: Columns) -> tuple[list[Row], list[Skipped], list[str]]:
    """Give every file of a tree its label and split by the folders it lies in, or by its name.

    Args:
        tree: The files.
        source: What the user pointed at.
        columns: What he said of it.

    Returns:
        Rows in order of their paths, skipped files with reasons, notes.

    Raises:
        SourceError: The folders at the top are partly splits and partly classes, or two of them are the
            same split; or they are neither, but what lies in them is.
    """
    splits, told = _find_splits(tree, source, columns)
    notes = [*tree.notes, *told]
    around = {name: _doubled(tree, name) for name in splits}  # train/train/CLASS
    level = columns.class_level or 1
    placed: list[tuple[str, Split | None, list[str]]] = []  # path, split, and the parts of the path below that
    skipped = list(tree.skipped)
    for path in tree.files:
        folder, _, rest = path.partition("/")
        if not splits:
            placed.append((path, None, path.split("/")))
        elif folder in splits and rest.startswith(around[folder]):
            placed.append((path, splits[folder], rest.removeprefix(around[folder]).split("/")))
        elif rest and folder not in splits:
            skipped.append(Skipped(path, "not inside a folder of --split-folders", decided=True))
        else:
            skipped.append(Skipped(path, "not inside a split folder"))
    if columns.label_pattern is not None:
        found = patterns.read(columns.label_pattern, placed)
        return found.rows, skipped + found.skipped, notes + found.notes
    if columns.class_level is None:
        refuse_one_level_off([parts for *_, parts in placed], [*splits], source)
    rows: list[Row] = []
    outside = "not inside a class folder"
    if splits or level > 1:
        outside += f" ({'SPLIT/' if splits else ''}{'FOLDER/' * (level - 1)}CLASS/IMAGE)"
    for path, split, parts in placed:
        if len(parts) > level:
            rows.append(Row(path, portable(parts[level - 1]), split))
        else:
            skipped.append(Skipped(path, outside))
    classes = {row.label for row in rows if row.label is not None}
    named = {
        portable(parts[level - 1]) for name in tree.folders if len(parts := _inside(name, splits, around)) >= level
    }
    if empty := sorted(named - classes):
        notes.append(f"Empty class folders, left out: {listed(empty)}.")
    if deeper := sum(len(parts) > level + 1 for *_, parts in placed):
        notes.append(
            f"{counted(deeper, 'image is', 'images are')} in a folder inside a class folder; the class is the name of "
            "the class folder."
        )
    return rows, skipped, notes


def _inside(folder: str, splits: dict[str, Split], around: dict[str, str]) -> list[str]:
    """The parts of a folder's path below its split folder; none of a split folder itself, or of what is no split."""
    if not splits:
        return folder.split("/")
    split, _, rest = folder.partition("/")
    rest = f"{rest}/"
    if split not in splits or not rest.startswith(around[split]):
        return []
    return [part for part in rest.removeprefix(around[split]).split("/") if part]


def _doubled(tree: Tree, split: str) -> str:
    """The folder of a split folder's own name that all of it lies in, with a ``/`` at its end; empty for none."""
    name, found = split, ""
    files = [file.removeprefix(f"{split}/") for file in tree.files if file.startswith(f"{split}/")]
    while files and all(file.startswith(f"{name}/") for file in files):
        found += f"{name}/"
        files = [file.removeprefix(f"{name}/") for file in files]
    return found


def _find_splits(tree: Tree, source: str, columns: Columns) -> tuple[dict[str, Split], list[str]]:
    """The folders at the top that are splits, as the user says or by their names; and notes."""
    top = sorted({path.split("/", 1)[0] for path in [*tree.folders, *(f for f in tree.files if "/" in f)]})
    if columns.split_folders is not None:
        splits = _given_splits(columns.split_folders, top, source)
        others = [name for name in top if name not in splits]
        told = [f"Left out, since --split-folders does not name them: {listed(others)}."] if others else []
        return splits, told
    splits = {name: SPLIT_NAMES[name.lower()] for name in top if name.lower() in SPLIT_NAMES}
    if splits:
        _check_splits(top, splits, tree.folders, source, by_name=columns.label_pattern is not None)
    return splits, []


def _given_splits(text: str, top: list[str], source: str) -> dict[str, Split]:
    """Which folder is which split, of ``train=FOLDER,test=FOLDER``."""
    splits: dict[str, Split] = {}
    for part in re.split(r",(?=\w+=)", text):
        name, _, folder = part.partition("=")
        split, folder = SPLIT_NAMES.get(name.strip().lower()), folder.strip().rstrip("/")
        if split is None or not folder:
            raise SourceError(
                f"--split-folders has {quoted(part)}.",
                "Expected train=FOLDER,val=FOLDER,test=FOLDER, or some of these.",
            )
        if folder not in top:
            raise SourceError(
                f"{quoted(source)} holds no folder {quoted(folder)}; found {listed(top)}.",
                f"{nearest(folder, top)}Correct --split-folders.",
            )
        if folder in splits or split in splits.values():
            raise SourceError(
                f"--split-folders names {quoted(folder if folder in splits else name)} twice.", "Name each once."
            )
        splits[folder] = split
    return splits


def _check_splits(top: list[str], splits: dict[str, Split], folders: list[str], source: str, *, by_name: bool) -> None:
    others = [name for name in top if name not in splits]
    if others:
        raise SourceError(
            f"{quoted(source)} holds split folders ({listed(splits)}) beside other folders ({listed(others)}).",
            "Keep only splits (train, val, test) or only classes at the top, or say which folders are splits: "
            f"--split-folders {','.join(f'{split}={name}' for name, split in splits.items())}; if the split names are "
            "classes, list the images in a manifest with path,label.",
        )
    if len(set(splits.values())) < len(splits):
        raise SourceError(
            f"{quoted(source)} holds several folders for one split: {listed(splits)}.",
            "Keep one of train, one of val | valid | validation, and one of test.",
        )
    if not by_name and folders and not any("/" in folder for folder in folders):
        raise SourceError(
            f"The split folders of {quoted(source)} hold no class folders.",
            "Expected SPLIT/CLASS/IMAGE, such as train/cats/1.jpg.",
        )
