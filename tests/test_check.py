"""`headstart check`: its contract, its page, its decisions, and sources that are small or hostile."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import zipfile
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image, ImageFilter

import headstart
from headstart.checks import CHECKS, CheckReport, summary
from headstart.checks.decisions import propose
from headstart.checks.findings import count_kinds
from headstart.checks.kinds import CheckSpec
from headstart.core.errors import OptionError, SourceError
from helpers import draw, headstart_cli, write_images

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Splits with one fault of each kind that a few pictures can have. Do not change it: copy it."""
    folder = tmp_path_factory.mktemp("faulty") / "photos"
    counts = {"disc": 24, "stripes": 24, "noise": 24}
    write_images(folder / "train", counts)
    write_images(folder / "val", dict.fromkeys(counts, 10), seed=1000)
    train, val = folder / "train", folder / "val"
    (train / "disc" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no photo")
    shutil.copy(train / "disc" / "000.png", train / "disc" / "copy.png")
    shutil.copy(train / "disc" / "001.png", train / "noise" / "conflict.png")
    shutil.copy(train / "noise" / "003.png", val / "noise" / "leak.png")
    Image.open(train / "stripes" / "002.png").convert("RGB").save(val / "stripes" / "near.jpg", quality=80)
    Image.open(train / "disc" / "005.png").convert("RGB").save(train / "disc" / "again.jpg", quality=80)
    draw("stripes", 77, (320, 250)).filter(ImageFilter.GaussianBlur(9)).save(train / "stripes" / "blurred.png")
    draw("stripes", 500).save(train / "disc" / "wrong.png")
    return folder


@pytest.fixture(scope="module")
def checked(faulty: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, Path]:
    """What `check --json` printed, and the folder with what it wrote."""
    folder = tmp_path_factory.mktemp("checked")
    done = headstart_cli("check", faulty, "--json", "--html", "check.html", "--fix-list", "fix.csv", cwd=folder)
    assert done.code == 3, done.err
    return done.json, folder


def found(document: dict, kind: str) -> list[dict]:
    return [one for one in document["findings"] if one["kind"] == kind]


# The contract


def test_json_is_the_contract(checked: tuple[dict, Path]) -> None:
    document, _ = checked
    assert set(document) >= {"counts", "findings"}
    for one in document["findings"]:
        assert one["kind"] in CHECKS
        assert one["message"]
        assert ("path" in one) != ("paths" in one)
    counts = document["counts"]
    assert counts["images"] == 3 * 34 + 6 + 1  # the broken one is none
    assert counts["skipped"] == counts["unreadable"] == 1
    for kind in CHECKS:
        assert counts[kind] == len(found(document, kind))


def test_each_fault_is_found(checked: tuple[dict, Path]) -> None:
    document, _ = checked
    (unreadable,) = found(document, "unreadable")
    assert unreadable["path"] == "train/disc/broken.jpg"
    assert "JPEG" in unreadable["reason"]
    duplicates = {tuple(one["paths"]): one["conflict"] for one in found(document, "duplicate")}
    assert duplicates == {
        ("train/disc/000.png", "train/disc/copy.png"): False,
        ("train/disc/001.png", "train/noise/conflict.png"): True,
    }
    leaks = {tuple(one["paths"]): one["exact"] for one in found(document, "leak")}
    assert leaks[("train/noise/003.png", "val/noise/leak.png")] is True
    assert leaks[("train/stripes/002.png", "val/stripes/near.jpg")] is False
    assert all("/stripes/" in path for paths, exact in leaks.items() if not exact for path in paths)  # some look alike
    assert ["train/disc/005.png", "train/disc/again.jpg"] in [
        sorted(one["paths"]) for one in found(document, "near-duplicate")
    ]
    labels = {one["path"]: one for one in found(document, "label")}
    assert labels["train/disc/wrong.png"]["suggested"] == "stripes"
    assert labels["train/disc/wrong.png"]["label"] == "disc"
    assert set(labels) <= {"train/disc/wrong.png", "train/noise/conflict.png", "train/disc/001.png"}
    assert "train/stripes/blurred.png" in {one.get("path") for one in found(document, "quality")}


def test_the_worst_come_first(checked: tuple[dict, Path]) -> None:
    kinds = [one["kind"] for one in checked[0]["findings"]]
    assert kinds == sorted(kinds, key=[*CHECKS].index)


def test_people_see_a_table_and_messages(faulty: Path, tmp_path: Path) -> None:
    done = headstart_cli("check", faulty, cwd=tmp_path)
    assert done.code == 3
    assert "Exact duplicates" in done.out
    assert "byte for byte" in done.out
    assert re.search(r"Leaks.* [2-4]\n", done.out)
    assert not list(tmp_path.iterdir())
    assert headstart_cli("check", faulty, "--quiet").out == ""


def test_python_gives_the_same(faulty: Path, checked: tuple[dict, Path]) -> None:
    report = headstart.check(faulty)
    assert isinstance(report, CheckReport)
    assert json.loads(json.dumps(report.as_dict()))["findings"] == checked[0]["findings"]
    assert report.counts["duplicate"] == len(report.of("duplicate")) == 2


def test_the_number_of_findings_shown_is_bounded(tmp_path: Path) -> None:
    write_images(tmp_path / "in", {"disc": 12, "noise": 12})
    for number in range(12):
        shutil.copy(tmp_path / "in" / "disc" / f"{number:03}.png", tmp_path / "in" / "disc" / f"copy{number}.png")
    done = headstart_cli("check", tmp_path / "in")
    assert done.code == 0
    assert "and 7 more" in done.out
    assert done.out.count("byte for byte") == 5


# The page


def test_the_page_shows_the_pictures_and_loads_nothing(checked: tuple[dict, Path]) -> None:
    page = (checked[1] / "check.html").read_text("utf-8")
    assert page.count("data:image/jpeg;base64,") >= 10
    assert "train/disc/wrong.png" in page
    assert "Likely wrong labels" in page
    assert not re.search(r"(src|href)=[\"']?(https?:|//)", page)
    assert len(page) < 5_000_000


def test_hostile_names_are_text_everywhere(tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script>\u202e\n=1+1\x1b[31m"
    source = tmp_path / "in"
    write_images(source, {"disc": 8, "noise": 8})
    (source / "disc").rename(source / hostile.replace("/", "|"))
    folder = source / hostile.replace("/", "|")
    shutil.copy(folder / "000.png", folder / "=cmd|' <b>.png")
    shutil.copy(folder / "001.png", folder / b"not utf-8 \xff.png".decode("utf-8", "surrogateescape"))
    done = headstart_cli("check", source, "--html", tmp_path / "a.html", "--fix-list", tmp_path / "fix.csv")
    assert done.code == 0, done.err
    page = (tmp_path / "a.html").read_text("utf-8")
    for text in (done.out, page):
        assert "\x1b" not in text
        assert "\u202e" not in text
    assert "<script>alert" not in page
    assert "<b>" not in page
    rows = list(csv.DictReader(io.StringIO((tmp_path / "fix.csv").read_text("utf-8"))))
    assert len(rows) >= 4
    assert all(cell[:1] not in {"=", "+", "-", "@"} for row in rows for cell in row.values())
    document = headstart_cli("check", source, "--json").json
    assert any("\\xff" in path for one in document["findings"] for path in one.get("paths", []))
    # Every line of the list names its image again.
    table = headstart.read(source, decisions=tmp_path / "fix.csv")
    assert len(table) + len(table.skipped) == 18
    assert {skip.decided for skip in table.skipped} == {True}


def test_files_are_not_replaced_by_accident(shapes: Path, tmp_path: Path) -> None:
    (tmp_path / "fix.csv").write_text("mine")
    done = headstart_cli("check", shapes, "--fix-list", tmp_path / "fix.csv")
    assert done.code == 2
    assert "--overwrite" in done.err
    assert (tmp_path / "fix.csv").read_text() == "mine"
    assert headstart_cli("check", shapes, "--html", tmp_path / "no" / "such.html").code == 2
    assert headstart_cli("check", shapes, "--fix-list", tmp_path / "fix.csv", "--overwrite").code == 0
    assert (tmp_path / "fix.csv").read_text().startswith("path,label,decision,new_label,kind,reason\n")


# Sources of all kinds


def test_a_zip_and_a_manifest_with_splits(tmp_path: Path) -> None:
    write_images(tmp_path / "in", {"disc": 8, "noise": 8})
    shutil.copy(tmp_path / "in" / "disc" / "000.png", tmp_path / "in" / "disc" / "leak.png")
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        for path in sorted((tmp_path / "in").rglob("*.png")):
            archive.write(path, path.relative_to(tmp_path / "in"))
    zipped = headstart_cli("check", tmp_path / "in.zip", "--json").json
    assert zipped["counts"]["duplicate"] == 1
    assert zipped["counts"]["leak"] == 0
    lines = [
        f"in/{path.parent.name}/{path.name},{path.parent.name},{'val' if path.name == 'leak.png' else 'train'}"
        for path in sorted((tmp_path / "in").rglob("*.png"))
    ]
    (tmp_path / "list.csv").write_text("\n".join(["path,label,split", *lines]))
    listed = headstart_cli("check", tmp_path / "list.csv", "--json").json
    assert listed["counts"]["duplicate"] == 0
    (leak,) = found(listed, "leak")
    assert leak["splits"] == ["train", "val"]


def test_one_class(tmp_path: Path) -> None:
    done = headstart_cli("check", write_images(tmp_path / "in", {"disc": 5}), "--json")
    assert done.code == 0
    assert found(done.json, "class")[0]["problem"] == "single"


@pytest.mark.parametrize("counts", [{"disc": 1}, {"disc": 2, "noise": 1}, {"disc": 1, "noise": 1, "stripes": 1}])
def test_hardly_any_images(tmp_path: Path, counts: dict[str, int]) -> None:
    report = headstart.check(write_images(tmp_path / "in", counts))
    assert report.counts["images"] == sum(counts.values())
    assert report.counts["class"] >= 1


def test_images_without_labels(shapes: Path) -> None:
    from headstart.data.inputs import expand

    report = headstart.check(expand([str(shapes)]))
    assert report.counts["images"] == 36
    assert report.counts["class"] == report.counts["label"] == 0


def test_the_same_picture_throughout(tmp_path: Path) -> None:
    for label in ("a", "b"):
        (tmp_path / "in" / label).mkdir(parents=True)
        for number in range(20):
            draw("disc", 1).save(tmp_path / "in" / label / f"{number}.png")
    report = headstart.check(tmp_path / "in")
    (conflict,) = report.of("duplicate")
    assert len(conflict.paths) == 40
    assert conflict.facts["conflict"] is True
    assert not report.of("label")


def test_plain_pictures_of_one_colour_each(tmp_path: Path) -> None:
    """Fingerprints without contrast and embeddings that hardly differ are no reason to fail."""
    for label, grey in (("a", 40), ("b", 200)):
        (tmp_path / "in" / label).mkdir(parents=True)
        for number in range(20):
            Image.new("RGB", (300, 300), (grey, grey, grey + number)).save(tmp_path / "in" / label / f"{number}.png")
    report = headstart.check(tmp_path / "in")
    assert any(one.facts["problems"] == ["uniform"] for one in report.of("quality"))
    json.dumps(report.as_dict(), allow_nan=False)


def test_nothing_readable_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "in" / "a").mkdir(parents=True)
    (tmp_path / "in" / "a" / "x.jpg").write_text("no picture")
    done = headstart_cli("check", tmp_path / "in", "--json")
    assert done.code == 2
    assert "None of the 1 file" in done.json["error"]


def test_strict_refuses_what_cannot_be_read(faulty: Path) -> None:
    assert headstart_cli("check", faulty, "--strict").code == 2


# Real photos


@pytest.mark.slow
def test_few_false_alarms_among_real_photos(photos: Path, warm: Path) -> None:
    report = headstart.check(photos)
    assert [one.paths for one in report.of("outlier")] == [("train/ants/imageNotFound.gif",)]
    alarms = count_kinds(report.findings, report.table.task)
    assert alarms["label"] <= 4
    assert alarms["quality"] <= 3
    for kind in ("duplicate", "leak", "near-duplicate", "shortcut", "class", "unreadable"):
        assert not report.of(kind), kind  # type: ignore[arg-type]


# Training


@pytest.mark.slow
def test_train_tells_and_keeps_what_was_found(faulty: Path, tmp_path: Path) -> None:
    done = headstart_cli("train", faulty, "--out", tmp_path / "run", "--json")
    assert done.code == 3, done.err
    assert re.search(r"Data check: 1 unusable file, \d leaks between splits, 2 exact duplicates, ", done.err)
    assert "headstart check" in done.err
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["check"]["counts"]["leak"] >= 2
    kinds = [one["kind"] for one in metrics["check"]["findings"]]
    assert {kind: kinds.count(kind) for kind in CHECKS} == metrics["check"]["counts"]
    assert done.json["seconds"]["check"] > 0


@pytest.mark.slow
def test_train_obeys_the_proposals(faulty: Path, checked: tuple[dict, Path], tmp_path: Path) -> None:
    fixes = checked[1] / "fix.csv"
    decided = {row["path"]: row for row in csv.DictReader(io.StringIO(fixes.read_text("utf-8")))}
    assert {path for path, row in decided.items() if row["decision"] == "drop"} >= {
        "train/disc/broken.jpg", "train/disc/copy.png", "train/noise/003.png", "train/stripes/002.png",
    }  # fmt: skip
    assert decided["train/disc/wrong.png"]["decision"] == "relabel"
    assert decided["train/disc/wrong.png"]["new_label"] == "stripes"
    assert decided["val/noise/leak.png"]["decision"] == "keep"
    before = sorted(path.relative_to(faulty) for path in faulty.rglob("*"))
    done = headstart_cli("train", faulty, "--decisions", fixes, "--out", tmp_path / "run", "--json", "--strict")
    assert done.code == 0, done.err
    assert sorted(path.relative_to(faulty) for path in faulty.rglob("*")) == before
    dropped = {one["path"]: one["reason"] for one in done.json["skipped"]}
    assert set(dropped) == {path for path, row in decided.items() if row["decision"] == "drop"}
    assert "decision" in dropped["train/disc/copy.png"]
    assert done.json["counts"]["images"] + len(dropped) == len(list(faulty.rglob("*.*g")))
    text = (tmp_path / "run" / "splits.csv").read_text("utf-8")
    splits = {row["path"]: row["label"] for row in csv.DictReader(io.StringIO(text))}
    assert splits["train/disc/wrong.png"] == "stripes"
    assert any("left out, 1 relabelled" in note for note in done.json["notes"])
    again = headstart_cli("check", faulty, "--decisions", fixes, "--json")
    assert again.code == 0
    assert {one["kind"] for one in again.json["findings"]} <= {"class", "quality", "label", "near-duplicate", "outlier"}


# Decisions


def decide(folder: Path, *lines: str, header: str = "path,label,decision,new_label,kind,reason") -> Path:
    path = folder / "decisions.csv"
    path.write_text("\n".join([header, *lines, ""]), "utf-8")
    return path


def test_drop_relabel_and_keep(shapes: Path, tmp_path: Path) -> None:
    path = decide(
        tmp_path, "disc/000.png,disc,drop,,quality,too dark", "disc/001.png,disc,relabel,noise,label,",
        "disc/002.png,,KEEP,,,",
    )  # fmt: skip
    table = headstart.read(shapes, decisions=path)
    labels = {row.path: row.label for row in table.rows}
    assert "disc/000.png" not in labels
    assert labels["disc/001.png"] == "noise"
    assert labels["disc/002.png"] == "disc"
    assert table.accepted == {"disc/002.png"}
    (skip,) = table.skipped
    assert skip.decided
    assert skip.reason == "left out by a decision (line 2), quality: too dark"
    assert len(table) + len(table.skipped) == 36
    assert "1 image left out, 1 relabelled, 1 kept" in table.notes[-1]


def test_a_changed_label_of_what_is_measured_is_told(tmp_path: Path) -> None:
    source = tmp_path / "in"
    write_images(source / "train", {"disc": 4, "noise": 4})
    write_images(source / "val", {"disc": 4, "noise": 4}, seed=50)
    table = headstart.read(source, decisions=decide(tmp_path, "val/disc/000.png,disc,relabel,noise,label,"))
    assert any("1 label of val was changed" in note for note in table.notes)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("disc/nope.png,disc,drop,,,", "line 2: there is no image 'disc/nope.png'"),
        ("disc/000.png,disc,delete,,,", "line 2: unknown decision 'delete'"),
        ("disc/000.png,disc,,,,", "line 2: no decision"),
        ("disc/000.png,disc,relabel,nose,,", "line 2: there is no class 'nose'. Did you mean 'noise'"),
        ("disc/000.png,disc,relabel,,,", "line 2: no new_label"),
        ("disc/000.png,disc,relabel,disc,,", "line 2: 'disc/000.png' has the label 'disc' already"),
        ("disc/000.png,noise,drop,,,", "line 2: 'disc/000.png' has the label 'disc' now, not 'noise'"),
        (",disc,drop,,,", "line 2: no path"),
        ("disc/000.png,disc,drop,,,,,", "line 2: more values than columns"),
        (
            "disc/000.png,disc,drop,,,\ndisc/000.png,disc,keep,,,",
            "line 3: 'disc/000.png' was already decided in line 2",
        ),
        ('"disc/000.png,disc,drop,,,', "is not valid CSV"),
    ],
)
def test_what_cannot_be_followed_names_the_line(shapes: Path, tmp_path: Path, line: str, said: str) -> None:
    with pytest.raises(SourceError, match=re.escape(said)):
        headstart.read(shapes, decisions=decide(tmp_path, line))


