"""The tables of backbones. Listing them imports nothing heavy.

Two are our own; the others are those of timm and torchvision, as `scripts/list_backbones.py` has written them to
`listing.csv`. Where their weights are is asked of the folders that the libraries keep them in.
"""

from __future__ import annotations

import csv
import difflib
import fnmatch
import functools
import importlib.util
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlparse

from headstart.core.errors import OptionError
from headstart.core.text import listed, quoted

LISTING = Path(__file__).with_name("listing.csv")
LIBRARIES = ("timm", "torchvision")
HUB_FILES = ("model.safetensors", "pytorch_model.bin")  # of a repository, in timm's order
MAX_NEAREST = 4


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What is known of a backbone that Headstart builds without PyTorch.

    Attributes:
        module: Where it is built, as ``module:function(graph, pixels, precision) -> name of the embedding``.
        size_px: Side of its square input.
        crop_fraction: See `headstart.preprocess.spec.Preprocess`.
        mean: Mean of each channel that the weights were trained with.
        std: Standard deviation likewise.
        embedding_size: Width D of its embedding.
        parameters: Number of its weights, without the classification layer.
        licence: Licence of the weights, SPDX.
        digest: SHA-256 of the weights file.
        version: Raised whenever the graph that is built from the same weights changes.
    """

    module: str
    size_px: int
    crop_fraction: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    embedding_size: int
    parameters: int
    licence: str
    digest: str
    version: int


BACKBONES = {
    "lite0": Entry(
        module="headstart.backbones.lite0:build",
        size_px=224,
        crop_fraction=0.875,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        embedding_size=1280,
        parameters=3_371_008,
        licence="Apache-2.0",
        digest="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        version=3,
    ),
}


@dataclass(frozen=True, kw_only=True)
class Row:
    """What a listing tells of a backbone.

    Attributes:
        name: Its canonical name: ``lite0``, ``timm:resnet18.a1_in1k``, ``torchvision:resnet18``.
        parameters: Number of its weights, without the classification layer.
        size_px: Side of its square input.
        embedding_size: Width D of its embedding.
        licence: Of the weights; ``unknown`` where their record has none.
        weights: Where they come from: a URL, ``hf:OWNER/REPOSITORY`` or ``hf:OWNER/REPOSITORY/FILE``, ``package`` for
            those that come with Headstart; empty where there are none.
    """

    name: str
    parameters: int
    size_px: int
    embedding_size: int
    licence: str
    weights: str

    @property
    def short(self) -> str:
        """The name as people write it: torchvision's need no prefix."""
        return self.name.removeprefix("torchvision:")


SIMPLE = "simple-resnet18"
OWN = (
    *(
        Row(name=name, parameters=entry.parameters, size_px=entry.size_px, embedding_size=entry.embedding_size,
            licence=entry.licence, weights="package")
        for name, entry in BACKBONES.items()
    ),
    Row(name=SIMPLE, parameters=4_905_792, size_px=224, embedding_size=512, licence="Apache-2.0", weights=""),
)  # fmt: skip
# What a list for people begins with: small and middling ones that are much used, by year.
WELL_KNOWN = (
    "lite0", "simple-resnet18", "torchvision:resnet18", "torchvision:resnet50", "torchvision:mobilenet_v3_large",
    "torchvision:efficientnet_b0", "torchvision:convnext_tiny", "torchvision:vit_b_16",
    "timm:mobilenetv4_conv_small.e2400_r224_in1k", "timm:resnet50.a1_in1k", "timm:convnextv2_tiny.fcmae_ft_in22k_in1k",
    "timm:vit_small_patch16_224.augreg_in21k_ft_in1k", "timm:vit_small_patch14_dinov2.lvd142m",
    "timm:vit_base_patch16_clip_224.openai",
)  # fmt: skip


def find(name: str) -> Entry:
    """The entry of a backbone that Headstart builds without PyTorch.

    Raises:
        OptionError: There is no backbone of this name.
    """
    if name not in BACKBONES:
        raise unknown(name)
    return BACKBONES[name]


@functools.cache
def known() -> tuple[Row, ...]:
    """All backbones that can be named: ours, torchvision's, timm's; the default of each network of timm comes first."""
    with LISTING.open(encoding="utf-8", newline="") as file:
        rows = [
            Row(
                name=row["name"], parameters=int(row["parameters"]), size_px=int(row["size_px"]),
                embedding_size=int(row["embedding_size"]), licence=row["licence"], weights=row["weights"],
            )
            for row in csv.DictReader(file)
        ]  # fmt: skip
    return (*OWN, *rows)


@functools.cache
def _by_name() -> dict[str, Row]:
    rows = {row.name: row for row in known()}
    for row in known():
        rows.setdefault(row.name.partition(".")[0] if row.name.startswith("timm:") else row.name, row)
    return rows


