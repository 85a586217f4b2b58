"""Names as they may be shown: file and class names are untrusted text, and not always UTF-8."""

from __future__ import annotations

import difflib
import json
import re
import unicodedata
from collections.abc import Iterable

# Categories that can move the cursor, reorder or hide text: controls, formats (bidi marks, zero-width
# characters), line and paragraph separators. Surrogates stand for bytes that are not UTF-8.
_HIDDEN = {"Cc", "Cf", "Zl", "Zp"}
# Those of them that end a line or control a terminal; the others may be part of a name's spelling.
_CONTROLS = {"Cc", "Zl", "Zp"}
_UNUSUAL = re.compile("[^ -~]")
_SURROGATES = re.compile("[\ud800-\udfff]+")
# What a spreadsheet takes for the beginning of a formula; full-width forms too.
_FORMULA = {"=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20"}


def portable(text: str) -> str:
    r"""Text that every UTF-8 file format can hold: bytes that are not UTF-8 become ``\xNN``.

    Python decodes such bytes of a file name to lone surrogates, which JSON readers and CSV writers reject.
    """
    try:
        content = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half a character, which JSON can spell and no file name holds
        content = text.encode("utf-8", "surrogatepass")
    return content.decode("utf-8", "backslashreplace")


def printable(text: str) -> str:
    """Text that is safe on a terminal: controls, bidirectional marks and broken bytes are shown as escapes."""
    return _escaped(text, _HIDDEN)


def _escaped(text: str, categories: set[str]) -> str:
    def escape(match: re.Match[str]) -> str:
        character = match[0]
        hidden = unicodedata.category(character) in categories
        return character.encode("unicode_escape").decode("ascii") if hidden else character

    return _UNUSUAL.sub(escape, portable(text))


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
    """A label for a CSV cell on one line, which no spreadsheet takes for a formula (an apostrophe is added)."""
    text = _escaped(text, _CONTROLS)
    return f"'{text}" if text[:1] in _FORMULA else text


def csv_path(path: str) -> str:
    """A path for a CSV cell on one line: the same file, and no formula (``=a.jpg`` becomes ``./=a.jpg``)."""
    path = _escaped(path, _CONTROLS)
    return f"./{path}" if path[:1] in _FORMULA else path


def json_text(document: object, *, indent: int | None = 2) -> str:
    """A JSON document that every reader accepts: valid UTF-8, without NaN and Infinity, safe on a terminal.

    What is not UTF-8 is as in `portable`; hidden characters are escaped, so that a reader gets them back.

    Raises:
        ValueError: A number in the document is not finite.
    """
    text = json.dumps(document, ensure_ascii=False, allow_nan=False, indent=indent)
    # The backslash of an escape must itself be escaped inside a JSON string.
    text = _SURROGATES.sub(lambda match: portable(match[0]).replace("\\", "\\\\"), text)

    def escape(match: re.Match[str]) -> str:
        character = match[0]
        hidden = character != "\n" and unicodedata.category(character) in _HIDDEN
        return json.dumps(character)[1:-1].replace("\x7f", "\\u007f") if hidden else character

    return _UNUSUAL.sub(escape, text)
