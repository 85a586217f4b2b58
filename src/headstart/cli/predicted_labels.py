"""What a terminal shows of predictions where an image has any number of labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headstart.cli.predicted import tell_unfamiliar
from headstart.core.errors import ImageError

if TYPE_CHECKING:
    from headstart.cli.output import Output
    from headstart.prediction.classifier import Classifier
    from headstart.prediction.labels import LabelsPrediction
    from headstart.prediction.record import Wanted


def table(
    predictions: list[tuple[str, LabelsPrediction | ImageError]],
    wanted: Wanted,
    classifier: Classifier,
    output: Output,
) -> int:
    """Print the labels of each image with their probabilities, and those that come next."""
    results = [result for _, result in predictions if not isinstance(result, ImageError)]
    unfamiliar = sum(result.familiar is False for result in results)
    header = ["Image", "Labels", *(["Familiar"] if unfamiliar else [])]
    rows = []
    for path, result in predictions:
        if isinstance(result, ImageError):
            rows.append([path, *[""] * (len(header) - 1), f"not read: {result}"])
            continue
        named = wanted.reason(result) is None
        own = [(label, value) for label, value in result.probabilities if label in result.labels]
        cells = [path, (_words(own) or "none") if named else ""]
        cells += ["yes" if result.familiar else "NO"] if unfamiliar else []
        rows.append([*cells, _words([pair for pair in result.top if pair not in own])])
    output.table([*header, "Next most likely"], rows)
    tell_unfamiliar(unfamiliar, classifier, output)
    return len(predictions) - len(results)


def _words(pairs: list[tuple[str, float]]) -> str:
    return ", ".join(f"{label} {100 * value:.1f} %" for label, value in pairs)
