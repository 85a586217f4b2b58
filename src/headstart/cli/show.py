"""How an evaluation is shown to people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headstart.core.tables import resolve
from headstart.core.text import counted, quoted
from headstart.targets import TARGETS

if TYPE_CHECKING:
    from headstart.cli.output import Output
    from headstart.evaluation import Evaluation

MAX_CLASSES_SHOWN = 20
MAX_CONFUSIONS_SHOWN = 5
MAX_MATRIX_CLASSES = 12


def show_evaluation(
    output: Output, evaluation: Evaluation, where: str, without_leaks: Evaluation | None = None, *, task: str
) -> None:
    """Print an evaluation in the words of its task; see `show_classes` for the arguments."""
    if not output.quiet:
        resolve(TARGETS[task].show)(output, evaluation, where, without_leaks)


def show_plain(output: Output, evaluation: Evaluation, where: str, without_leaks: Evaluation | None = None) -> None:
    """The headline alone, for a task that prints nothing more."""
    output.say(f"{evaluation.headline} on {evaluation.n:,} {where}")


def show_classes(output: Output, evaluation: Evaluation, where: str, without_leaks: Evaluation | None = None) -> None:
    """Print the headline, the numbers behind it, the classes and the confusions.

    Args:
        output: Where to.
        evaluation: What is shown.
        where: The images that were measured, in words.
        without_leaks: The same without leaked images.
    """
    low, high = evaluation.accuracy_interval
    output.say(
        f"Accuracy {as_percent(evaluation.accuracy)} (95 % interval {as_percent(low)} to {as_percent(high)}): "
        f"{evaluation.correct:,} of {evaluation.n:,} {where} correct"
    )
    if without_leaks is not None:
        low, high = without_leaks.accuracy_interval
        output.say(
            f"Trust this one: {as_percent(without_leaks.accuracy)} "
            f"(95 % interval {as_percent(low)} to {as_percent(high)}), without "
            f"{counted(evaluation.n - without_leaks.n, 'leaked image')}: the model was trained on a copy, a near "
            "duplicate, or an image of the same group"
        )
    balanced = evaluation.balanced_accuracy_interval
    output.say(
        f"Balanced accuracy {as_percent(evaluation.balanced_accuracy)} ({as_range(balanced)}), "
        f"macro F1 {evaluation.macro_f1:.3f}, log loss {evaluation.log_loss:.3f}"
    )
    output.say(
        f"Calibration error {as_percent(evaluation.calibration_error)} "
        f"({as_range(evaluation.calibration_error_interval)}; before temperature scaling "
        f"{as_percent(evaluation.calibration_error_uncalibrated)})"
    )
    output.say()
    _show_classes(output, evaluation)
    _show_confusions(output, evaluation)


def _show_classes(output: Output, evaluation: Evaluation) -> None:
    shown = sorted(evaluation.classes, key=lambda one: (one.recall is None, one.recall or 0))[:MAX_CLASSES_SHOWN]
    kept = [one for one in evaluation.classes if one in shown]
    rows = [
        [
            one.label,
            f"{one.images:,}",
            as_percent(one.recall),
            as_range(one.recall_interval),
            as_percent(one.precision),
        ]
        for one in kept
    ]
    output.table(["Class", "Images", "Recall", "95 % interval", "Precision"], rows, right=(1, 2, 3, 4))
    if len(kept) < len(evaluation.classes):
        output.say(f"The {len(kept)} classes with the lowest recall of {len(evaluation.classes):,}; --json lists all.")


def _show_confusions(output: Output, evaluation: Evaluation) -> None:
    labels = [one.label for one in evaluation.classes]
    mistakes = sorted(
        ((count, labels[i], labels[j]) for i, j, count in evaluation.confusion if i != j),
        reverse=True, key=lambda one: one[0],
    )  # fmt: skip
    output.say()
    if not mistakes:
        output.say("No image was misclassified.")
    elif len(labels) <= MAX_MATRIX_CLASSES:
        cells = {(i, j): f"{count:,}" for i, j, count in evaluation.confusion}
        places = range(len(labels))
        rows = [[label, *(cells.get((i, j), "·") for j in places)] for i, label in enumerate(labels)]
        output.table(["True class / predicted", *labels], rows, right=range(1, len(labels) + 1))
    else:
        output.say("Most frequent mistakes (true class -> predicted):")
        for count, true, predicted in mistakes[:MAX_CONFUSIONS_SHOWN]:
            output.say(f"  {count:,} x {quoted(true)} -> {quoted(predicted)}")
        if (left := len(mistakes) - MAX_CONFUSIONS_SHOWN) > 0:
            output.say(f"  and {left:,} more (--json lists all)")


def as_percent(share: float | None) -> str:
    """A share as a percentage; a dash for none."""
    return "-" if share is None else f"{100 * share:.1f} %"


def as_range(interval: tuple[float, float] | None) -> str:
    """An interval of shares in percent; a dash for none."""
    return "-" if interval is None else f"{100 * interval[0]:.1f} to {100 * interval[1]:.1f} %"
