"""Data sets to try Headstart on: one that needs no network, and the PyTorch tutorial's."""

from __future__ import annotations

import shutil
import zipfile
from collections import Counter
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from headstart.core.errors import SourceError
from headstart.core.files import make_folder
from headstart.core.progress import Progress
from headstart.core.text import quoted
from headstart.data.download import download

# Every fifth image is for testing; the set has no writers' names to divide by.
TEST_EVERY = 5
DIGIT_PX = 64  # the 8 x 8 originals, enlarged without blending so that a person can see them

ANTS_BEES_URL = "https://download.pytorch.org/tutorial/hymenoptera_data.zip"
ANTS_BEES_COUNTS = {("train", "ants"): 124, ("train", "bees"): 121, ("val", "ants"): 70, ("val", "bees"): 83}
ANTS_BEES_MAX_BYTES = 200 * 2**20


def write_digits(folder: Path, progress: Progress) -> Path:
    """Write scikit-learn's handwritten digits (UCI, 1,797 images of 8 x 8) as PNG files in split and class folders."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    with progress.stage("Writing digits", len(digits.target)) as advance:
        for number, (values, label) in enumerate(zip(digits.images, digits.target, strict=True)):
            split = "test" if number % TEST_EVERY == 0 else "train"
            pixels = np.round(255 - values * (255 / 16)).astype(np.uint8)  # ink is dark, as on paper
            image = Image.fromarray(pixels).resize((DIGIT_PX, DIGIT_PX), Image.Resampling.NEAREST)
            path = folder / split / str(label) / f"{number:04}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path)
            advance(1)
    return folder


def fetch_ants_bees(folder: Path, progress: Progress, url: str = ANTS_BEES_URL) -> Path:
    """Download the ants and bees of the PyTorch transfer-learning tutorial, and unpack them.

    The download resumes where it was cut off. Nothing is replaced before the archive was checked: its checksums, and
    the number of files of each class and split.

    Raises:
        OfflineError: The address cannot be reached.
        SourceError: What came is not the expected archive.
    """
    make_folder(folder.parent)
    archive = download(url, folder.parent / "hymenoptera_data.zip", progress, max_bytes=ANTS_BEES_MAX_BYTES)
    try:
        with zipfile.ZipFile(archive) as file:
            members = _checked_members(file)
            target = folder.with_name(folder.name + ".unpacking")
            shutil.rmtree(target, ignore_errors=True)
            for (split, label, name), entry in members.items():
                path = target / split / label / name
                make_folder(path.parent)
                path.write_bytes(file.read(entry))
    except (zipfile.BadZipFile, EOFError, OSError) as error:
        archive.unlink(missing_ok=True)
        raise SourceError(
            f"What came from {url} is not the expected archive: {error}.", "Nothing was replaced. Try again."
        ) from error
    if folder.exists():
        shutil.rmtree(folder)
    target.rename(folder)
    return folder


def _checked_members(file: zipfile.ZipFile) -> dict[tuple[str, str, str], zipfile.ZipInfo]:
    if (damaged := file.testzip()) is not None:
        raise zipfile.BadZipFile(f"{quoted(damaged)} is damaged")
    members = {}
    for entry in file.infolist():
        parts = PurePosixPath(entry.filename).parts
        if not entry.is_dir() and parts[1:3] in ANTS_BEES_COUNTS and len(parts) == 4 and not parts[3].startswith("."):
            members[parts[1], parts[2], parts[3]] = entry
    counts = Counter((split, label) for split, label, _ in members)
    if counts != ANTS_BEES_COUNTS:
        raise zipfile.BadZipFile(f"it holds {dict(counts)}, expected {ANTS_BEES_COUNTS}")
    return members
