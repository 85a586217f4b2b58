"""The pages of the documentation site that are made from the code: each command, and every public name.

`mkdocs.yml` names this file as a hook. The pages exist in the built site only, never as files of the repository.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from typing import Any

from mkdocs.structure.files import File
from typer.main import get_command

import headstart
from headstart import sklearn as estimators
from headstart.cli.main import COMMANDS, program
from headstart.cli.panels import PANELS

COMMAND_LINE, PYTHON = "Command line", "Python"
_ITEM = re.compile(r"(?:[-*]|\d+\.) ")
_EXIT_CODES = """
Every command takes `--json` (one document on standard output; notes go to standard error), except `watch`, which always
prints a JSON document a line; `--quiet` leaves out notes and progress. The exit codes are the same for all:

| exit code | meaning |
|---:|---|
| 0 | done |
| 1 | a bug in Headstart |
| 2 | bad usage or input: one message says what was found, what was expected, and what to do |
| 3 | done, but some files could not be used; they are listed with their reasons |
| 130, 143 | interrupted by Ctrl-C or SIGTERM |
"""


def command_pages() -> dict[str, str]:
    """A page for each command, and one that lists them.

    Returns:
        Markdown by the path of the page.
    """
    rows = [f"| [`headstart {name}`]({name}.md) | {_cell(spec.help)} |" for name, spec in COMMANDS.items()]
    listing = ["# Command line", _EXIT_CODES, "\n".join(["| command | what it does |", "|---|---|", *rows])]
    pages = {"command-line/index.md": "\n\n".join(listing) + "\n"}
    for name in COMMANDS:
        pages[f"command-line/{name}.md"] = "\n\n".join(_command(name)) + "\n"
    return pages


def _command(name: str) -> list[str]:
    """The page of a command, and of those below it, in parts."""
    root: Any = get_command(program(name))
    parent = root.make_context("headstart", [name], resilient_parsing=True)
    command = root.commands[name]
    parts = _described(command, command.context_class(command, info_name=name, parent=parent), level=1)
    for below, inner in getattr(command, "commands", {}).items():
        context = command.context_class(command, info_name=name, parent=parent)
        parts += _described(inner, inner.context_class(inner, info_name=below, parent=context), level=2)
    return parts


def _described(command: Any, context: Any, *, level: int) -> list[str]:
    """What `--help` says of one command: the usage, what it does, its arguments, its options by panel."""
    usage = " ".join(command.collect_usage_pieces(context))
    help_text = inspect.cleandoc(command.help or "")
    parts = [f"{'#' * level} headstart {context.command_path.removeprefix('headstart ')}", help_text]
    parts.append(f"```text\n{context.command_path} {usage}\n```")
    sections: dict[str, list[str]] = {}
    for parameter in command.get_params(context):
        if record := parameter.get_help_record(context):
            argument = parameter.param_type_name == "argument"
            panel = "Arguments" if argument else getattr(parameter, "rich_help_panel", None) or "Options"
            sections.setdefault(panel, []).append(f"| {_code(record[0])} | {_cell(record[1])} |")
    for panel in sorted(sections, key=["Arguments", *PANELS, "Options"].index):
        head = ["| argument | |" if panel == "Arguments" else "| option | |", "|---|---|"]
        table = "\n".join([*head, *sections[panel]])
        # A class of its own for the style sheet, by which a phone shows the words below the option.
        parts += [f"{'#' * (level + 1)} {panel}", f'<div class="options" markdown>\n\n{table}\n\n</div>']
    return parts


def python_pages() -> dict[str, str]:
    """The public names of `headstart` and `headstart.sklearn`, by what they are.

    Returns:
        Markdown by the path of the page, with a directive of mkdocstrings for each name.
    """
    found = {name: getattr(headstart, name) for name in headstart.__all__ if name != "__version__"}
    errors = {name for name, value in found.items() if isinstance(value, type) and issubclass(value, Exception)}
    verbs = {name for name, value in found.items() if inspect.isfunction(value)}
    groups = {
        "functions": ("Functions", "What the commands do, as functions.", sorted(verbs)),
        "classes": ("Classes", "What the functions take and give.", sorted(set(found) - errors - verbs)),
        "errors": (
            "Errors",
            "Each is also a built-in exception.",
            ["HeadstartError", *sorted(errors - {"HeadstartError"})],
        ),
    }
    listing = [
        "# Python",
        "```python\nimport headstart as hs\n```",
        "Importing the package imports neither NumPy nor ONNX Runtime; a name is loaded when it is used. "
        "`headstart.__version__` is the version, a string.",
    ]
    pages = {}
    for page, (title, words, names) in groups.items():
        rows = [f"| [`{name}`]({page}.md#headstart.{name}) | {_first(found[name])} |" for name in names]
        listing += [f"## {title}", words, "\n".join(["| name | what it is |", "|---|---|", *rows])]
        pages[f"python/{page}.md"] = _directives(title, words, (f"headstart.{name}" for name in names))
    names = list(estimators.__all__)
    rows = [
        f"| [`{name}`](sklearn.md#headstart.sklearn.{name}) | {_first(getattr(estimators, name))} |" for name in names
    ]
    words = "`headstart.sklearn` holds estimators for pipelines, searches and cross-validation."
    listing += ["## scikit-learn", words, "\n".join(["| name | what it is |", "|---|---|", *rows])]
    pages["python/sklearn.md"] = _directives("scikit-learn", words, (f"headstart.sklearn.{name}" for name in names))
    return {"python/index.md": "\n\n".join(listing) + "\n", **pages}


def _directives(title: str, words: str, names: Iterable[str]) -> str:
    return "\n\n".join([f"# {title}", words, *(f"::: {name}" for name in names)]) + "\n"


def _first(value: Any) -> str:
    """The first sentence of a docstring."""
    return _cell(inspect.cleandoc(value.__doc__ or "").split("\n\n")[0])


def _code(text: str) -> str:
    """Text as code in a cell of a table."""
    return f"<code>{_escaped(text)}</code>"


def _cell(text: str) -> str:
    """Plain text in a cell of a table, with what is in backticks as code."""
    parts = " ".join(text.split()).replace("``", "`").split("`")
    if len(parts) % 2 == 0:
        return _escaped("`".join(parts))
    return "".join(_code(part) if i % 2 else _escaped(part) for i, part in enumerate(parts))


def _escaped(text: str) -> str:
    """Text in which nothing means anything to Markdown, to a table or to HTML."""
    return "".join(f"&#{ord(one)};" if one in "&<>|*_[]\\`~:" else one for one in text)


def on_config(config: Any) -> Any:
    """Put the pages into the navigation (called by MkDocs)."""
    for section in config.nav:
        for entry in section.get("Reference", ()):
            if COMMAND_LINE in entry:
                entry[COMMAND_LINE] = ["command-line/index.md", *({n: f"command-line/{n}.md"} for n in COMMANDS)]
            if PYTHON in entry:
                entry[PYTHON] = ["python/index.md", *python_pages_of_the_navigation()]
    return config


def python_pages_of_the_navigation() -> list[dict[str, str]]:
    """Titles and paths, in order."""
    return [
        {"Functions": "python/functions.md"}, {"Classes": "python/classes.md"}, {"Errors": "python/errors.md"},
        {"scikit-learn": "python/sklearn.md"},
    ]  # fmt: skip


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Set blocks apart as Python-Markdown wants it (called by MkDocs); GitHub does not need the empty lines."""
    return set_apart(markdown)


def set_apart(markdown: str) -> str:
    """Markdown with an empty line around each code block, and before each list and table."""
    lines: list[str] = []
    inside = ended = False
    for line in markdown.split("\n"):
        before = lines[-1] if lines else ""
        fence = line.startswith("```")
        begins = fence and not inside
        if before and line and (ended or begins or (not inside and _interrupts(line, before))):
            lines.append("")
        lines.append(line)
        inside, ended = inside != fence, fence and inside
    return "\n".join(lines)


def _interrupts(line: str, before: str) -> bool:
    """Whether a list or a table begins here, right below a paragraph."""
    if line.startswith("|"):
        return not before.startswith("|")
    return bool(_ITEM.match(line)) and not _ITEM.match(before) and not before.startswith(" ")


def on_files(files: Any, config: Any) -> Any:
    """Add the pages to the site (called by MkDocs)."""
    for path, content in {**command_pages(), **python_pages()}.items():
        files.append(File.generated(config, path, content=content))
    return files
