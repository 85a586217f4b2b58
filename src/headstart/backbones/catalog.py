"""All backbones that can be named. Listing them imports nothing heavy.

Our own are rows of `headstart.settings.backbones`; the others are those of timm and torchvision, as
`scripts/list_backbones.py` has written them to `listing.csv`. Where their weights are is asked of the folders that the
libraries keep them in.
"""

from __future__ import annotations

import csv
import difflib
import fnmatch
import functools
import importlib.util
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlparse

from headstart.core.errors import OptionError
from headstart.core.text import listed, quoted
from headstart.settings.backbones import BACKBONES, FILE, BackboneSpec, backbone_spec_of

LISTING = Path(__file__).with_name("listing.csv")
LIBRARIES = ("timm", "torchvision")
HUB_FILES = ("model.safetensors", "pytorch_model.bin")  # of a repository, in timm's order
MAX_NEAREST = 4


# What a list for people begins with: small and middling ones that are much used, by year.
WELL_KNOWN = (
    "lite0", "lite1", "lite2", "lite0+lite2", "simple-resnet18", "torchvision:resnet18",
    "torchvision:resnet50", "torchvision:mobilenet_v3_large", "torchvision:efficientnet_b0",
    "torchvision:convnext_tiny", "torchvision:vit_b_16",
    "timm:mobilenetv4_conv_small.e2400_r224_in1k", "timm:resnet50.a1_in1k", "timm:convnextv2_tiny.fcmae_ft_in22k_in1k",
    "timm:vit_small_patch16_224.augreg_in21k_ft_in1k", "timm:vit_small_patch14_dinov2.lvd142m",
    "timm:vit_base_patch16_clip_224.openai",
)  # fmt: skip


def find(name: str) -> BackboneSpec:
    """The row of a backbone, by its name as `canonical` understands it.

    Raises:
        OptionError: There is no backbone of this name.
    """
    if name in BACKBONES:  # without reading the listing
        return BACKBONES[name]
    name = canonical(name)
    return _by_name().get(name) or backbone_spec_of(name)


def known() -> tuple[BackboneSpec, ...]:
    """All backbones that can be named: ours, torchvision's, timm's; the default of each network of timm comes first."""
    return (*BACKBONES.values(), *_listed())


@functools.cache
def _listed() -> tuple[BackboneSpec, ...]:
    with LISTING.open(encoding="utf-8", newline="") as file:
        return tuple(
            replace(
                backbone_spec_of(row["name"]), parameters=int(row["parameters"]), size_px=int(row["size_px"]),
                embedding_size=int(row["embedding_size"]), licence=row["licence"], weights=row["weights"],
            )
            for row in csv.DictReader(file)
        )  # fmt: skip


@functools.cache
def _listed_by_name() -> dict[str, BackboneSpec]:
    rows = {row.name: row for row in _listed()}
    for row in _listed():  # timm's without a tag, too
        rows.setdefault(row.name.partition(".")[0], row)
    return rows


def _by_name() -> dict[str, BackboneSpec]:
    return BACKBONES | _listed_by_name()


def matching(pattern: str) -> list[BackboneSpec]:
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


def is_local(row: BackboneSpec) -> bool:
    """Whether the weights are on this computer, so that no network is needed."""
    if row.packaged is not None:
        return all(importlib.util.find_spec(one.package) is not None for one in row.packaged.weights)
    return local_file(row) is not None


def local_file(row: BackboneSpec) -> Path | None:
    """The weights file where its library keeps it; None where it is not there, or is a part of a package."""
    if row.weights.startswith("hf:"):
        files = [folder / file for folder in _snapshot(row) for file in hub_files(row)]
    elif row.address:
        files = [target(row)]
    elif row.weights == FILE:
        files = [Path(row.name.removeprefix("file:"))]
    else:
        files = []
    return next((file for file in files if file.is_file()), None)


def repository(row: BackboneSpec) -> str:
    """``OWNER/REPOSITORY`` of weights on a Hugging Face hub."""
    return "/".join(row.weights.removeprefix("hf:").split("/")[:2])


def hub_files(row: BackboneSpec) -> tuple[str, ...]:
    """The files that the weights may be in, the first one first."""
    file = "/".join(row.weights.removeprefix("hf:").split("/")[2:])
    return (file,) if file else HUB_FILES


def target(row: BackboneSpec) -> Path:
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


def _snapshot(row: BackboneSpec) -> list[Path]:
    """The folder of the version that the hub calls main, where it is there."""
    folder = target(row)
    try:
        return [folder / "snapshots" / (folder / "refs" / "main").read_text(encoding="utf-8").strip()]
    except (OSError, UnicodeDecodeError):
        return []
