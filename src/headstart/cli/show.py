"""How an evaluation is shown to people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headstart.core.text import counted, quoted

if TYPE_CHECKING:
    from headstart.cli.output import Output
    from headstart.evaluation import Evaluation

MAX_CLASSES_SHOWN = 20
MAX_CONFUSIONS_SHOWN = 5
MAX_MATRIX_CLASSES = 12


def show_evaluation(
    output: Output, evaluation: Evaluation, where: str, without_leaks: Evaluation | None = None
) -> None:
    """Print the headline, the numbers behind it, the classes and the confusions.

    Args:
        output: Where to.
        evaluation: What is shown.
        where: The images that were measured, in words.
        without_leaks: The same without leaked images.
    """
    if output.quiet:
        return
    low, high = evaluation.accuracy_interval
    output.say(
        f"Accuracy {_percent(evaluation.accuracy)} (95 % interval {_percent(low)} to {_percent(high)}): "
        f"{evaluation.correct:,} of {evaluation.n:,} {where} correct"
    )
    if without_leaks is not None:
        low, high = without_leaks.accuracy_interval
        output.say(
            f"Trust this one: {_percent(without_leaks.accuracy)} (95 % interval {_percent(low)} to {_percent(high)}), "
            f"without {counted(evaluation.n - without_leaks.n, 'leaked image')}: the model was trained on a copy, a "
            "near duplicate, or an image of the same group"
        )
    balanced = evaluation.balanced_accuracy_interval
    output.say(
        f"Balanced accuracy {_percent(evaluation.balanced_accuracy)} ({_range(balanced)}), "
        f"macro F1 {evaluation.macro_f1:.3f}, log loss {evaluation.log_loss:.3f}"
    )
    output.say(
        f"Calibration error {_percent(evaluation.calibration_error)} ({_range(evaluation.calibration_error_interval)}; "
        f"before temperature scaling {_percent(evaluation.calibration_error_uncalibrated)})"
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
            _percent(one.recall),
            _range(one.recall_interval),
            _percent(one.precision),
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


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def _range(interval: tuple[float, float] | None) -> str:
    return "-" if interval is None else f"{100 * interval[0]:.1f} to {100 * interval[1]:.1f} %"
