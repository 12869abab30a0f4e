"""A backup's archive: a gzipped tar whose last member lists the checksums of all others.

Reading trusts nothing: members are plain files with harmless names, the list is complete, and each
matches its checksum. They are unpacked into an empty folder, which is nobody's until all of that
is known.
"""

import hashlib
import tarfile
import zlib
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import IO, Any

import orjson

from app.errors import Invalid

FORMAT = 1
MANIFEST = "manifest.json"
_BLOCK = 2**20


def write(target: Path, members: list[tuple[Path, str]], facts: dict[str, Any]) -> None:
    """Write files and folders under their names to a new archive, and some facts about it."""
    checksums: dict[str, str] = {}
    # Weights and packed evidence hardly compress: more effort would only take longer.
    with tarfile.open(target, "w:gz", compresslevel=1) as tar:
        for path, name in members:
            for file in _files(path):
                full_name = str(PurePosixPath(name) / file.relative_to(path).as_posix())
                checksums[full_name] = _add(tar, file, full_name)
        manifest = orjson.dumps({"format": FORMAT, **facts, "sha256": checksums})
        member = tarfile.TarInfo(MANIFEST)
        member.size = len(manifest)
        tar.addfile(member, BytesIO(manifest))


def _files(path: Path) -> list[Path]:
    return sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]


def _add(tar: tarfile.TarFile, path: Path, name: str) -> str:
    """Add a file; the checksum of what went in."""
    with path.open("rb") as file:
        member = tar.gettarinfo(arcname=name, fileobj=file)
        # A hard link in the data folder is a file of its own in the archive.
        member.type, member.linkname = tarfile.REGTYPE, ""
        member.size = path.stat().st_size
        hashed = _Hashed(file)
        tar.addfile(member, hashed)
    return hashed.digest.hexdigest()


class _Hashed:
    """A file that hashes what is read from it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        block = self._file.read(size)
        self.digest.update(block)
        return block


def unpack(source: Path, folder: Path) -> dict[str, Any]:
    """Unpack an archive into an empty folder and verify all of it; the facts it was written with.

    Invalid when it is not one of ours, damaged, or holds a name that leads out of the folder.
    """
    checksums: dict[str, str] = {}
    try:
        with tarfile.open(source, "r:gz") as tar:
            for member in tar:
                file = tar.extractfile(member) if _harmless(member) else None
                if file is None:
                    raise _damaged(source, f"{member.name!r} is not a plain file of a backup")
                checksums[member.name] = _save(file, folder / member.name)
    except (tarfile.TarError, zlib.error, EOFError, OSError, ValueError) as error:
        raise _damaged(source, str(error)) from error
    if checksums.pop(MANIFEST, None) is None:
        raise _damaged(source, "its list of checksums is missing")
    try:
        facts = orjson.loads((folder / MANIFEST).read_bytes())
        version, expected = facts.pop("format"), dict(facts.pop("sha256"))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise _damaged(source, "its list of checksums cannot be read") from error
    if version != FORMAT:
        raise Invalid(f"{source} was written by another version; use that version to restore it.")
    for name in sorted(expected.keys() | checksums.keys()):
        if expected.get(name) != checksums.get(name):
            raise _damaged(source, f"{name} does not match its checksum")
    return facts


def _harmless(member: tarfile.TarInfo) -> bool:
    path = PurePosixPath(member.name)
    return member.isreg() and not path.is_absolute() and ".." not in path.parts


def _save(file: IO[bytes], target: Path) -> str:
    """Write a member to disk; its checksum."""
    target.parent.mkdir(parents=True, exist_ok=True)
    hashed = _Hashed(file)
    with target.open("xb") as out:
        while block := hashed.read(_BLOCK):
            out.write(block)
    return hashed.digest.hexdigest()


def _damaged(source: Path, why: str) -> Invalid:
    return Invalid(f"{source} cannot be restored: {why}. Nothing was changed.")
