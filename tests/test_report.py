"""What a report is made of, and the files that train, and `headstart report`, write."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import headstart
from headstart.checks import Finding
from headstart.core.errors import SourceError, StorageError
from headstart.core.vectors import unit_rows
from headstart.data import readers
from headstart.features.dataset import Dataset
from headstart.features.look import traits_key
from headstart.features.thumbnails import LITE0_ENOUGH_PX, Thumbnails
from headstart.partition.roles import Partition, Role
from headstart.preprocess.spec import Preprocess
from headstart.report import analysis as analyses
from headstart.report import charts, picked, render, similar, tsne
from headstart.report.analysed import Analysis
from headstart.report.exhibits import FINDINGS_OF_A_KIND
from headstart.report.pictures import Pictures
from headstart.report.run_page import run_page
from headstart.runs.details import Details, HeadFit
from headstart.targets.classes import Classes
from helpers import headstart_cli, write_images

JPEG = b"\xff\xd8" + bytes(3000)


def partition_of(roles: np.ndarray, folds: np.ndarray | None = None, measures: Role = Role.VAL) -> Partition:
    """A partition of rows without labels or groups."""
    zeros, none = np.zeros(len(roles), np.int64), np.zeros(len(roles), bool)
    return Partition(
        roles.astype(np.int8), zeros if folds is None else folds, measures, none, none, Classes(("a",), zeros), zeros
    )


@pytest.fixture(scope="module")
def run(shapes: Path) -> Any:
    return headstart.train(shapes)


@pytest.fixture
def saved(run: Any, tmp_path: Path) -> Path:
    return run.save(tmp_path / "run", runtime=headstart.Runtime(cache=None))


# --- files -----------------------------------------------------------------------------------------------------------


def test_a_run_folder_has_a_report_and_its_data(run: Any, saved: Path) -> None:
    html = (saved / "report.html").read_text("utf-8")
    analysis = json.loads((saved / "analysis.json").read_text("utf-8"))
    assert f"{100 * run.evaluation.accuracy:.1f}" in html
    assert analysis["evaluation"]["accuracy"] == run.evaluation.accuracy
    assert analysis["recipe"] == run.recipe.as_dict()
    assert len(html.encode()) < 5e6
    assert "data:image" not in json.dumps(analysis)


def test_the_report_that_is_drawn_again_is_the_same(saved: Path) -> None:
    before = (saved / "report.html").read_bytes()
    drawn = headstart.draw_report(saved, runtime=headstart.Runtime(cache=None))
    assert drawn.missing == 0
    assert drawn.path == saved / "report.html"
    assert drawn.path.read_bytes() == before


def test_images_that_have_changed_or_gone_are_said_to_be_missing(run: Any, tmp_path: Path) -> None:
    source = shutil.copytree(run.fitted.data.table.source, tmp_path / "source")
    again = headstart.train(source)
    folder = again.save(tmp_path / "run", runtime=headstart.Runtime(cache=None))
    first, second, *_ = sorted((source / "disc").iterdir())
    first.unlink()
    second.write_bytes((source / "noise" / "001.png").read_bytes())  # readable, and another image
    drawn = headstart.draw_report(folder, runtime=headstart.Runtime(cache=None))
    assert drawn.missing == 2
    assert "2 pictures are missing" in drawn.path.read_text("utf-8")
    shutil.move(source, tmp_path / "elsewhere")
    assert headstart.draw_report(folder, runtime=headstart.Runtime(cache=None)).missing == drawn.images
    moved = headstart.draw_report(folder, tmp_path / "elsewhere", runtime=headstart.Runtime(cache=None))
    assert moved.missing == 2
    with pytest.raises(SourceError):
        headstart.draw_report(folder, tmp_path / "nowhere")


def test_the_cache_has_the_pictures_of_images_that_are_gone(shapes: Path, tmp_path: Path, cache: Path) -> None:
    source = shutil.copytree(shapes, tmp_path / "source")
    folder = headstart.train(source).save(tmp_path / "run")
    shutil.rmtree(source)
    assert headstart.draw_report(folder).missing == 0


def test_a_report_that_cannot_be_made_loses_no_run(
    run: Any, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise MemoryError("no room for a report")

    monkeypatch.setattr(analyses, "analyse", fail)
    run.save(saved, overwrite=True)
    assert (saved / "model.onnx").exists()
    assert "no room for a report" in json.loads((saved / "metrics.json").read_text())["notes"][-1]
    assert not (saved / "report.html").exists()  # that of the run that was replaced would lie
    assert not (saved / "analysis.json").exists()


def test_no_report_when_none_is_wanted(run: Any, saved: Path) -> None:
    run.save(saved, overwrite=True, report=False)
    assert not (saved / "report.html").exists()
    with pytest.raises(StorageError, match=r"holds no analysis\.json") as caught:
        headstart.draw_report(saved)
    assert "--overwrite" in caught.value.hint


def test_a_users_own_report_is_not_replaced(run: Any, tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text("mine")
    with pytest.raises(StorageError, match=r"report\.html"):
        run.save(tmp_path)
    assert (tmp_path / "report.html").read_text() == "mine"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "not JSON"),
        ("[1, 2]", "not an analysis"),
        ('{"schema": "1"}', "not an analysis"),
        ('{"schema": 1}', r"damaged \(analysis\.version is missing\)"),
        ('{"schema": 99}', "newer Headstart"),
        ("[" * 100_000, "damaged"),
    ],
)
def test_damaged_data_is_an_error_in_words(saved: Path, content: str, words: str) -> None:
    before = (saved / "report.html").read_bytes()
    (saved / "analysis.json").write_text(content)
    with pytest.raises(StorageError, match=words):
        headstart.draw_report(saved)
    assert (saved / "report.html").read_bytes() == before


@pytest.mark.parametrize(
    ("places", "value", "words"),
    [
        (["images", 0, "label"], "disc", "analysis.images[0].label is 'disc'; expected a number"),
        (["evaluation", "accuracy_interval"], [0.5], "analysis.evaluation.accuracy_interval is [0.5]; expected a list"),
        (["map", "classes", 1], None, "analysis.map.classes[1] is None; expected an object"),
        (["recipe", "max_megapixels"], "64", "recipe.max_megapixels is '64'"),
        (["details", "history"], 7, "details.history is 7"),
    ],
)
def test_what_is_damaged_is_named(saved: Path, places: list[Any], value: object, words: str) -> None:
    analysis = json.loads((saved / "analysis.json").read_text())
    within = analysis
    for place in places[:-1]:
        within = within[place]
    within[places[-1]] = value
    (saved / "analysis.json").write_text(json.dumps(analysis))
    with pytest.raises(StorageError) as caught:
        headstart.draw_report(saved, runtime=headstart.Runtime(cache=None))
    assert words in str(caught.value)


def test_a_document_reads_back_to_the_record_that_it_was_made_of(run: Any, saved: Path) -> None:
    text = (saved / "analysis.json").read_text("utf-8")
    analysis = Analysis.from_json(json.loads(text) | {"of a newer version": 1})
    assert analysis.to_json() == text
    fresh = analyses.analyse(run.fitted, run.recipe, run.seconds)
    assert json.loads(fresh.to_json()) == json.loads(text)


def test_a_run_from_before_some_keys_is_drawn(saved: Path, tmp_path: Path) -> None:
    before = json.loads((saved / "analysis.json").read_text())
    before["comparison"] = None  # the first ones had it
    for key in ("calibration_error_interval", "calibration_error_by_chance"):
        del before["evaluation"][key]
    del before["model"]["conformal"]["measured"]
    (saved / "analysis.json").write_text(json.dumps(before))
    page = headstart.draw_report(saved, out=tmp_path / "page.html", runtime=headstart.Runtime(cache=None)).path
    assert "The expected calibration error is" in page.read_text("utf-8")


@pytest.mark.slow
def test_every_value_that_is_taken_away_or_exchanged_is_an_error_or_a_page(saved: Path, tmp_path: Path) -> None:
    analysis = json.loads((saved / "analysis.json").read_text())
    for key in analysis:
        for value in (None, [], {}, "text", -1, [[[0]]]):
            (saved / "analysis.json").write_text(json.dumps(analysis | {key: value}))
            try:
                headstart.draw_report(saved, out=tmp_path / "page.html", runtime=headstart.Runtime(cache=None))
            except (StorageError, SourceError):
                continue


def test_there_is_no_such_run(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no run folder"):
        headstart.draw_report(tmp_path / "none")


# --- the command -----------------------------------------------------------------------------------------------------


def test_the_command_draws_again_and_says_what_is_missing(shapes: Path, tmp_path: Path) -> None:
    source = shutil.copytree(shapes, tmp_path / "photos")
    done = headstart_cli("train", source, "--out", tmp_path / "run")
    assert done.code == 0, done.err
    assert f"Report: {tmp_path / 'run' / 'report.html'}" in done.out
    shutil.rmtree(source)
    done = headstart_cli("report", tmp_path / "run", "--json", "--no-cache", "--out", tmp_path / "page.html")
    assert done.code == 0, done.err
    assert done.json["missing"] == done.json["images"] > 0
    assert "--source" in done.err
    assert (tmp_path / "page.html").exists()
    done = headstart_cli("report", tmp_path)
    assert done.code == 2
    assert "analysis.json" in done.err


def test_train_writes_none_with_no_report(shapes: Path, tmp_path: Path) -> None:
    done = headstart_cli("train", shapes, "--out", tmp_path / "run", "--no-report")
    assert done.code == 0, done.err
    assert "Report:" not in done.out
    assert not (tmp_path / "run" / "report.html").exists()


def test_jinja_is_imported_by_reports_alone() -> None:
    code = (
        "import sys; import headstart.cli.main; from headstart.prediction.classifier import Classifier; "
        "import headstart.api; print('jinja2' in sys.modules or 'markupsafe' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


# --- the page --------------------------------------------------------------------------------------------------------


def test_text_of_a_template_is_printable_and_escaped() -> None:
    html = render.render("message.html.j2", heading="<b>", sentences=["\u202e", "\udcff", "{{7*7}}", "\x1b[31m", "'\""])
    body = html[html.index("<body>") :]
    for shown in ("&lt;b&gt;", "\\u202e", "\\xff", "{{7*7}}", "\\x1b[31m", "&#39;&#34;"):
        assert shown in body
    html.encode("utf-8")


def test_a_name_that_a_template_lacks_is_an_error() -> None:
    from jinja2 import UndefinedError

    with pytest.raises(UndefinedError):
        render.render("message.html.j2", heading="no sentences")


def test_no_template_marks_data_as_safe() -> None:
    templates = Path(render.__file__).parent / "templates"
    for file in templates.rglob("*.j2"):
        text = file.read_text("utf-8")
        assert "|safe" not in text.replace(" ", ""), file.name
        assert "autoescape" not in text, file.name
        assert "http:" not in text, file.name
        assert "https:" not in text, file.name


def test_the_script_is_the_only_one_that_may_run() -> None:
    html = render.render("message.html.j2", heading="", sentences=[])
    policy = html[html.index("Content-Security-Policy") :].split(">")[0]
    assert "default-src 'none'" in policy
    assert "script-src 'sha256-" in policy
    assert "unsafe-inline" not in policy.split("script-src")[1]


def test_the_templates_are_in_the_wheel() -> None:
    from importlib import resources

    files = resources.files("headstart.report").joinpath("templates")
    for name in ("base.html.j2", "macros.html.j2", "charts.html.j2", "run.html.j2", "page.css", "page.js"):
        assert files.joinpath(name).is_file()


def test_pictures_stop_at_their_budget() -> None:
    pictures = Pictures(dict.fromkeys(range(10), JPEG), budget_bytes=9000)
    taken = [pictures.take(place) for place in range(10)]
    assert sum(one is not None for one in taken) == 2
    assert pictures.left_out == 8
    assert pictures.take(99) is None
    assert pictures.left_out == 8  # that was never there
    assert pictures.on_page(0)
    assert not pictures.on_page(5)


def test_numbers_in_words() -> None:
    assert render.percent(0.9543) == "95.4\u00a0%"
    assert render.percent(None) == "–"
    assert render.interval((0.9, 0.95), 0) == "90 to 95\u00a0%"
    assert render.decimals(1234.5678, 1) == "1,234.6"
    assert render.data_uri(None) is None


# --- very many images and classes ------------------------------------------------------------------------------------


def synthetic(images: int, classes: int, seed: int = 0) -> Any:
    """A finished training of many images, as far as an analysis looks at it; its images are on no disk."""
    from headstart.evaluation import evaluate

    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, images)
    labels[: 2 * classes] = np.arange(2 * classes) % classes
    features = rng.normal(size=(images, 32)).astype(np.float32) + np.eye(classes, 32, dtype=np.float32)[labels] * 3
    names = tuple(f"<class & {number:04}> " + "x" * 60 for number in range(classes))
    held = np.flatnonzero(np.arange(images) >= 0.7 * images)
    probabilities = rng.dirichlet(np.ones(classes) * 0.05, len(held))
    probabilities[rng.random(len(held)) < 0.5] = 1 / classes
    probabilities = 0.5 * probabilities + 0.5 * np.eye(classes)[np.where(rng.random(len(held)) < 0.6, labels[held], 0)]
    evaluation = evaluate(probabilities, labels[held], names, split="val")
    rows = tuple(
        readers_row(f"{'directory/' * 4}{names[label]}/image {number:06} {'y' * 60}.jpg", names[label])
        for number, label in enumerate(labels)
    )
    roles = np.where(np.isin(np.arange(images), held), Role.VAL, Role.TRAIN)
    partition = dataclasses.replace(partition_of(roles), targets=Classes(names, labels))
    table = headstart.ImageTable("photos", NoStorage(), rows)
    files = tuple(f"{number:064x}" for number in range(images))
    data = Dataset(table, files, (), features)
    return SimpleNamespace(
        data=data, evaluation=evaluation, partition=partition,
        held_out=SimpleNamespace(rows=held, probabilities=probabilities), measured=lambda: (held, probabilities),
        details=Details(head=HeadFit(1.0, strength=1.0)), without_leaks=None, notes=(), findings=(), checked=False,
        counted=lambda: {"images": images, "skipped": 0, "ignored": 0, "train": dict.fromkeys(names, 1)},
    )  # fmt: skip


def readers_row(path: str, label: str) -> Any:
    from headstart.data.table import Row

    return Row(path, label)


class NoStorage:
    def read(self, path: str) -> bytes:
        raise headstart.ImageError("gone")

    def reopened(self) -> NoStorage:
        return self


@pytest.mark.parametrize(
    ("images", "classes"), [(10_000, 24), pytest.param(10_000, 1000, marks=pytest.mark.slow), (60, 2)]
)
def test_a_page_of_very_many_images_stays_small(
    run: Any, images: int, classes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted = synthetic(images, classes)
    fitted.model_file, fitted.model = run.fitted.model_file, run.fitted.model
    fitted.details = Details()
    recipe = headstart.Recipe(backbone="timm:resnet18", precision="float32")
    text = analyses.analyse(fitted, recipe, {"total": 1.0}).to_json()
    assert len(text) < 2_000_000
    analysis = Analysis.from_json(json.loads(text))
    noise = np.random.default_rng(0).bytes(9000)  # as large as a thumbnail of 96 px ever gets
    html = run_page(analysis, dict.fromkeys(range(len(analysis.images)), noise))
    assert len(html.encode()) < 5_000_000
    if images > 1000:
        assert "pictures were left out" in html
        assert f"{images - picked.ON_THE_MAP:,} images are left out" in html
    if classes > analyses.CLASSES:
        assert f"the other {classes - analyses.CLASSES:,} are in metrics.json" in html
        assert "the whole matrix would be unreadable" in html


def test_findings_of_the_check_are_shown_with_their_images(run: Any, tmp_path: Path) -> None:
    path = run.fitted.data.table.rows[3].path
    found = (
        Finding("label", "Looks like <noise>.", (path,)),
        *(Finding("unreadable", "Ends early.", (f"broken {number}.jpg",)) for number in range(30)),
        Finding("of a newer check", "Something else.", (path, "gone.jpg")),
    )
    analysis = analyses.analyse(dataclasses.replace(run.fitted, findings=found), run.recipe, run.seconds)
    by_kind = {one.kind: one for one in analysis.findings}
    assert analysis.images[by_kind["label"].shown[0].images[0]].path == path
    assert by_kind["unreadable"].count == 30
    assert len(by_kind["unreadable"].shown) == FINDINGS_OF_A_KIND
    assert by_kind["of a newer check"].shown[0].paths == ("gone.jpg",)
    html = run_page(Analysis.from_json(json.loads(analysis.to_json())), {})
    assert "Likely wrong labels: 1" in html
    assert "Looks like &lt;noise&gt;." in html
    assert "24 more" in html
    clean = analyses.analyse(dataclasses.replace(run.fitted, findings=(), checked=True), run.recipe, run.seconds)
    assert "The data check found no problems" in run_page(clean, {})


# --- the parts -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_map_keeps_neighbours_as_scikit_learn_does() -> None:
    from sklearn.datasets import load_digits
    from sklearn.manifold import TSNE, trustworthiness
    from threadpoolctl import threadpool_limits

    data, labels = load_digits(return_X_y=True)
    features = data[:300].astype(np.float32)
    places = tsne.layout(features)
    assert places.shape == (300, 2)
    assert places.min() >= 0
    assert places.max() == pytest.approx(1)
    unit = unit_rows(features)
    with threadpool_limits(1):
        theirs = TSNE(init="pca", perplexity=30, max_iter=500, random_state=0).fit_transform(unit)
    assert trustworthiness(unit, places, n_neighbors=10) > trustworthiness(unit, theirs, n_neighbors=10) - 0.01
    kept = tsne.kept_neighbours(features, places)
    assert kept > tsne.kept_neighbours(features, theirs.astype(float)) - 0.05
    nearest = ((places[:, None] - places) ** 2).sum(-1) + np.eye(300) * 9
    assert (labels[:300][nearest.argmin(1)] == labels[:300]).mean() > 0.9
    assert np.array_equal(places, tsne.layout(features))


@pytest.mark.parametrize("count", [1, 2, 4, 5, 7, 31])
def test_the_map_of_few_or_equal_images_is_finite(count: int) -> None:
    rng = np.random.default_rng(0)
    for features in (rng.normal(size=(count, 16)), np.ones((count, 16)), np.zeros((count, 16)), np.eye(count, 40)):
        places = tsne.layout(features.astype(np.float32))
        assert places.shape == (count, 2)
        assert np.isfinite(places).all()
        assert 0 <= tsne.kept_neighbours(features.astype(np.float32), places) <= 1


def test_kept_neighbours_of_a_perfect_and_of_a_random_map() -> None:
    rng = np.random.default_rng(0)
    angles = rng.uniform(0, np.pi / 2, 300)
    features = np.column_stack([np.cos(angles), np.sin(angles)]).astype(np.float32)
    assert tsne.kept_neighbours(features, features.astype(float)) > 0.99
    assert tsne.kept_neighbours(features, rng.normal(size=(300, 2))) == pytest.approx(10 / 299, abs=0.02)


def test_evidence_is_the_nearest_training_image_by_cosine() -> None:
    from sklearn.neighbors import NearestNeighbors

    rng = np.random.default_rng(0)
    features = rng.normal(size=(700, 20)).astype(np.float32)
    parts = partition_of(np.repeat([Role.TRAIN, Role.VAL], [400, 300]))
    found = similar.nearest(features, list(range(390, 700)), parts, count=3)
    distances, rows = NearestNeighbors(metric="cosine").fit(features[:400]).kneighbors(features[400:], 3)
    for row in range(400, 700):
        assert [place for place, _ in found[row]] == rows[row - 400].tolist()
        assert [similarity for _, similarity in found[row]] == pytest.approx(1 - distances[row - 400], abs=1e-5)
    assert all(place != 390 for place, _ in found[390])  # not itself


def test_evidence_of_a_fold_comes_from_the_others() -> None:
    rng = np.random.default_rng(1)
    features = rng.normal(size=(60, 4)).astype(np.float32)
    folds = np.arange(60) % 3
    dealt = partition_of(np.full(60, Role.TRAIN), folds, Role.TRAIN)
    found = similar.nearest(features, list(range(60)), dealt, count=5)
    for row, neighbours in found.items():
        assert len(neighbours) == 5
        assert all(folds[other] != folds[row] for other, _ in neighbours)
    assert similar.nearest(features, [0], partition_of(np.full(60, Role.VAL)), count=5) == {0: []}


def test_like_their_own() -> None:
    features = np.repeat(np.eye(2, 8, dtype=np.float32), 20, axis=0)
    features += np.random.default_rng(0).normal(0, 0.01, features.shape).astype(np.float32)
    labels = np.repeat([0, 1], 20)
    assert similar.like_their_own(features, labels).tolist() == [1.0] * 40
    labels[0] = 1  # lies among those of the other class
    assert similar.like_their_own(features, labels)[0] == 0


def test_mistakes_come_with_the_most_confident_first_and_once() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 200)
    rows = np.arange(100, 200)
    probabilities = rng.dirichlet(np.ones(3), 100)
    chosen = picked.select(rows, probabilities, labels)
    wrong = probabilities.argmax(1) != labels[rows]
    confidence = dict(zip(rows.tolist(), probabilities.max(1), strict=True))
    assert set(chosen.mistakes) <= set(rows[wrong].tolist())
    assert [confidence[row] for row in chosen.mistakes] == sorted(
        (confidence[row] for row in rows[wrong].tolist()), reverse=True
    )[: picked.MISTAKES]
    assert not set(chosen.mistakes) & set(chosen.uncertain)
    counts = {(true, guess): count for true, guess, count, _ in chosen.cells}
    assert sum(counts.values()) == 100
    for true, guess, _, shown in chosen.cells:
        for row in shown:
            assert (labels[row], probabilities[row - 100].argmax()) == (true, guess)
    assert chosen.on_the_map == tuple(range(200))


def test_the_sample_of_the_map_has_every_class_and_the_mistakes() -> None:
    labels = np.repeat(np.arange(10), 1000)
    rows = np.arange(0, 10_000, 7)
    probabilities = np.eye(10)[labels[rows]]
    probabilities[:50] = np.eye(10)[9]
    chosen = picked.select(rows, probabilities, labels)
    assert len(chosen.on_the_map) == picked.ON_THE_MAP
    assert set(chosen.mistakes) <= set(chosen.on_the_map)
    assert set(labels[list(chosen.on_the_map)]) == set(range(10))


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 0.37), (91, 98.4), (1e-6, 2e-6), (0, 12345), (-3, 3)])
def test_ticks_are_round_and_inside(low: float, high: float) -> None:
    values = charts.ticks(low, high)
    assert 2 <= len(values) <= 11
    assert all(low - 1e-9 * abs(high) <= value <= high * (1 + 1e-9) for value in values)


def test_a_scale_puts_its_ends_at_its_ends() -> None:
    scale = charts.Scale(10, 1000, 0, 100, log=True)
    assert [scale(10), scale(100), scale(1000)] == [0, 50, 100]
    chart = charts.empty("", (5, 5), (0, 0), x_label="", y_label="")
    assert chart.x(5) == (chart.x.start + chart.x.end) / 2


# --- thumbnails ------------------------------------------------------------------------------------------------------


def test_the_key_of_thumbnails_is_that_of_the_default_backbone() -> None:
    preprocess = Preprocess(size_px=224, fit="crop", crop_fraction=0.875, mean=(0.5,) * 3, std=(0.5,) * 3)
    assert preprocess.enough_px == LITE0_ENOUGH_PX


def test_thumbnails_are_small_upright_and_of_the_image_that_was_seen(tmp_path: Path) -> None:
    import io
    from hashlib import sha256

    from PIL import Image

    source = write_images(tmp_path / "photos", {"disc": 2, "noise": 1})
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (400, 200), "red").save(source / "noise" / "turned.jpg", exif=exif)
    table = readers.read(source)
    digests = [sha256((source / row.path).read_bytes()).hexdigest() for row in table.rows]
    with Thumbnails(table, digests, None, 64) as thumbnails:
        for row in range(len(table)):
            small = Image.open(io.BytesIO(thumbnails.small(row)))
            assert small.format == "JPEG"
            assert 48 < max(small.size) <= 96
            large = Image.open(io.BytesIO(thumbnails.large(row, 60)))
            assert 30 < max(large.size) <= 60
        turned = next(row for row, one in enumerate(table.rows) if one.path.endswith("turned.jpg"))
        tall = Image.open(io.BytesIO(thumbnails.small(turned)))
        assert tall.height > tall.width
        (source / table.rows[0].path).write_bytes((source / table.rows[2].path).read_bytes())
        (source / table.rows[1].path).unlink()
        assert thumbnails.small(0) is None
        assert thumbnails.large(1, 200) is None
        assert set(thumbnails.all_small(range(len(table)))) == set(range(2, len(table)))


def test_looking_makes_no_cache(shapes: Path, tmp_path: Path) -> None:
    table = readers.read(shapes)
    with Thumbnails(table, ["00" * 32] * len(table), tmp_path, 64) as thumbnails:
        assert thumbnails.small(0) is None
    assert list(tmp_path.iterdir()) == []


def test_thumbnails_come_from_the_cache(shapes: Path, cache: Path) -> None:
    run = headstart.train(shapes)
    table = headstart.ImageTable("gone", NoStorage(), run.fitted.data.table.rows)
    with Thumbnails(table, run.fitted.data.digests, cache, 64) as thumbnails:
        assert all(thumbnails.small(row) for row in range(len(table)))
    assert traits_key(LITE0_ENOUGH_PX) != traits_key(448)


def pages(templates: Path) -> str:
    """What a process of its own draws with the templates of a folder, and how many of them it compiled."""
    code = f"""if True:
        import jinja2, pathlib
        from headstart.report import compiled
        made = []
        class Environment(jinja2.Environment):
            def _generate(self, *rest, **named):
                made.append(1)
                return super()._generate(*rest, **named)
        templates = pathlib.Path({str(templates)!r})
        environment = Environment(
            loader=jinja2.FileSystemLoader(templates), bytecode_cache=compiled.Compiled(templates))
        print(environment.get_template("page").render(name="<b>"), len(made))
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=WRITES)
    return done.stdout.strip()


