"""The cross compiler: sources and a linker script become a program for a Cortex-M.

The one rule: what is wrong with a program, or with the compiler, is a ToolError that quotes it.

    script = linker_script(BOARDS["mps2-an386"].limited(256 * KIB, 64 * KIB))
    defines = {"EQ_INVOKE": "kws_invoke", "EQ_INPUT_BYTES": "490", "EQ_OUTPUT_BYTES": "12"}
    elf = link(work, Program((model_c, *test_sources("semihosting")), CORES["cortex-m4"], script, defines))
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from edgeq import tool
from edgeq.emulation.boards import SOURCES, Uart
from edgeq.emulation.cores import Core
from edgeq.errors import ToolError

COMPILER = "arm-none-eabi-gcc"
# A step of the model stays a function of its own, alone at its address: the counts go by it.
FLAGS = ("-std=c99", "-O2", "-fno-ipa-icf", "-ffunction-sections", "-fdata-sections",
         "-fno-unwind-tables", "-fno-asynchronous-unwind-tables")
WARNINGS = ("-Wall", "-Wextra", "-Wpedantic", "-Werror")


@dataclass(frozen=True)
class Program:
    """What is compiled and linked; `defines` are macros with their values, `includes` folders of headers."""

    sources: tuple[Path, ...]
    core: Core
    script: str
    defines: Mapping[str, str] = field(default_factory=dict)
    includes: tuple[Path, ...] = ()


def test_sources(transport: Literal["semihosting"] | Uart | Path) -> tuple[Path, ...]:
    """The C files of the test firmware, without the model.

    `transport` is semihosting, or the UART of the serial link: a kind, or the user's own file for it.
    """
    if transport == "semihosting":
        return tuple(SOURCES / name for name in ("start.c", "test_main.c", "semihosting.c"))
    driver = transport if isinstance(transport, Path) else SOURCES / f"uart_{transport}.c"
    return (*(SOURCES / name for name in ("start.c", "test_main.c", "serial.c")), driver)


def find(name: str = COMPILER) -> Path:
    """The program `name` of the cross compiler; ToolError that says what to install."""
    found = tool.find(name)
    if found is None:
        raise ToolError(f"{name} is not installed",
                        "apt-get install gcc-arm-none-eabi libnewlib-arm-none-eabi")
    return found


def link(work: Path, program: Program, timeout_s: float = 120.0) -> Path:
    """Compile and link `program` in the folder `work`: its firmware.elf, beside firmware.map and flash.ld.

    Raises ToolError where the compiler is missing or refuses.
    """
    (work / "flash.ld").write_text(program.script, encoding="utf-8")
    words: Sequence[str | Path] = [
        find(), *program.core.flags, *FLAGS, *WARNINGS,
        *(f"-D{name}={value}" for name, value in program.defines.items()),
        *(f"-I{folder}" for folder in (SOURCES, *program.includes)),
        *program.sources, "-nostartfiles", "-T", "flash.ld",
        "-Wl,--gc-sections,-Map,firmware.map,--no-warn-rwx-segments", "-o", "firmware.elf"]
    finished = tool.run(words, timeout_s=timeout_s, cwd=work, name=COMPILER)
    if finished.status:
        raise ToolError(f"{COMPILER} ended with status {finished.status}", tool.tail(finished.output))
    return work / "firmware.elf"
