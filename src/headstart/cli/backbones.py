"""`headstart backbones`: which pretrained networks there are, and what one looks like inside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from headstart.cli import options
from headstart.cli.messages import DONE
from headstart.core.tables import resolve
from headstart.core.text import counted, listed, nearest, quoted

if TYPE_CHECKING:
    from headstart.cli.output import Output
    from headstart.settings.backbones import BackboneSpec
    from headstart.training.freezing import Stage

SHOW = "show"
# Imported only to show a network: they need PyTorch.
_ARCHITECTURE = "headstart.training.sources:architecture"
_LAYERS = "headstart.training.sources.layer_order:layers"


def backbones(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PATTERN|show NAME",
            help="Part of a name, or a pattern with * and ?; or the word show and one name, to see its layers.",
            show_default=False,
        ),
    ] = None,
    here: Annotated[bool, typer.Option("--here", help="List only those whose weights are on this computer.")] = False,
    unfreeze: Annotated[str, typer.Option(help="show: what fine-tuning trains: head, last, half, all.")] = "last",
    pretrained: Annotated[
        bool, typer.Option("--pretrained/--no-pretrained", help="show: with the weights, or random ones.")
    ] = True,
    weights: Annotated[
        str, typer.Option(help="show: a weights file, checked against the network.", metavar="PATH")
    ] = "",
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """List the pretrained networks, or show the layers of one.

    `headstart backbones` lists popular ones, `headstart backbones resnet` all of that name, and
    `headstart backbones show resnet18` its layers. Nothing is downloaded.
    """
    from headstart.cli.output import Output
    from headstart.core.errors import OptionError

    output = Output(as_json=json, quiet=quiet)
    words = words or []
    if words[:1] == [SHOW]:
        if len(words) != 2:
            raise OptionError(f"`show` takes one name, and {counted(len(words) - 1, 'name')} were given.")
        _show(output, words[1], unfreeze, weights, pretrained=pretrained)
    elif len(words) > 1:
        raise OptionError(f"One pattern was expected, and {listed(words)} were given.", "To see layers: show NAME.")
    else:
        _list(output, words[0] if words else "", here=here)
    return DONE


def _list(output: Output, pattern: str, *, here: bool) -> None:
    from headstart.backbones import catalog

    rows = catalog.known()
    local = {row.name for row in rows if catalog.is_local(row)}
    if pattern:
        chosen = catalog.matching(pattern)
    elif here:
        chosen = list(rows)
    else:
        chosen = [row for row in rows if row.name in catalog.WELL_KNOWN]
    chosen = [row for row in chosen if row.name in local or not here]
    _table(output, chosen, local)
    if not pattern and not here:
        output.say()
        output.say(
            f"{len(rows) - len(chosen):,} more: `headstart backbones PATTERN` finds them, `headstart backbones '*'` "
            "lists all."
        )
    elif not chosen:
        output.say("None of them have their weights on this computer.")
    records = [
        {
            "name": row.name, "parameters": row.parameters, "size_px": row.size_px,
            "embedding_size": row.embedding_size, "licence": row.licence, "weights": row.weights,
            "here": row.name in local,
        }
        for row in chosen
    ]  # fmt: skip
    output.document({"backbones": records, "known": len(rows)})


def _table(output: Output, rows: list[BackboneSpec], local: set[str]) -> None:
    if output.quiet:
        return
    lines = [
        [
            row.short, f"{row.parameters / 1e6:.1f} M", f"{row.size_px}", f"{row.embedding_size:,}", row.licence,
            "yes" if row.name in local else "no" if row.weights else "none",
        ]
        for row in rows
    ]  # fmt: skip
    header = ["Backbone", "Parameters", "Input px", "Embedding", "Licence", "Weights here"]
    output.table(header, lines, right=(1, 2, 3))


def _show(output: Output, name: str, unfreeze: str, weights: str, *, pretrained: bool) -> None:
    from typing import get_args

    from headstart.core.errors import OptionError
    from headstart.settings.recipe import Unfreeze
    from headstart.training import freezing

    choices = get_args(Unfreeze)
    if unfreeze not in choices:
        raise OptionError(
            f"unfreeze = {quoted(unfreeze)} is none of {listed(choices)}.", nearest(unfreeze, choices).strip()
        )
    if weights and not pretrained:
        raise OptionError("A weights file was given together with --no-pretrained: choose one.")
    loaded = resolve(_ARCHITECTURE)(name, weights=weights)
    found = freezing.stages(loaded.module)
    trained = freezing.trained(found, unfreeze)  # type: ignore[arg-type]  # one of the choices
    layers = resolve(_LAYERS)(loaded)
    total = sum(layer.parameters for layer in layers)
    learnt = sum(layer.parameters for layer in layers if _stage(layer.name, trained))
    record = loaded.preprocess
    output.say(f"{loaded.name}: {total:,} parameters, {record.size_px} px, embedding {loaded.embedding_size:,}, "
               f"licence {loaded.licence}")  # fmt: skip
    output.say(
        f"Preprocessing: {record.fit}, {record.crop_fraction:.3f} of the shorter side, {record.interpolation}, "
        f"mean {_triple(record.mean)}, std {_triple(record.std)}"
    )
    origin = weights or (_origin(name) if pretrained else "random")
    output.say(f"Weights: {origin}")
    output.say(f"Trained besides the head with --unfreeze {unfreeze}: {learnt:,} parameters in "
               f"{listed(stage.name for stage in trained) if trained else 'no stage'}")  # fmt: skip
    output.say()
    if not output.quiet:
        rows = [
            [layer.name, layer.kind, _size(layer.output), f"{layer.parameters:,}",
             "yes" if _stage(layer.name, trained) else "no"]
            for layer in layers
        ]  # fmt: skip
        output.table(["Layer", "Kind", "Output", "Parameters", "Trained"], rows, right=(3,))
    output.document({
        "name": loaded.name, "parameters": total, "trained_parameters": learnt, "size_px": record.size_px,
        "embedding_size": loaded.embedding_size, "licence": loaded.licence, "weights": origin,
        "preprocess": record.as_dict(), "unfreeze": unfreeze, "stages": [stage.name for stage in found],
        "layers": [
            {
                "name": layer.name, "kind": layer.kind, "output": list(layer.output) if layer.output else None,
                "parameters": layer.parameters, "stage": _stage(layer.name, found),
                "trained": bool(_stage(layer.name, trained)),
            }
            for layer in layers
        ],
    })  # fmt: skip


def _origin(name: str) -> str:
    """Where the weights of a backbone are, or would come from."""
    from headstart.backbones import catalog
    from headstart.settings.backbones import FILE, PACKAGE

    row = catalog.find(name)
    if row.address:
        return str(catalog.local_file(row) or f"not here; downloaded on first use from {row.weights}")
    return {FILE: row.name, PACKAGE: "here, in a package"}.get(row.weights, row.weights or "none")


def _stage(layer: str, stages: list[Stage]) -> str:
    return next((stage.name for stage in stages if stage.holds(layer)), "")


def _size(shape: tuple[int, ...] | None) -> str:
    return " x ".join(map(str, shape)) if shape else "-"


def _triple(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)
