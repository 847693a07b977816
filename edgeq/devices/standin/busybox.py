"""The shell and the small programs of the stand-in phone: Debian's static busybox for arm64.

The one rule: it is fetched at set-up, never by a build, and used only where its sha256 is the one below.
"""

from __future__ import annotations

import io
import os
import shutil
from pathlib import Path

from edgeq import tool
from edgeq.artifact import digest_of_file
from edgeq.errors import ToolError

PACKAGE = "busybox-static_1.35.0-4+deb12u1+b1_arm64.deb"
URL = "https://packages.debian.org/bookworm/arm64/busybox-static/download"
SHA256 = "732c9135564fc71337e0e05fb4da4d11e6c28c1834bce3e405e575afef2a52f5"
MEMBER, HEADER = "data.tar.xz", 60  # of the ar archive that a .deb is
PROGRAM = "./bin/busybox"
FETCH_S = 600.0
FETCH = "python -m edgeq.devices.standin --fetch"


def package() -> Path:
    """Where the package lies, or is to be put by hand."""
    return tool.cache() / "standin" / PACKAGE


def busybox() -> Path:
    """The program; ToolError with what to do where it was not fetched."""
    place = package().with_name(f"busybox-{SHA256[:16]}")
    if not place.exists():
        if not package().exists():
            raise ToolError(f"{PACKAGE} is not here, which the stand-in phone runs on", by_hand())
        _see(package())
        draft = place.with_suffix(".draft")
        draft.write_bytes(_program(package().read_bytes()))
        draft.chmod(0o755)
        draft.replace(place)
    return place


def fetch() -> Path:
    """Fetch the package by apt, unless it is here; ToolError where it cannot be had, or is another.

    apt works in a folder of its own: the system's lists and its architectures stay as they are.
    """
    if not package().exists():
        work = package().parent / f"apt-{os.getpid()}"
        try:
            found = _fetched(work)
            _see(found)
            found.replace(package())
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return busybox()


def by_hand() -> str:
    """What to do where the package is missing."""
    return f"run `{FETCH}`, or put {PACKAGE} ({URL}) at {package()}"


def _fetched(work: Path) -> Path:
    """What apt fetches into the folder `work`."""
    apt = tool.find("apt-get")
    if apt is None:
        raise ToolError("apt-get is not here to fetch the stand-in's busybox", by_hand())
    for name in ("lists/partial", "cache/archives/partial"):
        (work / name).mkdir(parents=True, exist_ok=True)
    (work / "status").touch()
    settings = (f"Dir::State={work}", f"Dir::State::lists={work}/lists", f"Dir::Cache={work}/cache",
                f"Dir::State::status={work}/status", "APT::Architecture=arm64",
                "APT::Architectures=arm64", "APT::Sandbox::User=", "Acquire::Languages=none")
    words: list[str | Path] = [apt, *(word for setting in settings for word in ("-o", setting))]
    said = "".join(tool.run([*words, *verb], timeout_s=FETCH_S, cwd=work).output
                   for verb in (("update",), ("download", "busybox-static")))
    found = next(work.glob("busybox-static_*_arm64.deb"), None)
    if found is None:
        raise ToolError(f"apt-get did not fetch the stand-in's busybox; {by_hand()}", tool.tail(said))
    return found


def _see(file: Path) -> None:
    """See that the package is the one that is meant; another is not used."""
    found = digest_of_file(file)
    if found != SHA256:
        raise ToolError(f"{file} is not the package that is wanted: its sha256 is {found}",
                        f"wanted is {PACKAGE} ({SHA256}), from {URL}; put it at {package()}")


def _program(archive: bytes) -> bytes:
    """The program out of a Debian package."""
    import tarfile

    place = len(b"!<arch>\n")
    while place < len(archive):
        header = archive[place:place + HEADER].decode("ascii")
        name, size = header[:16].strip().rstrip("/"), int(header[48:58])
        place += HEADER
        if name == MEMBER:
            with tarfile.open(fileobj=io.BytesIO(archive[place:place + size])) as files:
                content = files.extractfile(PROGRAM)
                if content is not None:
                    return content.read()
        place += size + size % 2
    raise ToolError(f"{PACKAGE} holds no {PROGRAM}", by_hand())
