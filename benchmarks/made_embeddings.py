"""Folders of embeddings with known faults, of any size, to measure `headstart train DIR` and `headstart check DIR` on.

    python benchmarks/made_embeddings.py DIR --images 1000000 --classes 1000 --dtype float16 --splits --apart 0.55
    headstart check DIR --json > found.json
    python benchmarks/made_embeddings.py DIR --found found.json     # what share of the faults that is

An embedding is the mean of its class, plus noise along 128 shared directions of falling variance and a little in all,
cut off below 0 as after the last activation of a network. 1 % of the images are exact copies of another, 1 % near
copies, 2 % have the label of another class, and one in 5,000 is a few spikes of its own, like nothing else;
`faults.npz` says which. With `splits`, every tenth image is of the split test.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHARED = 128
COPIES, NEAR, WRONG, ODD = 0.01, 0.01, 0.02, 0.0002


@dataclass(frozen=True)
class Size:
    """How much is made.

    Attributes:
        images: Rows.
        classes: Of them.
        width: D.
        dtype: ``float32`` or ``float16``.
        shard_rows: Rows of a shard.
        seed: Of everything.
        splits: Whether the images are divided into train and test.
        apart: Length of the means against that of the noise.
    """

    images: int
    classes: int
    width: int = 1280
    dtype: str = "float32"
    shard_rows: int = 512
    seed: int = 0
    splits: bool = False
    apart: float = 0.42


@dataclass
class _Rows:
    """What is known of some rows."""

    true: NDArray[np.int64]
    features: NDArray[np.float32]
    prints: NDArray[np.uint8]
    digests: list[str]


class Maker:
    """Makes shard after shard; each has copies of images in the one before."""

    def __init__(self, size: Size) -> None:
        self.size = size
        rng = np.random.default_rng([size.seed, 0])
        spread = np.arange(1, SHARED + 1) ** -0.5
        self._directions = (rng.normal(size=(SHARED, size.width)) * spread[:, None]).astype(np.float32)
        means = rng.normal(size=(size.classes, SHARED)) @ self._directions
        self._means = (size.apart * means + 1.0).astype(np.float32)
        self._before: _Rows | None = None
        self.faults: dict[str, list[NDArray[np.int64]]] = {"copies": [], "near": [], "wrong": [], "odd": []}

    def shard(self, number: int) -> dict[str, Any]:
        """The columns of a shard."""
        size = self.size
        begin = number * size.shard_rows
        rows = np.arange(begin, min(begin + size.shard_rows, size.images))
        rng = np.random.default_rng([size.seed, 1, number])
        true = rows * size.classes // size.images  # in the order of the paths
        made = _Rows(true, self.features(true, rng), _prints(len(rows), rng), [
            sha256(f"{size.seed} {row}".encode()).hexdigest() for row in rows.tolist()
        ])  # fmt: skip
        self._plant(made, rows, rng)
        labels = true.copy()
        wrong = np.flatnonzero(rng.random(len(rows)) < WRONG)
        labels[wrong] = (labels[wrong] + rng.integers(1, size.classes, len(wrong))) % size.classes
        self.faults["wrong"].append(rows[wrong])
        odd = np.flatnonzero(rng.random(len(rows)) < ODD)
        spikes = np.abs(rng.standard_normal((len(odd), size.width), np.float32))
        made.features[odd] = 10 * spikes * (rng.random(spikes.shape) < 0.03)
        self.faults["odd"].append(rows[odd])
        self._before = made
        return {
            "path": [f"c{kind:04}/{row:08}.jpg" for kind, row in zip(true.tolist(), rows.tolist(), strict=True)],
            "label": [f"c{kind:04}" for kind in labels.tolist()],
            "split": [("test" if row % 10 == 0 else "train") if size.splits else None for row in rows.tolist()],
            "digest": made.digests, "features": made.features, "prints": made.prints,
        }  # fmt: skip

    def features(self, true: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.float32]:
        """Embeddings, float32 (n, D), of images of these classes (n,)."""
        noise = rng.standard_normal((len(true), SHARED), np.float32) @ self._directions
        noise += 0.3 * rng.standard_normal(noise.shape, np.float32)
        return np.maximum(self._means[true] + noise, 0)

    def _plant(self, made: _Rows, rows: NDArray[np.int64], rng: np.random.Generator) -> None:
        if self._before is None:
            return
        kinds = rng.random(len(rows))
        partners = rng.permutation(len(self._before.digests))
        for place in np.flatnonzero(kinds < COPIES + NEAR).tolist():
            other = int(partners[place % len(partners)])
            exact = kinds[place] < COPIES
            made.features[place] = self._before.features[other]
            made.prints[place] = self._before.prints[other]
            made.true[place] = self._before.true[other]
            if exact:
                made.digests[place] = self._before.digests[other]
            else:
                length = np.linalg.norm(made.features[place]) / np.sqrt(self.size.width)
                shift = rng.standard_normal(self.size.width, np.float32)
                made.features[place] += np.float32(0.03 * length) * shift
                moved = made.prints[place].astype(np.int16) + rng.integers(-1, 2, made.prints.shape[1])
                made.prints[place] = np.clip(moved, 0, 255)
            pair = np.array([rows[0] - len(self._before.digests) + other, rows[place]])
            self.faults["copies" if exact else "near"].append(pair)


def _prints(count: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Fingerprints of pictures with a few large shapes, uint8 (n, 1024)."""
    coarse = rng.normal(128, 45, (count, 8, 8)).clip(0, 255)
    return np.kron(coarse, np.ones((1, 4, 4))).reshape(count, -1).astype(np.uint8)


