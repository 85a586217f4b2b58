"""Near duplicates: planted copies are all found, and distinct images are not taken for copies."""

from __future__ import annotations

import io
import itertools
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

import headstart
from headstart.data.decode import decode
from headstart.data.traits import Traits, measure
from headstart.partition import duplicates, looks
from headstart.partition.duplicates import alike, near_duplicates
from headstart.strategies.embed import embed
from helpers import draw

FILTERS = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS, Image.Resampling.BOX)
SCALES = (0.4, 0.5, 0.61, 0.73, 1.0, 1.2, 1.5)
FORMATS = (("JPEG", 30), ("JPEG", 60), ("JPEG", 95), ("PNG", 0))
WAYS = tuple(itertools.product(FILTERS, SCALES, FORMATS))


def written(image: Image.Image, kind: str = "PNG", quality: int = 0) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **({"quality": quality} if kind == "JPEG" else {"compress_level": 1}))
    return content.getvalue()


def traits(data: bytes, enough_px: int = 512) -> Traits:
    return measure(data, decode(data, enough_px=enough_px))[0]


def prints(files: list[bytes]) -> np.ndarray:
    return np.stack([np.frombuffer(traits(data).fingerprint, np.uint8) for data in files])


def copy(data: bytes, way: int) -> bytes:
    """The image scaled and written anew, in one of 112 ways."""
    filter_, scale, (kind, quality) = WAYS[way % len(WAYS)]
    with Image.open(io.BytesIO(data)) as image:
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        return written(image.convert("RGB").resize(size, filter_), kind, quality)


def mirrored(data: bytes) -> bytes:
    with Image.open(io.BytesIO(data)) as image:
        return written(ImageOps.mirror(image.convert("RGB")))


def found(pairs: duplicates.Pairs) -> set[tuple[int, int]]:
    return {(int(one), int(other)) for one, other in pairs.rows}


def planted(count: int) -> set[tuple[int, int]]:
    return {(row, count + row) for row in range(count)}


@pytest.fixture(scope="module")
def digit_paths(digits: Path) -> list[Path]:
    return sorted(digits.rglob("*.png"), key=lambda path: path.name)


@pytest.fixture(scope="module")
def digit_files(digit_paths: list[Path]) -> list[bytes]:
    return [path.read_bytes() for path in digit_paths]


@pytest.fixture(scope="module")
def photo_files(photos: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(photos.rglob("*.jpg"))]


@pytest.fixture(scope="module")
def digit_prints(digit_files: list[bytes]) -> np.ndarray:
    return prints(digit_files)


@pytest.fixture(scope="module")
def photo_prints(photo_files: list[bytes]) -> np.ndarray:
    return prints(photo_files)


# --- known truth ----------------------------------------------------------------------------------------------------


def test_no_two_digits_are_the_same() -> None:
    """So that any pair among them would be false."""
    from sklearn.datasets import load_digits

    assert len(np.unique(load_digits().data, axis=0)) == 1797


@pytest.mark.slow
def test_all_copies_of_digits_are_found_and_nothing_else(digit_files: list[bytes], digit_prints: np.ndarray) -> None:
    """One copy of each of 1,797 digits; of 3,594 files no other two are taken for the same."""
    copies = [copy(data, way) for way, data in enumerate(digit_files)]
    assert found(near_duplicates(np.concatenate([digit_prints, prints(copies)]))) == planted(1797)


@pytest.mark.slow
def test_all_copies_of_photos_are_found_and_nothing_else(photo_files: list[bytes], photo_prints: np.ndarray) -> None:
    some = photo_files[::3]
    copies = [copy(data, 5 * way) for way, data in enumerate(some)]
    pairs = near_duplicates(np.concatenate([photo_prints[::3], prints(copies)]))
    assert found(pairs) == planted(len(some))
    assert not pairs.mirrored.any()
    assert pairs.similarity.min() > 1 - duplicates.LOOK_DISTANCE


