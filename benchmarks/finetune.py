"""Fine-tuning with Headstart against the PyTorch tutorial's loop and fastai, with the same weights and images.

The folder has train/ and val/ with class folders, such as the tutorial's ants and bees. Every figure comes from one
run, with its repeats interleaved; only the ratios mean something on another machine. Where there is a GPU, images a
second in bf16 against a plain timm loop follow. Exits 1 where a target is missed. See README.md.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, median
from typing import Any

import common
from common import accuracy_words, forget_embeddings, percent, print_table

HERE = Path(__file__).parent
VIEWS = 4  # of --unfreeze last: so many epochs pass until nothing is computed anew
MIN_RATIO_ALL = 1.5
MIN_RATIO_LAST = 4.0
MAX_LAST_OF_ALL = 1 / 3
GPU_NETWORKS = {"lite0": "tf_efficientnet_lite0", "timm:resnet50": "resnet50"}  # Headstart's name, timm's name
PACKAGES = ("headstart", "numpy", "pillow", "onnxruntime", "torch", "torchvision", "timm", "accelerate")
IMPORTS = "import timm, torch, torchvision, accelerate"


@dataclass(frozen=True)
class Sample:
    """One run of a whole process.

    Attributes:
        seconds: Wall time of the process.
        epochs: Seconds of each epoch, training and validation.
        training: Seconds of all training: the epochs, and what lies before and between them (Headstart's validation
            of the start and its checkpoints, the tutorial's copies of the best weights).
        correct: Val images that were right.
        n: Val images.
        peak_mb: Largest resident size of the process or of any one of its children, in MB.
        other_load: Share of all cores that others took; None where the system does not say.
    """

    seconds: float
    epochs: tuple[float, ...]
    training: float
    correct: int
    n: int
    peak_mb: float
    other_load: float | None

    @property
    def epoch(self) -> float:
        """Seconds an epoch, all that training takes counted in: what binds."""
        return self.training / len(self.epochs)

    @property
    def bare(self) -> float:
        """Mean seconds of an epoch itself."""
        return mean(self.epochs)

    @property
    def later(self) -> float:
        """Mean seconds of the epochs after the views are kept; of the last one where there are no more."""
        return mean(self.epochs[VIEWS:] or self.epochs[-1:])


@dataclass(frozen=True)
class Contender:
    """Something to time.

    Attributes:
        title: What it is, for the table.
        command: The process.
        prepare: Called before each run, outside the timing.
    """

    title: str
    command: Sequence[str]
    prepare: Callable[[], None]


def main() -> int:
    """Run the benchmark; the exit code."""
    arguments = parse(None)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        os.environ["HEADSTART_CACHE"] = str(scratch / "cache")
        samples: dict[str, list[Sample]] = {}
        missed: list[str] = []
        if not arguments.gpu_only:
            contenders = define(arguments, scratch)
            samples = measure(contenders, arguments)
            missed = report(contenders, samples)
        speeds = gpu(arguments, scratch)
    if arguments.json:
        record = {
            "machine": common.machine(PACKAGES),
            "epochs": arguments.epochs,
            "samples": {name: [asdict(sample) for sample in some] for name, some in samples.items()},
            "missed": missed,
            "gpu": speeds,
        }
        arguments.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return 1 if missed else 0


def parse(words: Sequence[str] | None) -> argparse.Namespace:
    """The arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="folder with train/ and val/, each with a folder for each class")
    parser.add_argument("--epochs", type=int, default=10, help="of every side, at least 2; default 10")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each; default 3")
    parser.add_argument("--attempts", type=int, default=1, help="repeat a run that others disturb, up to this often")
    parser.add_argument("--limit", type=int, help="images of each class of train and of val at most (16 or more)")
    parser.add_argument("--skip", nargs="*", choices=list(TITLES), default=[], help="leave these out")
    parser.add_argument("--fastai-python", type=Path, help="interpreter of an environment with fastai; default: this")
    parser.add_argument("--fastai-batch-size", type=int, default=64, help="default 64, which is fastai's")
    parser.add_argument("--tutorial-workers", type=int, default=4, help="loader processes; default the tutorial's 4")
    parser.add_argument("--gpu-only", action="store_true", help="only images a second on the GPU")
    parser.add_argument("--gpu-images", type=int, default=4096, help="synthetic train images for the GPU; default 4096")
    parser.add_argument("--gpu-batch-size", type=int, default=64, help="default 64")
    parser.add_argument("--pretend-device", metavar="DEVICE", help="run the GPU's part on this device, such as cpu")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all raw figures to a file")
    arguments = parser.parse_args(words)
    if arguments.epochs < 2:
        parser.error("--epochs must be at least 2: fastai's fine_tune has two phases")
    return arguments


