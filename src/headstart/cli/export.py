"""`headstart export`: a model in another form."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headstart.cli import options
from headstart.cli.messages import DONE
from headstart.core.text import counted, portable, quoted
from headstart.prediction.exporters import EXPORTERS

if TYPE_CHECKING:
    from headstart.prediction.exporters.agreement import Proof

_FORMS = "; ".join(f"{name}: {spec.help}" for name, spec in EXPORTERS.items())


def export(
    model: options.Model,
    to: Annotated[str, typer.Option(metavar="|".join(EXPORTERS), help=f"{_FORMS}.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="File or folder to write; default: beside the model.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Title of the page; default: the name of the run folder.")] = None,
    check: Annotated[
        str | None,
        typer.Option(metavar="FOLDER", help="Images to test the export on; default: the held-out images of the run."),
    ] = None,
    bound: Annotated[
        float | None,
        typer.Option(help="Largest accepted difference in a probability; default: that of the format."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Convert a model to another format, such as a web page.

    The page classifies in any browser. The result is tested against the model, and refused if it differs.
    """
    from headstart import api
    from headstart.cli.output import Output

    output = Output(as_json=json, quiet=quiet)
    made = api.export(model, to, out=out, name=name, check=check, bound=bound, overwrite=overwrite)
    size = f"{made.size / 1e6:.1f} MB"
    files = "" if made.files == (made.path,) else f" in {counted(len(made.files), 'file')}"
    output.notes(made.notes)
    output.say(f"Wrote {quoted(str(made.path))} ({size}{files}). {EXPORTERS[made.format].next_step}")
    if made.proof:
        output.say(_in_words(made.proof))
    output.document({
        "format": made.format,
        "path": portable(str(made.path)),
        "files": [portable(str(file)) for file in made.files],
        "bytes": made.size,
        "proof": _record(made.proof) if made.proof else None,
        "notes": [portable(note) for note in made.notes],
    })  # fmt: skip
    return DONE


def _in_words(proof: Proof) -> str:
    low, high = (f"{100 * end:.1f}" for end in proof.interval)
    limit = f"if {counted(proof.allowed + 1, 'image')} differ by over" if proof.allowed else "above"
    return (
        f"Tested on {counted(proof.images, 'image')} ({proof.of}): the same {proof.answer} for "
        f"{proof.same:,} (95 % interval {low} to {high} %); probabilities differ by {proof.median:.2g} in the median, "
        f"by at most {proof.difference:.2g} (refused {limit} {proof.bound:g}). {proof.milliseconds:.0f} ms per "
        f"image here, the model file {proof.milliseconds_before:.0f} ms (one thread, without decoding)."
    )


def _record(proof: Proof) -> dict[str, object]:
    return {
        "images": proof.images,
        "of": portable(proof.of),
        "same_class": proof.same,
        "interval": [round(end, 6) for end in proof.interval],
        "difference": proof.difference,
        "median_difference": proof.median,
        "bound": proof.bound,
        "beyond": proof.beyond,
        "allowed_beyond": proof.allowed,
        "milliseconds": round(proof.milliseconds, 3),
        "milliseconds_before": round(proof.milliseconds_before, 3),
    }
