"""Compiling the runner programs for aarch64, once a version of their sources, libraries and compiler.

The one rule: what a compiler made is found again by all that went into it.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeq import tool
from edgeq.artifact import digest_of_file
from edgeq.errors import ToolError
from edgeq.linux.wheels import folder

SOURCES = Path(__file__).with_name("c")
PROGRAM = "edgeq-run"
GCC, GXX = "aarch64-linux-gnu-gcc", "aarch64-linux-gnu-g++"
PACKAGES = "gcc-aarch64-linux-gnu g++-aarch64-linux-gnu libc6-dev-arm64-cross"
COMPILE_S = 300.0
# What lies beside the program comes first, for its libraries, too; nothing is looked up during a run.
LINKING = ("-Wl,-rpath,$ORIGIN", "-Wl,--disable-new-dtags", "-Wl,-z,now", "-Wl,--allow-shlib-undefined")


@dataclass(frozen=True)
class Recipe:
    """One program: its `sources` by `compiler` with `flags`, linked with `libraries` that lie beside it."""

    compiler: Path
    sources: tuple[str, ...]
    flags: tuple[str, ...]
    libraries: tuple[Path, ...]
    include: tuple[Path, ...] = ()


def cross(name: str) -> Path:
    """The cross compiler `name` of the distribution; ToolError with what to install where it is missing."""
    found = tool.find(name)
    if found is None:
        raise ToolError(f"{name} is not installed", f"apt-get install {PACKAGES}")
    return found


def system_library(name: str) -> Path:
    """A library of the cross compiler's own system (`libc.so.6`); ToolError where it has none."""
    return _library_of(cross(GCC), name)


@functools.cache
def _library_of(compiler: Path, name: str) -> Path:
    """The library that `compiler` links: asked once, for each key of the store is made with it."""
    finished = tool.run([compiler, f"-print-file-name={name}"], timeout_s=30, cwd=Path("/"))
    found = Path(os.path.normpath(finished.output.strip()))
    if finished.status or not found.is_absolute() or not found.exists():
        raise ToolError(f"{compiler.name} has no {name}", f"apt-get install {PACKAGES}")
    return found


def compiled(recipe: Recipe) -> Path:
    """The program that `recipe` makes, in the cache; ToolError where it cannot be compiled."""
    place = folder() / f"run-{_key(recipe)}" / PROGRAM
    if not place.exists():
        try:
            _compile(recipe, place)
        except OSError as error:
            raise ToolError(f"{folder()} cannot be written: {error.strerror}",
                            "set XDG_CACHE_HOME to a folder that can") from error
    return place


def _key(recipe: Recipe) -> str:
    """A digest of all that goes into the program."""
    said = [[(file.name, digest_of_file(file)) for file in sorted(SOURCES.iterdir())],
            recipe.sources, recipe.flags, LINKING, tool.digest(recipe.compiler),
            [(each.name, tool.digest(each)) for each in recipe.libraries]]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]


def _compile(recipe: Recipe, place: Path) -> None:
    """Into a folder of its own, then to its place: another process may be at it, too."""
    folder().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder()) as work:
        draft = Path(work) / "draft"
        draft.mkdir()
        argv: Sequence[str | Path] = [
            recipe.compiler, *recipe.flags, f"-I{SOURCES}",
            *(f"-I{each}" for each in recipe.include),
            *(SOURCES / name for name in recipe.sources), *recipe.libraries,
            *LINKING, "-o", draft / PROGRAM]
        finished = tool.run(argv, timeout_s=COMPILE_S, cwd=Path(work))
        if finished.status:
            raise ToolError("the program that runs models on aarch64 could not be compiled",
                            tool.tail(finished.output))
        shutil.rmtree(place.parent, ignore_errors=True)
        draft.rename(place.parent)
