"""Where CMSIS-NN lies, and the files of it that a program needs, under names of their own.

The one rule: a file goes along because a function in it is called from one that goes along.
"""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from edgeq.errors import ConfigError, ToolError
from edgeq.firmware.network import Library
from edgeq.firmware.order import LIBRARY

HEADER = "Include/arm_nnfunctions.h"
COMPILER = "cmsis_compiler.h"  # of CMSIS-Core, which releases before 4.1 include
FOLDERS = ("cmsis_nn/Include", "cmsis_core/Include")
LICENCES = ("LICENSE.txt", "LICENSE", "BAKENN_PROVENANCE.md")
COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
CALLED = re.compile(r"\b(arm_\w+)\s*\(")
DECLARED = re.compile(r"\b(arm_\w+)\s*\(([^()]*)\)\s*;")
DEFINED = re.compile(r"^(?!static|__STATIC)[a-z_][\w *]*?\b(arm_\w+)\s*\([^;{]*\)\s*\{", re.MULTILINE)


@dataclass(frozen=True)
class Copy:
    """A copy of the library, Include/ and Source/ in `root`; `core` is CMSIS-Core, where it needs that."""

    root: Path
    core: Path | None

    @cached_property
    def texts(self) -> Mapping[str, str]:
        """Its C files by their names relative to its root, without comments."""
        return {path.relative_to(self.root).as_posix(): COMMENT.sub("", _read(path))
                for path in sorted((self.root / "Source").rglob("*.c"))}

    @cached_property
    def functions(self) -> Mapping[str, str]:
        """The file of every function that is not static."""
        return {name: file for file, text in self.texts.items() for name in DEFINED.findall(text)}

    @cached_property
    def parameters(self) -> Mapping[str, int]:
        """How many parameters each function takes that a header declares."""
        paths = sorted((self.root / "Include").rglob("*.h"))
        headers = "".join(COMMENT.sub("", _read(path)) for path in paths)
        return {name: taken.count(",") + 1 for name, taken in DECLARED.findall(headers)}

    def require(self, function: str, parameters: int) -> None:
        """Raise ToolError where `function` takes another number of parameters."""
        if (taken := self.parameters.get(function)) != parameters:
            raise ToolError(
                f"{function} of the CMSIS-NN in {self.root} has {taken} parameters, not {parameters}",
                f"set {LIBRARY} to a release from 4.0 to 7.0, or build with kernels: auto")

    @property
    def recent(self) -> bool:
        """Whether it is of release 4.1 or later, which reckon scratch memory in files of their own."""
        return "Source/ConvolutionFunctions/arm_convolve_get_buffer_sizes_s8.c" in self.texts

    def library(self, functions: Iterable[str]) -> Library:
        """The files that define `functions`, and whatever these need."""
        files = [*_needed(self, functions), *_named(self.root, "Include/**/*.h", *LICENCES)]
        taken = {f"cmsis_nn/{file}": _read(self.root / file) for file in files}
        if self.core:
            taken |= {f"cmsis_core/{file}": _read(self.core / file)
                      for file in _named(self.core, "Include/cmsis_*.h", *LICENCES)}
        return Library(taken, FOLDERS if self.core else FOLDERS[:1])


def found() -> Copy:
    """The library in $CMSIS_NN_ROOT, else that in the package bakenn.

    Raises ConfigError where the variable names something else, ToolError where there is neither.
    """
    bundled = _bundled()
    if given := os.environ.get(LIBRARY):
        root = Path(given)
        if not (root / HEADER).is_file():
            raise ConfigError(f"${LIBRARY} names {given}, which has no {HEADER}",
                              "name the folder of CMSIS-NN that has Include/ and Source/")
        return Copy(root, _core(root, bundled))
    if bundled is None:
        raise ToolError("CMSIS-NN was not found",
                        f"pip install bakenn==1.0.0, which has a copy, or set {LIBRARY} to the folder of "
                        "CMSIS-NN that has Include/ and Source/; or build with kernels: auto")
    return Copy(bundled / "cmsis_nn", bundled / "cmsis_core")


def _bundled() -> Path | None:
    """The folder of the package's copies; the package itself is not imported."""
    package = importlib.util.find_spec("bakenn")
    if package is None or package.origin is None:
        return None
    vendor = Path(package.origin).parent / "backend/cmsis_nn/vendor"
    return vendor if (vendor / "cmsis_nn" / HEADER).is_file() else None


def _core(root: Path, bundled: Path | None) -> Path | None:
    """CMSIS-Core for a library that includes it: beside it as in Arm's packs, else the package's copy."""
    if COMPILER not in "".join(_read(path) for path in (root / "Include").rglob("*.h")):
        return None
    places = [root.parent / name for name in ("Core", "CMSIS/Core", "cmsis_core")]
    places += [bundled / "cmsis_core"] if bundled else []
    for place in places:
        if (place / "Include" / COMPILER).is_file():
            return place
    raise ToolError(f"the CMSIS-NN in {root} includes {COMPILER}, which was not found",
                    f"put CMSIS-Core beside it as {root.parent / 'Core'}, or pip install bakenn==1.0.0")


def _needed(copy: Copy, functions: Iterable[str]) -> list[str]:
    """The C files of `functions` and of all that they call."""
    files: dict[str, None] = {}
    waiting = [*functions]
    while waiting:
        file = copy.functions.get(waiting.pop())
        if file and file not in files:
            files[file] = None
            waiting += CALLED.findall(copy.texts[file])
    return sorted(files)


def _named(folder: Path, *patterns: str) -> list[str]:
    found = (path for pattern in patterns for path in folder.glob(pattern))
    return sorted(path.relative_to(folder).as_posix() for path in found)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise ToolError(f"{path} cannot be read: {error.strerror}",
                        f"make it readable, or correct {LIBRARY}") from error
