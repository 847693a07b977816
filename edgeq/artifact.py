"""Artifacts: files and folders that are known by their content, never by their place."""

from __future__ import annotations

import errno
import hashlib
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Artifact:
    """A finished file or folder in a store.

    `digest` is the sha256 of its names and bytes, in hex; `name` its place, relative to the
    store's folder with forward slashes, so that an artifact means the same on every machine
    that sees the store.
    """

    digest: str
    name: str

    def __str__(self) -> str:
        return f"{self.name}@{self.digest[:12]}"


@dataclass(frozen=True)
class Origin:
    """Where something of the user's lies: a file or folder, or `only` these files of a folder."""

    path: Path
    only: tuple[Path, ...] = ()


def digest_of(path: Path) -> str:
    """The sha256 (hex) of the file or folder at `path`: the same for the same names and bytes.

    Raises OSError where something below `path` cannot be read.
    """
    if path.is_file():
        return digest_of_file(path)
    if not path.is_dir():
        raise FileNotFoundError(errno.ENOENT, "there is no such file or folder", str(path))
    total = hashlib.sha256()
    for each in sorted(path.rglob("*")):
        encoded = each.relative_to(path).as_posix().encode("utf-8", "surrogateescape")
        total.update(len(encoded).to_bytes(8))
        total.update(encoded)
        total.update(bytes.fromhex(digest_of_file(each)) if each.is_file() else b"")
    return total.hexdigest()


def digest_of_file(path: Path) -> str:
    """The sha256 (hex) of one file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

