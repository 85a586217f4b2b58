"""How long the linear head takes to fit, against scikit-learn's cross-validated logistic regression.

    python benchmarks/fit.py --sets 245x2 1119x2 1651x10 5000x100 20000x100 --width 1280

Embeddings are drawn here: classes that lie apart (easy) or over one another (hard), along axes whose lengths differ a
hundred times, as those of embeddings do. Each fit is a process of its own, and the sides take turns. Times are of the
fit alone; CPU seconds stand beside those of the clock, which others lengthen.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable

import numpy as np

from common import Process, cores, percent, print_table, run

NOISE = {"easy": 2.0, "hard": 8.0}
SIDES = ("headstart", "LogisticRegressionCV")
HELD_OUT = 2000
FOLDS = 5
Predict = Callable[[np.ndarray], np.ndarray]


def main() -> None:
    """Fit in turns, tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", default=["245x2", "1119x2", "1651x10"], help="images x classes")
    parser.add_argument("--noise", nargs="+", choices=NOISE, default=list(NOISE))
    parser.add_argument("--width", type=int, default=1280, help="of the embeddings")
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--once", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.once:
        print(json.dumps(once(options.once, options.sets[0], options.noise[0], options.width)))
        return
    rows = []
    for size in options.sets:
        for noise in options.noise:
            for side in options.sides:
                arguments = ["--once", side, "--sets", size, "--noise", noise, "--width", str(options.width)]
                rows.append(row(size, noise, side, run([sys.executable, __file__, *arguments])))
    print_table(("set", "noise", "side", "seconds", "CPU seconds", "C", "accuracy", "log loss", "load of others"), rows)


def row(size: str, noise: str, side: str, done: Process) -> tuple[str, ...]:
    """One fit, for the table."""
    said = done.said
    cpu_seconds = f"{said['cpu_seconds']:.2f}" if side == "headstart" else ""  # the other one's are of more processes
    return (
        size, noise, side, f"{said['seconds']:.2f}", cpu_seconds, f"{said['strength']:g}",
        f"{100 * said['accuracy']:.1f} %", f"{said['log_loss']:.4f}", percent(done.other_load),
    )  # fmt: skip


def once(side: str, size: str, noise: str, width: int) -> dict[str, float]:
    """Fit one side in this process, and measure it on images that it has not seen."""
    images, classes = (int(part) for part in size.split("x"))
    x, labels = draw(images + HELD_OUT, width, classes, NOISE[noise])
    fit = headstart if side == "headstart" else scikit_learn
    fit(*draw(60, 20, 2, 2.0))  # what is imported late
    begin, busy = time.perf_counter(), time.process_time()
    predict, strength = fit(x[:images], labels[:images])
    seconds, cpu_seconds = time.perf_counter() - begin, time.process_time() - busy
    p, truth = predict(x[images:]), labels[images:]
    losses = -np.log(np.maximum(p[np.arange(len(truth)), truth], 1e-15))
    return {
        "seconds": seconds, "cpu_seconds": cpu_seconds, "strength": strength,
        "accuracy": float((p.argmax(1) == truth).mean()), "log_loss": float(losses.mean()),
    }  # fmt: skip


def headstart(x: np.ndarray, labels: np.ndarray) -> tuple[Predict, float]:
    """The probe's head, with as many threads as there are cores."""
    from headstart.heads import linear

    classes = int(labels.max()) + 1
    head = linear.fit(x, labels, np.arange(len(x)) // classes % FOLDS, classes=classes, workers=cores())
    assert head.head.c is not None
    return head.probabilities, head.head.c


def scikit_learn(x: np.ndarray, labels: np.ndarray) -> tuple[Predict, float]:
    """Eight strengths, five folds, raw features."""
    from sklearn.linear_model import LogisticRegressionCV

    model = LogisticRegressionCV(Cs=8, cv=FOLDS, n_jobs=cores(), max_iter=1000).fit(x, labels)
    return model.predict_proba, float(np.ravel(model.C_)[0])


def draw(count: int, width: int, classes: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings (N, D) and labels (N,)."""
    rng = np.random.default_rng(7)
    labels = np.arange(count) % classes
    points = rng.normal(size=(classes, width))[labels] + noise * rng.normal(size=(count, width))
    rotation = np.linalg.qr(rng.normal(size=(width, width)))[0]
    return (points * np.geomspace(1, 1e-2, width) @ rotation + 3).astype(np.float32), labels


if __name__ == "__main__":
    main()
