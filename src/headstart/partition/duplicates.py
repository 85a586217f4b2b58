"""Near duplicates: images that show the same thing, although their files differ.

Two images are compared by their fingerprints, 32 x 32 luma, of which the 16 x 16 coarsest parts of the discrete cosine
transform are kept (as perceptual hashes do: Zauner 2010), without the mean and at length 1. A pair must agree in all of
the image (`LOOK_DISTANCE`); in each spot of it (`SPOT_DISTANCE`), so that a small thing that is in one image and not in
the other separates them; and in brightness and contrast. Mirrored copies are found too.

Measured on the 1,797 digits of scikit-learn, of which no two are the same, and on the photos of ants and bees; of each
image one copy, as a JPEG file of quality 30 to 95 or a PNG file, scaled to 40 to 150 % by one of four filters:

===================  ===================  ===================
distance             copies, at most      distinct, at least
===================  ===================  ===================
look, digits         0.0015               0.0031
look, photos         0.0010               0.16
spot, digits         0.37                 0.52
spot, photos         0.33                 1.7
brightness, both     1.2 levels
contrast, both       3 %
===================  ===================  ===================

What is not found so: crops by more than a hundredth of the side, turns, texts laid over a photo, brightening. With
embeddings many of these are found among photos (of 80 each: cropped on all sides by 2 % 79, by 5 % 64, by 10 % 17;
turned by 2 degrees 80; with a white bar over a tenth 32; brightened by a fifth 78), and hardly any among digits, whose
neighbours are too much alike. Images of almost no contrast, or all of whose contrast is in a fine texture, have too
little detail to be compared in this way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from headstart.core.inverted import Neighbours
from headstart.core.vectors import unit_rows
from headstart.data.components import components
from headstart.data.traits import FINGERPRINT_PX
from headstart.partition.looks import ODD, Looks, look, spot_distance
from headstart.partition.near_looks import NearLooks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from headstart.data.traits import Traits

# One minus the correlation of two looks. A copy has 0.0015 at most and distinct digits 0.0031 at least.
LOOK_DISTANCE = 0.0025
# The largest difference in one spot, in standard deviations of the image.
SPOT_DISTANCE = 0.44
# The largest difference of the mean, in levels of 0..255, and the largest ratio of the standard deviations.
BRIGHTNESS_LEVELS = 3.0
CONTRAST_RATIO = 1.06
# Standard deviation of a look, in levels of 0..255. Below it the steps of JPEG are as large as what is shown.
LEAST_CONTRAST = 4.0

# With embeddings, looks may differ by more where the embeddings agree far better than those of neighbours do. The
# distances of distinct digits are 0.285 of that to the fifth neighbour at least (int8; float32: 0.329), those of
# distinct photos 1.0; of photos and themselves cropped by 2 % 0.31 at most, and in nine of ten 0.2.
AGREEING_LOOK_DISTANCE = 0.3
NEIGHBOUR = 5
NEIGHBOUR_SHARE = 0.27
LEAST_IMAGES = 20  # among fewer, the fifth neighbour says nothing
# Of more images, those that may be near are looked for in a tree (looks) and in lists (embeddings): the time of what
# compares all grows with the square.
MANY_IMAGES = 50_000
# Of more images than this, the neighbours are looked for among random projections of the embeddings (Johnson and
# Lindenstrauss 1984), and the nearest of them compared whole.
EXACT_IMAGES = 2048
COARSE_PARTS = 160
CANDIDATES = 10

BLOCK = 1024  # rows of a block of the products: 4 MB each
# More pairs than this are not listed: what then joins images that are joined already is left out.
MOST_PAIRS = 200_000
_CHUNK = 1 << 11


@dataclass(frozen=True)
class Pairs:
    """Pairs of images that show the same.

    Attributes:
        rows: Both rows of each pair, int64 (P, 2), the smaller first; sorted.
        similarity: Correlation of their looks, float32 (P,), in 0..1.
        mirrored: Whether one is the mirror image of the other, bool (P,).
    """

    rows: NDArray[np.int64]
    similarity: NDArray[np.float32]
    mirrored: NDArray[np.bool_]

    def __len__(self) -> int:
        """Number P of pairs."""
        return len(self.rows)


NONE = Pairs(np.empty((0, 2), np.int64), np.empty(0, np.float32), np.empty(0, bool))


def near_duplicates(
    fingerprints: NDArray[np.uint8],
    embeddings: NDArray[np.float32] | None = None,
    *,
    neighbours: Neighbours | None = None,
    workers: int = 1,
) -> Pairs:
    """Find the images that show the same; exact copies are among them.

    Whether two images are a pair depends on their fingerprints alone, not on the other images; with embeddings, further
    pairs are found, which depend on their neighbours too.

    Memory is bounded by that for the looks (N x 2 kB) and `MOST_PAIRS`. Where images are alike without number, as the
    frames of a still camera, the pairs are not complete, but still join all that belongs together. 10,000 images take
    half a second on one core; 10,000 with embeddings take two seconds. Of more than `MANY_IMAGES` the looks are
    sorted into a tree (`headstart.partition.near_looks`), in which the same pairs are found.

    Args:
        fingerprints: Luma of each image at 32 x 32 in row order, (N, 1024); see `headstart.data.traits`.
        embeddings: Of each image, (N, D); not used of more than `MANY_IMAGES`.
        neighbours: By embedding, of each image; in the place of embeddings.
        workers: Threads; they change the time and nothing else.

    Examples:
        >>> near_duplicates(np.stack([a, b, a]))  # doctest: +SKIP
        Pairs(rows=array([[0, 2]]), similarity=array([1.], dtype=float32), mirrored=array([False]))
    """
    looks = look(fingerprints)
    found = _Found(looks)
    told = np.flatnonzero(looks.contrast >= LEAST_CONTRAST)
    if len(told) > MANY_IMAGES:
        _compare_many(looks.parts, told, found, workers)
    else:
        _compare(looks.parts, told, found)
    if neighbours is not None:
        one, other = _far_nearer(neighbours.rows, 1 - neighbours.cosine)
        both = np.isin(one, told) & np.isin(other, told)
        found.add_agreeing(one[both], other[both])
    elif embeddings is not None and len(told) >= LEAST_IMAGES and len(fingerprints) <= MANY_IMAGES:
        one, other = _by_embedding(embeddings[told])
        found.add_agreeing(told[one], told[other])
    return found.pairs()


def alike(traits: Sequence[Traits]) -> Pairs:
    """The pairs by which splits are drawn: by fingerprints alone, so that they are the same for every network."""
    fingerprints = np.frombuffer(b"".join(one.fingerprint for one in traits), np.uint8)
    return near_duplicates(fingerprints.reshape(len(traits), FINGERPRINT_PX**2))


def _compare(looks: NDArray[np.float32], rows: NDArray[np.int64], found: _Found) -> None:
    """Find all pairs of these rows whose looks are near, plain or mirrored.

    The rows are sorted by one coordinate. Looks that are near are near in it too, so that for each block a window of
    the others is enough. The coordinate is one that the mirror leaves as it is.
    """
    if not len(rows):
        return
    spread = np.where(ODD, 0.0, looks[rows].std(axis=0))
    coordinate = looks[rows, int(spread.argmax())]
    rows, coordinate = rows[(order := np.argsort(coordinate, kind="stable"))], coordinate[order]
    even, odd = looks[np.ix_(rows, ~ODD)], looks[np.ix_(rows, ODD)]
    # Of two vectors of length 1, the squared distance is twice one minus the correlation.
    ends = np.searchsorted(coordinate, coordinate + np.sqrt(2 * LOOK_DISTANCE) + 1e-6, side="right")
    for start in range(0, len(rows), BLOCK):
        stop = min(start + BLOCK, len(rows))
        for left in range(start, int(ends[stop - 1]), BLOCK):
            right = min(left + BLOCK, len(rows))
            plain, turned = even[start:stop] @ even[left:right].T, odd[start:stop] @ odd[left:right].T
            similarity = plain + np.abs(turned)
            near = (similarity >= 1 - LOOK_DISTANCE) & found.wanted(rows[start:stop], rows[left:right])
            i, j = np.nonzero(np.triu(near, 1) if left == start else near)
            found.add(rows[start + i], rows[left + j], similarity[i, j], turned[i, j] < 0)


def _compare_many(looks: NDArray[np.float32], rows: NDArray[np.int64], found: _Found, workers: int) -> None:
    """Find the same pairs as `_compare`, in a tree."""
    near = NearLooks(looks if len(rows) == len(looks) else looks[rows], workers)
    for turned in (False, True):
        for i, j in near.pairs(np.sqrt(2 * LOOK_DISTANCE), mirrored=turned):
            found.add_near(rows[i], rows[j])


def _similarity(
    looks: NDArray[np.float32], one: NDArray[np.int64], other: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The correlation of the looks of pairs, plain or mirrored, whichever is larger, (P,), and which of these it is."""
    products = looks[one] * looks[other]
    plain, turned = products[:, ~ODD].sum(axis=1), products[:, ODD].sum(axis=1)
    return plain + np.abs(turned), turned < 0


