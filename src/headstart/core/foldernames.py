"""Names of folders for names of classes: any text has one, on every system, and no two have the same."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable

from headstart.core.digest import digest_bytes
from headstart.core.text import portable

# What some system has a use of its own for in a name, and the sign of an escape itself.
_RESERVED = frozenset('/\\:*?"<>|%')
_HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
_DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}
_MAX_BYTES = 200  # of the 255 that file systems allow; the rest is for what makes a name unique
_DIGITS = 8


def folder_names(names: Iterable[str]) -> dict[str, str]:
    """A folder for each of some names.

    What no folder may be called is written as ``%`` and two hexadecimal digits for each byte, as in addresses of the
    web: ``a/b`` becomes ``a%2Fb``. Folders that a system without upper and lower case would take for one, and names
    that are too long, end in some digits of the name's digest.
    """
    plain = {name: _escaped(name) for name in dict.fromkeys(names)}
    alike = Counter(map(_alike, plain.values()))
    return {
        name: folder if alike[_alike(folder)] == 1 and len(folder.encode()) <= _MAX_BYTES else _unique(name, folder)
        for name, folder in plain.items()
    }


def _escaped(name: str) -> str:
    text = portable(name)
    last = len(text) - 1
    # Leading dots hide, leading underscores are the folders of ours, and Windows drops dots and blanks at the end.
    escaped = "".join(
        _percent(one)
        if one in _RESERVED
        or unicodedata.category(one) in _HIDDEN
        or (place == 0 and one in "._- ")
        or (place == last and one in ". ")
        else one
        for place, one in enumerate(text)
    )
    if escaped.partition(".")[0].casefold() in _DEVICES:
        escaped = _percent(escaped[0]) + escaped[1:]
    return escaped or "%00"


def _percent(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "backslashreplace"))


def _alike(folder: str) -> str:
    """What is common to all spellings that some system takes for the same."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", folder).casefold())


def _unique(name: str, folder: str) -> str:
    cut = folder.encode()[:_MAX_BYTES].decode("utf-8", "ignore")
    return f"{cut}-{digest_bytes(name.encode('utf-8', 'surrogatepass'))[:_DIGITS]}"