TITLES = {
    "all": "headstart --unfreeze all",
    "last": "headstart --unfreeze last",
    "recipe-all": "headstart --recipe tutorial-finetune",
    "recipe-head": "headstart --recipe tutorial-feature-extraction",
    "tutorial-all": "(a) tutorial, all layers",
    "tutorial-head": "(a) tutorial, frozen",
    "fastai": "(b) fastai fine_tune",
}


def define(arguments: argparse.Namespace, scratch: Path) -> dict[str, Contender]:
    """All that is to be timed, by a short name."""
    images = scratch / "images"
    common.same_images(arguments.folder, images, arguments.limit)
    epochs = ["--epochs", str(arguments.epochs)]
    # As in the tutorial and in fastai, the val images are validated on in each epoch: equal work, and equal luck.
    fine = ["--strategy", "finetune", "--backbone", "lite0", "--validation", "0", "--retries", "0"]
    ours = {
        "all": [*fine, "--unfreeze", "all"],
        "last": [*fine, "--unfreeze", "last", "--views", str(VIEWS)],
        "recipe-all": ["--recipe", "tutorial-finetune", "--backbone", "lite0"],
        "recipe-head": ["--recipe", "tutorial-feature-extraction", "--backbone", "lite0"],
    }
    contenders = {
        name: Contender(
            TITLES[name], headstart(images, scratch / name, [*choices, *epochs, "--device", "cpu"]), forget_embeddings
        )
        for name, choices in ours.items()
    }
    tutorial = [sys.executable, str(HERE / "rival_tutorial.py"), str(images), *epochs]
    tutorial += ["--workers", str(arguments.tutorial_workers)]
    for name in ("all", "head"):
        contenders |= {f"tutorial-{name}": Contender(TITLES[f"tutorial-{name}"], [*tutorial, "--train", name], nothing)}
    if "fastai" not in arguments.skip and (python := fastai_python(arguments.fastai_python)):
        weights = scratch / "lite0.pth"
        common.run([sys.executable, str(HERE / "rival_lite0.py"), str(weights)])
        command = [python, str(HERE / "rival_fastai.py"), str(images), *epochs, "--weights", str(weights)]
        command += ["--batch-size", str(arguments.fastai_batch_size)]
        contenders["fastai"] = Contender(TITLES["fastai"], command, nothing)
    return {name: contender for name, contender in contenders.items() if name not in arguments.skip}


def headstart(source: Path, out: Path, choices: Sequence[str]) -> list[str]:
    """A training as a person would type it."""
    program = [sys.executable, "-m", "headstart", "train", str(source), "--out", str(out), "--overwrite", "--json"]
    return [*program, *choices]


