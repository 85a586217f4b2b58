"""Data sets to try Headstart on: one that needs no network, and the PyTorch tutorial's."""

from __future__ import annotations

import io
import shutil
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image, ImageOps

from headstart.core.errors import HeadstartError, ImageError, SourceError
from headstart.core.files import folder_lock, make_folder, storage_error
from headstart.core.progress import Progress
from headstart.core.text import quoted
from headstart.data.archives import ZipStorage
from headstart.data.download import download

# Every fifth image is for testing; the set has no writers' names to divide by.
TEST_EVERY = 5
DIGIT_PX, MARGIN_PX = 64, 16  # the 8 x 8 originals fill their frame; as photos they would have a margin

ANTS_BEES_URL = "https://download.pytorch.org/tutorial/hymenoptera_data.zip"
# Photos; the archive holds a placeholder besides (imageNotFound.gif, as an ant), which is unpacked and not counted.
ANTS_BEES_PHOTOS: dict[tuple[str, ...], int] = {
    ("train", "ants"): 123, ("train", "bees"): 121, ("val", "ants"): 70, ("val", "bees"): 83,
}  # fmt: skip
ANTS_BEES_MAX_BYTES = 200 * 2**20


def write_digits(folder: Path, progress: Progress) -> Path:
    """Write scikit-learn's handwritten digits (UCI, 1,797 images of 8 x 8) as PNG files in split and class folders.

    Raises:
        StorageError: They cannot be written.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    make_folder(folder)
    with folder_lock(folder), progress.stage("Writing digits", len(digits.target)) as advance:
        for number, (values, label) in enumerate(zip(digits.images, digits.target, strict=True)):
            split = "test" if number % TEST_EVERY == 0 else "train"
            pixels = np.round(255 - values * (255 / 16)).astype(np.uint8)  # ink is dark, as on paper
            image = Image.fromarray(pixels).resize((DIGIT_PX, DIGIT_PX), Image.Resampling.BICUBIC)
            image = ImageOps.expand(image, MARGIN_PX, fill=255)
            content = io.BytesIO()
            image.save(content, "PNG")
            try:
                _write(folder / split / str(label) / f"{number:04}.png", content.getvalue())
            except OSError as error:
                raise storage_error(error, folder) from error
            advance(1)
    return folder


def fetch_ants_bees(folder: Path, progress: Progress, url: str = ANTS_BEES_URL) -> Path:
    """Download the ants and bees of the PyTorch transfer-learning tutorial, and unpack them.

    The download resumes where it was cut off, and is not repeated where a good archive is already here. Nothing is
    replaced before the archive was checked: its checksums, and the number of photos of each class and split. Then the
    new folder takes the place of the old one; where the process is killed in between, the next run puts it right.

    Raises:
        OfflineError: The address cannot be reached.
        SourceError: What came is not the expected archive.
        StorageError: It cannot be written.
    """
    make_folder(folder.parent)
    with folder_lock(folder.parent):
        archive = folder.parent / "hymenoptera_data.zip"
        try:
            members = _checked(archive)
        except SourceError:  # none yet, or a damaged one
            fresh = download(url, archive.with_name(archive.name + ".new"), progress, max_bytes=ANTS_BEES_MAX_BYTES)
            try:
                members = _checked(fresh)
            except SourceError as error:
                fresh.unlink(missing_ok=True)
                raise SourceError(
                    f"The download from {quoted(url)} is not the expected archive: {error.message}",
                    "Nothing was replaced. Try again, or give another address with --url.",
                ) from error
            fresh.replace(archive)
        try:
            with closing(ZipStorage(archive)) as storage:
                _replace_folder(folder, {place: storage.read(path) for place, path in members.items()})
        except OSError as error:
            raise error if isinstance(error, HeadstartError) else storage_error(error, folder) from error
    return folder


def _replace_folder(folder: Path, contents: dict[str, bytes]) -> None:
    if all(_holds(folder / place, content) for place, content in contents.items()):
        return
    new, old = (folder.with_name(f".{folder.name}.{state}") for state in ("unpacking", "replaced"))
    if old.exists() and not folder.exists():  # killed between the two renames below
        old.rename(folder)
    _remove(new)
    _remove(old)
    try:
        for place, content in contents.items():
            _write(new / place, content)
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
    finally:
        if old.exists() and not folder.exists():
            old.rename(folder)
        _remove(new)
        _remove(old)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _checked(archive: Path) -> dict[str, str]:
    """Path in the archive of each SPLIT/CLASS/NAME; every byte has been read and its checksum compared.

    Raises:
        SourceError: It is not the expected archive.
    """
    with closing(ZipStorage(archive)) as storage:
        return _checked_members(storage)


def _checked_members(storage: ZipStorage) -> dict[str, str]:
    members = {}
    for entry in storage.entries:
        parts = PurePosixPath(entry.filename).parts
        if not entry.is_dir() and len(parts) == 4 and parts[1:3] in ANTS_BEES_PHOTOS and not parts[3].startswith("."):
            members["/".join(parts[1:])] = entry.filename
    photos = Counter(tuple(place.split("/")[:2]) for place in members if place.lower().endswith((".jpg", ".jpeg")))
    if photos != ANTS_BEES_PHOTOS:
        raise SourceError(f"it holds {_shown(photos)}; expected {_shown(ANTS_BEES_PHOTOS)}.")
    if (size := sum(entry.file_size for entry in storage.entries)) > ANTS_BEES_MAX_BYTES:
        raise SourceError(f"it unpacks to {size:,} bytes; expected at most {ANTS_BEES_MAX_BYTES:,}.")
    for path in members.values():
        try:
            storage.read(path)
        except ImageError as error:
            raise SourceError(f"{quoted(path)} is {error.message}.") from error
    return members


def _shown(photos: Mapping[tuple[str, ...], int]) -> str:
    counts = [f"{photos[part]} {'/'.join(part)}" for part in ANTS_BEES_PHOTOS if photos.get(part)]
    return f"photos: {', '.join(counts)}" if counts else "no photo of ants or bees"


def _holds(path: Path, content: bytes) -> bool:
    return path.is_file() and path.stat().st_size == len(content) and path.read_bytes() == content


def _write(path: Path, content: bytes) -> None:
    """Write a file whole, unless it is there already."""
    if _holds(path, content):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")  # one process writes here: the next run takes the same name
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
