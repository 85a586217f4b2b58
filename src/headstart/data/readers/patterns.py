r"""Classes in the names of files: ``cat_12.jpg`` by ``--label-pattern '(.+)_\d+\.jpg'``."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from headstart.core.errors import SourceError
from headstart.core.text import portable, quoted
from headstart.data.table import Row, Skipped, Split

_IMAGE = r"\.(?:jpe?g|png|bmp|gif|tiff?|webp|hei[cf]|avif)"
# What people call their images, from the most telling; each must explain nearly all of them.
_KNOWN = (r"(.+)_\d+", r"(.+)\.\d+", r"(.+)-\d+", r"(.+?) ?\(\d+\)", r"([^\W\d_]+)\d+", r"([^_]+)_.+", r"([^-]+)-.+")
_ENOUGH = 0.95  # of the files fit the pattern
_REPEATED = 3  # images of a class on average, or the names say something else


class Named(NamedTuple):
    """What the names of files say."""

    rows: list[Row]
    skipped: list[Skipped]
    notes: list[str]


def read(pattern: str, files: Iterable[tuple[str, Split | None, Sequence[str]]]) -> Named:
    """Take the class of each file from its name.

    Args:
        pattern: Regular expression of the whole name; its group ``label``, or else its first one, is the class.
        files: Path, split, and the parts of the path below the split's folder.

    Raises:
        SourceError: It is no regular expression with a group, or no name matches it.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise SourceError(
            f"--label-pattern {quoted(pattern)} is not a valid regular expression: {error}.", _EXAMPLE
        ) from error
    if not compiled.groups:
        raise SourceError(f"--label-pattern {quoted(pattern)} has no group to capture the class.", _EXAMPLE)
    group: str | int = "label" if "label" in compiled.groupindex else 1
    rows: list[Row] = []
    skipped: list[Skipped] = []
    for path, split, parts in files:
        found = compiled.fullmatch(parts[-1])
        label = (found[group] or "").strip() if found else ""
        if label:
            rows.append(Row(path, portable(label), split))
        else:
            skipped.append(Skipped(path, "its name does not match --label-pattern"))
    if skipped and not rows:
        raise SourceError(
            f"No file name matches --label-pattern {quoted(pattern)}; the first is {quoted(skipped[0].path)}.",
            f"The whole name must match, with its suffix. {_EXAMPLE}",
        )
    counts = Counter(row.label or "" for row in rows)
    return Named(rows, skipped, [f"The classes were read from the file names: {_shown(counts)}."])


_EXAMPLE = r"For example '(.+)_\d+\.jpg', which reads cat_12.jpg as cat."


def propose(names: Sequence[str], command: str) -> str:
    """The command that reads the classes from these names, with what it would find; empty if they show none.

    Args:
        names: Of files, without their folders.
        command: To which the pattern is added.
    """
    images = [name for name in names if re.search(f"{_IMAGE}$", name, re.IGNORECASE)]
    for stem in _KNOWN:
        suffixes = {re.escape(name[name.rindex(".") :]) for name in images}
        pattern = stem + (suffixes.pop() if len(suffixes) == 1 else f"{_IMAGE.replace('?:', '?i:')}")
        found = [match[1].strip() for name in images if (match := re.fullmatch(pattern, name))]
        counts = Counter(found)
        if len(counts) > 1 and len(found) >= max(_ENOUGH * len(images), _REPEATED * len(counts)):
            return (
                f"The class seems to be in the file names ({_shown(counts)}): "
                f"{command} --label-pattern {shlex.quote(pattern)}"
            )
    return ""


def _shown(counts: Counter[str]) -> str:
    first = sorted(counts.items(), key=lambda one: (-one[1], one[0]))
    shown = ", ".join(f"{quoted(label)} {count:,}" for label, count in first[:4])
    return shown if len(first) <= 4 else f"{shown} and {len(first) - 4:,} more"
