"""Looks in a tree: all pairs that are near, plain and mirrored, whatever the threads and however many are alike."""

from __future__ import annotations

import numpy as np
import pytest

from headstart.partition import duplicates, near_looks
from headstart.partition.duplicates import near_duplicates
from headstart.partition.looks import ODD, look
from headstart.partition.near_looks import NearLooks

PICTURES = 1500


@pytest.fixture(scope="module")
def prints() -> np.ndarray:
    """Fingerprints with a few large shapes; a hundred have copies with noise, and another hundred mirrored ones."""
    rng = np.random.default_rng(3)
    coarse = rng.normal(128, 45, (PICTURES, 8, 8)).clip(0, 255)
    pictures = np.kron(coarse, np.ones((1, 4, 4)))
    pictures[700:800] = pictures[:100] + rng.normal(0, 1, (100, 32, 32))
    pictures[800:900] = pictures[100:200, :, ::-1] + rng.normal(0, 1, (100, 32, 32))
    return pictures.clip(0, 255).astype(np.uint8).reshape(PICTURES, -1)


def pairs(looks: np.ndarray, distance: float, *, mirrored: bool, workers: int = 1) -> list[tuple[int, int]]:
    """What the tree gives and is near in all directions."""
    found = []
    for one, other in NearLooks(looks, workers).pairs(distance, mirrored=mirrored):
        assert (one < other).all()
        turned = np.where(ODD, -looks[other], looks[other]) if mirrored else looks[other]
        near = np.linalg.norm(looks[one] - turned, axis=1) <= distance
        found += zip(one[near].tolist(), other[near].tolist(), strict=True)
    assert len(set(found)) == len(found)
    return sorted(found)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("distance", [0.07, 0.6, 1.0])
def test_no_pair_is_missed(distance: float, mirrored: bool, prints: np.ndarray) -> None:
    looks = look(prints[np.r_[:200, 700:900]]).parts
    turned = np.where(ODD, -looks, looks) if mirrored else looks
    apart = np.linalg.norm(looks[:, None] - turned, axis=2)
    wanted = np.argwhere(np.triu(apart <= distance, 1)).tolist()
    assert pairs(looks, distance, mirrored=mirrored, workers=2) == [tuple(pair) for pair in wanted]
    assert len(wanted) >= 100


def test_pairs_without_number_come_a_part_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_looks, "_MOST", 500)
    looks = np.zeros((120, len(ODD)), np.float32)
    looks[:, 1] = 1
    sizes = [len(one) for one, _ in NearLooks(looks).pairs(0.1, mirrored=False)]
    assert sum(sizes) == 120 * 119 // 2
    assert max(sizes) <= 500 + 120


@pytest.mark.parametrize("workers", [1, 2])
def test_the_pairs_are_those_of_windows(workers: int, prints: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = near_duplicates(prints)
    monkeypatch.setattr(duplicates, "MANY_IMAGES", 0)
    got = near_duplicates(prints, workers=workers)
    assert len(wanted) >= 190
    np.testing.assert_array_equal(got.rows, wanted.rows)
    np.testing.assert_array_equal(got.mirrored, wanted.mirrored)
    np.testing.assert_allclose(got.similarity, wanted.similarity, atol=1e-6)