def _by_embedding(embeddings: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs that are far nearer by cosine than the fifth neighbour of either, a ratio test as that of Lowe 2004."""
    unit = unit_rows(embeddings)
    coarse = unit
    if len(unit) > EXACT_IMAGES and unit.shape[1] > 2 * COARSE_PARTS:
        directions = np.random.default_rng(0).normal(size=(unit.shape[1], COARSE_PARTS)).astype(np.float32)
        coarse = unit_rows(unit @ directions)
    near = np.empty((len(unit), CANDIDATES), np.int64)
    distance = np.empty((len(unit), CANDIDATES), np.float32)
    for start in range(0, len(unit), BLOCK):
        rows = np.arange(start, min(start + BLOCK, len(unit)))
        cosine = coarse[rows] @ coarse.T
        cosine[np.arange(len(rows)), rows] = -np.inf
        near[rows] = np.argpartition(cosine, -CANDIDATES, axis=1)[:, -CANDIDATES:]
        distance[rows] = 1 - np.einsum("nd,nkd->nk", unit[rows], unit[near[rows]])
    return _far_nearer(near, distance)


def _far_nearer(
    near: NDArray[np.int64] | NDArray[np.int32], distance: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of which one is among the neighbours (N, K) of the other, and far nearer than the fifth of either."""
    fifth = np.partition(distance, NEIGHBOUR - 1, axis=1)[:, NEIGHBOUR - 1]
    nearer = distance <= NEIGHBOUR_SHARE * np.minimum(fifth[:, None], fifth[near])
    one, place = np.nonzero(nearer & np.isfinite(distance))
    other = near[one, place].astype(np.int64)
    return np.minimum(one, other), np.maximum(one, other)


class _Found:
    """The pairs that were found, and which images they join."""

    def __init__(self, looks: Looks) -> None:
        self._looks = looks
        self.joined = np.arange(len(looks.parts))
        self.rows: list[NDArray[np.int64]] = []
        self.similarity: list[NDArray[np.float32]] = []
        self.mirrored: list[NDArray[np.bool_]] = []
        self.count = self.numbered = 0

    def wanted(self, one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which pairs are to be added where they are alike: all, while there are not too many; bool (n, m)."""
        apart: NDArray[np.bool_] = self.joined[one][:, None] != self.joined[other]
        return apart | (self.count < MOST_PAIRS)

    def add(self, one: NDArray[np.int64], other: NDArray[np.int64],
            similarity: NDArray[np.float32], mirrored: NDArray[np.bool_]) -> None:  # fmt: skip
        """Keep those pairs that are alike in brightness, in contrast, and in each spot."""
        light, contrast = self._looks.brightness, self._looks.contrast
        kept = np.abs(light[one] - light[other]) <= BRIGHTNESS_LEVELS
        high, low = np.maximum(contrast[one], contrast[other]), np.minimum(contrast[one], contrast[other])
        kept &= high <= CONTRAST_RATIO * low
        one, other, similarity, mirrored = one[kept], other[kept], similarity[kept], mirrored[kept]
        for start in range(0, len(one), _CHUNK):
            part = np.arange(start, min(start + _CHUNK, len(one)))
            if self.count >= MOST_PAIRS:
                part = part[self.joined[one[part]] != self.joined[other[part]]]
            part = part[spot_distance(self._looks.parts, one[part], other[part], mirrored[part]) <= SPOT_DISTANCE]
            self._keep(one[part], other[part], similarity[part], mirrored[part])

    def add_near(self, one: NDArray[np.int64], other: NDArray[np.int64]) -> None:
        """Keep those pairs whose looks are near, plain or mirrored, and which are alike otherwise."""
        for start in range(0, len(one), _CHUNK):
            part = slice(start, start + _CHUNK)
            first, second = one[part], other[part]
            if self.count >= MOST_PAIRS:
                apart = self.joined[first] != self.joined[second]
                first, second = first[apart], second[apart]
            similarity, mirrored = _similarity(self._looks.parts, first, second)
            near = similarity >= 1 - LOOK_DISTANCE
            self.add(first[near], second[near], similarity[near], mirrored[near])

    def add_agreeing(self, one: NDArray[np.int64], other: NDArray[np.int64]) -> None:
        """Keep those pairs whose looks are not too unlike, plain or mirrored."""
        similarity, mirrored = _similarity(self._looks.parts, one, other)
        kept = similarity >= 1 - AGREEING_LOOK_DISTANCE
        self._keep(one[kept], other[kept], similarity[kept], mirrored[kept])

    def pairs(self) -> Pairs:
        """All that were found, each once."""
        if not self.rows:
            return NONE
        rows, first = np.unique(np.concatenate(self.rows), axis=0, return_index=True)
        similarity = np.concatenate(self.similarity)[first].clip(0, 1)
        return Pairs(rows, similarity, np.concatenate(self.mirrored)[first])

    def _keep(self, one: NDArray[np.int64], other: NDArray[np.int64], similarity: NDArray[np.float32],
              mirrored: NDArray[np.bool_]) -> None:  # fmt: skip
        if not len(one):
            return
        self.rows.append(np.stack([np.minimum(one, other), np.maximum(one, other)], axis=1))
        self.similarity.append(similarity.astype(np.float32))
        self.mirrored.append(mirrored)
        self.count += len(one)
        if self.count >= MOST_PAIRS:  # before that, nobody asks what is joined
            self._join(np.concatenate(self.rows[self.numbered :]))
            self.numbered = len(self.rows)

    def _join(self, pairs: NDArray[np.int64]) -> None:
        """Give all images that the pairs join the same number."""
        self.joined = components(len(self.joined), self.joined[pairs])[self.joined]
