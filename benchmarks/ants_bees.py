"""Headstart against PyTorch on a folder with train/ and val/ class folders, such as the tutorial's ants and bees.

Every figure comes from one run, with its repeats interleaved, so that a busy machine slows all sides alike; only the
ratios mean something on another machine. Exits 1 where a target is missed. See README.md.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median

import common
from common import cores, forget_embeddings, print_table

HERE = Path(__file__).parent
EPOCHS = 25  # of the tutorial
MIN_RATIO_EMBED_ONCE = 5.0
MIN_RATIO_TUTORIAL = 80.0
PRECISIONS = ("int8", "float32")
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
PACKAGES = (
    "headstart", "numpy", "scipy", "scikit-learn", "pillow", "onnx", "onnxruntime", "torch", "torchvision", "timm",
)  # fmt: skip
# A warm-up for the rivals: their libraries come from the disk only once.
IMPORTS = "import timm, torch, torchvision, sklearn.linear_model"


@dataclass(frozen=True)
class Sample:
    """One timed run of a whole process.

    Attributes:
        seconds: Wall time that counts.
        cpu_seconds: CPU time of the process and its children.
        peak_mb: Largest resident size of the process or of any one of its children, in MB.
        other_load: Share of all cores that was taken by others meanwhile, the hypervisor included; None where the
            system does not say.
        accuracy: On the val images; None where nothing was measured.
        images: Number of images that were worked on.
        stages: Seconds of each stage, as the process itself reports them.
        attempt: 1 unless runs before it were thrown away as disturbed.
    """

    seconds: float
    cpu_seconds: float
    peak_mb: float
    other_load: float | None
    accuracy: float | None = None
    images: int | None = None
    stages: dict[str, float] = field(default_factory=dict)
    attempt: int = 1


@dataclass(frozen=True)
class Contender:
    """Something to time.

    Attributes:
        title: What it is, for the table.
        command: The process.
        prepare: Called before each run, outside the timing.
        repeats: How often it runs.
        from_stage: Count only this stage that the process reports, instead of the whole process.
        times: Multiply the counted seconds by this.
    """

    title: str
    command: Sequence[str]
    prepare: Callable[[], None]
    repeats: int
    from_stage: str | None = None
    times: int = 1


def main() -> int:
    """Run the benchmark; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="folder with train/ and val/, each with a folder for each class")
    parser.add_argument("--repeats", type=int, default=3, help="runs of (a), (a2) and (b); default 3")
    parser.add_argument("--tutorial-repeats", type=int, default=1, help="runs of (c); default 1")
    parser.add_argument(
        "--attempts", type=int, default=1, help="repeat a run that others disturb, up to this often in all; default 1"
    )
    parser.add_argument("--skip", nargs="*", choices=["a2", "b", "c"], default=[], help="leave these out")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all raw figures to a file")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["HEADSTART_CACHE"] = str(Path(scratch) / "cache")
        contenders = define(arguments, Path(scratch))
        samples = measure(contenders, arguments.attempts)
    missed = report(contenders, samples)
    if arguments.json:
        record = {
            "machine": common.machine(PACKAGES),
            "repeats": {name: len(some) for name, some in samples.items()},
            "samples": {name: [asdict(sample) for sample in some] for name, some in samples.items()},
            "ratios": ratios(samples),
            "missed": missed,
        }
        arguments.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return 1 if missed else 0


def define(arguments: argparse.Namespace, scratch: Path) -> dict[str, Contender]:
    """All that is to be timed, by a short name."""
    folder, repeats = arguments.folder, arguments.repeats
    program = [sys.executable, "-m", "headstart"]
    photo = next(path for path in sorted((folder / "val").rglob("*")) if path.suffix.lower() in IMAGE_SUFFIXES)

    def train(precision: str) -> list[str]:
        choices = ["--precision", precision, "--out", str(scratch / precision), "--overwrite", "--json"]
        return [*program, "train", str(folder), *choices]

    def remember() -> None:
        """Fill the feature cache: whatever ran before this may have emptied it."""
        run(train("int8"))

    contenders = {
        f"a-{precision}": Contender(f"(a) headstart train, {precision}", train(precision), forget_embeddings, repeats)
        for precision in PRECISIONS
    }
    if "a2" not in arguments.skip:
        model = str(scratch / "int8" / "model.onnx")
        contenders |= {
            "a2-train": Contender("(a2) second headstart train, int8", train("int8"), remember, repeats),
            "a2-predict": Contender(
                "(a2) headstart predict, one image", [*program, "predict", model, str(photo)], nothing, repeats
            ),
            "a2-help": Contender("(a2) headstart --help", [*program, "--help"], nothing, repeats),
        }
    if "b" not in arguments.skip:
        command = [sys.executable, str(HERE / "rival_embed_once.py"), str(folder)]
        contenders["b"] = Contender("(b) timm embed once + scikit-learn", command, nothing, repeats)
    if "c" not in arguments.skip:
        workers = str(min(4, cores()))
        command = [sys.executable, str(HERE / "rival_tutorial.py"), str(folder), "--workers", workers]
        title = f"(c) tutorial, one epoch x {EPOCHS}"
        contenders["c"] = Contender(title, command, nothing, arguments.tutorial_repeats, "epoch", EPOCHS)
    return contenders


