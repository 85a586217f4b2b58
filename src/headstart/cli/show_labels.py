"""How an evaluation is shown where an image has any number of labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headstart.cli.show import as_percent, as_range
from headstart.core.text import counted

if TYPE_CHECKING:
    from headstart.cli.output import Output
    from headstart.evaluation.labels import LabelsEvaluation

MAX_LABELS_SHOWN = 30


def show(
    output: Output, evaluation: LabelsEvaluation, where: str, without_leaks: LabelsEvaluation | None = None
) -> None:
    """Print the headline, the numbers behind it, and each label; see `headstart.cli.show.show_evaluation`."""
    output.say(f"{_headline(evaluation)}, on {evaluation.n:,} {where}".rstrip(","))
    if without_leaks is not None:
        output.say(
            f"Trust this one: {_headline(without_leaks)}, without "
            f"{counted(evaluation.n - without_leaks.n, 'leaked image')}: the model was trained on a copy, a near "
            "duplicate, or an image of the same group"
        )
    output.say(
        f"All labels right: {as_percent(evaluation.exact_match)} ({as_range(evaluation.exact_match_interval)}), "
        f"{evaluation.exact:,} images; the commonest combination alone gets "
        f"{as_percent(evaluation.exact_match_by_frequency)}"
    )
    output.say(
        f"Micro F1 {_number(evaluation.micro_f1)} (by frequency {_number(evaluation.micro_f1_by_frequency)}), macro F1 "
        f"{_number(evaluation.macro_f1)} ({_number(evaluation.macro_f1_by_frequency)}), log loss "
        f"{evaluation.log_loss:.3f} ({evaluation.log_loss_by_frequency:.3f})"
    )
    output.say(
        f"Calibration error {as_percent(evaluation.calibration_error)} "
        f"({as_range(evaluation.calibration_error_interval)}; true probabilities would show "
        f"{as_percent(evaluation.calibration_error_by_chance)})"
    )
    output.say()
    shown = sorted(evaluation.labels, key=lambda one: (one.average_precision is None, one.average_precision or 0))
    shown = shown[:MAX_LABELS_SHOWN]
    kept = [one for one in evaluation.labels if one in shown]
    rows = [
        [
            one.label, f"{one.positives:,}", _number(one.average_precision), _between(one.average_precision_interval),
            _number(one.average_precision_by_frequency), f"{one.threshold:.2f}", _number(one.precision),
            _number(one.recall), _number(one.f1),
        ]
        for one in kept
    ]  # fmt: skip
    header = [
        "Label", "Images", "AP", "95 % interval", "Chance", "Cut", "Precision", "Recall", "F1",
    ]  # fmt: skip
    output.table(header, rows, right=range(1, len(header)))
    output.say(
        "AP: average precision, and what a random order would get. Cut: from this probability on an image has it."
    )
    if len(kept) < len(evaluation.labels):
        left = f"The {len(kept)} labels with the lowest average precision of {len(evaluation.labels):,}"
        output.say(f"{left}; --json lists all.")


def _headline(evaluation: LabelsEvaluation) -> str:
    return (
        f"Mean average precision {as_percent(evaluation.mean_average_precision)} (95 % interval "
        f"{as_range(evaluation.mean_average_precision_interval)}; by chance "
        f"{as_percent(evaluation.mean_average_precision_by_frequency)})"
    )


def _between(interval: tuple[float, float] | None) -> str:
    return "-" if interval is None else f"{interval[0]:.2f} to {interval[1]:.2f}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
