"""What people read uses the field's terms: phrases that were replaced do not come back."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BANNED = {
    "hangs on": "depends on",
    "by heart": "overfit",
    "told right": "correct",
    "taken for what": "confusion matrix",
    "no number any more": "NaN or infinite",
    "Likewise.": "say what it is",
}
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SOURCES = [path for path in sorted((ROOT / "src").rglob("*")) if path.suffix in {".py", ".j2", ".js", ".toml"}]


def found(text: str) -> list[str]:
    """The banned phrases of a text, each with what to say instead; a phrase may go over the end of a line."""
    plain = re.sub(r"\s+", " ", re.sub(r'"\s+f?"', "", text))
    return [f"{phrase!r}: {instead}" for phrase, instead in BANNED.items() if phrase in plain]


@pytest.mark.parametrize("text", ["It hangs\n    on it.", 'x = ("told "\n     f"right")', "width: Likewise."])
def test_a_phrase_is_found_wherever_its_line_ends(text: str) -> None:
    assert len(found(text)) == 1


def test_no_banned_phrase_is_left() -> None:
    assert len(SOURCES) > 200
    left = {str(path.relative_to(ROOT)): found(path.read_text("utf-8")) for path in [*PAGES, *SOURCES]}
    assert {name: words for name, words in left.items() if words} == {}
