"""One rule for a folder and for an archive of the same files: do a list or the folders give the classes."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import PurePosixPath

from headstart.core.errors import ImageError, SourceError
from headstart.core.tables import resolve
from headstart.core.text import counted, listed, quoted
from headstart.data.readers import CONTENTS, Columns, joined, own, patterns
from headstart.data.readers.layout import MANIFESTS, SPLIT_NAMES, Tree, below, interpret, look_through
from headstart.data.readers.levels import IMAGE_FOLDERS
from headstart.data.readers.manifest import parse
from headstart.data.several import MULTI_LABEL
from headstart.data.storage import Below, Storage
from headstart.data.table import ImageTable, Row, Skipped

_ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".rar", ".7z")


@dataclass(frozen=True)
class _Listed:
    """What the lists of a tree say: one at the top, or one in each split folder.

    Attributes:
        names: Paths of the lists.
        rows: What they say of files that are there.
        skipped: Their other rows, with reasons.
        notes: Remarks for the user.
        task: What a label is.
    """

    names: tuple[str, ...]
    rows: tuple[Row, ...]
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...]
    task: str

    @property
    def fits(self) -> bool:
        """Whether it is about the files that are there."""
        return len(self.rows) > len(self.skipped)


def read(tree: Tree, storage: Storage, source: str, columns: Columns) -> ImageTable:
    """Read the files of a folder or of an archive into an image table.

    Args:
        tree: The files.
        storage: Where their content comes from.
        source: What the user pointed at.
        columns: What he said of it.

    Raises:
        SourceError: It cannot be read in one way only; the error says what to type.
    """
    if own.is_run(tree):
        raise SourceError(
            f"{quoted(source)} is a folder that Headstart wrote, not a source of images.",
            "Point at the images themselves; splits.csv in the folder of a run lists those that it was trained on.",
        )
    tree = replace(tree, files=sorted(tree.files), folders=sorted(tree.folders))
    tree, prefix = look_through(own.leave_out(tree, storage))
    if prefix:
        storage = Below(storage, prefix)
        note = f"All images are inside the folder {quoted(prefix[:-1])}, which was read."
        tree = replace(tree, notes=[note, *tree.notes])
    for where in CONTENTS.values():
        found: ImageTable | None = resolve(where)(tree, storage, source, columns)
        if found is not None:
            return found
    if tree.files and all(file.lower().endswith(_ARCHIVES) for file in tree.files):
        raise SourceError(
            f"{quoted(source)} holds {counted(len(tree.files), 'archive')}, not images: {listed(tree.files, 3)}.",
            "Unpack what is inside, or point at it.",
        )
    listed_rows = None if columns.by_folders else _by_list(tree, storage, source, columns)
    if listed_rows is not None:
        return _of_list(listed_rows, tree, storage, source)
    if columns.label_pattern is None and tree.folders and all(name.lower() in SPLIT_NAMES for name in tree.folders):
        _propose_pattern(tree, source)
    rows, skipped, notes = interpret(tree, source, columns)
    classes = {row.label or "" for row in rows}
    if columns.label_pattern is None and (not classes or (len(classes) == 1 and classes <= IMAGE_FOLDERS)):
        _propose_pattern(tree, source)
        _look_beside(tree, storage, source, columns)
    if columns.task == MULTI_LABEL:
        return joined.read(rows, skipped, replace(tree, notes=notes), storage, source)
    return ImageTable(source, storage, tuple(rows), tuple(skipped), tree.ignored, tuple(notes))


def _by_list(tree: Tree, storage: Storage, source: str, columns: Columns) -> _Listed | None:
    """The list of the images, if there is one; None if the folders give the classes.

    Raises:
        SourceError: Several could be meant, or a list and the folders say different things; or all depends on a list
            that cannot be read.
    """
    candidates = _candidates(tree)
    if not candidates:
        return None
    found: list[_Listed] = []
    others: list[_Listed] = []  # which speak of other files for the most part
    problem: SourceError | None = None
    for names in candidates:
        try:
            one = _listed(names, tree, storage, columns)
        except SourceError as error:
            problem = error
            continue
        (found if one.fits or columns.by_list else others).append(one)
    if len(found) > 1:
        several = [one.names[0] for one in found]
        raise SourceError(
            f"{quoted(source)} holds several lists of images: {listed(several)}.", _typed(source, several)
        )
    folders = _by_folders(tree, source, columns)
    if not found:
        if folders is None and len(others) == 1:
            return others[0]  # nothing else gives the classes: missing files that it names are reported
        if problem is not None and (columns.by_list or folders is None):
            raise problem
        return None
    if folders is None or columns.by_list:
        return found[0]
    return _agreed(found[0], folders, source)


def _agreed(said: _Listed, folders: Sequence[Row], source: str) -> _Listed | None:
    """The list where it says more than the folders, None where it says the same or less.

    Raises:
        SourceError: They contradict each other.
    """
    by_path = {row.path: row for row in folders}
    same = all((other := by_path.get(row.path)) is not None and other.label == row.label for row in said.rows)
    more = any(row.group is not None for row in said.rows) or (
        any(row.split for row in said.rows) and not any(row.split for row in folders)
    )
    if same and not more:
        return None
    if same and len(said.rows) == len(folders):
        return said
    mine, theirs = ({row.label or "" for row in rows} for rows in (said.rows, folders))
    name = said.names[0]
    raise SourceError(
        f"{quoted(source)} can be read in two ways: by the list {quoted(name)} ({counted(len(said.rows), 'image')} of "
        f"{listed(sorted(mine), 3)}) and by its folders ({counted(len(folders), 'image')} of "
        f"{listed(sorted(theirs), 3)}).",
        f"{_typed(source, [name])} Or, for the folders: headstart train {shlex.quote(source)} --class-level 1.",
    )


def _typed(source: str, names: Sequence[str]) -> str:
    if PurePosixPath(source).suffix.lower() in {".zip", ".tar", ".gz", ".tgz", ".xz", ".bz2"}:
        return "Keep the one you mean, or unpack the archive and point at the list."
    folder = source.rstrip("/")
    typed = " or ".join(f"headstart train {shlex.quote(f'{folder}/{name}')}" for name in names)
    return f"Type {typed}."


def _by_folders(tree: Tree, source: str, columns: Columns) -> list[Row] | None:
    """What the folders say, if they are classes; None if they are not."""
    try:
        rows, *_ = interpret(tree, source, columns)
    except SourceError:
        return None
    return rows if len({row.label for row in rows}) > 1 else None


def _candidates(tree: Tree) -> list[tuple[str, ...]]:
    """What may be a list of the images: each at the top, or those in the split folders together."""
    lists = [file for file in tree.files if PurePosixPath(file).suffix.lower() in MANIFESTS]
    if any("/" not in name for name in lists):
        return [(name,) for name in lists if "/" not in name]
    inside: dict[str, list[str]] = {}
    for name in lists:
        folder, _, rest = name.partition("/")
        if "/" not in rest and folder.lower() in SPLIT_NAMES:
            inside.setdefault(folder, []).append(name)
    alone = bool(inside) and all(len(names) == 1 for names in inside.values())
    return [tuple(names[0] for names in inside.values())] if alone else []


def _listed(names: Sequence[str], tree: Tree, storage: Storage, columns: Columns) -> _Listed:
    rows: list[Row] = []
    skipped: list[Skipped] = []
    notes: list[str] = []
    tasks: set[str] = set()
    for name in names:
        try:
            content = storage.read(name)
        except ImageError as error:
            raise SourceError(f"The list {quoted(name)}: {error.message}.") from error
        folder = name[: name.rfind("/") + 1]
        split = SPLIT_NAMES[folder[:-1].lower()] if folder else None
        part = below(tree, folder)
        found, left, said, task = parse(content, name, columns, list_files=partial(list, part.files))
        tasks.add(task)
        there = set(part.files)
        rows += [replace(row, path=folder + row.path, split=row.split or split) for row in found if row.path in there]
        refused = {skip.path for skip in part.skipped}  # the reason is given there
        skipped += [Skipped(row.path, "file not found") for row in found if row.path not in there | refused]
        skipped += [replace(skip, path=folder + skip.path) if skip.path in there else skip for skip in left]
        notes += [note for note in said if note not in notes]
    if len(tasks) > 1:
        raise SourceError(
            f"Some of the lists give one class an image, and some several labels: {listed(names)}.",
            "Say which is meant: --task classes or --task multi-label.",
        )
    return _Listed(tuple(names), tuple(rows), tuple(skipped), tuple(notes), tasks.pop())


def _of_list(said: _Listed, tree: Tree, storage: Storage, source: str) -> ImageTable:
    named = {row.path for row in said.rows} | {skip.path for skip in said.skipped} | set(said.names)
    unlisted = [Skipped(file, "not in the list") for file in tree.files if file not in named]
    notes = (*tree.notes, f"The images are those of the list {listed(said.names)}.", *said.notes)
    skipped = (*tree.skipped, *said.skipped, *unlisted)
    return ImageTable(source, storage, said.rows, skipped, tree.ignored, notes, task=said.task)


def _look_beside(tree: Tree, storage: Storage, source: str, columns: Columns) -> None:
    """Raise the error that names the annotations beside images without class folders, where there are some.

    JSON files are not looked for as lists, since most of them are something else; here nothing else gives the classes.
    """
    for name in (file for file in tree.files if "/" not in file):
        suffix = PurePosixPath(name).suffix.lower()
        if suffix == ".xml":
            raise SourceError(
                f"{quoted(source)} holds no class folders, and {quoted(name)} is XML, as CVAT and Pascal VOC write it.",
                "Export one class for each image, as CSV with path,label.",
            )
        if suffix == ".json" and _listed((name,), tree, storage, columns).fits:
            raise SourceError(
                f"{quoted(source)} holds no class folders, and {quoted(name)} is a list of its images.",
                _typed(source, [name]),
            )


def _propose_pattern(tree: Tree, source: str) -> None:
    """Raise the error that shows how the classes are read from the files' names, where these look so."""
    learnt = [file for file in tree.files if SPLIT_NAMES.get(file.partition("/")[0].lower()) == "train"]
    names = [PurePosixPath(file).name for file in learnt or tree.files]
    if proposal := patterns.propose(names, f"headstart train {shlex.quote(source)}"):
        raise SourceError(f"{quoted(source)} holds no class folders.", proposal)
