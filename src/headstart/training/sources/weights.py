"""Weights files: read without running anything that they hold, and laid into a network that they must fit."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.core.errors import ModelError
from headstart.core.text import counted, printable, quoted
from headstart.training.sources.loaded import Network

if TYPE_CHECKING:
    import torch

MAX_BYTES = 2**36  # 64 GiB: no backbone is near
MAX_HEADER_BYTES = 100_000_000  # safetensors' own limit
# Where training programs put the weights among other things; of several, the first counts.
_WRAPPERS = ("state_dict", "model_state_dict", "model", "model_ema", "state_dict_ema", "net", "weights")
# What they put before each name.
_PREFIXES = ("module.", "_orig_mod.", "backbone.", "model.", "encoder.")
# Classification layers beside a `backbone.`, under the names that they mostly have.
_HEADS = ("head.", "fc.", "classifier.", "linear.")
# Counters that old files lack and that change nothing.
_COUNTER = ".num_batches_tracked"
_SHOWN = 3
_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"
_KINDS = "a safetensors file, or a PyTorch checkpoint that holds tensors alone"


@dataclass(frozen=True)
class Checkpoint:
    """What a weights file holds: tensors by name, and the texts of a safetensors header."""

    tensors: dict[str, torch.Tensor]
    texts: dict[str, str] = field(default_factory=dict)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a weights file; its tensors stay on the disk until they are used, where the format allows it.

    Raises:
        ModelError: It is missing, damaged, no weights file, or a pickle that asks for more than tensors.
    """
    start = _beginning(path)
    if start[:4] == _ZIP or start[:1] == _PICKLE:
        return Checkpoint(_tensors(_read_pickle(path, mmap=start[:4] == _ZIP), path))
    if len(start) > 8 and start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= MAX_HEADER_BYTES:
        return _read_safetensors(path)
    raise ModelError(f"{quoted(str(path))} is not a weights file: expected {_KINDS}.")


def load_into(network: Network, path: Path) -> None:
    """Put the weights of a file in a network.

    Raises:
        ModelError: As for `read_checkpoint`, or it does not fit.
    """
    import torch

    state = fit(network, read_checkpoint(path).tensors, str(path))
    bad = [name for name, value in state.items() if value.is_floating_point() and not torch.isfinite(value).all()]
    if bad:
        raise ModelError(f"{quoted(str(path))} holds weights that are not finite numbers, in {quoted(bad[0])}.")
    network.module.load_state_dict(state, strict=False)  # all but the counters, as `fit` has made sure


def fit(network: Network, tensors: Mapping[str, torch.Tensor], where: str) -> dict[str, torch.Tensor]:
    """The tensors of a file by the names of a network, after checking that it has each, in its shape, and no others.

    The classification layer of the file is left out.

    Raises:
        ModelError: It does not fit; the message names the first tensors.
    """
    expected = network.module.state_dict()
    state = _stripped(dict(tensors), expected)
    problems = _problems(network, state, expected)
    if problems and network.convert is not None:
        converted = network.convert(state)
        if not _problems(network, converted, expected):
            state, problems = converted, []
    if problems:
        raise ModelError(
            f"The weights in {quoted(where)} do not fit {quoted(network.name)}: {'; '.join(problems)}.",
            "Name the network that they were made for: --backbone NAME --weights PATH.",
        )
    return {name: value for name, value in state.items() if name in expected}


def refusal(error: Exception, what: str) -> ModelError:
    """The error for a pickle that PyTorch's reader of tensors has refused."""
    found = re.search(r"GLOBAL ([\w.]+)", str(error))
    asks = f"it asks for {printable(found[1])}, which could run code" if found else "it holds more than tensors"
    return ModelError(
        f"{what} was refused: {asks}.", "Get the weights as a safetensors file, from a source that you trust."
    )


def _beginning(path: Path) -> bytes:
    """The first bytes of a file that could be one of weights."""
    where = quoted(str(path))
    try:
        if path.is_dir():
            raise ModelError(f"{where} is a folder; expected {_KINDS}.")
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(16)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ModelError(f"The weights in {where} cannot be read: {reason}.") from error
    if not size:
        raise ModelError(f"The weights file {where} is empty.")
    if size > MAX_BYTES:
        raise ModelError(f"{where} has {size / 2**30:,.0f} GiB; at most {MAX_BYTES // 2**30} are read.")
    return start


def _read_safetensors(path: Path) -> Checkpoint:
    import safetensors

    try:
        with safetensors.safe_open(path, framework="pt", device="cpu") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a mapping
            return Checkpoint(tensors, dict(file.metadata() or {}))
    except (safetensors.SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise ModelError(f"The weights file {quoted(str(path))} is damaged: {_line(error)}.") from error


def _read_pickle(path: Path, *, mmap: bool) -> Any:
    import torch

    where = quoted(str(path))
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except pickle.UnpicklingError as error:
        raise refusal(error, where) from error
    except (RuntimeError, ValueError, EOFError, OSError, KeyError, IndexError, TypeError, AttributeError,
            OverflowError, MemoryError, AssertionError) as error:  # fmt: skip
        raise ModelError(f"The weights file {where} is damaged, or not a weights file: {_line(error)}.") from error


def _tensors(content: Any, path: Path) -> dict[str, torch.Tensor]:
    """The tensors by name, out of what a training program has put around them."""
    import torch

    while isinstance(content, Mapping):
        inside = next((content[key] for key in _WRAPPERS if isinstance(content.get(key), Mapping)), None)
        if inside is None:
            found = {str(name): value for name, value in content.items() if isinstance(value, torch.Tensor)}
            if found:
                return found
            break
        content = inside
    raise ModelError(f"{quoted(str(path))} holds no tensors by name: expected {_KINDS}.")


def _stripped(state: dict[str, torch.Tensor], expected: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """The tensors without the prefixes of a training program, which no name of the network begins with."""
    changed = True
    while changed:
        changed = False
        for prefix in _PREFIXES:
            inside = {name: value for name, value in state.items() if name.startswith(prefix)}
            others = [name for name in state if name not in inside]
            if not inside or any(name.startswith(prefix) for name in expected):
                continue
            if all(name.startswith(_HEADS) for name in others):
                state, changed = {name.removeprefix(prefix): value for name, value in inside.items()}, True
    return state


def _problems(network: Network, state: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    missing = [name for name in expected if name not in state and not name.endswith(_COUNTER)]
    extra = [name for name in state if name not in expected and not name.startswith(network.left_over or ("\0",))]
    other = [name for name in expected if name in state and state[name].shape != expected[name].shape]
    return [
        *_described(missing, "is missing", "are missing", lambda name: _shape(expected[name])),
        *_described(extra, "is not expected", "are not expected", lambda name: _shape(state[name])),
        *_described(other, "has another shape", "have another shape",
               lambda name: f"{_shape(state[name])}, expected {_shape(expected[name])}"),
    ]  # fmt: skip


def _described(names: list[str], singular: str, plural: str, detail: Any) -> list[str]:
    if not names:
        return []
    shown = ", ".join(f"{quoted(name)} {detail(name)}" for name in names[:_SHOWN])
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return [f"{counted(len(names), 'tensor')} {singular if len(names) == 1 else plural} ({shown}{more})"]


def _shape(tensor: Any) -> str:
    return str(tuple(tensor.shape))


def _line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return printable((lines[0] if lines else type(error).__name__).rstrip(".:"))[:200]
