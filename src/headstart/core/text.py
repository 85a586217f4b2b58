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
# What no cell of a CSV file holds as it is: what ends a line or controls a terminal, and bytes that are not UTF-8.
# The other hidden characters may be part of a name's spelling.
_NOT_IN_CELLS = {"Cc", "Zl", "Zp", "Cs"}
_UNUSUAL = re.compile("[^ -~]")
_SURROGATES = re.compile("[\ud800-\udfff]+")
# What a spreadsheet takes for the beginning of a formula, full-width forms too; and what begins a JSON string.
_FORMULA = {'"', "=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20"}


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

    def escape(match: re.Match[str]) -> str:
        character = match[0]
        hidden = unicodedata.category(character) in _HIDDEN
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


def csv_cell(text: str) -> str:
    r"""A name as the cell of a CSV file, from which `from_csv_cell` gets it back, whatever it holds.

    What a spreadsheet would take for a formula, or a reader would change, is written as a JSON string: ``-1`` as
    ``"-1"``, and a line break as ``\n``. All other names stay as they are.
    """
    hidden = any(unicodedata.category(one) in _NOT_IN_CELLS for one in _UNUSUAL.findall(text))
    if text == text.strip() and text[:1] not in _FORMULA and not hidden:
        return text
    spelled = json.dumps(text, ensure_ascii=False)
    return _UNUSUAL.sub(lambda one: _json_escape(one[0], _NOT_IN_CELLS), spelled)


def from_csv_cell(cell: str) -> str:
    """The name that `csv_cell` wrote as this cell; a cell that it would not have written stays as it is."""
    if '"' not in cell:
        return cell
    try:
        text = json.loads(cell.strip())
    except (ValueError, RecursionError):
        return cell
    return text if isinstance(text, str) and csv_cell(text) == cell.strip() else cell


def _json_escape(character: str, categories: set[str]) -> str:
    """A character as it is, or as JSON escapes it where it is of these categories."""
    if unicodedata.category(character) not in categories:
        return character
    return json.dumps(character)[1:-1].replace("\x7f", "\\u007f")


def json_text(document: object, *, indent: int | None = 2) -> str:
    """A JSON document that every reader accepts: valid UTF-8, without NaN and Infinity, safe on a terminal.

    What is not UTF-8 is as in `portable`; hidden characters are escaped, so that a reader gets them back.

    Raises:
        ValueError: A number in the document is not finite.
    """
    text = json.dumps(document, ensure_ascii=False, allow_nan=False, indent=indent)
    # The backslash of an escape must itself be escaped inside a JSON string.
    text = _SURROGATES.sub(lambda match: portable(match[0]).replace("\\", "\\\\"), text)

    return _UNUSUAL.sub(lambda one: one[0] if one[0] == "\n" else _json_escape(one[0], _HIDDEN), text)
