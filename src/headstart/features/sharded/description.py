"""What a folder of shards holds: a JSON file that is written before the first shard."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal

from headstart.core.digest import digest_record
from headstart.core.errors import SourceError
from headstart.core.text import listed, quoted

Kind = Literal["embeddings", "predictions"]
VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Description:
    """What a folder of shards holds.

    Attributes:
        kind: What its rows are.
        made: All that decides what is computed for an image: JSON values by name. Of embeddings: ``network`` (its
            name), ``embedder`` (its digest), ``width`` (D), ``dtype`` (``float32`` or ``float16``), ``max_megapixels``,
            ``decode`` and ``traits`` (versions of this code), and ``recipe``, which builds the embedder, or ``model``,
            the SHA-256 of the model file that holds it.
        task: What a label is; see `headstart.targets.TARGETS`.
        classes: The labels, sorted.
        source: What the user pointed at.
        images: Rows of all shards: images, and files that cannot be used.
        shard_rows: Rows of a shard; the last one may have fewer.
        references: Digest of the list of references, see `headstart.features.sharded.plan`.
        version: Of this form.
        headstart: Version of Headstart that wrote it.
    """

    kind: Kind
    made: Mapping[str, object]
    task: str
    classes: tuple[str, ...] = field(repr=False)
    source: str
    images: int
    shard_rows: int
    references: str
    version: int = VERSION
    headstart: str

    @property
    def shards(self) -> int:
        """Number of shards."""
        return -(-self.images // self.shard_rows)

    @property
    def width(self) -> int:
        """Size D of an embedding; 0 where the rows are none."""
        width = self.made.get("width")
        return width if isinstance(width, int) else 0

    @property
    def digest(self) -> str:
        """Digest of all that decides what is computed for an image."""
        return digest_record({"kind": self.kind, "version": self.version, **self.made})

    def to_json(self) -> str:
        """The file."""
        record = asdict(self)
        record = {"headstart": record.pop("kind"), "written_by": record.pop("headstart"), **record}
        return json.dumps({**record, "shards": self.shards}, indent=2, ensure_ascii=True) + "\n"

    @classmethod
    def from_json(cls, content: bytes, name: str) -> Description:
        """Read such a file.

        Args:
            content: Of the file.
            name: What to call it.

        Raises:
            SourceError: It is none, it is damaged, or it is of a later version.
        """
        try:
            record = json.loads(content)
            version = record["version"]
        except (ValueError, RecursionError, KeyError, TypeError) as error:
            raise _damaged(name) from error
        if not isinstance(version, int) or version > VERSION:
            raise SourceError(
                f"{quoted(name)} has the form {version}; this version of Headstart reads forms up to {VERSION}.",
                "Update Headstart: pip install -U headstart",
            )
        try:
            found = cls(
                kind=record["headstart"], made=dict(record["made"]), task=record["task"],
                classes=tuple(record["classes"]), source=record["source"], images=record["images"],
                shard_rows=record["shard_rows"], references=record["references"], version=version,
                headstart=record["written_by"],
            )  # fmt: skip
            sound = found.shards == record["shards"] and found.images > 0
            sound &= found.kind != "embeddings" or found.width > 0
        except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
            raise _damaged(name) from error
        if not sound:
            raise _damaged(name)
        return found

    def differences(self, other: Description) -> list[str]:
        """What decides the rows and is not the same there, in words: ``dtype (float16, now float32)``."""
        names = sorted({*self.made, *other.made} - {"recipe"})
        return [
            f"{name} ({self.made.get(name)}, now {other.made.get(name)})"
            for name in names
            if self.made.get(name) != other.made.get(name)
        ]

    def refuse_kind(self, kind: Kind, name: str) -> None:
        """Say that a folder holds something else.

        Raises:
            SourceError: It does.
        """
        if self.kind != kind:
            raise SourceError(f"{quoted(name)} holds {self.kind}; expected {kind}.", "Point at another folder.")


def _damaged(name: str) -> SourceError:
    return SourceError(
        f"{quoted(name)} is damaged, or is no description of a folder of shards.",
        f"Write the folder again, with --overwrite; expected the keys {listed(['headstart', 'version', 'made'])} and "
        "so on.",
    )
