"""Accuracy over seconds: fine-tuning as it comes against the tutorial's loop and fastai, all given the same time.

Headstart trains as it plans by itself; each rival gets as many epochs as fit into the same seconds, by an epoch of its
own that is timed before. All start from lite0's ImageNet weights, learn from the same train images, and are measured on
the val images after every epoch. Writes the curves as a picture. See README.md.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import common
import finetune
from common import accuracy_words, percent, print_table

OURS = "headstart"
TITLES = {OURS: "headstart, as it comes", "tutorial": "the tutorial's loop", "fastai": "fastai's fine_tune"}
COLOURS = {OURS: "#0072b2", "tutorial": "#d55e00", "fastai": "#009e73"}
PILOT_EPOCHS = {"tutorial": 1, "fastai": 2}  # fastai's first trains the head alone


@dataclass(frozen=True)
class Curve:
    """One training.

    Attributes:
        seconds: When each epoch was done, validation included; imports and the set-up of the libraries are not counted.
            Headstart's first is the probe's solution, with all that lies before the training.
        accuracies: Share of the val images that were right then.
        images: Val images.
        other_load: Share of all cores that others took; None where the system does not say.
    """

    seconds: tuple[float, ...]
    accuracies: tuple[float, ...]
    images: int
    other_load: float | None

    def at(self, seconds: float) -> float:
        """Accuracy of the last epoch that was done by then; 0 where none was."""
        done = [accuracy for when, accuracy in zip(self.seconds, self.accuracies, strict=True) if when <= seconds]
        return done[-1] if done else 0.0


def main() -> int:
    """Run all sides in turn; 1 where a rival ends higher than Headstart."""
    arguments = parse(None)
    rivals = [name for name in TITLES if name != OURS and name not in arguments.skip]
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        os.environ["HEADSTART_CACHE"] = str(scratch / "cache")
        images = scratch / "images"
        common.same_images(arguments.folder, images, arguments.limit)
        commands = rival_commands(arguments, images, scratch, rivals)
        warm_up(images, scratch, arguments)
        curves: dict[str, list[Curve]] = {name: [] for name in (OURS, *commands)}
        for turn in range(arguments.repeats):
            common.forget_embeddings()
            # As for the others, all train images are learnt from, and the val images are looked at after each epoch.
            choices = ["--strategy", "finetune", "--validation", "0", "--seed", str(turn), "--device", "cpu"]
            ours = own_curve(common.run(finetune.headstart(images, scratch / "run", [*choices, *arguments.options])))
            curves[OURS].append(tell(OURS, ours))
            for name, command in commands.items():
                pilot = common.run([*command, "--epochs", str(PILOT_EPOCHS[name])]).said
                epochs = epochs_within(ours.seconds[-1], pilot["epochs"])
                curves[name].append(tell(name, rival_curve(common.run([*command, "--epochs", str(epochs)]))))
    report(curves)
    if arguments.json:
        record = {name: [asdict(curve) for curve in some] for name, some in curves.items()}
        machine = common.machine((*finetune.PACKAGES, "fastai"))
        arguments.json.write_text(json.dumps({"machine": machine, "curves": record}, indent=2) + "\n", encoding="utf-8")
    if arguments.picture:
        picture(curves, arguments.picture, arguments.folder.name)
    return 0 if reached(curves) else 1


def parse(words: Sequence[str] | None) -> argparse.Namespace:
    """The arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="folder with train/ and val/, each with a folder for each class")
    parser.add_argument("--repeats", type=int, default=1, help="runs of each, with another seed; default 1")
    parser.add_argument("--limit", type=int, help="images of each class of train and of val at most (16 or more)")
    parser.add_argument("--skip", nargs="*", choices=[name for name in TITLES if name != OURS], default=[])
    parser.add_argument("--fastai-python", type=Path, help="interpreter of an environment with fastai; default: this")
    parser.add_argument("--fastai-batch-size", type=int, default=64, help="default 64, which is fastai's")
    parser.add_argument("--tutorial-workers", type=int, default=4, help="loader processes; default the tutorial's 4")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw the curves to a PNG file")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all raw figures to a file")
    parser.add_argument("--options", type=str.split, default=[], help="of `headstart train`: '--epochs 4'")
    return parser.parse_args(words)


