"""The learning curves: as a table, and as a picture."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from headstart.runs.details import Epoch

COLUMNS = (
    "epoch", "train_loss", "validation_loss", "train_accuracy", "validation_accuracy", "lr", "seconds",
)  # fmt: skip
TRAIN, VALIDATION = "#1f6f8b", "#d1495b"
WIDTH_IN, HEIGHT_IN = 4.2, 3.4  # of one picture


def history_csv(history: Sequence[Epoch]) -> str:
    """The numbers of each epoch; epoch 0 is the start, before any step."""
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in history:
        writer.writerow({name: _cell(getattr(row, name)) for name in COLUMNS})
    return buffer.getvalue()


def curves_png(history: Sequence[Epoch], best_epoch: int) -> bytes:
    """A picture of loss, accuracy and learning rate over the epochs."""
    from matplotlib.ticker import MaxNLocator

    figure, (loss, accuracy, rate) = _figure(3)
    for axes, name, scale in ((loss, "loss", 1), (accuracy, "accuracy", 100)):
        for phase, colour in (("train", TRAIN), ("validation", VALIDATION)):
            values = [(row.epoch, getattr(row, f"{phase}_{name}")) for row in history]
            points = [(epoch, scale * value) for epoch, value in values if value is not None]
            axes.plot(*zip(*points, strict=True), color=colour, marker="o", markersize=3, label=phase)
        axes.axvline(best_epoch, color="grey", linewidth=0.8, linestyle="--", label="best epoch")
        axes.set(title=f"{name.capitalize()}{' in %' if scale == 100 else ''}", xlabel="epoch")
        axes.legend(frameon=False, fontsize=8)
    steps = [(row.epoch, row.lr) for row in history if row.lr is not None]
    rate.plot(*zip(*steps, strict=True), color=TRAIN, marker="o", markersize=3)
    rate.set(title="Learning rate at the end of the epoch", xlabel="epoch")
    rate.ticklabel_format(axis="y", style="sci", scilimits=(-2, 2))
    for axes in (loss, accuracy, rate):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return _png(figure)


def range_png(points: Sequence[tuple[float, float]], chosen: float) -> bytes:
    """A picture of the range test: the smoothed loss over the learning rate, and the one that was chosen."""
    figure, (axes,) = _figure(1)
    axes.plot(*zip(*points, strict=True), color=TRAIN)
    axes.axvline(chosen, color=VALIDATION, linestyle="--", label=f"chosen: {chosen:.1e}")
    axes.set(title="Range test", xlabel="learning rate", ylabel="smoothed loss", xscale="log")
    axes.legend(frameon=False)
    return _png(figure)


def _figure(count: int) -> tuple[Figure, Sequence[Axes]]:
    # Not pyplot, which keeps figures and looks for a screen.
    from matplotlib.figure import Figure

    width, height = WIDTH_IN * count, HEIGHT_IN
    figure = Figure(figsize=(width, height))
    axes = figure.subplots(1, count, squeeze=False)[0]
    # Fixed margins: a layout that asks how large its labels are draws all of it twice, a tenth of a second.
    left, right, between, bottom, top = (0.8, 0.15, 0.6, 0.55, 0.55)  # inches; the names of the axes are outside
    inside = (width - left - right - between * (count - 1)) / count
    figure.subplots_adjust(left / width, bottom / height, 1 - right / width, 1 - top / height, wspace=between / inside)
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)
        one.grid(alpha=0.3)
    return figure, axes


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
