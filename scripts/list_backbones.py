"""Write `src/headstart/backbones/listing.csv`: the pretrained backbones of timm and torchvision.

Run it after an update of these libraries. Networks are built on PyTorch's device `meta`, without weights, so that it
takes minutes and no network. What Headstart cannot use (no square RGB input, no embedding of one vector an image) is
left out and told.
"""

from __future__ import annotations

import csv
import io
import sys
import warnings

import timm
import torch
import torchvision

from headstart.backbones.catalog import LISTING
from headstart.core.errors import HeadstartError
from headstart.core.files import durable_write
from headstart.settings.backbones import BackboneSpec
from headstart.training.sources import Loaded, architecture

COLUMNS = ("name", "parameters", "size_px", "embedding_size", "licence", "weights")


def main() -> None:
    """Write the table."""
    rows = []
    for name, weights, key in [*torchvision_names(), *timm_names()]:
        try:
            row = describe(name, weights, key)
        except (HeadstartError, RuntimeError, TypeError, ValueError, AttributeError, AssertionError) as error:
            print(f"left out: {name}: {str(error).splitlines()[0][:200]}", file=sys.stderr)
            continue
        rows.append(row)
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([getattr(row, column) for column in COLUMNS] for row in rows)
    durable_write(LISTING, text.getvalue())
    print(f"{len(rows):,} backbones in {LISTING}", file=sys.stderr)


def torchvision_names() -> list[tuple[str, str, object]]:
    """Names, where the weights are, and what tells one network from another."""
    models = torchvision.models
    names = [name for name in models.list_models(module=models) if list(models.get_model_weights(name))]
    return [(f"torchvision:{name}", models.get_model_weights(name).DEFAULT.url, name) for name in names]


def timm_names() -> list[tuple[str, str, object]]:
    """The same of timm; of each network the one that a name without a tag means comes first."""
    found = []
    for network in timm.list_models():
        default = timm.models.get_pretrained_cfg(network)
        tagged = sorted(timm.list_models(f"{network}.*", pretrained=True))
        for name in sorted(tagged, key=lambda one: default is None or one != f"{network}.{default.tag}"):
            config = timm.models.get_pretrained_cfg(name)
            found.append((f"timm:{name}", location(config), (network, config.input_size, config.num_classes == 0)))
    return found


def location(config: object) -> str:
    """Where timm would fetch the weights from."""
    repository, file, url = config.hf_hub_id, config.hf_hub_filename, config.url  # type: ignore[attr-defined]
    if repository:
        return f"hf:{repository}/{file}" if file else f"hf:{repository}"
    return str(url)


_SHAPES: dict[object, tuple[int, int]] = {}


def describe(name: str, weights: str, key: object) -> BackboneSpec:
    """One row, whose numbers come from the network itself."""
    loaded = architecture(name)
    if key not in _SHAPES:
        _SHAPES[key] = measure(loaded)
    parameters, width = _SHAPES[key]
    if width != loaded.embedding_size:  # one tag's network may differ from another's
        parameters, width = measure(loaded)
    if width != loaded.embedding_size:
        raise TypeError(f"gives {width} values, and says {loaded.embedding_size}")
    return BackboneSpec(
        name=name, parameters=parameters, size_px=loaded.preprocess.size_px, embedding_size=width,
        licence=loaded.licence, weights=weights,
    )  # fmt: skip


def measure(loaded: Loaded) -> tuple[int, int]:
    """The number of parameters, and the width of the embedding of a picture."""
    device = next(loaded.module.parameters()).device
    size_px = loaded.preprocess.size_px
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        embedding = loaded.module(torch.zeros(1, 3, size_px, size_px, device=device))
    if not isinstance(embedding, torch.Tensor) or embedding.ndim != 2:
        raise TypeError("gives no vector")
    return sum(parameter.numel() for parameter in loaded.module.parameters()), embedding.shape[1]


if __name__ == "__main__":
    main()
