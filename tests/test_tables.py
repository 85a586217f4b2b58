"""The tables: every row names something that is there."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import headstart
from headstart.core.tables import resolve

SOURCE = Path(headstart.__file__).parent


def _rows() -> list[str]:
    """All strings of the package that name an object of it."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in SOURCE.rglob("*.py")]
    strings = {
        node.value for tree in trees for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }  # fmt: skip
    return sorted(one for one in strings if one.startswith("headstart.") and one.count(":") == 1 and " " not in one)


@pytest.mark.parametrize("where", _rows())
def test_what_a_row_names_is_there(where: str) -> None:
    if where.startswith("headstart.training."):
        pytest.importorskip("torch")
    resolve(where)


@pytest.mark.slow
def test_rows_are_found() -> None:
    assert {"headstart.strategies.probe:fit", "headstart.cli.train:train"} <= set(_rows())


def test_one_function_resolves_them() -> None:
    """A second one would soon differ."""
    importing = [
        str(path.relative_to(SOURCE)) for path in SOURCE.rglob("*.py")
        if "import_module(" in path.read_text(encoding="utf-8")
    ]  # fmt: skip
    # `others` import packages that are not ours.
    others = {"core/extras.py", "modelfile/session.py", "core/hub.py"}
    assert set(importing) <= {"core/tables.py"} | others