def write(folder: Path, size: Size) -> None:
    """Write the folder, as `headstart embed SOURCE --out DIR` does."""
    import pyarrow as pa

    from headstart import __version__
    from headstart.backbones.embedder import load_embedder
    from headstart.core.runtime import default_cache
    from headstart.features.sharded.description import Description
    from headstart.features.sharded.embedding_rows import schema
    from headstart.features.sharded.plan import Reference, digest_of
    from headstart.features.sharded.writing import part_metadata, write_description, write_part
    from headstart.settings.recipe import Recipe

    folder.mkdir(parents=True, exist_ok=True)
    recipe = Recipe()
    embedder = load_embedder(recipe, default_cache())
    made = {"network": "lite0", "embedder": embedder.digest, "width": size.width, "dtype": size.dtype,
            "recipe": recipe.as_dict(), "made": asdict(size)}  # fmt: skip
    about: dict[str, Any] = {
        "kind": "embeddings", "made": made, "task": "classes", "source": "made",
        "classes": tuple(f"c{kind:04}" for kind in range(size.classes)), "images": size.images,
        "shard_rows": size.shard_rows, "headstart": __version__,
    }  # fmt: skip
    description, maker, digests = Description(**about, references=""), Maker(size), sha256()
    for number in range(description.shards):
        columns = maker.shard(number)
        named = zip(columns["path"], columns["label"], columns["split"], strict=True)
        references = digest_of([Reference(path, label, split) for path, label, split in named])
        digests.update(references.encode())
        form = schema(size.width, size.dtype, part_metadata(description, number, references))
        write_part(folder, number, _table(columns, form, pa))
    write_description(folder, Description(**about, references=digests.hexdigest()))
    faults = {
        name: np.array(found).reshape(-1, 2) if name in {"copies", "near"} else np.concatenate(found)
        for name, found in maker.faults.items()
    }
    np.savez(folder / "faults.npz", **faults)  # type: ignore[arg-type]


def _table(columns: dict[str, Any], form: Any, pa: Any) -> Any:
    count = len(columns["path"])
    prints = pa.FixedSizeBinaryArray.from_buffers(pa.binary(1024), count, [None, pa.py_buffer(columns["prints"])])
    plain = {"format": "JPEG", "file_bytes": 100_000, "camera": "", "brightness": 120.0, "contrast": 50.0,
             "sharpness": 10.0, "peak": 0}  # fmt: skip
    traits = form.field("traits").type
    fields = [
        prints if one.name == "fingerprint" else pa.array([plain[one.name]] * count, one.type)
        for one in (traits.field(place) for place in range(traits.num_fields))
    ]
    kind = form.field("embedding").type
    flat = columns["features"].astype(kind.value_type.to_pandas_dtype()).reshape(-1)
    arrays = {
        "path": pa.array(columns["path"]), "label": pa.array(columns["label"]), "digest": pa.array(columns["digest"]),
        "split": pa.array(columns["split"], pa.string()), "group": pa.nulls(count, pa.string()),
        "error": pa.nulls(count, pa.string()), "width": pa.array([500] * count, pa.int32()),
        "height": pa.array([400] * count, pa.int32()),
        "traits": pa.StructArray.from_arrays(fields, fields=list(traits)),
        "embedding": pa.FixedSizeListArray.from_arrays(pa.array(flat), kind.list_size),
    }  # fmt: skip
    return pa.Table.from_arrays([arrays[field.name] for field in form], schema=form)


def main() -> None:
    """Write a folder, or say what a check has found of its faults."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--dtype", choices=("float32", "float16"), default="float32")
    parser.add_argument("--apart", type=float, default=0.42, help="length of the means of the classes; noise has 1")
    parser.add_argument("--splits", action="store_true", help="every tenth image is of the split test")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--found", type=Path, help="what `headstart check --json` printed; nothing is written")
    options = parser.parse_args()
    if options.found:
        print_found(options.folder, json.loads(options.found.read_text("utf-8")))
        return
    size = Size(
        options.images, options.classes, dtype=options.dtype, seed=options.seed, splits=options.splits,
        apart=options.apart,
    )  # fmt: skip
    write(options.folder, size)


def print_found(folder: Path, document: dict[str, Any]) -> None:
    """How many of the planted faults were found, and what else."""
    from common import print_table

    sets: dict[str, list[set[int]]] = {"copies": [], "near": [], "wrong": [], "odd": []}
    names = {"label": "wrong", "outlier": "odd"}
    for one in document["findings"]:
        if one["kind"] in {"leak", "duplicate", "near-duplicate"}:
            sets["copies" if one["exact"] else "near"].append({_row(path) for path in one["paths"]})
        elif one["kind"] in names:
            sets[names[one["kind"]]].append({_row(one["path"])})
    planted, rows = np.load(folder / "faults.npz"), []
    for name in ("copies", "near"):
        group = {row: number for number, found in enumerate(sets[name]) for row in found}
        hits = sum(one in group and group[one] == group.get(other) for one, other in planted[name].tolist())
        known = {row for pair in (*planted["copies"].tolist(), *planted["near"].tolist()) for row in pair}
        others = sum(not found <= known for found in sets[name])
        rows.append((name, f"{len(planted[name]):,}", f"{hits:,}", f"{others:,}"))
    for name in ("wrong", "odd"):
        found, known = {row for one in sets[name] for row in one}, set(planted[name].tolist())
        rows.append((name, f"{len(known):,}", f"{len(found & known):,}", f"{len(found - known):,}"))
    print_table(("fault", "planted", "found", "found besides"), rows)


def _row(path: str) -> int:
    return int(Path(path).stem)


if __name__ == "__main__":
    main()