@pytest.mark.slow
def test_all_copies_of_all_photos_in_all_ways(photo_files: list[bytes], photo_prints: np.ndarray) -> None:
    """And the photos hold no duplicates of their own."""
    assert not len(near_duplicates(photo_prints))
    some = photo_files[::80]
    files = [[data, *(copy(data, way) for way in range(len(WAYS)))] for data in some]
    pairs = near_duplicates(prints([one for group in files for one in group]))
    size = len(WAYS) + 1
    assert all(one // size == other // size for one, other in found(pairs))
    assert {(number * size, number * size + way) for number in range(len(some)) for way in range(1, size)} <= found(
        pairs
    )


@pytest.mark.slow
def test_there_is_room_on_both_sides_of_the_thresholds(digit_files: list[bytes], digit_prints: np.ndarray) -> None:
    """Copies are nearer, and distinct digits farther, by more than chance would have it."""
    some = digit_files[::4]
    copies = prints([copy(data, way) for way, data in enumerate(some)])
    seen = looks.look(np.concatenate([digit_prints[::4], copies]))
    rows = np.arange(len(some))
    plain = np.zeros(len(some), bool)
    of_copies = 1 - (seen.parts[rows] * seen.parts[rows + len(some)]).sum(axis=1)
    spots = looks.spot_distance(seen.parts, rows, rows + len(some), plain)
    assert of_copies.max() < 0.75 * duplicates.LOOK_DISTANCE
    assert spots.max() < 0.9 * duplicates.SPOT_DISTANCE
    every = looks.look(digit_prints).parts
    correlation = every @ every.T - np.eye(len(every), dtype=np.float32)
    assert 1 - correlation.max() > 1.15 * duplicates.LOOK_DISTANCE
    one, other = np.unravel_index(np.argsort(correlation, axis=None)[-2000:], correlation.shape)
    assert looks.spot_distance(every, one, other, np.zeros(2000, bool)).min() > 1.1 * duplicates.SPOT_DISTANCE


def test_exact_copies_are_pairs() -> None:
    files = [written(draw("disc", seed)) for seed in range(6)]
    pairs = near_duplicates(prints([*files, files[2], files[2]]))
    assert found(pairs) == {(2, 6), (2, 7), (6, 7)}
    assert pairs.similarity == pytest.approx(1.0)


@pytest.mark.slow
def test_mirrored_copies_are_found_and_told(digit_files: list[bytes], photo_files: list[bytes]) -> None:
    for files in (digit_files[::10], photo_files[::10]):
        pairs = near_duplicates(prints([*files, *map(mirrored, files)]))
        assert found(pairs) == planted(len(files))
        assert pairs.mirrored.all()


def test_a_symmetric_image_is_no_pair_with_itself() -> None:
    half = np.asarray(draw("noise", 3).convert("L").resize((32, 64)))
    file = written(Image.fromarray(np.concatenate([half, half[:, ::-1]], axis=1)))
    assert found(near_duplicates(prints([file, file]))) == {(0, 1)}


def scene(seed: int) -> np.ndarray:
    """A grey picture of many soft blotches, uint8 (256, 256)."""
    small = np.random.default_rng(seed).integers(50, 200, (10, 10), np.uint8)
    return np.asarray(Image.fromarray(small).resize((256, 256), Image.Resampling.BICUBIC))


def test_a_small_thing_tells_two_images_apart() -> None:
    """A fixed camera: the same scene, with a part that is there or not. As a whole they agree to a thousandth."""
    pictures = [scene(0), scene(0).copy()]
    pictures[1][100:108, 60:68] = 255
    both = prints([written(Image.fromarray(one)) for one in pictures])
    seen = looks.look(both).parts
    assert seen[0] @ seen[1] > 1 - duplicates.LOOK_DISTANCE
    assert not len(near_duplicates(both))


@pytest.mark.parametrize(("factor", "shift"), [(0.9, 0), (1, 8), (0.85, 25)])
def test_another_brightness_or_contrast_makes_another_picture(factor: float, shift: float) -> None:
    """Such as the same thing in another colour."""
    plain = [scene(seed) for seed in range(8)]
    other = [np.clip(factor * one + shift, 0, 255).astype(np.uint8) for one in plain]
    assert not len(near_duplicates(prints([written(Image.fromarray(one)) for one in (*plain, *other)])))


@pytest.mark.parametrize("level", [0, 128, 255])
def test_blank_images_are_no_pairs(level: int) -> None:
    rng = np.random.default_rng(level)
    blank = [np.full((90, 120), level, np.uint8) for _ in range(3)]
    faint = [np.clip(level + rng.normal(0, 3, (90, 120)), 0, 255).astype(np.uint8) for _ in range(3)]
    assert not len(near_duplicates(prints([written(Image.fromarray(one)) for one in (*blank, *faint)])))


def test_a_pair_hangs_on_its_two_images_alone(digit_files: list[bytes]) -> None:
    some = [one for way, data in enumerate(digit_files[:40]) for one in (data, copy(data, way))]
    every = prints(some)
    whole = found(near_duplicates(every))
    for first, last in ((0, 30), (11, 52)):
        part = found(near_duplicates(every[first:last]))
        assert part == {(one - first, other - first) for one, other in whole if first <= one < other < last}


@settings(max_examples=25, deadline=None)
@given(st.randoms(use_true_random=False))
def test_the_order_of_the_images_does_not_matter(random) -> None:
    rng = np.random.default_rng(1)
    base = rng.integers(0, 256, (30, 8, 8)).repeat(4, axis=1).repeat(4, axis=2).reshape(30, 1024)
    every = np.concatenate([base, base + rng.normal(0, 2, base.shape)]).clip(0, 255).astype(np.uint8)
    order = list(range(60))
    random.shuffle(order)
    pairs = found(near_duplicates(every[order]))
    assert {tuple(sorted((order[one], order[other]))) for one, other in pairs} == planted(30)


@pytest.mark.parametrize("enough_px", [256, 448, 1024])
def test_every_network_sees_the_same_pairs(photo_files: list[bytes], enough_px: int) -> None:
    """A photo is decoded at the scale that a network needs; its look hardly hangs on it."""
    large = []
    for data in photo_files[::40]:
        with Image.open(io.BytesIO(data)) as image:
            large.append(written(image.resize((2 * image.width, 2 * image.height)), "JPEG", 90))
    every = [
        np.stack([np.frombuffer(traits(one, px).fingerprint, np.uint8) for one in large]) for px in (512, enough_px)
    ]
    seen = [looks.look(one).parts for one in every]
    assert (1 - (seen[0] * seen[1]).sum(axis=1)).max() < duplicates.LOOK_DISTANCE / 5


# --- embeddings -----------------------------------------------------------------------------------------------------


def cropped(data: bytes) -> bytes:
    with Image.open(io.BytesIO(data)) as image:
        across, down = 0.02 * image.width, 0.02 * image.height
        box = (round(across), round(down), round(image.width - across), round(image.height - down))
        return written(image.convert("RGB").crop(box), "JPEG", 80)


def embedded(folder: Path, warm: Path) -> dict[str, np.ndarray]:
    """The embedding of each image by its path, from the cache that all tests share."""
    data = embed(headstart.read(folder), headstart.Recipe(), headstart.Runtime(cache=warm)).data
    return {row.path: one for row, one in zip(data.table.rows, data.matrix, strict=True)}


@pytest.mark.slow
def test_embeddings_find_cropped_photos_too(
    photos: Path, photo_files: list[bytes], photo_prints: np.ndarray, warm: Path, tmp_path: Path
) -> None:
    """Of 80 photos that are cropped by 2 % on all sides, looks find one, and with embeddings nearly all are found."""
    copies = [cropped(data) for data in photo_files[:80]]
    for number, data in enumerate(copies):
        (tmp_path / f"{number % 2}").mkdir(exist_ok=True)
        (tmp_path / f"{number % 2}" / f"{number:02}.jpg").write_bytes(data)
    own, of_copies = embedded(photos, warm), embedded(tmp_path, warm)
    embeddings = [own[path.relative_to(photos).as_posix()] for path in sorted(photos.rglob("*.jpg"))]
    embeddings += [of_copies[f"{number % 2}/{number:02}.jpg"] for number in range(80)]
    every = np.concatenate([photo_prints, prints(copies)])
    assert len(near_duplicates(every)) <= 2
    pairs = found(near_duplicates(every, np.stack(embeddings)))
    wanted = {(row, len(photo_files) + row) for row in range(80)}
    assert pairs <= wanted
    assert len(pairs) >= 74


@pytest.mark.slow
@pytest.mark.parametrize("exact", [2048, 100])
def test_embeddings_make_no_false_pair_of_digits(
    digits: Path, digit_paths: list[Path], digit_prints: np.ndarray, warm: Path, monkeypatch: pytest.MonkeyPatch,
    exact: int,
) -> None:  # fmt: skip
    by_path = embedded(digits, warm)
    embeddings = np.stack([by_path[path.relative_to(digits).as_posix()] for path in digit_paths])
    monkeypatch.setattr(duplicates, "EXACT_IMAGES", exact)  # below it, the random projections are used
    assert not len(near_duplicates(digit_prints, embeddings))


# --- large sets -----------------------------------------------------------------------------------------------------


def test_ten_thousand_images_take_seconds_and_bounded_memory() -> None:
    rng = np.random.default_rng(0)
    n = 10_000
    every = rng.integers(0, 256, (n, 8, 8), np.uint8).repeat(4, axis=1).repeat(4, axis=2).reshape(n, 1024)
    every[n // 2 :] = np.clip(every[: n // 2] + rng.normal(0, 2, (n // 2, 1024)), 0, 255)
    tracemalloc.start()
    start = time.perf_counter()
    pairs = near_duplicates(every)
    seconds = time.perf_counter() - start
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found(pairs) == planted(n // 2)
    assert seconds < 20  # a second on an idle machine
    assert peak < 120e6  # all similarities would be 400 MB


@pytest.mark.parametrize("many", [50_000, 0], ids=["windows", "tree"])
def test_images_without_number_that_are_alike_are_still_joined(many: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two still scenes: of ten million pairs, a bounded number is listed, and they join each scene."""
    from headstart.partition.draw import join_groups

    monkeypatch.setattr(duplicates, "MOST_PAIRS", 10_000)
    monkeypatch.setattr(duplicates, "MANY_IMAGES", many)
    rng = np.random.default_rng(0)
    scenes = rng.integers(60, 200, (2, 8, 8)).repeat(4, axis=1).repeat(4, axis=2).reshape(2, 1024)
    which = rng.integers(0, 2, 3000)
    every = np.clip(scenes[which] + rng.normal(0, 2, (3000, 1024)), 0, 255).astype(np.uint8)
    pairs = near_duplicates(every)
    assert len(pairs) < 10_000 + 8 * duplicates._CHUNK
    assert len(np.unique(pairs.rows, axis=0)) == len(pairs)
    groups = join_groups([str(row) for row in range(3000)], [None] * 3000, pairs.rows.tolist())
    assert len(set(groups)) == 2
    assert all(len({groups[row] for row in np.flatnonzero(which == scene)}) == 1 for scene in (0, 1))


@pytest.mark.parametrize("count", [0, 1, 2])
def test_hardly_any_image(count: int) -> None:
    pairs = near_duplicates(np.zeros((count, 1024), np.uint8), np.zeros((count, 4), np.float32))
    assert (pairs.rows.shape, pairs.similarity.shape, pairs.mirrored.shape) == ((0, 2), (0,), (0,))


def test_traits_are_what_splits_are_drawn_by() -> None:
    files = [written(draw("disc", seed)) for seed in range(5)]
    assert found(alike([traits(one) for one in (*files, copy(files[1], 3))])) == {(1, 5)}
