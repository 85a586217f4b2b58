"""Values that are not converted, against typer, which converts all of them."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import typer
from typer.core import TyperCommand

from headstart.cli.main import COMMANDS
from headstart.cli.values import Command
from headstart.core.tables import resolve

LINES = [
    (name, line.split("|") if line else [])
    for name, line in [
        ("train", ""), ("train", "photos"), ("train", "photos|--out|runs/x|--epochs|3|--lr|0.5|--seed|7"),
        ("train", "photos|--strategy|finetune|--backbone|timm:x|--no-report|-q|--holdout|0.25"),
        ("train", "photos|--epochs|auto|--precision|int8"), ("train", "photos|--precision|int9"),
        ("train", "photos|--seed|many"), ("train", "photos|--seed"), ("train", "photos|more"), ("train", "--sed|1"),
        ("train", ""), ("train", "|"), ("train", "--strategy||photos"), ("train", "\udcff\u202ephotos"),
        ("predict", "model.onnx|a.jpg|b.jpg|--top|2"), ("predict", "model.onnx|a.jpg"), ("predict", "model.onnx"),
        ("predict", ""), ("predict", "m|a|--top|0"), ("predict", "m|a|--top|two"), ("predict", "m|a|--format|csv"),
        ("predict", "m|a|--format|CSV"), ("predict", "m|a|--coverage|0.9|--allow-empty|--strict"),
        ("predict", "m|a|--workers|0"), ("predict", "m|a|--workers|257"), ("predict", "m|--|-a"), ("predict", "m||"),
        ("check", "photos|--html|x.html"), ("compare", "photos|--strategies|probe,finetune"), ("report", "runs/x"),
        ("explain", "m|a|--top|1"), ("evaluate", "m|photos|--json"), ("verify", "m"), ("verify", ""),
        ("train", "p|--out|."), ("train", "p|--out|/dev/null|--root|../x"), ("train", "p|--out|"),
        ("train", "p|--out|-"),
        ("train", "p|--out|a/../b//c/|--resume|~"), ("train", "p|--out|\0"), ("train", "p|--out|\udcff"),
        ("demo", "digits"), ("demo", ""), ("recipes", ""), ("recipes", "x|-q"), ("backbones", "show|resnet18"),
    ]
]  # fmt: skip


def parsed(name: str, line: list[str], cls: type[TyperCommand]) -> tuple[Any, ...]:
    """The values of a command line, with their types; or the words of the refusal."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command(name, cls=cls)(resolve(COMMANDS[name].function))
    command = typer.main.get_command(app)
    try:
        with command.make_context(name, list(line)) as context:
            return {key: (type(value), value) for key, value in context.params.items()}, context.args
    except ValueError as error:
        return type(error), str(error)
    except typer.BadParameter.__mro__[2] as error:
        return type(error), error.format_message(), error.exit_code


@pytest.mark.parametrize(("name", "line"), LINES)
def test_a_line_is_read_as_typer_reads_it(name: str, line: list[str]) -> None:
    assert parsed(name, line, Command) == parsed(name, line, TyperCommand)


def test_what_needs_no_converting_is_read_without_pydantic() -> None:
    code = (
        "import sys\n"
        "from headstart.cli.main import run\n"
        "assert run(['predict', 'nowhere.onnx', 'a.jpg', '--strict']) == 2\n"
        "assert run(['train', 'nowhere', '--strategy', 'probe', '-q', '--out', 'x']) == 2\n"
        "assert run(['--version']) == run(['cache', '--help']) == 0\n"
        "assert 'pydantic' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
