"""The charts of a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from headstart.core.text import counted
from headstart.evaluation.calibration import Bin
from headstart.evaluation.label_curves import ThresholdCurve
from headstart.evaluation.learning_curve import LearningCurve
from headstart.report.analysed import NoCurve
from headstart.report.charts import Chart, empty
from headstart.report.render import interval, percent
from headstart.runs.details import Epoch

MAP_WIDTH = 640
_MAP_MARGIN = 14
_EVERY = 2  # steps of a threshold that are drawn: a line of a hundred points is smooth
_MIN_SHARE, _MAX_SHARE = 0.35, 0.9  # of the map's width, its height


def training(history: Sequence[Epoch], best_epoch: int | None) -> list[Chart]:
    """Loss and accuracy over the epochs; none where no network was trained."""
    charts = []
    for name, percents in (("loss", False), ("accuracy", True)):
        curves = {
            phase: [(row.epoch, value) for row in history if (value := getattr(row, f"{phase}_{name}")) is not None]
            for phase in ("train", "validation")
        }
        values = [value for curve in curves.values() for _, value in curve]
        if not values:
            continue
        epochs = [row.epoch for row in history]
        chart = empty(
            f"{name.capitalize()} by epoch",
            (min(epochs), max(epochs)),
            (min(0.0, *values), max(values)) if name == "loss" else (max(0.0, 1.1 * min(values) - 0.1), 1.0),
            x_label="epoch",
            y_label=name,
            x_whole=True,
            y_percent=percents,
        )
        if best_epoch is not None:
            chart.rule(best_epoch, "best")
        for number, (phase, curve) in enumerate(curves.items()):
            if curve:
                chart.line(curve, f"s{number}")
                chart.key.append((f"s{number}", phase))
            for epoch, value in curve:
                words = percent(value) if percents else f"{value:.3f}"
                chart.point(epoch, value, f"s{number}", f"{phase} {name} after epoch {epoch}: {words}", radius=3)
        charts.append(chart)
    return charts


def reliability(bins: Sequence[Bin], of: str = "prediction") -> Chart:
    """The reliability diagram, with intervals.

    Args:
        bins: Its bars.
        of: What they hold: ``prediction`` of a class, or ``pair`` of an image and a label.
    """
    title, y_label, held, came_true = (
        ("accuracy of the predictions by their probability", "accuracy", "predictions", "correct")
        if of == "prediction"
        else ("how often labels are true by their probability", "share that is true", "pairs", "true")
    )
    chart = empty(
        f"Reliability diagram: {title}",
        (0, 1),
        (0, 1),
        x_label="predicted probability",
        y_label=y_label,
        x_percent=True,
        y_percent=True,
    )
    chart.line([(0, 0), (1, 1)], "diagonal")
    most = max((one.images for one in bins), default=1)
    for one in bins:
        low, high = one.accuracy_interval
        chart.whisker(one.confidence, low, high, "s0")
        words = (
            f"{counted(one.images, of)} of {percent(one.confidence)} on average: "
            f"{percent(one.accuracy)} {came_true} ({interval(one.accuracy_interval)})"
        )
        chart.point(one.confidence, one.accuracy, "s0", words, radius=3 + 4 * (one.images / most) ** 0.5)
    chart.key = [
        ("diagonal", "perfect calibration"),
        ("s0", f"{held}, with 95 % interval"),
    ]
    return chart


def thresholds(curve: ThresholdCurve, threshold: float) -> Chart:
    """Precision, recall and F1 of a label by its threshold.

    Args:
        curve: What each threshold finds.
        threshold: The one that the model has, where a line stands.
    """
    chart = empty(
        "Precision, recall and F1 by threshold",
        (0, 1),
        (0, 1),
        x_label="threshold",
        y_label="share",
        y_percent=True,
    )
    steps = list(zip(curve.cuts, curve.correct, curve.found, strict=True))[::_EVERY]
    chart.line([(cut, correct / found) for cut, correct, found in steps if found], "s0")
    chart.line([(cut, correct / curve.positives) for cut, correct, _ in steps], "s1")
    chart.line([(cut, 2 * correct / (curve.positives + found)) for cut, correct, found in steps], "s2 dashed")
    chart.rule(threshold, "best")
    chart.key = [("s0", "precision"), ("s1", "recall"), ("s2 dashed", "F1"), ("best dashed", "threshold")]
    return chart


def growth(curve: LearningCurve | NoCurve) -> Chart | None:
    """A learning curve, and the forecast for twice as many images; None where nothing is known."""
    if isinstance(curve, NoCurve) or not curve.points:
        return None
    points = curve.points
    ends = [end for point in points for end in point.interval] + list(curve.interval or [])
    sizes = [point.images for point in points]
    known = curve.accuracy is not None and curve.interval is not None
    last = curve.twice if known else sizes[-1]
    chart = empty(
        f"{curve.measure.capitalize()} on held-out images by the number of training images",
        (sizes[0] * 0.9, last * 1.1),
        (max(0.0, min(ends) - 0.02), min(1.0, max(ends) + 0.02)),
        x_label="training images",
        y_label=curve.measure,
        y_percent=True,
        x_log=True,
        x_values=[*sizes, *([last] if known else [])],
    )
    chart.line([(point.images, point.accuracy) for point in points], "s0")
    for point in points:
        low, high = point.interval
        chart.whisker(point.images, low, high, "s0")
        words = f"{point.images:,} images: {percent(point.accuracy)} ({interval(point.interval)})"
        chart.point(point.images, point.accuracy, "s0", words)
    chart.key.append(("s0", "measured, with 95 % interval"))
    if curve.accuracy is not None and curve.interval is not None:
        chart.line([(sizes[-1], points[-1].accuracy), (last, curve.accuracy)], "s1 dashed")
        low, high = curve.interval
        chart.whisker(last, low, high, "s1")
        words = f"forecast for {last:,} images: {percent(curve.accuracy)} ({interval(curve.interval)})"
        chart.point(last, curve.accuracy, "s1", words)
        chart.key.append(("s1", "forecast, with 95 % interval"))
    return chart


@dataclass(frozen=True)
class Drawing:
    """The size of the map, and the places of its points on it."""

    width: int
    height: int
    places: list[tuple[float, float]]


def map_of(points: Sequence[tuple[int, float, float]]) -> Drawing:
    """Where the points of the map go.

    Args:
        points: An image and its two coordinates.
    """
    xs, ys = [point[1] for point in points], [point[2] for point in points]
    # The longer side lies across.
    across, up = (xs, ys) if not points or max(xs) - min(xs) >= max(ys) - min(ys) else (ys, xs)
    width = max(across, default=1.0) - min(across, default=0.0) or 1.0
    share = (max(up, default=1.0) - min(up, default=0.0)) / width
    share = min(max(share, _MIN_SHARE), _MAX_SHARE)
    inner = MAP_WIDTH - 2 * _MAP_MARGIN
    left, bottom = min(across, default=0.0), min(up, default=0.0)
    tall = max(up, default=1.0) - bottom or 1.0
    places = [
        (
            round(_MAP_MARGIN + (x - left) / width * inner, 1),
            round(_MAP_MARGIN + (y - bottom) / tall * inner * share, 1),
        )
        for x, y in zip(across, up, strict=True)
    ]
    return Drawing(MAP_WIDTH, round(inner * share + 2 * _MAP_MARGIN), places)
