"""Embedders in the cache folder, in files that bear the digest of their content.

What does not match its digest is deleted, and built again by who asked for it. Beside the graph of an exported network
lies a record with the facts about it.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

from headstart.core.digest import digest_bytes, digest_record
from headstart.core.errors import StorageError
from headstart.core.files import durable_write_all, make_folder

MAX_KEPT = 16  # embedders in the cache folder; the oldest go first
_DIGITS = 32
_HEX = "[0-9a-f]" * _DIGITS


def find(folder: Path | None, digest: str) -> bytes | None:
    """The graph that is kept under a digest, where it is whole."""
    found = _sound(folder, digest)
    return found[1] if found else None


def find_with_record(folder: Path | None, digest: str) -> tuple[bytes, dict[str, Any]] | None:
    """The same with its record, where both are whole."""
    found = _sound(folder, digest)
    if found is None:
        return None
    path, model = found
    with contextlib.suppress(OSError, ValueError, RecursionError):
        record = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        if isinstance(record, dict) and record.pop("checksum", None) == _checksum(record, model):
            return model, record
    return None


def keep(folder: Path | None, digest: str, model: bytes, record: dict[str, Any] | None = None) -> None:
    """Keep a graph, and its record if it has one; a folder that cannot be written is not needed."""
    if folder is None:
        return
    path = folder / f"{digest[:_DIGITS]}-{digest_bytes(model)[:_DIGITS]}.onnx"
    files: dict[Path, bytes | str] = {}
    if record is not None:  # before the graph, which is what is looked for
        files[path.with_suffix(".json")] = json.dumps(record | {"checksum": _checksum(record, model)})
    with contextlib.suppress(StorageError, OSError):
        make_folder(folder)
        durable_write_all(files | {path: model})
        for old in sorted(folder.glob(f"{_HEX}-*.onnx"), key=lambda one: one.stat().st_mtime)[:-MAX_KEPT]:
            old.unlink()
            old.with_suffix(".json").unlink(missing_ok=True)


def _sound(folder: Path | None, digest: str) -> tuple[Path, bytes] | None:
    with contextlib.suppress(OSError):  # a folder that cannot be listed keeps nothing
        for path in folder.glob(f"{digest[:_DIGITS]}-*.onnx") if folder else ():
            with contextlib.suppress(OSError):
                model = path.read_bytes()
                if path.stem.endswith(digest_bytes(model)[:_DIGITS]):
                    return path, model
                path.unlink()
                path.with_suffix(".json").unlink(missing_ok=True)
    return None


def _checksum(record: dict[str, Any], model: bytes) -> str:
    return digest_record({**record, "model": digest_bytes(model)})
