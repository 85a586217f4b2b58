"""Readers turn a source into an image table. A new kind of source is one file here and one row below."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from headstart.core.arguments import must_be, must_be_path, refused
from headstart.core.errors import OptionError, SourceError
from headstart.core.tables import resolve
from headstart.core.text import listed, nearest, quoted
from headstart.data.several import MULTI_LABEL
from headstart.data.urls import is_url

if TYPE_CHECKING:
    from headstart.data.table import ImageTable


@dataclass(frozen=True, kw_only=True)
class ReaderSpec:
    """What the others know of a reader.

    Attributes:
        read: What reads a source, as ``module:function(path, columns) -> ImageTable``.
        ends: How the names of its files end, in lower case; empty for those of folders and of URLs.
        expected: What a source of this kind should have held, where it holds no image.
    """

    read: str
    ends: tuple[str, ...] = ()
    expected: str


_FOLDERS = "Expected a folder for each class with its images inside: cats/1.jpg, dogs/2.jpg."
_LINES = "Expected a line for each image with its path and its label, below a first line path,label."
READERS = {
    "folder": ReaderSpec(read="headstart.data.readers.class_folders:read", expected=_FOLDERS),
    "list": ReaderSpec(
        read="headstart.data.readers.manifest:read", ends=(".csv", ".tsv", ".jsonl", ".json", ".txt"), expected=_LINES
    ),
    "parquet": ReaderSpec(read="headstart.data.readers.parquet:read", ends=(".parquet",), expected=_LINES),
    "zip": ReaderSpec(read="headstart.data.readers.zipped:read", ends=(".zip",), expected=_FOLDERS),
    "tar": ReaderSpec(
        read="headstart.data.readers.tarred:read",
        ends=(".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz"),
        expected=_FOLDERS,
    ),
    "url": ReaderSpec(read="headstart.data.readers.remote:read", expected=_FOLDERS),
}
# What a folder or an archive may hold that is neither class folders nor a list: whoever knows it gives its table, the
# others None, as ``module:function(tree, storage, source, columns) -> ImageTable | None``.
CONTENTS = {
    "idx": "headstart.data.readers.idx:find",
    "parquet": "headstart.data.readers.parquet:find",
    "webdataset": "headstart.data.readers.webdataset:find",
}

# What people also have, and what to do with it.
_OTHERS = {
    (".xlsx", ".xls", ".ods"): "Save the sheet as CSV (UTF-8), and point at that.",
    (".rar", ".7z"): "Unpack it first, or pack it as .zip.",
    (".npy", ".npz", ".h5", ".hdf5", ".mat", ".pkl", ".pickle", ".pt"): "Save the arrays as image files (PNG), a "
    "folder for each class.",
    (".tfrecord", ".tfrecords", ".arrow", ".mdb", ".lmdb"): "Export the images as files, a folder for each class.",
    (".xml", ".yaml", ".yml"): "Export one class for each image, as CSV with path,label: annotations of places in "
    "images (CVAT, Pascal VOC, YOLO) are not read.",
    ("-ubyte", "-ubyte.gz"): "Point at its folder, which holds the images and their labels.",
}


TASKS = ("classes", MULTI_LABEL)
MAX_LEVEL = 16  # folders deep that a class may lie


@dataclass(frozen=True, kw_only=True)
class Columns:
    """How a source is to be read: a list by its columns, or a tree of folders by folder levels or file names.

    Attributes:
        path: Column of the image's path; None for one of a known name, as for the others.
        label: Column of its class.
        split: Column of its split (``train``, ``val``, ``test``); may be absent from the file.
        group: Column of its group; may be absent from the file.
        root: Folder that the paths are relative to and may not leave; None is the manifest's own folder.
        encoding: Of its text, as Python calls it; None for UTF-8, or UTF-16 where it is marked.
        label_pattern: Regular expression of a file's whole name, whose group ``label``, or else first group, is the
            class; None where folders are.
        class_level: Which folder is the class: 1 for those at the top, or right below the split folders; None for
            the same where nothing speaks for another one.
        split_folders: Which folder at the top is which split, as ``train=FOLDER,test=FOLDER``; None for those that are
            called so.
        task: What a label is: ``classes`` or ``multi-label``; None for what the source shows.
        separator: What stands between the labels of a column of several; None for the first of ``|``, ``;``, ``,`` and
            a blank that occurs.
    """

    path: str | None = None
    label: str | None = None
    split: str | None = None
    group: str | None = None
    root: Path | None = None
    encoding: str | None = None
    label_pattern: str | None = None
    class_level: int | None = None
    split_folders: str | None = None
    task: str | None = None
    separator: str | None = None

    def __post_init__(self) -> None:
        for name in (
            "path",
            "label",
            "split",
            "group",
            "encoding",
            "label_pattern",
            "split_folders",
            "task",
            "separator",
        ):
            must_be(name, getattr(self, name), str | None, "a text")
        must_be("class_level", self.class_level, int | None, "a whole number")
        if self.task is not None and self.task not in TASKS:
            raise OptionError(
                f"There is no task {quoted(self.task)}; found are {listed(TASKS)}.", nearest(self.task, TASKS).strip()
            )
        if self.separator == "":
            raise OptionError("The separator of labels is empty.", "Give a sign, such as --label-separator ';'.")
        if self.root is not None:
            must_be_path("root", self.root)
            object.__setattr__(self, "root", Path(self.root))
        if self.class_level is not None and not 1 <= self.class_level <= MAX_LEVEL:
            raise OptionError(f"A class level of {self.class_level}; expected 1 to {MAX_LEVEL}.")
        if self.class_level is not None and self.label_pattern is not None:
            raise OptionError(
                "The class comes from a folder or from the file's name, not from both.", "Leave one of them out."
            )

    @property
    def by_list(self) -> bool:
        """Whether it is a list of images that is to be read."""
        return self.path is not None or self.label is not None

    @property
    def by_folders(self) -> bool:
        """Whether the classes are to be read from folders or from the names of files."""
        return (self.label_pattern, self.class_level, self.split_folders) != (None, None, None)

    def named(self) -> tuple[tuple[str, str | None], ...]:
        """Each name with its value, as text."""
        return tuple((one.name, None if (value := getattr(self, one.name)) is None else str(value))
                     for one in fields(self))  # fmt: skip

    @classmethod
    def of(cls, named: Mapping[str, str | None]) -> Columns:
        """The columns of what `named` gave; what is missing takes its default.

        Before columns were recognised, each had a name, its own where the user gave none.
        """
        root = named.get("root")
        level = named.get("class_level")
        names = {
            key: value
            for key, value in named.items()
            if value not in {None, key} and key not in {"root", "class_level"}
        }
        return cls(**names, root=Path(root) if root else None, class_level=int(level) if level else None)


class DataFrame(Protocol):
    """A table of pandas, which is not imported, or what behaves as one."""

    columns: Any
    index: Any

    def to_csv(self, *, index: bool) -> str:
        """Its rows as CSV."""
        ...


Source = str | os.PathLike[str] | DataFrame

_EXPECTED = (
    "Give a folder of class folders, a list (.csv, .tsv, .jsonl, .json, .txt, .parquet), or a .zip or .tar of either."
)


def read(source: Source, columns: Columns | None = None) -> ImageTable:
    """Read a source into an image table, without decoding any image.

    Args:
        source: A folder of class folders; a folder with ``train``, ``val`` and ``test``; a list in CSV, TSV, JSONL,
            JSON or Parquet, or of paths and classes (.txt); a zip or tar file of any of these; Parquet files with the
            images inside; a folder of IDX files; tar files of samples (WebDataset); or the URL of a prefix or a file in
            object storage (``s3://``). See docs/sources.md. Or a DataFrame, as the list that it is.
        columns: How it is to be read, if the source itself does not say.

    Raises:
        SourceError: There is no such source, or it holds no image.
        OptionError: The columns are no `Columns`.
    """
    must_be("columns", columns, Columns | None, "headstart.Columns", "For example headstart.Columns(label='species').")
    if not isinstance(source, str | os.PathLike):
        return _of_frame(source, columns or Columns())
    must_be_path("The source", source, SourceError)
    if not os.fspath(source):  # which would be the current folder
        raise SourceError("The name of the source is empty.", "Give a folder, a manifest or a zip file.")
    if is_url(source):
        return _with(READERS["url"], source, columns)
    path = Path(source)
    try:
        folder, exists, regular = path.is_dir(), path.exists(), path.is_file()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SourceError(f"{quoted(str(path))} cannot be opened: {reason}.") from error
    if not exists:
        raise SourceError(f"There is no file or folder {quoted(str(path))}.", _neighbour(path))
    reader = _reader(path.name.lower(), folder=folder)
    if reader is None or not (folder or regular):
        raise SourceError(
            f"{quoted(str(path))} is not a source of labelled images.",
            next((hint for ends, hint in _OTHERS.items() if path.name.lower().endswith(ends)), _EXPECTED),
        )
    return _with(reader, path, columns)


def _with(reader: ReaderSpec, source: Any, columns: Columns | None) -> ImageTable:
    table: ImageTable = resolve(reader.read)(source, columns or Columns())
    if not table.rows:
        raise SourceError(f"No labelled image found in {quoted(str(source))}{table.unused()}.", reader.expected)
    return replace(table, columns=(columns or Columns()).named())


def _reader(name: str, *, folder: bool) -> ReaderSpec | None:
    """The reader of a folder, or of a file of this name; None where there is none."""
    if folder:
        return READERS["folder"]
    return next((spec for spec in READERS.values() if spec.ends and name.endswith(spec.ends)), None)


def _of_frame(source: Any, columns: Columns) -> ImageTable:
    from headstart.data.readers import dataframe

    if not dataframe.is_one(source):
        raise refused("The source", source, "a path or a DataFrame", error=SourceError)
    table = dataframe.read(source, columns)
    if not table.rows:
        raise SourceError(
            f"No labelled image found in the DataFrame{table.unused()}.", "Expected a path and a label in each row."
        )
    return replace(table, columns=columns.named())


def _neighbour(path: Path) -> str:
    try:
        names = [entry.name for entry in path.parent.iterdir()]
    except OSError:
        return "Check the path."
    return nearest(path.name, names) or "Check the path."
