"""The backbone of a run of ours, out of its `weights.safetensors`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from headstart.backbones import catalog
from headstart.core.errors import ModelError, OptionError
from headstart.core.text import quoted
from headstart.preprocess.spec import Preprocess
from headstart.training.sources.loaded import Network
from headstart.training.sources.weights import fit, read_checkpoint

KEY = "headstart"  # of the texts in the header
PREFIX = "backbone."


def build(name: str, *, pretrained: bool) -> Network:
    """The network that a run has trained, without its head.

    Args:
        name: Path of the run's ``weights.safetensors``, or of its folder.
        pretrained: With the trained weights; else the same network with random ones.

    Raises:
        OptionError: The file does not say which network it belongs to.
        ModelError: The file is damaged, or does not fit the network that it names.
    """
    path = Path(name)
    if path.suffix == ".onnx":
        raise OptionError(
            f"{quoted(name)} is a model file: it can be a backbone for the strategy probe alone, without changes.",
            "To train it further, name the weights.safetensors beside it.",
        )
    checkpoint = read_checkpoint(path)
    if KEY not in checkpoint.texts:
        raise OptionError(
            f"{quoted(name)} does not say which network its weights belong to.",
            f"Name the architecture: --backbone timm:NAME --weights {name}",
        )
    record = _record(checkpoint.texts[KEY], name)
    # Not at the top: it is called from there.
    from headstart.training.sources import build as build_row

    network = build_row(catalog.find(record.backbone), pretrained=False)
    network = replace(network, preprocess=Preprocess.from_dict(record.preprocess), licence=record.licence)
    if network.embedding_size != record.embedding_size:
        raise _damaged(name)
    if pretrained:
        inside = {key: value for key, value in checkpoint.tensors.items() if key.startswith(PREFIX)}
        network.module.load_state_dict(fit(network, inside, name), strict=False)
    return network


class _Record(NamedTuple):
    """What the header of a weights file says of the network: see `headstart.training.checkpoint`."""

    backbone: str
    licence: str
    preprocess: dict[str, object]
    embedding_size: int


def _record(text: str, name: str) -> _Record:
    try:
        record = json.loads(text)
        backbone, licence = record["backbone"], record.get("licence", "unknown")
        preprocess, embedding_size = dict(record["preprocess"]), int(record["embedding_size"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _damaged(name) from error
    if not isinstance(backbone, str) or backbone.startswith("file:") or not isinstance(licence, str):
        raise _damaged(name)
    return _Record(backbone, licence, preprocess, embedding_size)


def _damaged(name: str) -> ModelError:
    return ModelError(f"The record of the run in the header of {quoted(name)} is damaged.")
