"""HTML pages of one file each, from Jinja templates: no request leaves them, and no name can break out of its text.

Every text that a template puts out is made printable and escaped. Nothing marks data as safe; the style and the script
are files of this package, and the script is allowed by its digest alone.
"""

from __future__ import annotations

import base64
import functools
import math
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from headstart.core import marks
from headstart.core.digest import csp_hash
from headstart.core.text import counted, printable

if TYPE_CHECKING:
    from jinja2 import Environment


def render(template: str, **context: object) -> str:
    """A page as HTML text.

    Args:
        template: Name of a file in ``report/templates``. A page extends ``base.html.j2`` and fills its blocks
            ``title``, ``lead``, ``contents`` and ``main``; ``macros.html.j2`` has pictures, bars and tables.
        context: What the template names. A name that is missing is an error, never an empty place.

    Raises:
        jinja2.TemplateError: The template and its context do not fit: a fault of ours.

    Examples:
        >>> "<h1" in render("message.html.j2", heading="<Hello>", sentences=["No tags: <b>"])
        True
    """
    return _environment().get_template(template).render(**context)


def data_uri(jpeg: bytes | None) -> str | None:
    """A JPEG file as the address of a picture inside the page; None, for a placeholder, where there is none."""
    return None if jpeg is None else "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")


@functools.cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    from headstart.report.compiled import Compiled

    folder = resources.files("headstart.report") / "templates"
    environment = Environment(
        loader=PackageLoader("headstart.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        bytecode_cache=Compiled(folder) if isinstance(folder, Path) else None,  # not where it is part of a zip file
        # Hidden characters, such as those that turn the direction of text, and bytes that are not UTF-8.
        finalize=lambda value: printable(value) if type(value) is str else value,
    )
    script = _asset("page.js")
    environment.globals.update(
        style=Markup(_asset("page.css")),  # noqa: S704  files of this package
        script=Markup(script),  # noqa: S704
        script_digest=csp_hash(script),
        generator=Markup(marks.GENERATOR),  # noqa: S704
        counted=counted,
    )
    environment.filters.update(percent=percent, interval=interval, decimals=decimals, log_of=log_of)
    return environment


def percent(share: float | None, digits: int = 1) -> str:
    """``0.954`` is ``95.4 %``, on one line; None is a dash."""
    return "–" if share is None else f"{100 * share:.{digits}f}\u00a0%"


def interval(ends: tuple[float, float] | None, digits: int = 1, unit: str = "%") -> str:
    """``(0.909, 0.978)`` is ``90.9 to 97.8 %``; None is a dash."""
    return "–" if ends is None else f"{100 * ends[0]:.{digits}f} to {100 * ends[1]:.{digits}f}\u00a0{unit}"


def decimals(value: float | None, digits: int = 3) -> str:
    """A number with so many decimals; None is a dash."""
    return "–" if value is None else f"{value:,.{digits}f}"


def log_of(number: float) -> str:
    """The natural logarithm, with three decimals."""
    return decimals(math.log(number))


def _asset(name: str) -> str:
    return resources.files("headstart.report").joinpath("templates", name).read_text("utf-8")
