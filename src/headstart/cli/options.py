"""Options that several commands share, so that each is described once."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headstart.cli.panels import MANIFEST
from headstart.settings.setting import RUNNING, SOURCE

if TYPE_CHECKING:
    from headstart.cli.output import Output
    from headstart.core.runtime import Runtime
    from headstart.data.readers import Columns
    from headstart.data.table import ImageTable


class Engine(StrEnum):
    """What runs the work on shards of images."""

    local = "local"
    ray = "ray"


Model = Annotated[str, typer.Argument(metavar="MODEL", help="The model.onnx of a run, or the run folder.")]
Top = Annotated[int, typer.Option(min=1, help="How many classes to name for each image.")]
Coverage = Annotated[
    float | None,
    typer.Option(metavar="SHARE", help="Give prediction sets that contain the true class this often, such as 0.9."),
]
ReplaceOut = Annotated[bool, typer.Option("--overwrite", help="Replace the file of --out.")]
Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON document; notes go to standard error.", rich_help_panel=RUNNING)
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print no notes and no progress.", rich_help_panel=RUNNING)]
Strict = Annotated[
    bool, typer.Option("--strict", help="Any file that cannot be used is an error.", rich_help_panel=RUNNING)
]
Workers = Annotated[
    int | None, typer.Option(min=1, max=256, help="Threads; default: one for each core.", rich_help_panel=RUNNING)
]
Backbone = Annotated[
    str | None, typer.Option(help="Network: one that `headstart backbones` lists, or file:PATH. Default: lite0.")
]
MaxMegapixels = Annotated[
    int | None, typer.Option(help="Larger images are skipped; a JPEG counts as reduced. Default: 64, or the model's.")
]
WhiteLevel = Annotated[
    int | None,
    typer.Option(metavar="LEVEL", help="The value of 16-bit images that is white, such as 4095; default: 65535."),
]
NoCache = Annotated[
    bool, typer.Option("--no-cache", help="Neither read nor write the feature cache.", rich_help_panel=RUNNING)
]
On = Annotated[
    Engine,
    typer.Option(
        "--on", help="Where shards are computed: in this process, or on a Ray cluster.", rich_help_panel=RUNNING
    ),
]
Address = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="Of a running Ray cluster, or auto; default: Ray is started on this machine.",
        rich_help_panel=RUNNING,
    ),
]
ShardRows = Annotated[int, typer.Option(help="Of a folder: images of a shard.")]
SHARDS: dict[str, tuple[Any, Any]] = {
    "shard_rows": (ShardRows, 512),
    "on": (On, Engine.local),
    "address": (Address, None),
}
PathColumn = Annotated[
    str | None,
    typer.Option(help="Manifest: column of the image's path; default: one of a known name.", rich_help_panel=MANIFEST),
]
LabelColumn = Annotated[str | None, typer.Option(help="Manifest: column of the class.", rich_help_panel=MANIFEST)]
SplitColumn = Annotated[
    str | None, typer.Option(help="Manifest: column of the split (train, val, test).", rich_help_panel=MANIFEST)
]
GroupColumn = Annotated[
    str | None,
    typer.Option(help="Manifest: column of the group; a group is never divided.", rich_help_panel=MANIFEST),
]
Decisions = Annotated[
    Path | None,
    typer.Option(
        "--decisions",
        metavar="FILE",
        help="CSV file of images to drop, relabel and keep, as check --fix-list writes it.",
        rich_help_panel=SOURCE,
    ),
]
Root = Annotated[
    Path | None,
    typer.Option(help="Manifest: folder that its paths are relative to; default: its own.", rich_help_panel=MANIFEST),
]
Encoding = Annotated[
    str | None,
    typer.Option(
        help="Manifest: encoding of its text, such as cp1252; default: UTF-8, or by its byte-order mark.",
        rich_help_panel=MANIFEST,
    ),
]

LabelPattern = Annotated[
    str | None,
    typer.Option(
        metavar="REGEX",
        help=r"Read the class from the file name, with the first group of this: '(.+)_\d+\.jpg'.",
        rich_help_panel=SOURCE,
    ),
]
ClassLevel = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Which folder level is the class; default: 1, the top, or the top of each split.",
        rich_help_panel=SOURCE,
    ),
]
SplitFolders = Annotated[
    str | None,
    typer.Option(
        metavar="train=FOLDER,test=FOLDER",
        help="Which folders are splits; default: those with such names.",
        rich_help_panel=SOURCE,
    ),
]
Task = Annotated[
    str | None,
    typer.Option(
        metavar="classes|multi-label",
        help="One class an image, or any number of labels; default: what the source shows.",
        rich_help_panel=SOURCE,
    ),
]
LabelSeparator = Annotated[
    str | None,
    typer.Option(
        metavar="SIGN",
        help="Manifest: what stands between the labels of an image; default: the first of | ; , or blanks that occurs.",
        rich_help_panel=MANIFEST,
    ),
]
Device = Annotated[
    str,
    typer.Option(help="Where networks are trained: auto, cpu, cuda, cuda:1 or mps.", rich_help_panel=RUNNING),
]
DEVICE = {"device": (Device, "auto")}
COLUMNS: dict[str, tuple[Any, Any]] = {
    "path_column": (PathColumn, None), "label_column": (LabelColumn, None), "split_column": (SplitColumn, None),
    "group_column": (GroupColumn, None), "root": (Root, None), "encoding": (Encoding, None),
    "label_pattern": (LabelPattern, None), "class_level": (ClassLevel, None), "split_folders": (SplitFolders, None),
    "task": (Task, None), "label_separator": (LabelSeparator, None),
}  # fmt: skip
PROCESS: dict[str, tuple[Any, Any]] = {
    "workers": (Workers, None), "no_cache": (NoCache, False), "strict": (Strict, False), "json": (Json, False),
    "quiet": (Quiet, False),
}  # fmt: skip


def columns(parameters: Mapping[str, Any]) -> Columns:
    """How the source is to be read, from the options.

    Args:
        parameters: All parameters of the command, by name.
    """
    from headstart.data.readers import Columns

    fields = {"label_separator": "separator"}
    return Columns(**{fields.get(name, name.removesuffix("_column")): parameters[name] for name in COLUMNS})


def images(source: str, parameters: Mapping[str, Any]) -> ImageTable | str:
    """The images of a source; or its name, where it is a folder of embeddings.

    Args:
        source: What the user named.
        parameters: All parameters of the command, by name.

    Raises:
        OptionError: Options of a list of images were given beside embeddings.
    """
    from headstart import api
    from headstart.core.errors import OptionError
    from headstart.core.text import quoted
    from headstart.features.sharded.folder import is_folder_of

    if not is_folder_of(Path(source)):
        return api.read(source, columns=columns(parameters), decisions=parameters["decisions"])
    names = [name for name in (*COLUMNS, "decisions") if parameters[name] is not None]
    if names:
        raise OptionError(
            f"{quoted(source)} holds embeddings, whose paths, labels and splits are written already; "
            f"--{names[0].replace('_', '-')} is for images.",
            "Give it to `headstart embed`, or leave it out.",
        )
    return source


def runtime(output: Output, *, workers: int | None, strict: bool, cached: bool) -> Runtime:
    """How to run, from the options."""
    from headstart.core.runtime import Runtime, default_cache, default_workers

    return Runtime(
        cache=default_cache() if cached else None,
        workers=workers or default_workers(),
        progress=output.progress(),
        strict=strict,
    )


def on_engine(runtime: Runtime, on: Engine, address: str | None, *, workers: int | None) -> Runtime:
    """The runtime with what runs the work on shards.

    Raises:
        OptionError: There is an address, and no cluster is asked for.
    """
    from dataclasses import replace

    refuse_address(on, address)
    if on is Engine.local:
        return runtime
    from headstart.scale.ray_pool import RayPool

    return replace(runtime, on=RayPool(address, workers))


def refuse_address(on: Engine, address: str | None) -> None:
    """Refuse the address of a cluster that is not asked for.

    Raises:
        OptionError: There is one.
    """
    from headstart.core.errors import OptionError

    if on is Engine.local and address is not None:
        raise OptionError("--address is about a Ray cluster.", "Give --on ray too.")


def refuse_for_files(shards: Mapping[str, Any], *, dtype: str = "float32") -> None:
    """Say that an option is about folders of shards, where a file is to be written.

    Args:
        shards: The values of `SHARDS`, by name.
        dtype: Of the embeddings.

    Raises:
        OptionError: One is given.
    """
    from headstart.core.errors import OptionError

    told = {name: shards[name] != default for name, (_, default) in SHARDS.items()} | {"dtype": dtype != "float32"}
    if named := next((name for name, there in told.items() if there), None):
        raise OptionError(
            f"--{named.replace('_', '-')} is about a folder of shards.",
            "Name a folder with --out: a name without a suffix.",
        )
