"""Look at what `python -m build` has made: `python scripts/check_packages.py DIST`, where Headstart is installed.

The source distribution holds the files of the repository, byte for byte, so that its tests run as they do here. The
wheel, which was built from it, holds what is installed here from the repository. The long description, which a package
index shows without the repository, has no link into it. Exits 1 where one of these does not hold.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_bytes
from importlib.metadata import distribution
from itertools import islice
from pathlib import Path

ROOT = Path(__file__).parent.parent
_MADE = "PKG-INFO"  # by the build
_RELATIVE_LINK = re.compile(r"\]\((?!https?://|#|mailto:)[^)]*\)|(?:src|srcset|href)=\"(?!https?://)[^\"]*\"")
_SHOWN = 10


def main(folder: Path) -> int:
    """Check both packages, say what is wrong and how large they are; the exit code."""
    (source,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    wrong = [
        *differences(f"{source.name} and the repository", contents(source), repository(ROOT)),
        *differences(f"{wheel.name} and what is installed", digests(wheel), installed()),
        *dead_links(description(wheel)),
    ]
    for line in wrong:
        print(line, file=sys.stderr)
    for package in (source, wheel):
        print(f"{package.name}: {package.stat().st_size / 1e6:.1f} MB")
    return bool(wrong)


def repository(root: Path) -> dict[str, bytes]:
    """The files that git knows, by their paths."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=True)  # noqa: S607
    return {name: (root / name).read_bytes() for name in done.stdout.split("\0") if name}


def contents(source: Path) -> dict[str, bytes]:
    """The files of a source distribution, by their paths, without what the build adds."""
    with tarfile.open(source) as file:
        members = {one.name.partition("/")[2]: file.extractfile(one) for one in file.getmembers() if one.isfile()}
        return {name: member.read() for name, member in members.items() if member and name != _MADE}


def digests(wheel: Path) -> dict[str, str]:
    """The digests of a wheel's files, by their paths."""
    return _recorded(_metadata(wheel, "RECORD").decode())


def installed() -> dict[str, str]:
    """The digests of the files of the package that is installed here; none of one that is editable."""
    return _recorded(distribution("headstart").read_text("RECORD") or "")


def description(wheel: Path) -> str:
    """The long description."""
    return str(message_from_bytes(_metadata(wheel, "METADATA")).get_payload())


def differences(
    of: str, held: dict[str, bytes] | dict[str, str], expected: dict[str, bytes] | dict[str, str]
) -> list[str]:
    """How two sets of files differ: the first few paths that only one has, or that have another content."""
    wrong = sorted(name for name in held.keys() | expected.keys() if held.get(name) != expected.get(name))
    if len(wrong) > _SHOWN:
        wrong = [*islice(wrong, _SHOWN), f"and {len(wrong) - _SHOWN:,} more"]
    return [f"{of} differ in: {', '.join(wrong)}"] if wrong else []


def dead_links(text: str) -> list[str]:
    """Links into the repository, which lead nowhere outside of it."""
    return [f"The long description has a link into the repository: {link}" for link in _RELATIVE_LINK.findall(text)]


def _metadata(wheel: Path, file: str) -> bytes:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(f".dist-info/{file}"))
        return archive.read(name)


def _recorded(record: str) -> dict[str, str]:
    """The modules and data of a RECORD, with their digests, without what an installer adds."""
    rows = (line.rsplit(",", 2) for line in record.splitlines())
    return {name: digest for name, digest, _ in rows if name.startswith("headstart/") and not name.endswith(".pyc")}


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
