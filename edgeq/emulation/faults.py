"""What a fault's registers say: Armv7-M and Armv8-M status bits in words.

Bits of CFSR and HFSR: Arm Architecture Reference Manuals, DDI 0403 (B3.2.15) and DDI 0553.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from edgeq.emulation.elf import function_at

NAMES = ("r0", "r1", "r2", "r3", "r12", "lr", "pc", "psr", "cfsr", "hfsr", "mmfar", "bfar",
         "sp", "exc_return", "framed")
FAULT = re.compile(rf"edgeq-fault((?: [0-9a-f]{{8}}){{{len(NAMES)}}})")
STACKING = (1 << 4) | (1 << 12) | (1 << 20)  # MSTKERR, STKERR, STKOF
CAUSES = (
    (STACKING, "the stack overflowed"),
    (1 << 25, "a division by zero"),
    (1 << 24, "an unaligned access"),
    (1 << 19, "a coprocessor instruction (FPU or MVE) that is off or absent"),
    (1 << 18, "a return to a bad address"),
    (1 << 17, "a jump to an address that is not Thumb code"),
    (1 << 16, "an instruction that the core does not have"),
    (1 << 9, "an access to memory that is not there"),
    (1 << 10, "a write to memory that is not there"),
    (1 << 8, "instructions fetched where no memory is"),
    (1 << 1, "a forbidden access to data"),
    (1 << 0, "instructions fetched where none may run"),
)


def found(output: str) -> tuple[int, ...] | None:
    """The registers that a firmware reported by semihosting, in the order of NAMES; None where it did not."""
    match = FAULT.search(output)
    return tuple(int(word, 16) for word in match[1].split()) if match else None


def told(values: Sequence[int], elf: Path | None) -> tuple[str, str]:
    """The registers in the order of NAMES as a message and a hint; `elf` names the functions."""
    registers = dict(zip(NAMES, values, strict=True))
    listed = " ".join(f"{name}={registers[name]:08x}" for name in NAMES[:-1])
    cause = next((words for bits, words in CAUSES if registers["cfsr"] & bits), "")
    if not registers["framed"]:
        return cause or "the stack overflowed", f"give it a larger stack; registers: {listed}"
    place = _function(elf, registers["pc"]) or f"{registers['pc']:#010x}"
    caller = _function(elf, registers["lr"] & ~1)
    called = f", called from {caller}" if caller else ""
    return f"{cause or 'a fault'} in {place}{called}", f"registers: {listed}"


def _function(elf: Path | None, address: int) -> str:
    return function_at(elf, address) if elf else ""
