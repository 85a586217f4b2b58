"""Compiled templates, kept beside the templates as Python keeps its modules': to compile them takes 0.3 s of a page.

Whoever can write there can change this package too. If the folder cannot be written, they are compiled each time.
"""

from __future__ import annotations

import contextlib
import hashlib
import marshal
import sys
from importlib.util import MAGIC_NUMBER
from pathlib import Path

import jinja2
from jinja2.bccache import Bucket, BytecodeCache

from headstart.core.errors import StorageError
from headstart.core.files import durable_write


class Compiled(BytecodeCache):
    """The compiled templates of a folder. Each is used for the very template, Jinja and Python that it was made with.

    Args:
        templates: The folder.
    """

    def __init__(self, templates: Path) -> None:
        self._folder = templates / "__pycache__"

    def load_bytecode(self, bucket: Bucket) -> None:
        """Give the template its code, where that is kept."""
        try:
            kept = self._file(bucket).read_bytes()
        except OSError:
            return
        seal, code = kept[:32], kept[32:]
        if seal == _seal(bucket, code):
            bucket.code = marshal.loads(code)  # noqa: S302  ours, whole, and of this version

    def dump_bytecode(self, bucket: Bucket) -> None:
        """Keep the code of a template, unless that fails: a page is worth more than its speed."""
        if sys.dont_write_bytecode:
            return
        code = marshal.dumps(bucket.code)
        with contextlib.suppress(OSError, StorageError):  # somebody else's folder, or a full disk
            self._folder.mkdir(exist_ok=True)
            durable_write(self._file(bucket), _seal(bucket, code) + code)

    def _file(self, bucket: Bucket) -> Path:
        return self._folder / f"{bucket.key}.{sys.implementation.cache_tag}.jinja"


def _seal(bucket: Bucket, code: bytes) -> bytes:
    """A digest that detects damaged code, and code of another template, Jinja or Python: 32 bytes."""
    made_with = f"{jinja2.__version__} {MAGIC_NUMBER.hex()} {bucket.checksum}\n"
    return hashlib.sha256(made_with.encode() + code).digest()
