"""Names that are most likely one name, spelt in several ways: ``Cat``, ``cat`` and ``cat ``; ``0`` and ``0.0``."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from headstart.core.text import quoted

MAX_NAMED = 8
MAX_NOTES = 3
_NUMBER = re.compile(r"([+-]?)0*([0-9]+?)(?:\.([0-9]*?)0*)?")


def _without_invisible(text: str) -> str:
    return "".join(one for one in text if one.isspace() or unicodedata.category(one) not in {"Cc", "Cf"})


def _as_number(text: str) -> str:
    """Decimals without the zeros and signs that change nothing: ``+01.50`` is ``1.5``."""
    found = _NUMBER.fullmatch(text)
    if not found:
        return text
    sign, whole, rest = found[1], found[2], found[3] or ""
    minus = "-" if sign == "-" and (whole, rest) != ("0", "") else ""
    return f"{minus}{whole}{'.' if rest else ''}{rest}"


# What a spelling may differ in -> how it is taken away, in this order.
_ALIKE: dict[str, Callable[[str], str]] = {
    "invisible characters": _without_invisible,
    "blanks": lambda text: " ".join(text.split()),
    "Unicode form": lambda text: unicodedata.normalize("NFKC", text),
    "case": str.casefold,
    "how a number is written": _as_number,
}


@dataclass(frozen=True, slots=True)
class Twins:
    """Different names that are most likely meant for the same.

    Attributes:
        names: At least two, sorted.
        differ: In what alone, in words.
    """

    names: tuple[str, ...]
    differ: tuple[str, ...]

    def __str__(self) -> str:
        shown = [self._shown(name) for name in self.names[:MAX_NAMED]]
        more = len(self.names) - MAX_NAMED
        last = f"{more:,} more" if more > 0 else shown.pop()
        return f"{', '.join(shown)} and {last} differ only in {' and '.join(self.differ)}"

    def _shown(self, name: str) -> str:
        """With its code points where it may look the same as another."""
        alike = not name.isascii() and not {"Unicode form", "blanks"}.isdisjoint(self.differ)
        return f"{quoted(name)} ({name.encode('unicode_escape').decode('ascii')})" if alike else quoted(name)


def twins(names: Iterable[str]) -> tuple[Twins, ...]:
    """The names that are most likely one, in the order of the first of each."""
    groups: dict[str, list[str]] = {}
    for name in sorted(set(names)):
        groups.setdefault(_spelling(name), []).append(name)
    return tuple(Twins(tuple(group), _differ(group)) for group in groups.values() if len(group) > 1)


def twin_notes(names: Iterable[str], nouns: tuple[str, str] = ("class", "classes")) -> list[str]:
    """A sentence on each, for whoever uses the names as they are; with what one and several names are called."""
    found = twins(names)
    notes = [
        f"{one}: most likely one {nouns[0]}. They are used as {len(one.names)} {nouns[1]}; give them one name if they "
        "are one."
        for one in found[:MAX_NOTES]
    ]
    if len(found) > MAX_NOTES:
        notes.append(f"{len(found) - MAX_NOTES:,} more names are spelt in several ways: `headstart check` lists them.")
    return notes


def twin_hint(concerned: Collection[str], names: Iterable[str]) -> str:
    """For the hint of an error about some names: which of them look like another; empty, or ending in a blank."""
    found = [str(one) for one in twins(names) if not set(one.names).isdisjoint(concerned)]
    more = f" (and {len(found) - MAX_NOTES:,} more such names)" if len(found) > MAX_NOTES else ""
    return f"{'; '.join(found[:MAX_NOTES])}{more}: most likely one class; give it one name. " if found else ""


def _spelling(name: str, besides: str = "") -> str:
    """What is common to all spellings of a name, or to those that do not differ in `besides`."""
    for what, taken_away in _ALIKE.items():
        if what != besides:
            name = taken_away(name)
    return name


def _differ(names: list[str]) -> tuple[str, ...]:
    """Without which of `_ALIKE` the names are not the same; where two do as well as each other, the first."""
    needed = tuple(what for what in _ALIKE if len({_spelling(name, besides=what) for name in names}) > 1)
    return (
        needed or tuple(what for what, alike in _ALIKE.items() if len({*map(alike, names)}) == 1)[:1] or ("spelling",)
    )
