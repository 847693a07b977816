"""The wheels with LiteRT and ExecuTorch for aarch64: fetched by pip, checked, and unpacked once.

The one rule: a file whose sha256 is not the one below is not used, whoever put it there.
"""

from __future__ import annotations

import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from edgeq import tool
from edgeq.artifact import digest_of_file
from edgeq.errors import ToolError

SET_UP = "python -m edgeq.linux"
FETCH_S = 900.0


@dataclass(frozen=True)
class Wheel:
    """A file on PyPI, of which `kept` (files, or folders that end in /) is unpacked.

    The Python that it is for does not matter: its libraries run without one.
    """

    project: str
    version: str
    platform: str
    sha256: str
    kept: tuple[str, ...]

    @property
    def file(self) -> str:
        """Its file's name."""
        name = self.project.replace("-", "_")
        return f"{name}-{self.version}-cp311-cp311-{self.platform}.whl"

    @property
    def by_hand(self) -> Path:
        """Where it can be put, where nothing can be fetched."""
        return folder() / "wheels" / self.file

    @property
    def place(self) -> Path:
        """Where it is unpacked."""
        return folder() / f"{self.project}-{self.version}-{self.sha256[:12]}"


LITERT = Wheel(
    "ai-edge-litert", "2.3.0", "manylinux_2_27_aarch64",
    "853fc608f96da87bd5f3458465dfb9abbf18d5ae6b94eceacead407146f175ae",
    ("ai_edge_litert/libLiteRt.so",))
EXECUTORCH = Wheel(
    "executorch", "1.5.1", "manylinux_2_28_aarch64",
    "8ee02348a3ea80ddf770822911ebf78da616b73afce0fbaaa79f23311c88c66a",
    ("executorch/lib/", "executorch/include/"))
WHEELS: Mapping[str, Wheel] = {".tflite": LITERT, ".pte": EXECUTORCH}


def folder() -> Path:
    """Where all of this lies, in the user's cache."""
    return tool.cache() / "linux"


def unpacked(wheel: Wheel) -> Path:
    """The folder that `wheel` is unpacked in, now where it was put there by hand.

    Raises ToolError, with what to do, where it is not there or is another file.
    """
    if not wheel.place.exists():
        if not wheel.by_hand.exists():
            raise ToolError(
                f"{wheel.project} {wheel.version} for aarch64 is not here",
                f"run `{SET_UP}`; where it cannot fetch anything, put {wheel.file} (from pypi.org) into "
                f"{wheel.by_hand.parent}")
        _unpack(wheel, wheel.by_hand)
    return wheel.place


def fetch(wheel: Wheel) -> Path:
    """The folder that `wheel` is unpacked in, fetched by pip where it is not there.

    Raises ToolError where pip cannot fetch it, or fetches another file.
    """
    if wheel.place.exists() or wheel.by_hand.exists():
        return unpacked(wheel)
    wheel.by_hand.parent.mkdir(parents=True, exist_ok=True)  # so that a file can be copied into it
    with tempfile.TemporaryDirectory(dir=folder()) as work:
        argv = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
                "--no-deps", "--only-binary=:all:", "--implementation", "cp", "--python-version", "3.11",
                "--abi", "cp311", "--platform", wheel.platform, "--dest", work,
                f"{wheel.project}=={wheel.version}"]
        finished = tool.run(argv, timeout_s=FETCH_S, cwd=Path(work), name="pip download")
        fetched = Path(work) / wheel.file
        if finished.status or not fetched.exists():
            raise ToolError(
                f"{wheel.file} could not be fetched; {tool.tail(finished.output)}",
                f"put it (from pypi.org) into {wheel.by_hand.parent} and run `{SET_UP}` again")
        _unpack(wheel, fetched)
    return wheel.place


def _unpack(wheel: Wheel, file: Path) -> None:
    """Into a draft, then to its place: another process may be at it, too."""
    found = digest_of_file(file)
    if found != wheel.sha256:
        raise ToolError(
            f"{file.name} is another file than the one that edgeq was tried with: its sha256 is {found}, not "
            f"{wheel.sha256}", f"delete {file} where it is there, and get it from pypi.org again")
    with tempfile.TemporaryDirectory(dir=folder()) as work:
        draft = Path(work) / "draft"
        with zipfile.ZipFile(file) as archive:
            for member in _kept(wheel, archive):
                archive.extract(member, draft)
        if not wheel.place.exists():
            draft.rename(wheel.place)


def _kept(wheel: Wheel, archive: zipfile.ZipFile) -> Iterator[str]:
    for name in archive.namelist():
        if name.startswith(wheel.kept) and ".." not in PurePosixPath(name).parts:
            yield name