def rival_commands(
    arguments: argparse.Namespace, images: Path, scratch: Path, rivals: Sequence[str]
) -> dict[str, list[str]]:
    """The rivals that are there, without their number of epochs."""
    commands = {}
    if "tutorial" in rivals:
        program = [sys.executable, str(finetune.HERE / "rival_tutorial.py"), str(images), "--train", "all"]
        commands["tutorial"] = [*program, "--workers", str(arguments.tutorial_workers)]
    if "fastai" in rivals and (python := finetune.fastai_python(arguments.fastai_python)):
        weights = scratch / "lite0.pth"
        common.run([sys.executable, str(finetune.HERE / "rival_lite0.py"), str(weights)])
        program = [python, str(finetune.HERE / "rival_fastai.py"), str(images), "--weights", str(weights)]
        commands["fastai"] = [*program, "--batch-size", str(arguments.fastai_batch_size)]
    return commands


def warm_up(images: Path, scratch: Path, arguments: argparse.Namespace) -> None:
    """Bring the libraries in from the disk, and build the embedder."""
    common.run([sys.executable, "-c", finetune.IMPORTS])
    common.run(finetune.headstart(images, scratch / "run", []))


def own_curve(process: common.Process) -> Curve:
    """What a training of Headstart says: the stages before it, the start, and its epochs."""
    stages, history = process.said["seconds"], process.said["details"]["history"]
    before = sum(seconds for name, seconds in stages.items() if name in list(stages)[: list(stages).index("train")])
    seconds = accumulate([before + history[0]["seconds"], *(row["seconds"] for row in history[1:])])
    accuracies = tuple(row["validation_accuracy"] for row in history)
    return Curve(tuple(seconds), accuracies, process.said["evaluation"]["n"], process.other_load)


def rival_curve(process: common.Process) -> Curve:
    """What a rival says in its line."""
    said = process.said
    return Curve(tuple(accumulate(said["epochs"])), tuple(said["accuracies"]), said["n"], process.other_load)


def epochs_within(seconds: float, pilot: Sequence[float]) -> int:
    """As many epochs as fit, to the nearest: at least as many as the pilot had, the last of which is the usual one."""
    return max(len(pilot), round((seconds - sum(pilot[:-1])) / pilot[-1]) + len(pilot) - 1)


def tell(name: str, curve: Curve) -> Curve:
    """Print a run to standard error, and pass it on."""
    points = ", ".join(
        f"{100 * accuracy:.1f} % at {when:.0f} s"
        for when, accuracy in zip(curve.seconds, curve.accuracies, strict=True)
    )
    print(f"{TITLES[name]}, load {percent(curve.other_load)}: {points}", file=sys.stderr, flush=True)
    return curve


def reached(curves: dict[str, list[Curve]]) -> bool:
    """Whether Headstart's last epoch is nowhere below a rival's last."""
    return all(
        curve.accuracies[-1] <= ours.accuracies[-1]
        for name, some in curves.items() if name != OURS
        for ours, curve in zip(curves[OURS], some, strict=True)
    )  # fmt: skip


def report(curves: dict[str, list[Curve]]) -> None:
    """Print a row for each run."""
    rows: list[tuple[Any, ...]] = []
    for name, some in curves.items():
        for turn, curve in enumerate(some):
            end = curves[OURS][turn].seconds[-1]
            shares = [f"{100 * curve.at(end * part):.1f} %" for part in (0.25, 0.5, 0.75)]
            right = round(curve.accuracies[-1] * curve.images)
            rows.append((
                f"{TITLES[name]}, run {turn + 1}", str(len(curve.seconds) - (name == OURS)), f"{curve.seconds[-1]:.0f}",
                *shares, *accuracy_words(right, curve.images), percent(curve.other_load),
            ))  # fmt: skip
    print_table(
        ("what", "epochs", "seconds", "accuracy at a quarter", "at a half", "at three quarters", "at the end",
         "95 % interval", "load of others"), rows,
    )  # fmt: skip


def picture(curves: dict[str, list[Curve]], path: Path, title: str) -> None:
    """Draw accuracy over seconds."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    for name, some in curves.items():
        for turn, curve in enumerate(some):
            axes.plot(
                curve.seconds, [100 * accuracy for accuracy in curve.accuracies], marker="o", markersize=4,
                color=COLOURS[name], label=TITLES[name] if turn == 0 else None,
            )  # fmt: skip
    axes.set(
        xlabel="seconds, imports not counted", ylabel="accuracy on the val images, %", title=title, ylim=(None, 100.5)
    )
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    sys.exit(main())
