"""`headstart embed`: the embeddings of images, in a file for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headstart.cli import options, panels
from headstart.cli.messages import DONE, SOME_SKIPPED

if TYPE_CHECKING:
    from headstart.cli.output import Output
    from headstart.features.embeddings import Embeddings


Out = Annotated[
    Path,
    typer.Option(
        "--out",
        "-o",
        metavar="FILE|DIR",
        help="File to write: .npz or .parquet; or a folder (a name without a suffix) for Parquet shards, which is "
        "gone on with where it was left.",
    ),
]


@panels.takes(options.SHARDS, options.COLUMNS, options.PROCESS)
def embed(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="Labelled images, as for train; also a URL: s3://BUCKET/PREFIX.")
    ],
    out: Out,
    unlabelled: Annotated[
        bool, typer.Option("--unlabelled", help="SOURCE holds images without labels, as for predict.")
    ] = False,
    model: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Embed with the network of this model.onnx or run.")
    ] = None,
    backbone: options.Backbone = None,
    precision: Annotated[
        str | None, typer.Option(help="Precision of the network: int8 (the default) or float32.")
    ] = None,
    overwrite: options.ReplaceOut = False,
    dtype: Annotated[str, typer.Option(help="Of a folder: float32 or float16.")] = "float32",
    max_megapixels: options.MaxMegapixels = None,
    white_level: options.WhiteLevel = None,
    **given: Any,
) -> int:
    """Write the embeddings of images to a file or a folder.

    For your own clustering or search, as .npz or .parquet; or for sets of any size as a folder of Parquet shards.
    """
    from headstart import api
    from headstart.api.sharding import Shape
    from headstart.cli import shards
    from headstart.cli.output import Output
    from headstart.cli.signals import set_hint
    from headstart.data.inputs import expand
    from headstart.features.embeddings import refuse_unfit
    from headstart.features.sharded.folder import is_shard_folder
    from headstart.settings.recipe import Recipe

    output = Output(as_json=given["json"], quiet=given["quiet"])
    columns = options.columns(given)
    sharded = is_shard_folder(out)
    if not sharded:
        refuse_unfit(out, overwrite=overwrite)
        options.refuse_for_files(given, dtype=dtype)
    named = _named(model, backbone=backbone, precision=precision, white_level=white_level)
    if max_megapixels is not None:
        named["max_megapixels"] = max_megapixels
    runtime = options.runtime(output, workers=given["workers"], strict=given["strict"], cached=not given["no_cache"])
    classifier = None if model is None else api.load(model, max_megapixels=max_megapixels)
    table = expand([source]) if unlabelled else api.read(source, columns=columns)
    recipe = None if classifier else Recipe.from_dict(named)
    if not sharded:
        found = api.embed(table, classifier=classifier, recipe=recipe, runtime=runtime)
        found.save(out, overwrite=overwrite)
        return _told(found, out, output)
    set_hint("What was embedded is kept. Run the same command to go on.")
    written = api.embed_into(
        table, out, classifier=classifier, recipe=recipe, shape=Shape(dtype, given["shard_rows"]), overwrite=overwrite,
        runtime=options.on_engine(runtime, given["on"], given["address"], workers=given["workers"]),
    )  # fmt: skip
    return shards.told(written, output)


def _named(model: str | None, **choices: str | int | None) -> dict[str, str | int]:
    """What was chosen of the network, which a model file has of its own.

    Raises:
        OptionError: A model was named too.
    """
    from headstart.core.errors import OptionError

    named = {name: value for name, value in choices.items() if value is not None}
    if model is not None and named:
        raise OptionError(
            f"--model comes with its own network; --{next(iter(named)).replace('_', '-')} selects another one.",
            "Give one of them.",
        )
    return named


def _told(found: Embeddings, out: Path, output: Output) -> int:
    """Say what the file holds, to a person and in JSON; the exit code."""
    from headstart.core.text import counted, portable, quoted

    images, width = found.features.shape
    output.say(f"{quoted(str(out))}: {counted(images, 'embedding')} of {width:,} numbers, by {found.network}.")
    notes = [*found.table.notes, *found.notes]
    output.notes(notes)
    output.skipped(found.table.skipped)
    output.document({
        "out": portable(str(out)), "images": images, "width": width, "network": found.network,
        "embedder": found.embedder, "skipped": [skip.as_dict() for skip in found.table.skipped], "notes": notes,
    })  # fmt: skip
    return SOME_SKIPPED if found.table.unusable else DONE
