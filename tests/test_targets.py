"""What a label is, is known in one place: a task of another kind divides like the built-in one."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest

from headstart import targets
from headstart.core.errors import SourceError
from headstart.data.table import ImageTable, Row
from headstart.features.dataset import Dataset
from headstart.partition.divide import divide
from headstart.partition.roles import Role
from headstart.settings.recipe import Recipe
from headstart.targets.classes import Classes
from test_splits import blotches, digest, trait


@dataclass(frozen=True, eq=False)
class Tags:
    """Any number of labels an image, none included, written as ``a+b``."""

    task: ClassVar[str] = "tags"
    names: tuple[str, ...]
    labels: np.ndarray

    @classmethod
    def read(cls, table: ImageTable) -> Tags:
        given = [{one for one in (row.label or "").split("+") if one} for row in table.rows]
        names = tuple(sorted(set().union(*given)))
        return cls(names, np.array([[name in one for name in names] for one in given]))

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: Any) -> Tags:
        return dataclasses.replace(self, labels=self.labels[rows])

    def count(self) -> np.ndarray:
        return self.labels.sum(0)

    def strata(self) -> list[tuple[int, ...]]:
        return [tuple(np.flatnonzero(row).tolist()) for row in self.labels]


def table_of(labels: list[str], task: str) -> ImageTable:
    rows = tuple(Row(f"{number}.png", label) for number, label in enumerate(labels))
    return ImageTable("photos", None, rows, task=task)  # type: ignore[arg-type]


def data_of(table: ImageTable) -> Dataset:
    """Images of which no two are alike."""
    traits = tuple(trait(blotches(number + 1)) for number in range(len(table)))
    return Dataset(table, tuple(digest(row.path) for row in table.rows), traits)


@pytest.fixture
def task(monkeypatch: pytest.MonkeyPatch) -> str:
    """One file and one row."""
    monkeypatch.setitem(
        targets.TARGETS, "tags", dataclasses.replace(targets.TARGETS["classes"], record="test_targets:Tags")
    )
    return "tags"


def test_another_task_divides_with_the_share_of_each_label(task: str) -> None:
    labels = ["a", "b", "a+b", "", "b+c", "c"] * 50
    partition = divide(data_of(table_of(labels, task)), Recipe(holdout=0.2))
    assert isinstance(partition.targets, Tags)
    held = partition.targets.take(partition.of(Role.TEST)).count()
    assert held.tolist() == pytest.approx([20, 30, 20], abs=3)
    assert partition.count()["train"] == dict(zip("abc", (np.array([100, 150, 100]) - held).tolist(), strict=True))
    folds = [partition.targets.take(partition.folds == fold).count() for fold in range(5)]
    assert np.ptp(folds, axis=0).max() <= 6


def test_classes_are_read_in_the_order_of_their_names() -> None:
    found = targets.read(table_of(["b", "a", "b", "c", "a", "c", "c", "b", "a"], "classes"))
    assert isinstance(found, Classes)
    assert (found.names, found.labels.tolist()) == (("a", "b", "c"), [1, 0, 1, 2, 0, 2, 2, 1, 0])
    assert found.count().tolist() == found.take([1, 0, 2, 3, 4, 5, 6, 7, 8]).count().tolist() == [3, 3, 3]
    assert found.strata()[:2] == [(1,), (0,)]


def test_a_single_class_is_refused() -> None:
    with pytest.raises(SourceError, match="only the class 'a'"):
        targets.read(table_of(["a"] * 9, "classes"))