def test_other_faults_of_a_list(shapes: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no column 'decision'"):
        headstart.read(shapes, decisions=decide(tmp_path, "a,b", header="path,label"))
    lines = [f"{row.path},,drop,,," for row in headstart.read(shapes).rows]
    with pytest.raises(SourceError, match="leave out every image"):
        headstart.read(shapes, decisions=decide(tmp_path, *lines))
    with pytest.raises(SourceError, match="decisions"):
        headstart.read(shapes, decisions=tmp_path / "none.csv")
    (tmp_path / "latin.csv").write_bytes("path,decision\nß,drop".encode("latin-1"))
    with pytest.raises(SourceError, match="UTF-8"):
        headstart.read(shapes, decisions=tmp_path / "latin.csv")
    with pytest.raises(OptionError):
        headstart.check(headstart.read(shapes), decisions=tmp_path / "none.csv")
    done = headstart_cli("train", shapes, "--decisions", decide(tmp_path, "x,,drop,,,"), "--out", tmp_path / "run")
    assert done.code == 2
    assert not (tmp_path / "run").exists()


def test_a_spreadsheet_may_have_saved_it(shapes: Path, tmp_path: Path) -> None:
    path = tmp_path / "sheet.csv"
    path.write_bytes("\ufeffpath;label;decision\r\ndisc/000.png;disc;drop\r\n".encode())
    assert len(headstart.read(shapes, decisions=path)) == 35


def test_keeping_silences_and_the_new_list_begins_with_the_old(faulty: Path, tmp_path: Path) -> None:
    kept = decide(tmp_path, "train/disc/000.png,disc,keep,,,", "train/disc/copy.png,disc,keep,,duplicate,on purpose",
                  "train/disc/001.png,disc,keep,,,")  # fmt: skip
    report = headstart.check(faulty, decisions=kept)
    # Both copies are kept; of the conflict, one is undecided.
    assert [one.paths for one in report.of("duplicate")] == [("train/disc/001.png", "train/noise/conflict.png")]
    lines = propose(report).splitlines()
    assert lines[1:4] == kept.read_text("utf-8").splitlines()[1:]
    assert len(lines) == len({line.split(",")[0] for line in lines})


def test_a_resumed_training_reads_its_decisions_again(shapes: Path, tmp_path: Path) -> None:
    from headstart.runs import resumption
    from headstart.settings.recipe import Recipe

    table = headstart.read(shapes, decisions=decide(tmp_path, "disc/000.png,disc,drop,,,"))
    resumption.write(tmp_path / "run", table, ["0" * 64] * len(table), Recipe(), "")
    assert resumption.read(tmp_path / "run").decisions == str(tmp_path / "decisions.csv")


def test_conflicting_copies_are_dropped_where_nobody_knows_which_label_is_right(tmp_path: Path) -> None:
    source = write_images(tmp_path / "in", {"disc": 3, "noise": 3})
    shutil.copy(source / "disc" / "000.png", source / "noise" / "same.png")
    rows = list(csv.DictReader(io.StringIO(propose(headstart.check(source)))))
    assert {row["path"]: row["decision"] for row in rows if row["kind"] == "duplicate"} == {
        "disc/000.png": "drop", "noise/same.png": "drop",
    }  # fmt: skip


@pytest.mark.slow
def test_ten_thousand_images_take_less_than_twenty_seconds() -> None:
    """CPU time, since others may use the machine too: embeddings, looks and traits as they come from the cache."""
    import time

    from headstart.checks import run
    from headstart.data.table import ImageTable, Row
    from headstart.data.traits import Traits
    from headstart.features.dataset import Dataset

    rng = np.random.default_rng(0)
    count, classes = 10_000, 20
    labels = rng.integers(0, classes, count)
    features = np.abs(rng.normal(size=(classes, 1280))[labels] + 1.5 * rng.normal(size=(count, 1280)))
    rows = tuple(Row(f"{label}/{number}.jpg", str(label)) for number, label in enumerate(labels))
    prints = rng.integers(0, 256, (count, 1024), np.uint8)
    traits = [
        Traits(500, int(height), "JPEG", int(height) * 200, "", 120.0, 50.0, 30.0, prints[number].tobytes())
        for number, height in enumerate(rng.integers(300, 600, count))
    ]
    start = time.process_time()
    table = ImageTable("made up", None, rows)  # type: ignore[arg-type]
    digests = tuple(f"{number:064x}" for number in rng.permutation(count))
    report = run(Dataset(table, digests, tuple(traits), features.astype(np.float32)), input_px=224)
    assert time.process_time() - start < 20
    assert report.counts["images"] == count


def test_a_new_kind_of_finding_is_a_file_and_a_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, faulty: Path
) -> None:
    (tmp_path / "throwaway.py").write_text(
        "from headstart.checks import Finding\n"
        "from headstart.checks.proposals import Proposal\n"
        "def find(subject):\n"
        "    return [Finding('throwaway', 'Small.', (subject.data.table.rows[0].path,), severity=1)]\n"
        "def propose(finding, report):\n"
        "    assert finding in report.findings\n"
        "    return [Proposal(finding.paths[0], 'relabel', 'new')]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    row = CheckSpec(find="throwaway:find", heading="Small", one="small", many="smalls", propose="throwaway:propose")
    kinds = dict(CHECKS)
    monkeypatch.setitem(CHECKS, "throwaway", row)
    report = headstart.check(faulty)
    assert report.counts["throwaway"] == 1
    assert list(report.counts)[-len(CHECKS) :] == [*kinds, "throwaway"]
    assert "1 small" in summary(report.findings, report.table.task)
    lines = list(csv.DictReader(io.StringIO(propose(report))))
    (one,) = (line for line in lines if line["kind"] == "throwaway")
    assert (one["path"], one["decision"], one["new_label"]) == (report.table.rows[0].path, "relabel", "new")


def test_what_is_unlike_everything_is_not_given_another_class() -> None:
    from headstart.checks import Finding
    from headstart.data.table import ImageTable, Row

    suggested = {"suggested": "b"}
    findings = [Finding("label", "...", ("a/1",), suggested), Finding("label", "...", ("a/2",), suggested)]
    table = ImageTable("made up", None, (Row("a/1", "a"), Row("a/2", "a"), Row("b/1", "b")))  # type: ignore[arg-type]
    report = CheckReport(table, ("0",) * 3, (*findings, Finding("outlier", "...", ("a/1",))))
    rows = list(csv.DictReader(io.StringIO(propose(report))))
    assert [(row["path"], row["decision"], row["new_label"]) for row in rows] == [
        ("a/1", "drop", ""), ("a/2", "relabel", "b"),
    ]  # fmt: skip
