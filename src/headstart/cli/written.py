"""What `predict` writes besides what it prints: a file of predictions, and images in class folders."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.cli.signals import set_hint
from headstart.core.errors import OptionError
from headstart.core.text import counted, listed, portable, quoted
from headstart.prediction.resultfiles import FORMS
from headstart.prediction.resultfiles.growing import PredictionFile
from headstart.prediction.resultfiles.made import Made

if TYPE_CHECKING:
    from headstart.cli.output import Output
    from headstart.prediction.classifier import Classifier
    from headstart.prediction.record import Wanted
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
            f"{quoted(out.name)} does not say in which form to write; expected a name that ends in "
            f"{listed(spec.suffix for spec in FORMS.values())}.",
            "Choose such a name, or the form with --format.",
        )
    set_hint("What was predicted is in the file. Run the same command with --resume to go on.", record=str(out))
    return PredictionFile(out, Made.by(classifier, form, wanted), wanted)


def told_of_file(file: PredictionFile | None, output: Output) -> dict[str, Any]:
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


def told_of_sorting(sorter: Sorter | None, output: Output) -> dict[str, Any]:
    """Say what was sorted; the keys of the JSON document that say so."""
    if sorter is None:
        return {}
    folder = str(sorter.folder)
    output.table(
        ["Folder", "Images"], [[name, f"{count:,}"] for name, count in sorted(sorter.sorted.items())], right=(1,)
    )
    if sorter.left:
        output.note("Left where they are:")
        output.skipped(sorter.left)
    output.say(f"Undo: headstart unsort {quoted(folder)}")
    return {
        "sorted": {
            "into": portable(folder),
            "by": sorter.by,
            "folders": {portable(name): count for name, count in sorted(sorter.sorted.items())},
            "left": [skip.as_dict() for skip in sorter.left],
        }
    }
