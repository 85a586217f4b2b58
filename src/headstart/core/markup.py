"""Pieces of HTML for notebooks: self-contained, without scripts, and every name in them is escaped."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence

from headstart.core.text import printable

_CELL = "padding:.2em .8em;text-align:{}"
_BAR_PX = 120


class Markup(str):
    """Text that is HTML already; all other text is escaped."""

    __slots__ = ()


def escaped(text: str) -> Markup:
    """A text as HTML: hidden characters are shown, and nothing in it is a tag."""
    return text if isinstance(text, Markup) else Markup(html.escape(printable(text)))


def joined(parts: Iterable[str]) -> Markup:
    """Pieces one after the other."""
    return Markup("".join(map(escaped, parts)))


def paragraph(text: str, *, strong: bool = False) -> Markup:
    """A sentence of its own."""
    tag = "strong" if strong else "span"
    return Markup(f"<p style='margin:.4em 0'><{tag}>{escaped(text)}</{tag}></p>")


def table(header: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[int] = ()) -> Markup:
    """A table; the columns in `right` are aligned to the right."""

    def line(cells: Sequence[str], tag: str) -> str:
        styled = (
            f"<{tag} style='{_CELL.format('right' if number in right else 'left')}'>{escaped(cell)}</{tag}>"
            for number, cell in enumerate(cells)
        )
        return f"<tr>{''.join(styled)}</tr>"

    head = f"<thead>{line(header, 'th')}</thead>" if any(header) else ""
    body = "".join(line(row, "td") for row in rows)
    return Markup(f"<table style='border-collapse:collapse'>{head}<tbody>{body}</tbody></table>")


def bar(share: float) -> Markup:
    """A bar for a share in 0..1."""
    width = round(_BAR_PX * min(max(share, 0.0), 1.0))
    return Markup(
        f"<div style='width:{_BAR_PX}px;background:#8883'>"
        f"<div style='width:{width}px;height:.8em;background:#4a7ab5'></div></div>"
    )


def pictures(images: Iterable[tuple[bytes | None, str]]) -> Markup:
    """Pictures side by side, JPEG files with a caption each; a caption alone where the image is gone."""
    figures = []
    for jpeg, caption in images:
        address = "" if jpeg is None else base64.b64encode(jpeg).decode("ascii")
        shown = f"<img alt='{escaped(caption)}' src='data:image/jpeg;base64,{address}'>" if address else ""
        words = f"<figcaption style='font-size:.8em;overflow-wrap:anywhere'>{escaped(caption)}</figcaption>"
        figures.append(f"<figure style='display:inline-block;vertical-align:top;width:110px;margin:.3em'>{shown}{words}"
                       "</figure>")  # fmt: skip
    return Markup(f"<div>{''.join(figures)}</div>" if figures else "")


def percent(share: float | None) -> str:
    """``0.954`` is ``95.4 %``; None is a dash."""
    return "–" if share is None else f"{100 * share:.1f} %"


def between(ends: tuple[float, float] | None) -> str:
    """``(0.909, 0.978)`` is ``90.9 to 97.8 %``; None is a dash."""
    return "–" if ends is None else f"{100 * ends[0]:.1f} to {100 * ends[1]:.1f} %"
