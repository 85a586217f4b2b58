"""Content digests. A digest, never a modification time, decides whether two things are the same."""

from __future__ import annotations

import base64
import hashlib
import json


def digest_bytes(data: bytes) -> str:
    """SHA-256 of some bytes, as 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def digest_record(record: dict[str, object]) -> str:
    """SHA-256 of a JSON-like record, independent of the order of its keys."""
    text = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return digest_bytes(text.encode("ascii"))


def csp_hash(text: str) -> str:
    """A script or style as a page's Content-Security-Policy allows it: ``sha256-`` and the base64 of its SHA-256."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
