"""How fast Headstart is, beside how fast it could be: whole processes against their floors, stages, and imports.

    python benchmarks/limits.py hymenoptera_data --before ../other-checkout/src

A floor is what the work cannot do without, in a process of its own: for the first `train` to decode each image and to
run the embedder's session on it, on all cores, without imports; for `predict` the same of one image, with the imports
that it takes; for `--help` to import typer. All commands take turns, round after round, and the tables give medians.
`--before` runs the commands of another source tree in the same turns. CPU seconds stand beside those of the clock,
which others lengthen.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import (
    IMAGE_SUFFIXES,
    Process,
    cores,
    forget_embeddings,
    machine,
    percent,
    print_table,
    run,
)

SOURCE = Path(__file__).resolve().parents[1] / "src"
NAMES = ("first train", "second train", "predict", "help")
FLOORS = {
    "first train": (__file__, "--floor", "all"),
    "predict": (__file__, "--floor", "one"),
    "help": ("-c", "import typer"),
}
PACKAGES = ("numpy", "onnx", "onnxruntime", "pillow", "typer")
PACKAGES_TOLD = 8  # those that take longest to import
PASSES = 5  # over the images that single stages are timed on
IMAGES = 40  # of them
# What imports, the fit, the model file and the report may add to the floor of a first training.
TARGET_TIMES, TARGET_SECONDS = 1.5, 0.7


Measured = dict[tuple[str, str], list[Process]]  # by place, or ``floor``, and command


@dataclass(frozen=True)
class Place:
    """Where a source tree works: each keeps embeddings and runs of its own.

    Attributes:
        name: ``now`` or ``before``.
        source: Folder with the package `headstart`.
        folder: For its cache and its run.
    """

    name: str
    source: Path
    folder: Path

    def environment(self) -> dict[str, str]:
        """Of its processes; bytecode is kept, as it is where a package is installed."""
        chosen = {"PYTHONPATH": str(self.source), "HEADSTART_CACHE": str(self.folder / "cache")}
        return {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"} | chosen

    def command(self, name: str, data: Path) -> list[str]:
        """The command line of one of `NAMES`."""
        program, run_folder = [sys.executable, "-m", "headstart"], self.folder / "run"
        if name == "predict":
            return [*program, "predict", str(run_folder / "model.onnx"), str(images(data)[0])]
        if name.endswith("train"):
            return [*program, "train", str(data), "--out", str(run_folder), "--overwrite"]
        return [*program, "--help"]


def main() -> None:
    """Measure in turns, tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with train/ and val/")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--before", type=Path, help="src of another checkout, which is measured in the same turns")
    parser.add_argument("--names", nargs="+", choices=NAMES, default=list(NAMES))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--floor", choices=("all", "one"), help=argparse.SUPPRESS)
    parser.add_argument("--stages", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.stages:
        print(json.dumps(stages(options.data)))
        return
    if options.floor:
        print(json.dumps(floor_of_all(options.data) if options.floor == "all" else floor_of_one(options.data)))
        return
    with tempfile.TemporaryDirectory() as folder:
        now = Place("now", SOURCE, Path(folder) / "now")
        before = [Place("before", options.before, Path(folder) / "before")] if options.before else []
        measured = measure([now, *before], options.data, options.names, options.rounds)
        environment = now.environment()
        told: dict[str, Any] = {"machine": machine(PACKAGES), "processes": processes(measured, options.names)}
        print_table(
            ("what", "seconds", "CPU s", "before: seconds", "CPU s", "now / before", "of CPU s", "floor", "now / floor",
             "load of others"), [row(name, each) for name, each in told["processes"].items()],
        )  # fmt: skip
        told["stages"] = run_with(environment, [sys.executable, __file__, str(options.data), "--stages"]).said
        print("\nOne image on one core, in ms:\n")
        print_table(("stage", "ms"), [(name, f"{value:.2f}") for name, value in told["stages"].items()])
        told["imports"] = {
            name: imports(now.command(name, options.data), environment)
            for name in ("predict", "second train", "--help")
        }
        print("\nSeconds of imports by package, with what Python takes to tell them (about half as much again):\n")
        print_table(("what", "all", "most of it"), [import_row(name, each) for name, each in told["imports"].items()])
    if options.json:
        options.json.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    first = told["processes"].get("first train")
    if first and first["now"]["seconds"] > TARGET_TIMES * first["floor"] + TARGET_SECONDS:
        sys.exit(f"The first training takes more than {TARGET_TIMES} times its floor and {TARGET_SECONDS} s.")


def images(data: Path) -> list[Path]:
    """All images of a folder, in a fixed order."""
    return sorted(path for path in data.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)


def measure(places: Sequence[Place], data: Path, names: Sequence[str], rounds: int) -> Measured:
    """Run everything in turns. The first round, in which embedders, bytecode and runs are made, is left out."""
    measured: Measured = {}
    for number in range(rounds + 1):
        for name in NAMES:  # trainings come first: the others need a run
            turns = places if number % 2 else places[::-1]
            for place in turns:
                if name not in names and not (name == "first train" and number == 0):
                    continue
                place.folder.mkdir(exist_ok=True)
                os.environ["HEADSTART_CACHE"] = str(place.folder / "cache")
                if name == "first train":
                    forget_embeddings()
                done = run_with(place.environment(), place.command(name, data))
                measured.setdefault((place.name, name), []).append(done)
            if name in names and name in FLOORS:
                command = [sys.executable, *FLOORS[name], str(data)]
                measured.setdefault(("floor", name), []).append(run_with(places[0].environment(), command))
    return {key: each[1:] for key, each in measured.items() if len(each) > 1}


def run_with(environment: dict[str, str], command: Sequence[str]) -> Process:
    """Run a process in an environment; see `common.run`."""
    assignments = [f"{key}={value}" for key, value in environment.items() if os.environ.get(key) != value]
    removed = [f"--unset={key}" for key in os.environ if key not in environment]
    return run(["env", *removed, *assignments, *command])


def processes(measured: Measured, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Medians of each command, now, before, and of its floor."""
    told: dict[str, dict[str, Any]] = {}
    for name in names:
        told[name] = {
            place: {
                "seconds": statistics.median(each.seconds for each in done),
                "cpu_seconds": statistics.median(each.cpu_seconds for each in done),
                "other_load": max(each.other_load or 0.0 for each in done),
            }
            for place in ("now", "before")
            if (done := measured.get((place, name)))
        }
        if floors := measured.get(("floor", name)):
            # A floor may say itself how long its work took: without imports, where a training has others anyway.
            told[name]["floor"] = statistics.median(each.said.get("seconds", each.seconds) for each in floors)
    return told


def row(name: str, told: dict[str, Any]) -> tuple[str, ...]:
    """One command, for the table."""
    now, before, floor = told["now"], told.get("before"), told.get("floor")
    ratio = [f"{now[key] / before[key]:.2f}" if before else "" for key in ("seconds", "cpu_seconds")]
    return (
        name, f"{now['seconds']:.2f}", f"{now['cpu_seconds']:.2f}",
        *([f"{before[key]:.2f}" for key in ("seconds", "cpu_seconds")] if before else ("", "")), *ratio,
        f"{floor:.2f}" if floor else "", f"{now['seconds'] / floor:.2f}" if floor else "", percent(now["other_load"]),
    )  # fmt: skip


def floor_of_all(data: Path) -> dict[str, float]:
    """Decode each image and run the embedder's session on it, on all cores: nothing else."""
    work, files = embedding(), images(data)
    work(files[0])
    begin = time.perf_counter()
    with ThreadPoolExecutor(cores()) as pool:
        list(pool.map(work, files))
    return {"seconds": time.perf_counter() - begin}


def floor_of_one(data: Path) -> dict[str, float]:
    """The whole process: the imports of ONNX Runtime and Pillow, a session, one image."""
    embedding()(images(data)[0])
    return {}


def embedding() -> Callable[[Path], Any]:
    """Reads, decodes and embeds an image file, with the embedder that is kept in the cache."""
    from headstart.data.decode import decode
    from headstart.modelfile.session import Session

    (kept,) = (Path(os.environ["HEADSTART_CACHE"]) / "embedders").glob("*.onnx")
    session = Session(kept.read_bytes())

    def work(file: Path) -> Any:
        return session.run(decode(file.read_bytes(), enough_px=enough_px()).pixels)

    return work


def enough_px() -> int:
    """How much of an image the default backbone asks for."""
    from headstart.backbones import catalog, packaged

    return packaged.preprocess_of(catalog.find("lite0")).enough_px


def stages(data: Path) -> dict[str, float]:
    """Milliseconds of one image on one core: the median over images of the quickest of a few passes."""
    from headstart.backbones.embedder import load_embedder
    from headstart.core.graph import Graph
    from headstart.data.decode import decode
    from headstart.data.traits import measure as measure_traits
    from headstart.modelfile.session import Session
    from headstart.preprocess.nodes import add_preprocess
    from headstart.settings.recipe import Recipe

    embedders = {kind: load_embedder(Recipe(precision=kind), None) for kind in ("int8", "float32")}
    spec = embedders["int8"].preprocess
    graph = Graph()
    pixels = add_preprocess(graph, spec)
    graph.node("ReduceMean", [pixels, graph.ints("all", [1, 2, 3])], "out", keepdims=0)
    prepare = Session(graph.model({"out": ("N", 1)}).SerializeToString())
    sessions = {kind: Session(one.model) for kind, one in embedders.items()}
    times: dict[str, list[float]] = {}
    for file in images(data)[:: max(1, len(images(data)) // IMAGES)]:
        content = file.read_bytes()
        image = decode(content, enough_px=spec.enough_px)
        steps: dict[str, Callable[[], object]] = {
            "decode": lambda content=content: decode(content, enough_px=spec.enough_px),  # type: ignore[misc]
            "resize and normalise": lambda image=image: prepare.run(image.pixels),  # type: ignore[misc]
            **{
                kind: lambda one=one, image=image: one.run(image.pixels)  # type: ignore[misc]
                for kind, one in sessions.items()
            },
            "traits": lambda content=content, image=image: measure_traits(content, image),  # type: ignore[misc]
        }
        for name, step in steps.items():
            times.setdefault(name, []).append(min(_timed(step) for _ in range(PASSES)))
    medians = {name: 1000 * statistics.median(each) for name, each in times.items()}
    for kind in sessions:
        medians[f"network {kind}"] = medians.pop(kind) - medians["resize and normalise"]
    return medians


def _timed(step: Callable[[], object]) -> float:
    begin = time.process_time()
    step()
    return time.process_time() - begin


def imports(command: Sequence[str], environment: dict[str, str]) -> dict[str, float]:
    """Seconds that a command takes to import the modules of each package."""
    shown = environment | {"HEADSTART_SHOW_LIBRARY_MESSAGES": "1"}  # else a descriptor is closed that Python writes to
    done = subprocess.run(
        [command[0], "-X", "importtime", *command[1:]], env=shown, stdin=subprocess.DEVNULL, capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    seconds: Counter[str] = Counter()
    for microseconds, module in imported(done.stderr):
        seconds[module.split(".")[0]] += microseconds
    return {package: value / 1e6 for package, value in seconds.most_common()}


def imported(text: str) -> Iterator[tuple[int, str]]:
    """Microseconds and name of each module, from what `-X importtime` prints: its own time, without what it imports."""
    for line in text.splitlines():
        if found := re.match(r"import time:\s*(\d+) \|\s*\d+ \|\s*(\S+)$", line):
            yield int(found[1]), found[2]


def import_row(name: str, seconds: dict[str, float]) -> tuple[str, str, str]:
    """The imports of a command, for the table."""
    most = list(seconds.items())[:PACKAGES_TOLD]
    return name, f"{sum(seconds.values()):.2f}", ", ".join(f"{package} {value:.2f}" for package, value in most)


if __name__ == "__main__":
    main()