WRITES = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}


def test_templates_are_compiled_once(tmp_path: Path) -> None:
    (tmp_path / "page").write_text("{% include 'part' %}!")
    (tmp_path / "part").write_text("Hello {{ name }}")
    assert pages(tmp_path) == "Hello <b>! 2"
    assert pages(tmp_path) == "Hello <b>! 0"
    (tmp_path / "part").write_text("Farewell {{ name }}")
    assert pages(tmp_path) == "Farewell <b>! 1"
    assert pages(tmp_path) == "Farewell <b>! 0"


def test_a_compiled_template_that_is_damaged_is_compiled_anew(tmp_path: Path) -> None:
    (tmp_path / "page").write_text("Hello {{ name }}")
    assert pages(tmp_path) == "Hello <b> 1"
    (kept,) = (tmp_path / "__pycache__").iterdir()
    whole = kept.read_bytes()
    for damaged in (b"", whole[:40], whole[:-1], whole[:50] + bytes([whole[50] ^ 1]) + whole[51:], whole + b"x"):
        kept.write_bytes(damaged)
        assert pages(tmp_path) == "Hello <b> 1"
        assert kept.read_bytes() == whole


def test_a_folder_that_cannot_be_written_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "page").write_text("Hello {{ name }}")
    (tmp_path / "__pycache__").write_text("in the way")
    for _ in range(2):
        assert pages(tmp_path) == "Hello <b> 1"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["__pycache__", "page"]
