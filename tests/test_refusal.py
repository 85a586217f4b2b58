"""What the data check says that `train` refuses is what `train` refuses, and nothing else."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from threadpoolctl import threadpool_limits

import headstart
from headstart.checks import CheckReport
from headstart.core.errors import ImageError, SourceError
from headstart.data.table import ImageTable, Row
from helpers import draw, write_images

LABELS = ("disc", "noise", "stripes")
BROKEN = "broken"


class Drawn:
    """Pictures by what follows ``=``: a number, one with ``~`` for a near duplicate of it, or none that can be read."""

    def read(self, path: str) -> bytes:
        name = path.rpartition("=")[2]
        if name == BROKEN:
            raise ImageError("broken")
        number = int(name.rstrip("~"))
        image = draw(LABELS[number % 3], number)
        if name.endswith("~"):
            image = image.resize((160, 128), Image.Resampling.BICUBIC)
        content = io.BytesIO()
        image.save(content, "PNG", compress_level=1)
        return content.getvalue()

    def reopened(self) -> Drawn:
        return self


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[headstart.Runtime]:
    """One cache for all examples: each picture is embedded once."""
    with threadpool_limits(1):
        yield headstart.Runtime(cache=tmp_path_factory.mktemp("kept"), workers=2)


def table_of(rows: list[tuple[str, str, str | None, str | None]]) -> ImageTable:
    """A table of (label, picture, split, group)."""
    return ImageTable(
        "drawn", Drawn(),
        tuple(Row(f"{label}/{place}={picture}", label, split, group)  # type: ignore[arg-type]
              for place, (label, picture, split, group) in enumerate(rows)),
    )  # fmt: skip


def said(report: CheckReport) -> str:
    """What the check says of a refusal; empty for nothing."""
    return "".join(one.message for one in report.of("class") if one.facts["problem"] in {"single", "refused"})


def trains(table: ImageTable, runtime: headstart.Runtime) -> str:
    """The error of a training; empty for none."""
    try:
        headstart.train(table, runtime=runtime)
    except SourceError as error:
        return error.message
    return ""


# The folds can be dealt, and what is left of one of them cannot.
MIXED: list[tuple[str, str, str | None, str | None]] = [
    (label, picture, None, None) for label, picture in
    [("noise", "4"), ("noise", "4"), ("disc", "6"), ("disc", "3"), ("noise", "6"), ("disc", "0"), ("noise", "3"),
     ("disc", "0")]
]  # fmt: skip
pictures = st.one_of(st.integers(0, 11).map(str), st.integers(0, 5).map("{}~".format), st.just(BROKEN))
rows = st.tuples(
    st.sampled_from(LABELS[:2]) | st.sampled_from(LABELS), pictures, st.none(), st.sampled_from([None, None, "g", "h"])
)
split_rows = st.tuples(
    st.sampled_from(LABELS), pictures, st.sampled_from(["train", "train", "val", "test"]), st.sampled_from([None, "g"])
)


@pytest.mark.slow
@settings(max_examples=80, deadline=None)
@given(st.lists(rows, min_size=4, max_size=14) | st.lists(split_rows, min_size=4, max_size=16))
@example(MIXED)
def test_the_check_says_what_train_does(
    kept: headstart.Runtime, drawn: list[tuple[str, str, str | None, str | None]]
) -> None:
    table = table_of(drawn)
    try:
        report = headstart.check(table, runtime=kept)
    except SourceError:  # no image can be read
        assert all(picture == BROKEN for _, picture, _, _ in drawn)
        return
    error = trains(table, kept)
    assert bool(said(report)) == bool(error), (said(report), error)
    if "single" not in {one.facts["problem"] for one in report.of("class")}:
        assert error in said(report)


@pytest.mark.parametrize("beside", ["val", "test"])
def test_two_images_in_train_beside_another_split_are_enough(tmp_path: Path, beside: str) -> None:
    source = write_images(tmp_path / "train", {"disc": 2, "noise": 2}).parent
    write_images(source / beside, {"disc": 4, "noise": 4}, seed=100)
    assert not said(headstart.check(source))
    assert headstart.train(source).evaluation.n == 8


@pytest.mark.slow
def test_three_images_of_which_two_are_alike_are_enough_where_others_are_held_out(kept: headstart.Runtime) -> None:
    rows: list[tuple[str, str, str | None, str | None]] = [
        (label, str(number), None, None) for number in range(280) for label in (LABELS[number % 2],)
    ]
    table = table_of([*rows, ("odd", "300", None, None), ("odd", "300", None, None), ("odd", "301", None, None)])
    report = headstart.check(table, runtime=kept)
    assert [one.facts["images"] for one in report.of("class") if one.facts.get("label") == "odd"] == [2]
    assert not said(report)
    assert trains(table, kept) == ""


def test_a_class_of_one_picture_is_refused_by_both(kept: headstart.Runtime) -> None:
    table = table_of([("disc", str(3 * number), None, None) for number in range(6)] + [("noise", "1", None, None)] * 6)
    error = trains(table, kept)
    assert "fewer than 3 different images or groups" in error
    assert error in said(headstart.check(table, runtime=kept))
