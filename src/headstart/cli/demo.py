"""`headstart demo`: the whole workflow on a small real data set, with the commands that you would type."""

from __future__ import annotations

import contextlib
import io
import json as jsonlib
import shlex
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headstart.cli import options
from headstart.cli.messages import DONE, SOME_SKIPPED
from headstart.core.marks import MODEL_FILE

if TYPE_CHECKING:
    from headstart.cli.output import Output


class Dataset(StrEnum):
    """The data set of the demo."""

    digits = "digits"
    ants_bees = "ants-bees"


def demo(
    dataset: Annotated[Dataset, typer.Option(help="digits works offline; ants-bees is downloaded (47 MB).")] = (
        Dataset.digits
    ),
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for images and run.")] = Path("headstart-demo"),
    url: Annotated[str | None, typer.Option(help="Another address of the ants-bees archive.")] = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Try Headstart on a small set of real images.

    Writes the images, then trains, evaluates and predicts with the commands that you would type.
    """
    from headstart.cli.output import Output
    from headstart.data import demo as sets

    output = Output(as_json=json, quiet=quiet)
    images, run = out / dataset.value, out / f"{dataset.value}-run"
    if dataset is Dataset.digits:
        sets.write_digits(images, output.progress())
        output.say(f"Wrote 1,797 handwritten digits from the UCI machine learning repository to {images}")
        examples = sorted((images / "test" / "7").glob("*.png"))[:3]
    else:
        sets.fetch_ants_bees(images, output.progress(), url or sets.ANTS_BEES_URL)
        output.say(f"The PyTorch tutorial's ants and bees are in {images}")
        examples = sorted((images / "val" / "bees").glob("*.jpg"))[:3]
    model = str(run / MODEL_FILE)
    commands = [
        ["train", str(images), "--out", str(run), "--overwrite"],
        ["evaluate", model, str(images)],
        ["predict", model, *map(str, examples)],
        ["verify", model],
    ]
    done: list[dict[str, object]] = []
    record: dict[str, object] = {"images": str(images), "run": str(run), "commands": done}
    worst = 0
    for command in commands:
        output.say(f"\n$ headstart {shlex.join(command)}")
        code, document = _run(output, command)
        done.append({"command": shlex.join(["headstart", *command]), "exit": code, "output": document})
        if code not in {DONE, SOME_SKIPPED}:
            output.document(record)
            return code
        worst = max(worst, code)
    output.document(record)
    return worst


def _run(output: Output, command: list[str]) -> tuple[int, Any]:
    """Run a command as the program would; its exit code, and its document where JSON was asked for."""
    from headstart.cli.main import run

    if not output.as_json:
        return run([*command, "--quiet"] if output.quiet else command), None
    with contextlib.redirect_stdout(io.StringIO()) as text:
        code = run([*command, "--json", "--quiet"])
    return code, jsonlib.loads(text.getvalue() or "null")