def fastai_python(chosen: Path | None) -> str | None:
    """The interpreter that has fastai; None, and a sentence, where there is none.

    Raises:
        SystemExit: One was named, and it cannot import fastai.
    """
    if chosen is None:
        if importlib.util.find_spec("fastai"):
            return sys.executable
        print(
            "fastai is not installed here, so rival (b) is left out; --fastai-python names an interpreter that has it."
        )
        return None
    found = subprocess.run(
        [str(chosen), "-c", "import fastai, torch; print(fastai.__version__, torch.__version__)"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if found.returncode:
        sys.exit(f"{chosen} cannot import fastai:\n{found.stderr[-1000:]}")
    fastai, torch = found.stdout.split()
    print(f"(b) is fastai {fastai} with PyTorch {torch}.")
    return str(chosen)


def nothing() -> None:
    """Prepare nothing."""


def measure(contenders: dict[str, Contender], arguments: argparse.Namespace) -> dict[str, list[Sample]]:
    """Time all contenders in turn, then all again, after a round that does not count."""
    common.run([sys.executable, "-c", IMPORTS])  # they come from the disk only once
    for name in ("last", "all"):
        if name in contenders:  # builds the embedder
            common.run([*contenders[name].command, "--epochs", "1"])
            break
    if "fastai" in contenders:
        common.run([contenders["fastai"].command[0], "-c", "import fastai.vision.all"])
    samples: dict[str, list[Sample]] = {name: [] for name in contenders}
    for turn in range(arguments.repeats):
        for name, contender in contenders.items():

            def once(attempt: int, command: Sequence[str] = contender.command) -> Sample:
                return sample_of(common.run(command))

            sample = common.least_disturbed(once, arguments.attempts, contender.prepare)
            samples[name].append(sample)
            words = f"{sample.epoch:.2f} s an epoch, {sample.seconds:.1f} s in all, load {percent(sample.other_load)}"
            print(f"{contender.title}, run {turn + 1} of {arguments.repeats}: {words}", file=sys.stderr, flush=True)
    return samples


def sample_of(process: common.Process) -> Sample:
    """What a process says of itself: Headstart in its metrics, a rival in its line."""
    said = process.said
    if "details" in said:
        epochs = [row["seconds"] for row in said["details"]["history"] if row["epoch"]]
        training, result = said["seconds"]["train"], said["evaluation"]
    else:
        epochs, training, result = said["epochs"], said["training"], said
    return Sample(
        process.seconds, tuple(epochs), training, result["correct"], result["n"], process.peak_mb, process.other_load
    )


def report(contenders: dict[str, Contender], samples: dict[str, list[Sample]]) -> list[str]:
    """Print the table and the targets; the targets that were missed."""
    times = medians(samples)
    base = times.get("tutorial-all")
    header = (
        "what", "val accuracy", "95 % interval", "s an epoch (median)", "min..max", "epochs alone", "later epochs",
        "whole process s", "(a) all / this", "peak MB", "load of others",
    )  # fmt: skip
    rows = []
    for name, contender in contenders.items():
        some = samples[name]
        loads = [sample.other_load for sample in some if sample.other_load is not None]
        rows.append((
            contender.title,
            *accuracy_words(round(median(sample.correct for sample in some)), some[0].n),
            f"{times[name]:.2f}",
            f"{min(sample.epoch for sample in some):.2f}..{max(sample.epoch for sample in some):.2f}",
            f"{median(sample.bare for sample in some):.2f}",
            f"{median(sample.later for sample in some):.2f}",
            f"{median(sample.seconds for sample in some):.1f}",
            f"{base / times[name]:.2f}" if base else "",
            f"{max(sample.peak_mb for sample in some):.0f}",
            percent(median(loads)) if loads else "",
        ))  # fmt: skip
    print_table(header, rows)
    print()
    missed = []
    for what, reached, ok in targets(times):
        print(f"{'not measured' if ok is None else 'reached' if ok else 'MISSED'}  {what}: {reached}")
        missed += [what] if ok is False else []
    if "fastai" in times:
        for name in ("all", "last"):
            if name in times:
                print(
                    f"no target  (b) fastai takes {times['fastai'] / times[name]:.2f} times as long as {TITLES[name]}"
                )
    return missed


def medians(samples: dict[str, list[Sample]]) -> dict[str, float]:
    """Median seconds an epoch of each contender."""
    return {name: median(sample.epoch for sample in some) for name, some in samples.items()}


def targets(times: dict[str, float]) -> list[tuple[str, str, bool | None]]:
    """What is demanded, what was reached, and whether that is enough; None where it was not measured.

    Args:
        times: Seconds an epoch.
    """
    results: list[tuple[str, str, bool | None]] = []
    for name, least in (("all", MIN_RATIO_ALL), ("last", MIN_RATIO_LAST)):
        what = f"an epoch of (a), all layers, takes at least {least:g} times as long as one of {TITLES[name]}"
        if {"tutorial-all", name} <= times.keys():
            ratio = times["tutorial-all"] / times[name]
            results.append((what, f"{ratio:.2f} times", ratio >= least))
        else:
            results.append((what, "left out", None))
    what = "an epoch of --unfreeze last takes at most a third of one of --unfreeze all"
    if {"all", "last"} <= times.keys():
        share = times["last"] / times["all"]
        results.append((what, f"{share:.2f} of it", share <= MAX_LAST_OF_ALL))
    else:
        results.append((what, "left out", None))
    return results


def gpu(arguments: argparse.Namespace, scratch: Path) -> list[dict[str, Any]]:
    """Images a second on the GPU, in bf16, against a plain timm loop; nothing where there is none."""
    import torch

    device = arguments.pretend_device or ("cuda" if torch.cuda.is_available() else None)
    if device is None:
        print("\nNo GPU: images a second in bf16 are left out.")
        return []
    images = scratch / "synthetic"
    synthetic(images, arguments.gpu_images)
    train = common.count_images(images / "train")
    workers = str(min(8, common.cores()))
    epochs, batch = ["--epochs", "3"], ["--batch-size", str(arguments.gpu_batch_size)]
    print(f"\nOn {device}, bf16, batches of {arguments.gpu_batch_size}, {train} train images, random weights:\n")
    rows, figures = [], []
    for ours, theirs in GPU_NETWORKS.items():
        choices = ["--strategy", "scratch", "--backbone", ours, "--amp", "bf16", "--device", device]
        choices += ["--validation", "0", "--crop-scale", "0.08", "--workers", workers, *epochs, *batch]
        # Noise teaches nothing; at a small rate the network stays one whose model file can be proved and written.
        choices += ["--lr", "1e-6", "--schedule", "constant"]
        rival = [sys.executable, str(HERE / "rival_timm_loop.py"), str(images), "--network", theirs]
        rival += ["--device", device, "--workers", workers, *epochs, *batch]
        said = common.run(headstart(images, scratch / "gpu", choices)).said["details"]
        own = [row["seconds"] for row in said["history"] if row["epoch"]]
        other = common.run(rival).said
        figures.append({
            "network": theirs, "headstart": train / mean(own[1:]), "timm": train / mean(other["epochs"][1:]),
            "headstart_all_epochs": said["images_per_second"], "timm_all_epochs": other["images_per_second"],
        })  # fmt: skip
        speed = figures[-1]
        rows.append(
            (theirs, *(f"{speed[key]:.0f}" for key in list(speed)[1:]), f"{speed['headstart'] / speed['timm']:.2f}")
        )
    print_table(
        ("network", "headstart images/s", "timm loop images/s", "headstart, first epoch too", "timm, first epoch too",
         "headstart / timm"), rows,
    )  # fmt: skip
    return figures


def synthetic(folder: Path, train: int) -> None:
    """Write random pictures of two classes as JPEG files of 320 x 256 pixels, an eighth as many for val."""
    import numpy as np
    from PIL import Image

    random = np.random.default_rng(0)
    for part, number in (("train", train), ("val", max(2, train // 8))):
        for index in range(number):
            place = folder / part / f"class-{index % 2}"
            place.mkdir(parents=True, exist_ok=True)
            coarse = random.integers(0, 256, (16, 20, 3), np.uint8)
            Image.fromarray(coarse).resize((320, 256)).save(place / f"{index:06}.jpg", quality=90)


if __name__ == "__main__":
    sys.exit(main())
