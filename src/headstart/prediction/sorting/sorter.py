"""Places images in class folders as they are predicted."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from headstart.core.appending import GrowingFile
from headstart.core.errors import OptionError, StorageError
from headstart.core.files import leftovers, make_folder, refuse_unwritable, storage_error
from headstart.core.foldernames import folder_names
from headstart.core.text import quoted
from headstart.data.inputs import STANDARD_INPUT
from headstart.data.table import ImageTable, Skipped
from headstart.prediction.record import Wanted
from headstart.prediction.sorting.journal import UNDO_FILE, Moved, Step, entries_in
from headstart.prediction.sorting.placing import (
    By,
    content_digest,
    free_names,
    is_placed,
    is_same_file,
    is_seen_twice,
    place,
    refuse_below,
    refuse_inside,
)
from headstart.targets import TARGETS

if TYPE_CHECKING:
    from headstart.core.errors import ImageError
    from headstart.prediction.answers import Prediction

# No class has a folder whose name begins so.
UNFAMILIAR, AMBIGUOUS = "_unfamiliar", "_ambiguous"


class Sorter:
    """Places images in class folders. A context manager that locks the folder.

    Args:
        folder: Where the class folders are.
        by: How a file gets there.
        classes: Of the model.
        wanted: What is asked of each prediction: where no class is to be named, none is sorted into.

    Attributes:
        sorted: How many images went into each folder, by its name; those that were there from an earlier run count.
        left: Images that stay where they are, with reasons.
    """

    def __init__(self, folder: Path, by: By, classes: tuple[str, ...], wanted: Wanted) -> None:
        self.folder, self.by, self._wanted = folder, by, wanted
        self._folders = folder_names(classes)
        self._earlier: dict[str, str] = {}  # targets, by their absolute source
        self._begun: dict[str, Step] = {}  # moves that may be half done, by the same
        self._numbers = Counter[Path]()
        self._stack = contextlib.ExitStack()
        self.sorted = Counter[str]()
        self.left: list[Skipped] = []

    def prepare(self, table: ImageTable, given: Iterable[str] = ()) -> None:
        """Refuse images or folders that cannot be sorted, before any work; nothing is changed.

        Args:
            table: The images.
            given: The paths that name them.

        Raises:
            StorageError: The folder cannot be written, an image lies in it, or it lies in a folder of images.
            OptionError: An image is no file, or has any number of labels.
        """
        if not TARGETS[self._wanted.task].exclusive:
            raise OptionError(
                "Images are sorted by their class, and this model gives any number of labels.",
                "Write them to a file: --out predictions.csv.",
            )
        refuse_unwritable(self.folder)
        for row in table.rows:
            if row.path == STANDARD_INPUT:
                raise OptionError("The image on standard input is not a file that can be sorted.", "Give its path.")
            refuse_inside(row.path, self.folder)
        for path in given:
            refuse_below(self.folder, path)

    def __enter__(self) -> Sorter:
        make_folder(self.folder)
        with contextlib.ExitStack() as stack:
            self._undo = stack.enter_context(GrowingFile(self.folder / UNDO_FILE))
            self._read_undo_file()
            for name in {*self._folders.values(), UNFAMILIAR, AMBIGUOUS}:
                with contextlib.suppress(OSError):  # of a process that was killed
                    for temporary in leftovers(self.folder / name):
                        temporary.unlink(missing_ok=True)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _read_undo_file(self) -> None:
        moves: dict[str, Step] = {}  # that are not known to be complete, by their target
        for entry in entries_in(self.folder, self._undo.lines()):
            if isinstance(entry, Moved):
                moves.pop(entry.moved, None)
                continue
            self._earlier[entry.source] = entry.target
            if entry.by == "move":
                moves[entry.target] = entry
        for step in moves.values():
            if os.path.lexists(step.source):
                self._begun[step.source] = step
            else:  # killed before the line was written: it is now, as another file may come to that place
                self._undo.append(Moved(step.target).line())

    def sorting(
        self, predictions: Iterator[tuple[str, Prediction | ImageError]]
    ) -> Iterator[tuple[str, Prediction | ImageError]]:
        """Place each image as its prediction arrives, and pass the prediction on.

        Raises:
            StorageError: A file cannot be put where it belongs; it is where it was.
        """
        for path, result in predictions:
            if isinstance(result, Exception):
                self.left.append(Skipped(path, str(result)))
            elif self.by == "move" and os.path.islink(path):  # noqa: PTH114
                self.left.append(Skipped(path, "a link; links are not moved"))
            else:
                self._sort(Path(path), self._folder_of(result))
            yield path, result

    def lacks(self, path: str) -> bool:
        """Whether no earlier run has put an image into its folder; where one has, the image counts."""
        if (folder := self._placed_in(Path(path))) is None:
            return True
        self.sorted[folder] += 1
        return False

    def _placed_in(self, source: Path) -> str | None:
        """The folder into which an earlier run has copied or linked an image."""
        earlier = self._earlier.get(os.path.abspath(source))  # noqa: PTH100  lexical: links are the user's own
        # What is to be moved and is there has not been moved, or is another file of that name.
        if earlier is None or self.by == "move" or not is_placed(source, self.folder / earlier, self.by):
            return None
        return earlier.split("/")[0]

    def _is_half_moved(self, step: Step) -> bool:
        """Whether a file has its new name and still has its old one, since the move was killed in between."""
        source, target = Path(step.source), self.folder / step.target
        if is_same_file(source, target):
            return True
        # Across disks it is a copy, which got its name when it was whole.
        copied = not target.is_symlink() and content_digest(target) == step.digest == content_digest(source)
        return copied and not is_seen_twice(source, target)

    def _folder_of(self, prediction: Prediction) -> str:
        if prediction.familiar is False:
            return UNFAMILIAR
        return AMBIGUOUS if self._wanted.reason(prediction) else self._folders[prediction.label]

    def _sort(self, source: Path, name: str) -> None:
        absolute = os.path.abspath(source)  # noqa: PTH100  lexical: links are the user's own
        if (folder := self._placed_in(source)) is not None:
            if folder == name:
                self.sorted[name] += 1
            else:
                self.left.append(
                    Skipped(str(source), f"in {quoted(folder)} from an earlier run; it would now go to {quoted(name)}")
                )
            return
        if self.by == "move" and (step := self._begun.pop(absolute, None)) is not None and self._is_half_moved(step):
            source.unlink()
            self._undo.append(Moved(step.target).line())
            self.sorted[step.target.split("/")[0]] += 1
            return
        if (digest := content_digest(source)) is None:
            self.left.append(Skipped(str(source), "no longer there"))
            return
        make_folder(self.folder / name)
        wanted = self.folder / name / source.name
        for target in free_names(wanted.parent, wanted.name, self._numbers[wanted]):
            self._numbers[wanted] += 1
            if os.path.lexists(target):
                continue
            relative = target.relative_to(self.folder).as_posix()
            self._undo.append(Step(by=self.by, source=absolute, target=relative, digest=digest).line())
            try:
                place(source, target, self.by)
            except FileExistsError:  # another program was faster
                continue
            except OSError as error:
                raise storage_error(error, target) from error
            if self.by == "move":
                self._undo.append(Moved(relative).line())
            self.sorted[name] += 1
            return
        raise StorageError(
            f"{quoted(str(wanted.parent))} contains too many files named {quoted(wanted.name)}.",
            "Sort into another folder.",
        )
