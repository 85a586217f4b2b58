"""The head of several labels an image against scikit-learn's, on the same embeddings.

    python benchmarks/labels.py --sets digits photos --photos ../shared/data/ants-bees --rounds 3

Digits: two or three of scikit-learn's handwritten digits on a canvas, ten labels. Photos: none, one or two of two
kinds of photos side by side, two labels; no photo is in two folds. Half of the images are learnt from. The rival is
`OneVsRestClassifier(LogisticRegressionCV(Cs=8, cv=5))`, in the same folds. Both have one core, so that other work on
the machine hardly disturbs the CPU time of the fit alone, which is compared. Each fit is a process of its own, and the
sides take turns; the table has medians.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np

from common import Process, percent, print_table, run

SIDES = ("headstart", "OneVsRestClassifier")
FOLDS = 5
CELL_PX = 112  # of a photo on its canvas
Predict = Callable[[np.ndarray], np.ndarray]


def main() -> None:
    """Embed, fit in turns, tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", choices=("digits", "photos"), default=["digits"])
    parser.add_argument("--images", type=int, default=600, help="of each set")
    parser.add_argument("--photos", help="folder of folders of photos, for the set photos")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--once", nargs=2, metavar=("SIDE", "FILE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.once:
        print(json.dumps(once(*options.once)))
        return
    if "photos" in options.sets and not options.photos:
        parser.error("the set photos needs --photos FOLDER")
    rows = []
    with TemporaryDirectory() as folder:
        for name in options.sets:
            file = Path(folder) / f"{name}.npz"
            images, labels = digits(options.images) if name == "digits" else photos(options.images, options.photos)
            np.savez(file, x=embedded(images), y=labels)
            done: dict[str, list[Process]] = {side: [] for side in SIDES}
            for _ in range(options.rounds):
                for side in SIDES:
                    done[side].append(run([sys.executable, __file__, "--once", side, str(file)]))
            rows += [row(name, side, done[side]) for side in SIDES]
    print_table(
        ("set", "images", "side", "CPU seconds", "seconds", "mean average precision", "log loss", "load of others"),
        rows,
    )


def row(name: str, side: str, done: list[Process]) -> tuple[str, ...]:
    """The fits of one side, for the table."""
    middle = {key: median(one.said[key] for one in done) for key in done[0].said}
    loads = [one.other_load for one in done if one.other_load is not None]
    return (
        name, f"{middle['images']:,.0f}", side, f"{middle['cpu_seconds']:.2f}", f"{middle['seconds']:.2f}",
        f"{100 * middle['average_precision']:.2f} %", f"{middle['log_loss']:.4f}",
        percent(median(loads) if loads else None),
    )  # fmt: skip


def once(side: str, file: str) -> dict[str, float]:
    """Fit one side in this process, and measure it on the other half of the images."""
    from sklearn.metrics import average_precision_score
    from threadpoolctl import threadpool_limits

    with np.load(file) as saved:
        x, y = saved["x"], saved["y"]
    own = np.arange(len(x)) % 2 == 0
    fit = headstart if side == "headstart" else scikit_learn
    with threadpool_limits(1):
        fit(x[own][:80, :16], y[own][:80])  # what is imported late
        begin, cpu = time.perf_counter(), time.process_time()
        predict = fit(x[own], y[own])
        seconds, cpu_seconds = time.perf_counter() - begin, time.process_time() - cpu
    p, truth = predict(x[~own]), y[~own]
    right = np.where(truth == 1, p, 1 - p)
    return {
        "images": float(own.sum()),
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "average_precision": float(average_precision_score(truth, p, average="macro")),
        "log_loss": float(-np.log(np.maximum(right, 1e-15)).mean()),
    }


def headstart(x: np.ndarray, y: np.ndarray) -> Predict:
    """The probe's head."""
    from headstart.core.runtime import Runtime
    from headstart.heads import labels
    from headstart.settings.recipe import Recipe
    from headstart.targets.labels import Labels

    names = tuple(map(str, range(y.shape[1])))
    return labels.fit_recipe(x, Labels(names, y), folds(x), Recipe(), Runtime(cache=None, workers=1)).probabilities


def folds(x: np.ndarray) -> np.ndarray:
    """The fold of each image that is learnt from, (N,)."""
    return np.arange(len(x)) % FOLDS


def scikit_learn(x: np.ndarray, y: np.ndarray) -> Predict:
    """For each label eight strengths, five folds, raw features."""
    from sklearn.linear_model import LogisticRegressionCV
    from sklearn.multiclass import OneVsRestClassifier

    splits = [(np.flatnonzero(folds(x) != fold), np.flatnonzero(folds(x) == fold)) for fold in range(FOLDS)]
    one = LogisticRegressionCV(
        Cs=8, cv=splits, max_iter=1000, scoring="neg_log_loss", l1_ratios=(0,), use_legacy_attributes=False
    )
    predict: Predict = OneVsRestClassifier(one).fit(x, y).predict_proba
    return predict


def embedded(images: list[np.ndarray]) -> np.ndarray:
    """lite0's embeddings, float32 (N, D)."""
    from headstart.sklearn import ImageEmbedder

    found: np.ndarray = ImageEmbedder(resize="squash", cache=None).fit_transform(images)
    return found


def digits(count: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Canvases of two or three digits, and which of ten are there, int8 (N, 10)."""
    from PIL import Image
    from sklearn.datasets import load_digits

    rng, drawn = np.random.default_rng(0), load_digits()
    images, labels = [], np.zeros((count, 10), np.int8)
    for number in range(count):
        cells = [np.zeros((8, 8)) for _ in range(4)]
        for place in rng.permutation(4)[: rng.integers(2, 4)]:
            one = int(rng.integers(len(drawn.target)))
            cells[place] = drawn.images[one]
            labels[number, drawn.target[one]] = 1
        pixels = np.vstack([np.hstack(cells[:2]), np.hstack(cells[2:])])
        canvas = Image.fromarray(np.uint8(15 * pixels)).resize((128, 128)).convert("RGB")
        images.append(np.asarray(canvas))
    return images, labels


def photos(count: int, folder: str) -> tuple[list[np.ndarray], np.ndarray]:
    """Two photos side by side, each of a kind or grey; and which kinds are there, int8 (N, K)."""
    from PIL import Image

    root = Path(folder)
    kinds = sorted({path.name for path in root.glob("*/*") if path.is_dir()})
    files = {kind: sorted(path for path in root.glob(f"*/{kind}/*") if path.suffix.lower() == ".jpg") for kind in kinds}
    rng = np.random.default_rng(0)
    images, labels = [], np.zeros((count, len(kinds)), np.int8)
    for number in range(count):
        canvas = Image.new("RGB", (2 * CELL_PX, CELL_PX), (128, 128, 128))
        for place in range(2):
            kind = int(rng.integers(len(kinds) + 1))
            if kind < len(kinds):
                of = files[kinds[kind]]
                # Neither the two halves nor two folds share a photo: what is measured on was not learnt from.
                own = of[number % (2 * FOLDS) :: 2 * FOLDS]
                with Image.open(own[int(rng.integers(len(own)))]) as photo:
                    canvas.paste(photo.convert("RGB").resize((CELL_PX, CELL_PX)), (place * CELL_PX, 0))
                labels[number, kind] = 1
        images.append(np.asarray(canvas))
    return images, labels


if __name__ == "__main__":
    main()
