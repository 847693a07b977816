"""What a fault's registers say: Armv7-M and Armv8-M status bits in words.

Bits of CFSR and HFSR: Arm Architecture Reference Manuals, DDI 0403 (B3.2.15) and DDI 0553.
"""

from __future__ import annotations

import re
from pathlib import Path

from edgeq.emulation.elf import function_at

NAMES = ("r0", "r1", "r2", "r3", "r12", "lr", "pc", "psr", "cfsr", "hfsr", "mmfar", "bfar",
         "sp", "exc_return")
FAULT = re.compile(rf"edgeq-fault((?: [0-9a-f]{{8}}){{{len(NAMES) + 1}}})")
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


def told(fault: re.Match[str], elf: Path) -> tuple[str, str]:
    """The fault that FAULT found in a firmware's output, as a message and a hint."""
    *values, framed = (int(word, 16) for word in fault[1].split())
    registers = dict(zip(NAMES, values, strict=True))
    listed = " ".join(f"{name}={value:08x}" for name, value in registers.items())
    causes = [words for bits, words in CAUSES if registers["cfsr"] & bits]
    if not framed:
        return causes[0] if causes else "the stack overflowed", f"give it a larger stack; registers: {listed}"
    place = function_at(elf, registers["pc"]) or f"{registers['pc']:#010x}"
    caller = function_at(elf, registers["lr"] & ~1)
    cause = causes[0] if causes else "a fault"
    return f"{cause} in {place}" + (f", called from {caller}" if caller else ""), f"registers: {listed}"
