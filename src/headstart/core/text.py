"""Names as they may be shown: file and class names are untrusted text, and not always UTF-8."""

from __future__ import annotations

import difflib
import json
import unicodedata
from collections.abc import Iterable

# Categories that can move the cursor, reorder or hide text: controls, formats (bidi marks, zero-width
# characters), line and paragraph separators. Surrogates stand for bytes that are not UTF-8.
_HIDDEN = {"Cc", "Cf", "Zl", "Zp"}


def portable(text: str) -> str:
    r"""Text that every UTF-8 file format can hold: bytes that are not UTF-8 become ``\xNN``.

    Python decodes such bytes of a file name to lone surrogates, which JSON readers and CSV writers reject.
    """
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def printable(text: str) -> str:
    """Text that is safe on a terminal: controls, bidirectional marks and broken bytes are shown as escapes."""
    return "".join(
        character.encode("unicode_escape").decode("ascii") if unicodedata.category(character) in _HIDDEN else character
        for character in portable(text)
    )


def quoted(text: str) -> str:
    """One name between quotation marks, safe on a terminal."""
    return f"'{printable(text)}'"


def listed(names: Iterable[str], limit: int = 8) -> str:
    """Names for a sentence: quoted, comma-separated, and cut after `limit` with the number left out."""
    names = list(names)
    shown = ", ".join(quoted(name) for name in names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """``counted(2, "image")`` is ``"2 images"``."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def nearest(name: str, known: Iterable[str]) -> str:
    """The "did you mean" part of an error: empty when nothing is near."""
    matches = difflib.get_close_matches(name, list(known), n=1)
    return f"Did you mean {quoted(matches[0])}? " if matches else ""


def csv_label(text: str) -> str:
    """A label for a CSV cell that no spreadsheet takes for a formula (a leading apostrophe is added)."""
    text = portable(text)
    return f"'{text}" if text[:1] in {"=", "+", "-", "@", "\t", "\r"} else text


def csv_path(path: str) -> str:
    """A path for a CSV cell: the same file, and no formula (``=a.jpg`` becomes ``./=a.jpg``)."""
    path = portable(path)
    return f"./{path}" if path[:1] in {"=", "+", "-", "@", "\t", "\r"} else path


def json_text(document: object, *, indent: int | None = 2) -> str:
    """A JSON document that every reader accepts: valid UTF-8, and never NaN or Infinity.

    Raises:
        ValueError: A number in the document is not finite.
    """
    return portable(json.dumps(document, ensure_ascii=False, allow_nan=False, indent=indent))
