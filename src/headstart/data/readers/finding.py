"""Find the files that a list names in its own way: without a suffix, without their folder, or on another machine."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from headstart.core.errors import SourceError
from headstart.core.text import counted, listed, quoted

SAMPLE = 64  # paths that are looked for as they are, before all files are listed
ENOUGH = 0.95  # of the rows must be found, or what the list says is left as it is
_DRIVE = re.compile(r"^[A-Za-z]:")


@dataclass(frozen=True)
class Found:
    """The files that were found.

    Attributes:
        files: For each path of the list that is another file than it says: that file.
        notes: Remarks for the user.
    """

    files: dict[str, str]
    notes: tuple[str, ...] = ()


def find(
    paths: Sequence[str], is_file: Callable[[str], bool], list_files: Callable[[], Sequence[str]], name: str
) -> Found:
    """Match the paths of a list with the files that are there, where most are not there as they are written.

    A path stands for the one file whose own path ends in it, with or without a suffix, or in different case, Unicode
    form or percent escapes; of paths from another machine the folders at the beginning are left out, as many as it
    takes.

    Args:
        paths: As the list writes them.
        is_file: Whether a path is that of a file.
        list_files: All files, with ``/`` between the parts; called at most once.
        name: Of the list.

    Raises:
        SourceError: Most paths fit several files.
    """
    sample = paths[:: max(1, len(paths) // SAMPLE)]
    if not paths or sum(map(is_file, sample)) * 2 >= len(sample):
        return Found({})
    if not (files := list_files()):
        return Found({})
    exact, without_suffix, folded = (defaultdict[str, list[str]](list) for _ in range(3))
    for file in files:
        last = file.rsplit("/", 1)[-1]
        exact[last].append(file)
        without_suffix[last.rpartition(".")[0]].append(file)
        folded[_folded(last)].append(file)
    matched: dict[str, str] = {}
    several: dict[str, list[str]] = {}
    for path in dict.fromkeys(paths):
        parts = [part for part in _DRIVE.sub("", path.strip().replace("\\", "/")).split("/") if part not in {"", "."}]
        if not parts:
            continue
        last = parts[-1]
        candidates = exact.get(last) or without_suffix.get(last) or folded.get(_folded(last)) or []
        best = _longest_tail(parts, candidates)
        if len(best) == 1:
            matched[path] = best[0]
        elif best:
            several[path] = best
    wanted = len(set(paths))
    if len(matched) >= ENOUGH * wanted:
        others = {path: file for path, file in matched.items() if path != file}
        path, file = next(iter(others.items()), ("", ""))
        words = counted(len(others), "path was", "paths were")
        note = f"{words} found elsewhere than written: {quoted(path)} is {quoted(file)}."
        return Found(others, (note,) if others else ())
    if len(several) >= ENOUGH * wanted:
        path, fit = next(iter(several.items()))
        folders = sorted({file.split("/", 1)[0] for file in fit if "/" in file})
        raise SourceError(
            f"The paths of {quoted(name)} fit several files each: {quoted(path)} may be {listed(fit, 4)}.",
            f"Name their folder with --root: {' or '.join(folders) if folders else 'FOLDER'} inside that of the list.",
        )
    return Found({})


def _folded(name: str) -> str:
    """A name without what programs change of it: case, Unicode form, characters as percent escapes."""
    return unicodedata.normalize("NFC", unquote(name)).casefold()


def _longest_tail(parts: list[str], candidates: list[str]) -> list[str]:
    """Of files with this last part, those that have the most parts in common from the end."""
    best, found = 0, []
    for file in candidates:
        own = file.split("/")[:-1]
        common = 0
        for mine, theirs in zip(reversed(parts[:-1]), reversed(own), strict=False):
            if mine != theirs:
                break
            common += 1
        if common > best:
            best, found = common, [file]
        elif common == best:
            found.append(file)
    return found
