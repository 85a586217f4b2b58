"""Each kind of finding but wrong labels: what was planted is found, and what is right is left alone."""

from __future__ import annotations

import dataclasses
import io
from hashlib import sha256
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter
from threadpoolctl import threadpool_limits

from headstart.checks import classes, copies, outliers, quality, shortcuts
from headstart.checks.subject import Subject
from headstart.data.decode import decode
from headstart.data.table import ImageTable, Row
from headstart.data.traits import Traits, measure
from headstart.features.dataset import Dataset
from headstart.partition.duplicates import near_duplicates
from helpers import draw

if TYPE_CHECKING:
    from collections.abc import Iterator

NONE_NEAR = near_duplicates(np.zeros((0, 1024), np.uint8))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As `headstart.checks.whole` has it: two threads in such small products wait for each other."""
    with threadpool_limits(1):
        yield


def traits(**changes: object) -> Traits:
    plain = Traits(500, 375, "JPEG", 90_000, "", 120.0, 50.0, 30.0, bytes(1024))
    return dataclasses.replace(plain, **changes)  # type: ignore[arg-type]


def subject(
    rows: list[Row],
    *,
    digests: list[str] | None = None,
    looks: list[Traits] | None = None,
    matrix: np.ndarray | None = None,
) -> Subject:
    digests = digests or [sha256(row.path.encode()).hexdigest() for row in rows]
    looks = looks or [traits() for _ in rows]
    prints = np.frombuffer(b"".join(one.fingerprint for one in looks), np.uint8).reshape(len(rows), 1024)
    table = ImageTable("made up", None, tuple(rows))  # type: ignore[arg-type]
    return Subject(Dataset(table, tuple(digests), tuple(looks), matrix), 224, near_duplicates(prints))


def looking(one: Subject, looks: list[Traits]) -> Subject:
    """The same subject with other traits."""
    return dataclasses.replace(one, data=dataclasses.replace(one.data, traits=tuple(looks)))


def looked_at(image: Image.Image, kind: str = "PNG", **how: object) -> Traits:
    """The traits of a picture, from the bytes of a file."""
    content = io.BytesIO()
    image.convert("RGB").save(content, kind, **how)
    data = content.getvalue()
    return measure(data, decode(data, max_megapixels=64, enough_px=512))[0]


# Copies


def test_copies_in_one_class_under_two_classes_and_across_splits() -> None:
    rows = [
        Row("a/1", "a", "train"), Row("a/2", "a", "train"), Row("b/3", "b", "train"), Row("b/4", "b", "train"),
        Row("a/5", "a", "train"), Row("a/6", "a", "val"), Row("a/7", "a", "train"), Row("b/8", "b", "test"),
    ]  # fmt: skip
    digests = [letter * 64 for letter in "11232244"]
    digests[2], digests[3], digests[4], digests[5] = "5" * 64, "2" * 64, "2" * 64, "3" * 64
    digests[6], digests[7] = "4" * 64, "4" * 64
    found = copies.find(subject(rows, digests=digests))
    shown = [(one.kind, one.paths, one.facts["exact"], one.facts.get("conflict")) for one in found]
    assert shown == [
        ("duplicate", ("a/1", "a/2"), True, False),
        ("duplicate", ("b/4", "a/5"), True, True),
        ("duplicate", ("a/7", "b/8"), True, True),
        ("leak", ("a/7", "b/8"), True, None),
    ]


def test_near_copies_are_near_duplicates_or_leaks() -> None:
    pictures = [draw(kind, seed) for kind in ("disc", "stripes") for seed in range(3)]
    rows = [Row(f"{number}.png", "a", "train") for number in range(6)]
    looks = [looked_at(picture) for picture in pictures]
    smaller = pictures[0].resize((60, 48), Image.Resampling.LANCZOS)
    rows += [Row("same.jpg", "a", "train"), Row("leak.jpg", "b", "val")]
    looks += [looked_at(smaller, "JPEG", quality=85), looked_at(pictures[5], "JPEG", quality=85)]
    found = {one.kind: one for one in copies.find(subject(rows, looks=looks))}
    assert found["near-duplicate"].paths == ("0.png", "same.jpg")
    assert found["leak"].paths == ("5.png", "leak.jpg")
    assert found["leak"].facts["exact"] is False
    assert found["leak"].facts["conflict"] is True
    assert found["near-duplicate"].facts["similarity"] > 0.99
    assert len(found) == 2


def test_distinct_images_are_no_copies() -> None:
    rows = [Row(f"{number}", "a") for number in range(30)]
    looks = [looked_at(draw("noise", seed)) for seed in range(30)]
    assert not copies.find(subject(rows, looks=looks))


# Outliers


def test_strays_are_outliers_also_where_there_are_a_few_alike() -> None:
    rng = np.random.default_rng(0)
    usual = np.abs(rng.normal(size=(3, 64)))[np.arange(300) % 3] + 0.15 * rng.normal(size=(300, 64))
    for strays in (1, 5):
        stray = rng.normal(size=(1, 64)) + 0.02 * rng.normal(size=(strays, 64))
        matrix = np.concatenate([usual, stray]).astype(np.float32)
        rows = [Row(f"{number}", "abc"[number % 3]) for number in range(300 + strays)]
        found = outliers.find(subject(rows, matrix=matrix))
        assert {one.paths[0] for one in found} == {str(300 + number) for number in range(strays)}


def test_a_small_class_is_no_outlier() -> None:
    """Its members have few neighbours of their own; that is no fault of theirs."""
    rng = np.random.default_rng(1)
    centres = rng.normal(size=(3, 64))
    labels = np.array([0] * 150 + [1] * 150 + [2] * 6)
    matrix = (centres[labels] + 0.2 * rng.normal(size=(306, 64))).astype(np.float32)
    rows = [Row(f"{number}", "abc"[label]) for number, label in enumerate(labels)]
    assert not outliers.find(subject(rows, matrix=matrix))


def test_distances_are_those_of_scikit_learn() -> None:
    from sklearn.neighbors import NearestNeighbors

    features = np.random.default_rng(2).normal(size=(200, 16)).astype(np.float32)
    expected = NearestNeighbors(n_neighbors=5, metric="cosine").fit(features).kneighbors()[0][:, 4]
    found = outliers.neighbour_distances(features, np.arange(200), np.full(200, 5))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_copies_are_no_neighbours() -> None:
    """A stray and its twenty copies are as far from all others as the stray alone."""
    features = np.random.default_rng(3).normal(size=(50, 16)).astype(np.float32)
    groups = np.concatenate([np.arange(50), np.zeros(20, int)])
    repeated = np.concatenate([features, np.repeat(features[:1], 20, axis=0)])
    alone = outliers.neighbour_distances(features, np.arange(50), np.full(50, 3))
    found = outliers.neighbour_distances(repeated, groups, np.full(70, 3))
    assert found[0] == pytest.approx(alone[0], abs=1e-6)


def test_too_few_or_equal_images_have_no_outlier() -> None:
    rows = [Row(f"{number}", "a") for number in range(40)]
    assert not outliers.find(subject(rows[:10], matrix=np.random.default_rng(0).normal(size=(10, 8)).astype("f")))
    assert not outliers.find(subject(rows, matrix=np.ones((40, 8), np.float32)))


# Classes


def of_sizes(sizes: dict[str, int], split: str | None = None) -> list[Row]:
    return [Row(f"{split}/{label}/{number}", label, split) for label, size in sizes.items() for number in range(size)]


def test_a_single_class() -> None:
    (found,) = classes.find(subject(of_sizes({"a": 20})))
    assert found.facts["problem"] == "single"
    assert "at least two" in found.message


def test_no_labels_no_finding() -> None:
    assert not classes.find(subject([Row("1"), Row("2")]))


def test_classes_of_enough_images_are_left_alone() -> None:
    assert not classes.find(subject(of_sizes({"a": 60, "b": 80})))
    rows = of_sizes({"a": 30, "b": 30}, "train") + of_sizes({"a": 12, "b": 12}, "val")
    assert not classes.find(subject(rows))


def test_small_classes_and_imbalance() -> None:
    found = classes.find(subject(of_sizes({"a": 100, "b": 2, "c": 30})))
    problems = {one.facts["problem"]: one for one in found}
    assert set(problems) == {"learn", "measure", "imbalance"}
    assert problems["learn"].facts["label"] == "b"
    assert problems["measure"].facts["labels"] == ["c"]
    assert problems["imbalance"].facts["ratio"] == 50


def test_what_train_refuses_is_told_once_and_first() -> None:
    rows = of_sizes({"a": 100, "b": 2})
    found = sorted(
        classes.find(dataclasses.replace(subject(rows), refusal="1 class has fewer than 3 images: 'b (2)'. Add some.")),
        key=lambda one: -one.severity,
    )
    assert [one.facts["problem"] for one in found].count("refused") == 1
    assert found[0].message == "`train` refuses these images. 1 class has fewer than 3 images: 'b (2)'. Add some."
    assert not any("refuse" in one.message for one in found[1:])


def test_many_small_classes_are_one_finding() -> None:
    sizes = {f"{number:04}": 2 + number % 3 for number in range(1000)}
    (found,) = classes.find(subject(of_sizes(sizes)))
    assert found.facts["problem"] == "learn"
    assert dict(zip(found.facts["labels"], found.facts["images"], strict=True)) == sizes
    assert found.message.startswith("1,000 of 1,000 classes have fewer than 10 different training images")
    assert "'0000' (2), '0003' (2), '0006' (2), '0009' (2), '0012' (2) and 995 more" in found.message
    few = {f"{number:04}": (4 if number < 5 else 40) for number in range(1000)}
    found_each = [one for one in classes.find(subject(of_sizes(few))) if one.facts["problem"] == "learn"]
    assert [one.facts["label"] for one in found_each] == sorted(few)[:5]


def test_copies_count_once() -> None:
    rows = of_sizes({"a": 40, "b": 40})
    digests = [sha256(row.path.encode()).hexdigest() for row in rows[:40]] + ["0" * 64] * 40
    found = {one.facts["problem"]: one for one in classes.find(subject(rows, digests=digests))}
    assert found["learn"].facts["images"] == 1


def test_a_class_that_is_not_measured() -> None:
    rows = of_sizes({"a": 30, "b": 30}, "train") + of_sizes({"a": 30}, "val")
    (found,) = classes.find(subject(rows))
    assert found.facts == {"problem": "measure", "labels": ["b"], "images": [0]}


# Quality


@pytest.mark.slow
def test_poor_images_are_told_from_good_ones() -> None:
    rows = [Row(f"good/{number}", "a") for number in range(60)]
    looks = [looked_at(draw("noise" if number % 2 else "stripes", number, (320, 240))) for number in range(60)]
    picture = draw("stripes", 100, (320, 240))
    poor = {
        "blur": picture.filter(ImageFilter.GaussianBlur(4)),
        "dark": ImageEnhance.Brightness(picture).enhance(0.06),
        "bright": Image.blend(picture, Image.new("RGB", picture.size, "white"), 0.9),
        "uniform": Image.new("RGB", picture.size, (120, 100, 90)),
        "small": picture.resize((96, 72)),
        "shape": picture.resize((800, 120)),
    }
    rows += [Row(f"poor/{name}", "a") for name in poor]
    looks += [looked_at(image) for image in poor.values()]
    found = {one.paths[0]: one.facts["problems"] for one in quality.find(subject(rows, looks=looks))}
    assert set(found) == {f"poor/{name}" for name in poor}
    for name in poor:
        assert name in found[f"poor/{name}"]


def test_what_all_share_is_one_finding() -> None:
    rows = [Row(f"{number}", "a") for number in range(40)]
    looks = [looked_at(draw("noise", number, (80, 64))) for number in range(40)]
    (found,) = quality.find(subject(rows, looks=looks))
    assert found.paths == ()
    assert found.facts["problems"] == ["small"]
    assert found.facts["images"] == 40


# Shortcuts


def shot(rng: np.random.Generator, **changes: object) -> Traits:
    width, height = rng.integers(300, 800, 2)
    sharpness, contrast = rng.lognormal(3.5, 0.4), rng.uniform(30, 70)
    size = width * height * 0.1 * sharpness**0.5 * rng.lognormal(0, 0.2)
    return traits(width=int(width), height=int(height), file_bytes=int(size), sharpness=float(sharpness),
                  contrast=float(contrast), camera=f"camera {rng.integers(3)}", **changes)  # fmt: skip


def two_classes(change: dict[str, object], seed: int = 0, images: int = 120) -> Subject:
    """Half of the images are of the class b, and only they have the change."""
    rng = np.random.default_rng(seed)
    rows = [Row(f"{number}", "ab"[number % 2]) for number in range(images)]
    looks = [shot(rng) for _ in rows]
    looks = [dataclasses.replace(one, **change) if number % 2 else one for number, one in enumerate(looks)]
    return dataclasses.replace(subject(rows, looks=looks), near=NONE_NEAR)


@pytest.mark.parametrize(
    ("trait", "change"),
    [("format", {"format": "PNG"}), ("camera", {"camera": "X100"}), ("size", {"width": 640, "height": 480})],
)
def test_a_trait_that_gives_a_class_away_is_named(trait: str, change: dict[str, object]) -> None:
    (found,) = shortcuts.find(two_classes(change))
    assert found.facts["trait"] == trait
    assert found.facts["balanced_accuracy"] > 0.95
    assert found.facts["p_value"] < 1e-10
    assert found.paths == ()


def test_stronger_compression_is_a_shortcut_and_plainer_pictures_are_none() -> None:
    found = two_classes({})
    squeezed = [
        dataclasses.replace(one, file_bytes=one.file_bytes // 3) if number % 2 else one
        for number, one in enumerate(found.data.traits)
    ]
    (shortcut,) = shortcuts.find(looking(found, squeezed))
    assert shortcut.facts["trait"] == "file size"
    # Half as sharp, and smaller for that reason alone.
    plain = [
        dataclasses.replace(one, sharpness=one.sharpness / 4, file_bytes=one.file_bytes // 2) if number % 2 else one
        for number, one in enumerate(found.data.traits)
    ]
    assert not shortcuts.find(looking(found, plain))


def test_one_class_of_several() -> None:
    rng = np.random.default_rng(0)
    rows = [Row(f"{number}", "abcd"[number % 4]) for number in range(200)]
    looks = [shot(rng, format="PNG" if row.label == "c" else "JPEG") for row in rows]
    (found,) = shortcuts.find(dataclasses.replace(subject(rows, looks=looks), near=NONE_NEAR))
    assert found.facts["label"] == "c"


def test_chance_is_no_shortcut() -> None:
    """The traits of few images, which say nothing of the class: at the level of 0.001 none of 60 sets is named."""
    assert not [seed for seed in range(60) if shortcuts.find(two_classes({}, seed, images=30))]


def test_few_or_equal_images_have_no_shortcut() -> None:
    rows = [Row(f"{number}", "ab"[number % 2]) for number in range(40)]
    assert not shortcuts.find(dataclasses.replace(subject(rows), near=NONE_NEAR))
    assert not shortcuts.find(two_classes({"format": "PNG"}, images=12))


@pytest.mark.parametrize("table", [(8, 10, 20, 60), (0, 5, 20, 60), (20, 20, 20, 60), (3, 40, 20, 60)])
def test_fisher_is_that_of_scipy(table: tuple[int, int, int, int]) -> None:
    from scipy.stats import fisher_exact

    hits, named, members, total = table
    others = [[hits, members - hits], [named - hits, total - members - named + hits]]
    assert shortcuts.fisher(*table) == pytest.approx(fisher_exact(others, "greater").pvalue)
