"""What `predict` writes besides what it prints: a file of predictions, and images in class folders."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from headstart.cli.signals import set_hint
from headstart.core.errors import OptionError
from headstart.core.text import counted, listed, portable, quoted
from headstart.prediction.resultfiles import FORMS
from headstart.prediction.resultfiles.growing import PredictionFile
from headstart.prediction.resultfiles.made import Made

if TYPE_CHECKING:
    from headstart.cli.output import Output
    from headstart.core.errors import ImageError
    from headstart.data.table import ImageTable
    from headstart.prediction.answers import Prediction
    from headstart.prediction.classifier import Classifier
    from headstart.prediction.record import Wanted
    from headstart.prediction.sorting.placing import By
    from headstart.prediction.sorting.sorter import Sorter


def file_of(out: Path, format: str | None, classifier: Classifier, wanted: Wanted) -> PredictionFile:
    """The file of predictions, in the form that was asked for, or that its name says.

    Raises:
        OptionError: The name says none, and none was asked for.
    """
    named = next((name for name, spec in FORMS.items() if out.suffix.lower() == spec.suffix), None)
    form = named if format is None else str(format)
    if form is None:
        raise OptionError(
            f"{quoted(out.name)} does not tell the format; expected a name that ends in "
            f"{listed(spec.suffix for spec in FORMS.values())}.",
            "Choose such a name, or give --format.",
        )
    file = PredictionFile(out, Made.by(classifier, form, wanted), wanted)
    set_hint(
        "The predictions so far are kept. Run the same command with --resume to continue.", record=str(file.growing)
    )
    return file


def sorter_of(folder: Path | None, by: By, classifier: Classifier, wanted: Wanted) -> Sorter | None:
    """What puts images into the class folders of a folder; None without one."""
    from headstart.prediction.sorting.sorter import Sorter

    return None if folder is None else Sorter(folder, by, classifier.classes, wanted)


@dataclass(frozen=True)
class Written:
    """What predictions are written to.

    Attributes:
        file: A file of predictions; None for none.
        sorter: What puts the images into class folders; None where that was not asked for.
    """

    file: PredictionFile | None
    sorter: Sorter | None

    def prepare(self, table: ImageTable, paths: Sequence[str], *, resume: bool, overwrite: bool) -> None:
        """Refuse what cannot be written, before any work.

        Args:
            table: The images.
            paths: As they were given.
            resume: Continue the file.
            overwrite: Replace the file.

        Raises:
            StorageError: It cannot, or is there already.
            OptionError: The file was written with other options.
        """
        if self.file is not None:
            self.file.prepare(resume=resume, overwrite=overwrite)
        if self.sorter is not None:
            self.sorter.prepare(table, paths)

    @contextmanager
    def opened(self, table: ImageTable) -> Iterator[ImageTable]:
        """Open what is written to; gives the images that are still to be predicted."""
        with ExitStack() as stack:
            if self.sorter is not None:  # first: a folder that another run sorts into leaves the file as it is
                stack.enter_context(self.sorter)
            again = None if self.sorter is None else self.sorter.lacks
            yield table if self.file is None else stack.enter_context(self.file).left(table, again=again)

    def adding(
        self, predictions: Iterator[tuple[str, Prediction | ImageError]]
    ) -> Iterator[tuple[str, Prediction | ImageError]]:
        """Write each prediction as it comes, and hand it on."""
        if self.file is not None:  # before it is sorted: what has been moved away is not found again
            predictions = self.file.adding(predictions)
        return predictions if self.sorter is None else self.sorter.sorting(predictions)

    def told(self, output: Output, *, aside: bool) -> dict[str, object]:
        """Say what was written; the keys of the JSON document that say so.

        Args:
            output: Where to say it.
            aside: What was sorted is said on standard error, since standard output holds lines for programs.
        """
        return _told_of_file(self.file, output) | _told_of_sorting(self.sorter, output, aside=aside)


def _told_of_file(file: PredictionFile | None, output: Output) -> dict[str, object]:
    """Say what is in the file of predictions; the keys of the JSON document that say so."""
    if file is None:
        return {}
    images = file.before.total() + file.added
    new = f" ({file.added:,} new)" if file.before else ""
    unread = f"; {file.unread:,} could not be read" if file.unread else ""
    output.say(f"{quoted(str(file.path))}: {counted(images, 'image')}{new}{unread}.")
    return {
        "out": portable(str(file.path)), "format": file.format, "images": images, "added": file.added,
        "unread": file.unread,
    }  # fmt: skip


def _told_of_sorting(sorter: Sorter | None, output: Output, *, aside: bool) -> dict[str, object]:
    """Say what was sorted; the keys of the JSON document that say so."""
    if sorter is None:
        return {}
    folder = str(sorter.folder)
    counts = [[name, f"{count:,}"] for name, count in sorted(sorter.sorted.items())]
    say = output.note if aside else output.say
    if aside:
        output.notes(f"{name}: {count}" for name, count in counts)
    else:
        output.table(["Folder", "Images"], counts, right=(1,))
    if sorter.left:
        output.note("Left where they are:")
        output.skipped(sorter.left)
    say(f"Undo: headstart unsort {quoted(folder)}")
    return {
        "sorted": {
            "into": portable(folder),
            "by": sorter.by,
            "folders": {portable(name): count for name, count in sorted(sorter.sorted.items())},
            "left": [skip.as_dict() for skip in sorter.left],
        }
    }
