"""rp2040js: a model of the Cortex-M0+ that counts cycles (npm, MIT; github.com/wokwi/rp2040js).

The firmware is the emulator's own; what it needs of a board are flash, RAM and semihosting, which
cycles.mjs gives it. Wait states of flash are not modelled.
"""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from os import environ
from pathlib import Path

from edgeq import tool
from edgeq.emulation import elf as elf_file
from edgeq.emulation.boards import SOURCES
from edgeq.emulation.qemu import BEGINS, ENDS
from edgeq.errors import ToolError

SCRIPT = SOURCES / "cycles.mjs"
CYCLES = re.compile(r"^cycles (\d+)$", re.MULTILINE)


@dataclass(frozen=True)
class Rp2040js:
    """Node, and the module that it is to load."""

    node: Path
    module: Path


@dataclass(frozen=True)
class Timed:
    """The outputs, one after the other, and the cycles of each sample."""

    outputs: bytes
    cycles: tuple[int, ...]


def installed() -> Rp2040js | None:
    """Node with rp2040js of $RP2040JS, or as script/setup installs it; None where either is missing."""
    node = tool.find("node")
    folder = Path(environ.get("RP2040JS") or tool.cache() / "npm/node_modules/rp2040js")
    module = folder / "dist/esm/index.js"
    return Rp2040js(node, module) if node and module.exists() else None


def timed(found: Rp2040js, elf: Path, samples: bytes, timeout_s: float) -> Timed:
    """Run the firmware at `elf` on `samples`, one after the other without a gap.

    Raises ToolError where it ends otherwise than it should.
    """
    functions = elf_file.functions(elf)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        (work / "in.bin").write_bytes(samples)
        finished = tool.run(
            [found.node, SCRIPT, found.module, elf.absolute(), hex(functions[BEGINS].address),
             hex(functions[ENDS].address)], timeout_s=timeout_s, cwd=work, name="rp2040js")
        if finished.status:
            raise ToolError(f"the firmware on rp2040js ended with status {finished.status}",
                            tool.tail(finished.output))
        cycles = tuple(int(each) for each in CYCLES.findall(finished.output))
        return Timed((work / "out.bin").read_bytes(), cycles)
