"""A program for a Cortex-M out of C files: what the tests run on the emulator without a backend."""

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edgeq.emulation.boards import SOURCES
from edgeq.emulation.cores import Core
from edgeq.firmware.toolchain import PLAIN, WARNINGS


@dataclass(frozen=True)
class Program:
    """What is compiled and linked; `defines` are macros with their values, `includes` folders of headers."""

    sources: tuple[Path, ...]
    core: Core
    script: str
    defines: Mapping[str, str] = field(default_factory=dict)
    includes: tuple[Path, ...] = ()


def link(work: Path, program: Program) -> Path:
    """The program, linked in the folder `work`, beside its map and its linker script."""
    (work / "flash.ld").write_text(program.script, encoding="utf-8")
    subprocess.run(
        ["arm-none-eabi-gcc", *program.core.flags, *PLAIN, "-O2", *WARNINGS,
         *(f"-D{name}={value}" for name, value in program.defines.items()),
         *(f"-I{folder}" for folder in (SOURCES, *program.includes)),
         *program.sources, "-nostartfiles", "-T", "flash.ld",
         "-Wl,--gc-sections,-Map,firmware.map,--no-warn-rwx-segments", "-o", "firmware.elf"],
        cwd=work, check=True)
    return work / "firmware.elf"
