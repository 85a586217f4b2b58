"""Read tar files of samples, as WebDataset writes them: ``000042.jpg`` beside ``000042.cls`` or ``000042.json``.

The files of a sample share their name up to its first dot. What is no sample, class folders in tar files, keeps its
meaning: it is read as a tree is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

from headstart.core.errors import SourceError
from headstart.core.text import counted, listed
from headstart.core.work import Threads
from headstart.data.readers import Columns
from headstart.data.readers.layout import Tree, is_litter, looks_like_image, split_of_file
from headstart.data.readers.list_text import Entry, Records
from headstart.data.readers.manifest import understand
from headstart.data.storage import Storage
from headstart.data.table import ImageTable, Row, Skipped
from headstart.data.tarsets import Place, TarSet, members, packed, refusal

SUFFIX = ".tar"
_LABELS = ("cls", "json", "txt")  # what lies beside an image, by its ending; the first that is there
_AT_ONCE = 8  # archives whose headers are read
_BESIDE = (".json", ".txt", ".md", ".csv", ".idx", ".yaml")  # what may lie beside archives and is not looked at


@dataclass
class Archive:
    """What is in one archive.

    Attributes:
        places: Of its files.
        said: What is said of an image, by the key of its sample.
        files: Paths of those that say nothing of another one, with the keys of their samples.
        skipped: What cannot be used.
        ignored: Number of hidden files.
    """

    places: dict[str, Place] = field(default_factory=dict)
    said: dict[str, dict[str, object]] = field(default_factory=dict)
    files: list[tuple[str, str]] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    ignored: int = 0

    @property
    def images(self) -> list[tuple[str, str]]:
        """Those of the files that are called as images are."""
        return [(path, key) for path, key in self.files if looks_like_image(path)]


@dataclass(frozen=True)
class _Look:
    """The unit of work: read the headers of an archive."""

    storage: Storage

    def __call__(self, name: str, /) -> Archive:
        found, seen = Archive(), set[str]()
        for entry, content in members(self.storage, name, _is_label):
            path = "/".join(part for part in entry.name.split("/") if part != ".")
            if entry.isdir() or not path:
                continue
            if any(is_litter(part) for part in path.split("/") if part != ".."):
                found.ignored += 1
                continue
            if reason := refusal(entry) or ("a second entry of the same name" if path in seen else ""):
                found.skipped.append(Skipped(f"{name}/{path}", reason))
                continue
            seen.add(path)
            key, _, kind = _parts(path)
            found.places[path] = Place(entry.offset_data, entry.size)
            if content is not None:
                found.said.setdefault(key, {}).update(_said(kind, content))
            else:
                found.files.append((path, key))
        return found


def archives(tree: Tree) -> list[str]:
    """The tar files of a tree that holds nothing else but what describes them; none where it holds more."""
    named = [file for file in tree.files if file.lower().endswith(SUFFIX)]
    others = [file for file in tree.files if not file.lower().endswith((SUFFIX, *_BESIDE))]
    return [] if others else sorted(named)


def find(tree: Tree, storage: Storage, source: str, columns: Columns) -> ImageTable | None:
    """The images inside the tar files of a tree; None where there are none, or they hold no samples.

    Args:
        tree: All files.
        storage: Where their content comes from.
        source: What the user pointed at.
        columns: What he said of it.

    Raises:
        SourceError: A file that is called so is no tar file.
    """
    names = archives(tree)
    return of_samples(looked_at(names, storage), tree, storage, source, columns) if names else None


def of_samples(
    found: Mapping[str, Archive], tree: Tree, storage: Storage, source: str, columns: Columns
) -> ImageTable | None:
    """The same of archives that were looked at already."""
    names = list(found)
    images = [(archive, key) for archive in found.values() for _, key in archive.images]
    if not images or 2 * sum(key in archive.said for archive, key in images) < len(images):
        return None
    fields = list(dict.fromkeys(name for archive in found.values() for said in archive.said.values() for name in said))
    if columns.label is None and "cls" in fields:
        columns = replace(columns, label="cls")
    inside = TarSet(storage, packed({name: archive.places for name, archive in found.items()}))
    splits = {name: split_of_file(name) for name in names}
    if len(names) == 1 or None in splits.values():
        splits = dict.fromkeys(names)
    notes = [*tree.notes, f"Read as WebDataset, of {counted(len(names), 'tar file')}: {listed(names, 3)}."]
    said = Records(("path", *fields), tuple(_records(found)), unit="sample")
    paths = [str(record["path"]) for _, record in said.rows]
    understood = understand(said, source, replace(columns, path="path"), "", lambda: paths)
    rows = [replace(row, split=row.split or splits[_archive_of(row.path, names)]) for row in understood.rows]
    skipped = [*tree.skipped, *(skip for archive in found.values() for skip in archive.skipped), *understood.skipped]
    for name, archive in found.items():
        skipped += [Skipped(f"{name}/{path}", "no image") for path, _ in archive.files if not looks_like_image(path)]
        alone = archive.said.keys() - {key for _, key in archive.images}
        skipped += [Skipped(f"{name}/{key}", "a sample without an image") for key in sorted(alone)]
    ignored = tree.ignored + sum(archive.ignored for archive in found.values())
    return ImageTable(
        source, inside, tuple(rows), tuple(skipped), ignored, (*notes, *understood.notes), task=understood.task
    )


def looked_at(names: list[str], storage: Storage) -> dict[str, Archive]:
    """What is in each of some archives.

    Raises:
        SourceError: One is no tar file.
    """
    results = Threads(min(_AT_ONCE, len(names))).run(_Look(storage), names)
    found: dict[str, Archive] = {}
    for name, result in zip(names, results, strict=True):
        if isinstance(result, Exception):
            raise SourceError(str(result)) from result
        found[name] = result
    return found


def files_inside(found: Mapping[str, Archive], storage: Storage) -> tuple[TarSet, list[Row], list[Skipped], int]:
    """All files of some archives: where they are, a row for each, those that cannot be used, how many are hidden."""
    rows = [Row(f"{name}/{path}") for name, archive in found.items() for path in archive.places]
    skipped = [skip for archive in found.values() for skip in archive.skipped]
    inside = TarSet(storage, packed({name: archive.places for name, archive in found.items()}))
    return inside, rows, skipped, sum(archive.ignored for archive in found.values())


def _records(found: Mapping[str, Archive]) -> Iterator[tuple[int, Entry]]:
    number = 0
    for name, archive in found.items():
        for path, key in archive.images:
            number += 1
            yield number, {"path": f"{name}/{path}", **archive.said.get(key, {})}


def _parts(path: str) -> tuple[str, str, str]:
    """The key of the sample of a file, its name, and its ending without a dot, in lower case."""
    folder, _, name = path.rpartition("/")
    stem, _, kind = name.partition(".")
    return f"{folder}/{stem}" if folder else stem, name, kind.lower()


def _is_label(path: str) -> bool:
    return _parts(path)[2] in _LABELS


def _said(kind: str, content: bytes) -> dict[str, object]:
    """What the file beside an image says of it, by names."""
    text = content.decode("utf-8", "replace").strip()
    if kind != "json":
        return {kind: text} if text else {}
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(record, dict):
        return {"label": record} if isinstance(record, str | int) else {}
    return {
        str(name): value
        for name, value in record.items()
        if name != "path" and isinstance(value, str | int | float | bool)
    }


def _archive_of(path: str, names: list[str]) -> str:
    return next(name for name in (str(parent) for parent in PurePosixPath(path).parents) if name in names)