def matching(pattern: str) -> list[Row]:
    """The rows whose name has a text in it, or matches a pattern with ``*``, ``?`` and ``[...]``.

    Raises:
        OptionError: There is none.
    """
    text = pattern.lower()
    if set(text) & set("*?["):
        found = [row for row in known() if any(fnmatch.fnmatchcase(one.lower(), text) for one in (row.name, row.short))]
    else:
        found = [row for row in known() if text in row.name.lower()]
    if not found:
        raise unknown(pattern)
    return found


def names(library: str) -> list[str]:
    """The names of one library's backbones, with those that leave the tag out."""
    return [name for name in _by_name() if name.startswith(f"{library}:")]


def row_of(name: str) -> Row | None:
    """The row of a name, as `canonical` understands it; None where it is in no listing."""
    return _by_name().get(canonical(name))


def canonical(name: str) -> str:
    """The one name of a backbone: ``resnet18`` is ``torchvision:resnet18``, and timm's have their tag.

    A name of a library that no listing has is left as it is: another version of the library may have it.

    Raises:
        OptionError: There is no such backbone, or it must be named with its library.
    """
    library, colon, rest = name.partition(":")
    if colon and library == "file" and rest:
        return name
    if name in _by_name():
        return _by_name()[name].name
    if colon and library in LIBRARIES and rest and importlib.util.find_spec(library) is not None:
        return name
    if not colon and f"torchvision:{name}" in _by_name():
        return f"torchvision:{name}"
    if not colon and f"timm:{name}" in _by_name():
        raise OptionError(
            f"A name without a library means torchvision's, which has no {quoted(name)}; timm has one.",
            f"Write {quoted(f'timm:{name}')}.",
        )
    raise unknown(name)


def unknown(name: str, candidates: Iterable[str] = ()) -> OptionError:
    """The error for a name that is none, with the nearest of all that are known."""
    known_names = dict.fromkeys(one.removeprefix("torchvision:") for one in (*_by_name(), *candidates))
    library = name.partition(":")[0] if ":" in name else ""
    plain: dict[str, list[str]] = {}
    for one in known_names:
        plain.setdefault(_plain(one), []).append(one)
    matches = [one for key in difflib.get_close_matches(_plain(name), plain, n=MAX_NEAREST) for one in plain[key]]
    # Of the library that was named first, and of what is equally near the shorter ones.
    matches = sorted(matches[: 2 * MAX_NEAREST], key=lambda one: library == "timm" and not one.startswith("timm:"))
    near = f"Did you mean {listed(matches[:MAX_NEAREST])}? " if matches else ""
    return OptionError(
        f"There is no backbone {quoted(name)}.", f"{near}`headstart backbones PATTERN` lists those that are known."
    )


def _plain(name: str) -> str:
    """A name without what people leave out or write otherwise."""
    return name.rpartition(":")[2].lower().replace("-", "").replace("_", "")


def is_local(row: Row) -> bool:
    """Whether the weights are on this computer, so that no network is needed."""
    return row.weights == "package" or local_file(row) is not None


def local_file(row: Row) -> Path | None:
    """The weights file where its library keeps it; None where it is not there, or is a part of a package."""
    if row.weights.startswith("hf:"):
        files = [folder / file for folder in _snapshot(row) for file in hub_files(row)]
    elif "://" in row.weights:
        files = [target(row)]
    else:
        files = []
    return next((file for file in files if file.is_file()), None)


def repository(row: Row) -> str:
    """``OWNER/REPOSITORY`` of weights on a Hugging Face hub."""
    return "/".join(row.weights.removeprefix("hf:").split("/")[:2])


def hub_files(row: Row) -> tuple[str, ...]:
    """The files that the weights may be in, the first one first."""
    file = "/".join(row.weights.removeprefix("hf:").split("/")[2:])
    return (file,) if file else HUB_FILES


def target(row: Row) -> Path:
    """Where a weights file, or the snapshots of a repository, belong."""
    if row.weights.startswith("hf:"):
        return hub_cache() / f"models--{repository(row).replace('/', '--')}"
    return torch_cache() / Path(urlparse(row.weights).path).name


def torch_cache() -> Path:
    """The folder where PyTorch keeps weights that it has fetched."""
    home = os.environ.get("TORCH_HOME") or str(_user_cache() / "torch")
    return Path(home).expanduser() / "hub" / "checkpoints"


def hub_cache() -> Path:
    """The folder where `huggingface_hub` keeps what it has fetched."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if os.environ.get(variable):
            return Path(os.path.expandvars(os.environ[variable])).expanduser()
    home = os.environ.get("HF_HOME") or str(_user_cache() / "huggingface")
    return Path(os.path.expandvars(home)).expanduser() / "hub"


def _user_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()


def _snapshot(row: Row) -> list[Path]:
    """The folder of the version that the hub calls main, where it is there."""
    folder = target(row)
    try:
        return [folder / "snapshots" / (folder / "refs" / "main").read_text(encoding="utf-8").strip()]
    except (OSError, UnicodeDecodeError):
        return []