def nothing() -> None:
    """Prepare nothing."""


def measure(contenders: dict[str, Contender], attempts: int) -> dict[str, list[Sample]]:
    """Time all contenders in turn, then all again, after a round that does not count."""
    for precision in PRECISIONS:  # builds the embedders
        run(contenders[f"a-{precision}"].command)
    if {"b", "c"} & contenders.keys():
        run([sys.executable, "-c", IMPORTS])
    samples: dict[str, list[Sample]] = {name: [] for name in contenders}
    for turn in range(max(contender.repeats for contender in contenders.values())):
        for name, contender in contenders.items():
            if turn >= contender.repeats:
                continue
            samples[name].append(undisturbed(contender, attempts))
            progress = f"{contender.title}, run {turn + 1} of {contender.repeats}: {samples[name][-1].seconds:.2f} s"
            print(progress, file=sys.stderr, flush=True)
    return samples


def undisturbed(contender: Contender, attempts: int) -> Sample:
    """The first run that others leave alone, or else the one that they disturb least."""

    def once(attempt: int) -> Sample:
        return replace(run(contender.command, contender.from_stage, contender.times), attempt=attempt)

    return common.least_disturbed(once, attempts, contender.prepare)


def run(command: Sequence[str], from_stage: str | None = None, times: int = 1) -> Sample:
    """Run a process to its end and measure it.

    Raises:
        SystemExit: It failed.
    """
    process = common.run(command)
    said = process.said
    stages = said.get("seconds", {})
    return Sample(
        seconds=(stages[from_stage] if from_stage else process.seconds) * times,
        cpu_seconds=process.cpu_seconds,
        peak_mb=process.peak_mb,
        other_load=process.other_load,
        accuracy=said.get("accuracy", said.get("evaluation", {}).get("accuracy")),
        images=said.get("images", said.get("counts", {}).get("images")),
        stages=stages,
    )


def ratios(samples: dict[str, list[Sample]]) -> dict[str, float]:
    """How many times as long each rival takes, by ``rival/headstart``: medians over medians."""
    return {
        f"{rival}/{name}": seconds(samples[rival]) / seconds(samples[name])
        for name in (f"a-{precision}" for precision in PRECISIONS)
        for rival in ("b", "c")
        if rival in samples
    }


def seconds(samples: Sequence[Sample]) -> float:
    """Median wall time."""
    return median(sample.seconds for sample in samples)


def report(contenders: dict[str, Contender], samples: dict[str, list[Sample]]) -> list[str]:
    """Print the table, the ratios and the targets; the targets that were missed."""
    header = (
        "what", "val accuracy", "seconds (median)", "min..max", "images/s", "CPU s", "peak MB", "load of others",
    )  # fmt: skip
    rows = []
    for name, contender in contenders.items():
        some = samples[name]
        all_seconds = [sample.seconds for sample in some]
        accuracy, images = some[0].accuracy, some[0].images
        loads = [sample.other_load for sample in some if sample.other_load is not None]
        rows.append((
            contender.title,
            "" if accuracy is None else f"{100 * accuracy:.1f} %",
            f"{median(all_seconds):.2f}",
            f"{min(all_seconds):.2f}..{max(all_seconds):.2f}",
            "" if images is None else f"{images * contender.times / median(all_seconds):.1f}",
            f"{median(sample.cpu_seconds for sample in some):.1f}",
            f"{max(sample.peak_mb for sample in some):.0f}",
            f"{100 * median(loads):.0f} %" if loads else "",
        ))  # fmt: skip
    print_table(header, rows)
    print()
    print("Stages, median seconds, as each process reports them:")
    for name, contender in contenders.items():
        if stages := samples[name][0].stages:
            medians = {stage: median(sample.stages[stage] for sample in samples[name]) for stage in stages}
            print(f"  {contender.title}: {', '.join(f'{stage} {value:.2f}' for stage, value in medians.items())}")
    print()
    missed = []
    for what, reached, ok in targets(samples):
        binding = "a-float32" not in what
        print(f"{'ok    ' if ok else 'MISSED' if binding else 'below '}  {what}: {reached}")
        missed += [what] if binding and not ok else []
    return missed


def targets(samples: dict[str, list[Sample]]) -> list[tuple[str, str, bool]]:
    """What is demanded, what was reached, and whether that is enough."""
    least = {"b": MIN_RATIO_EMBED_ONCE, "c": MIN_RATIO_TUTORIAL}
    results = [
        (f"({rival}) takes at least {least[rival]:g} times as long as {name}", f"{ratio:.1f} times",
         ratio >= least[rival])
        for (rival, _, name), ratio in ((pair.partition("/"), ratio) for pair, ratio in ratios(samples).items())
    ]  # fmt: skip
    if "b" in samples:
        theirs = max(sample.accuracy or 0.0 for sample in samples["b"])
        for name in (f"a-{precision}" for precision in PRECISIONS):
            ours = min(sample.accuracy or 0.0 for sample in samples[name])
            reached = f"{100 * ours:.1f} % to {100 * theirs:.1f} %"
            results.append((f"accuracy of {name} is not lower than that of (b)", reached, ours >= theirs))
    return results


if __name__ == "__main__":
    sys.exit(main())
