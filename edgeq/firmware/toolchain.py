"""Compilers at work on generated C: the cross compiler for the board, the machine's own for the host build.

The one rule: every compiler gets relative paths in the folder that it works in, so that what it
writes is the same wherever that is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeq import containers, tool
from edgeq.containers import Image
from edgeq.emulation import elf
from edgeq.errors import Refused, ToolError

PREFIX = "arm-none-eabi-"
WARNINGS = ("-Wall", "-Wextra", "-Wpedantic", "-Werror")
# A step stays a function of its own, alone at its address: instructions are counted by it.
PLAIN = ("-std=c99", "-ffunction-sections", "-fdata-sections", "-fno-ipa-icf", "-fno-common",
         "-fno-unwind-tables", "-fno-asynchronous-unwind-tables")
SANITIZED = ("-std=c99", *WARNINGS, "-O1", "-DEQ_TRACE", "-fsanitize=address,undefined",
             "-fno-sanitize-recover=all")
IN_FLASH = (".text", ".rodata", ".vectors", ".ARM.exidx", ".data", ".init_array")
IN_RAM = (".data", ".bss", ".stack")
OVERFLOW = re.compile(r"region [`'](\w+)' overflowed by (\d+) bytes")
SHOWN = 5
TIMEOUT_S = 300.0


@dataclass(frozen=True)
class Room:
    """The memory of a device, in bytes; `stack` is what of its RAM the stack is given."""

    flash: int
    ram: int
    stack: int


@dataclass(frozen=True)
class Toolchain:
    """A cross compiler, its file here or its name `within` an image, and the flags of a core."""

    compiler: Path
    flags: tuple[str, ...]
    within: Image | None = None

    def objects(self, folder: Path, sources: Sequence[str], extra: Sequence[str] = WARNINGS) -> list[Path]:
        """Compile `sources`, in `folder`, into objects there; ToolError where that fails."""
        if sources:
            self._run(folder, [self.compiler, *self.flags, *PLAIN, *extra, "-c", *sources])
        return [folder / f"{Path(source).stem}.o" for source in sources]

    def archive(self, folder: Path, objects: Iterable[Path], name: str) -> Path:
        """Put `objects` of `folder` into the library `name`, the same bytes every time."""
        archiver = self.compiler.with_name(f"{PREFIX}ar")
        self._run(folder, [archiver, "rcsD", name, *(each.name for each in objects)])
        return folder / name

    def linked(self, folder: Path, arguments: Sequence[str], name: str) -> Path:
        """Link into the program `name`, with its map beside it.

        Raises Refused where it does not fit, ToolError for all else that the linker complains of.
        """
        argv: list[str | Path] = [
            self.compiler, *self.flags, *arguments, "-nostartfiles",
            "-Wl,--gc-sections,--no-warn-rwx-segments",
            f"-Wl,-Map={Path(name).stem}.map", "-o", name]
        finished = containers.run(self.within, argv, timeout_s=TIMEOUT_S, cwd=folder)
        if over := OVERFLOW.findall(finished.output):
            raise Refused("; ".join(f"{region.lower()}: {size} bytes too much" for region, size in over),
                          "a smaller model, or a target with more memory")
        _check(finished, "link")
        return folder / name

    def _run(self, folder: Path, argv: Sequence[str | Path]) -> None:
        finished = containers.run(self.within, argv, timeout_s=TIMEOUT_S, cwd=folder)
        _check(finished, Path(argv[0]).name)


def taken(files: Iterable[Path]) -> dict[str, int]:
    """The bytes that `files` (objects, or a program) take in each kind of section, as `.text`."""
    found: dict[str, int] = {}
    for section in (section for file in files for section in elf.sections(file)):
        for kind in dict.fromkeys((*IN_FLASH, *IN_RAM)):
            if section.name == kind or section.name.startswith(f"{kind}."):
                found[kind] = found.get(kind, 0) + section.size
    return found


def flash_of(sections: Mapping[str, int]) -> int:
    """The bytes of flash that `sections` take."""
    return sum(sections.get(kind, 0) for kind in IN_FLASH)


def ram_of(sections: Mapping[str, int]) -> int:
    """The bytes of RAM that `sections` take, the stack among them where it is one of them."""
    return sum(sections.get(kind, 0) for kind in IN_RAM)


def see_fit(objects: Sequence[Path], room: Room, tensors: Sequence[str]) -> None:
    """Raise Refused where `objects` need more than the `room`: by how much, and what is largest.

    `tensors` are the largest in the arena, as they are to be told.
    """
    sections = taken(objects)
    problems = [
        f"it needs {needs} bytes of {what} and the target has {has}: {needs - has} bytes too much "
        f"(the largest: {', '.join(largest)})"
        for what, needs, has, largest in (
            ("flash", flash_of(sections), room.flash, _largest(objects)),
            ("RAM", ram_of(sections) + room.stack, room.ram, tensors[:SHOWN])) if needs > has]
    if problems:
        raise Refused(f"the firmware does not fit: {'; '.join(problems)}",
                      "a smaller model, or a target with more memory")


def _largest(objects: Iterable[Path]) -> list[str]:
    """The largest functions and arrays of `objects` in flash, each in a section named for it."""
    found = sorted(((section.size, section.name) for file in objects for section in elf.sections(file)
                    if section.name.startswith(IN_FLASH)), reverse=True)
    return [f"{name.rpartition('.')[2]} {size}" for size, name in found[:SHOWN]]


def host_build(folder: Path, sources: Sequence[str], name: str, extra: Sequence[str] = ()) -> Path:
    """Build the program `name` of the host from `sources` in `folder`, under address and UB sanitizers.

    Raises ToolError where there is no gcc, or where it fails.
    """
    compiler = tool.find("gcc")
    if compiler is None:
        raise ToolError("gcc was not found, which makes the host build", "apt-get install gcc libc6-dev")
    finished = tool.run([compiler, *SANITIZED, *extra, *sources, "-o", name],
                        timeout_s=TIMEOUT_S, cwd=folder)
    _check(finished, "gcc")
    return folder / name


def _check(finished: tool.Finished, name: str) -> None:
    if finished.status:
        raise ToolError(f"{name} ended with status {finished.status} on generated code",
                        f"this is a bug of edgeq; {tool.tail(finished.output)}")
