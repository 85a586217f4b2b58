"""The head that is fitted in passes over blocks, against the head in memory and the exact solution, on the same rows.

    python benchmarks/streamed.py --set 20000x100 --penalties 0.01 0.1 1

Embeddings are those of `made_embeddings.py`. The exact solution is that of the solver in memory, carried on to a
decrement of 1e-10, where it also ends by itself if there are more than 10,000 rows. Differences are the largest of any
probability of images that were not learnt from.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from common import print_table
from made_embeddings import WRONG, Maker, Size

UNSEEN = 3000
DECREMENT = 1e-10


def main() -> None:
    """Fit three times for each penalty, tell."""
    from headstart.heads import linear, softmax
    from headstart.heads.streamed import InMemory, fit, fit_as_chosen
    from headstart.heads.streamed.fit import Strength
    from headstart.targets.classes.temperature import to_probabilities

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", default="20000x100", help="images x classes")
    parser.add_argument("--apart", type=float, default=0.42, help="length of the means of the classes; noise has 1")
    parser.add_argument("--penalties", type=float, nargs="+", default=[0.01, 0.1, 1.0], help="C")
    parser.add_argument("--early", action="store_true", help="end in passes where a fit of more than 200,000 rows ends")
    options = parser.parse_args()
    if options.early:
        fit.EXACT_ROWS = 0
    images, classes = (int(part) for part in options.set.split("x"))
    x, labels, unseen, truth = draw(images, classes, options.apart)
    axes, rows = linear.along_axes(x), []
    for c in options.penalties:
        passes: list[int] = []

        def streamed(c: float = c, passes: list[int] = passes) -> Any:
            return fit_as_chosen(InMemory(x, labels), Strength(c), classes=classes, advance=passes.append)

        def memory(c: float = c) -> Any:
            return linear.fit_as_chosen(x, labels, classes=classes, c=c, temperature=1.0).head

        def exact(c: float = c) -> Any:
            ones = np.ones(images, np.float32)
            found = softmax.solve(axes.z, labels, classes=classes, c=c, sample_weight=ones, decrement=DECREMENT)
            return axes.head(found.weights, found.bias)

        (one, fast), (two, usual), (three, slow) = (timed(one) for one in (streamed, memory, exact))
        p, q, r = (to_probabilities(head.scores(unseen)) for head in (one, two, three))
        rows.append((
            f"{c:g}", f"{len(passes)}", f"{fast:.0f}", f"{usual:.0f}", f"{slow:.0f}", f"{np.abs(p - r).max():.1e}",
            f"{np.abs(q - r).max():.1e}", f"{np.abs(p - q).max():.1e}",
            *(f"{(each.argmax(1) == truth).mean():.4f}" for each in (p, r)),
        ))  # fmt: skip
    print_table(("C", "passes", "CPU s in passes", "in memory", "exact", "passes - exact", "memory - exact",
                 "passes - memory", "accuracy in passes", "exact"), rows)  # fmt: skip


def timed(fit: Callable[[], Any]) -> tuple[Any, float]:
    """What a fit gives, and its CPU seconds."""
    begin = time.process_time()
    return fit(), time.process_time() - begin


def draw(images: int, classes: int, apart: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Embeddings and labels to learn from, some of them wrong, and unseen embeddings and their classes."""
    maker, rng = Maker(Size(images, classes, apart=apart)), np.random.default_rng(3)
    true = np.arange(images + UNSEEN) % classes
    x = np.concatenate([maker.features(true[begin : begin + 4096], rng) for begin in range(0, len(true), 4096)])
    labels, wrong = true.copy(), rng.random(len(true)) < WRONG
    labels[wrong] = (labels[wrong] + rng.integers(1, classes, wrong.sum())) % classes
    return x[:images], labels[:images], x[images:], true[images:]


if __name__ == "__main__":
    main()
