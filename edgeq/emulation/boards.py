"""The boards that QEMU emulates, and the linker script that holds a program to a device's memory.

The one rule: a program may use the device's flash and RAM, never what the emulated board has beyond them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgeq.errors import ConfigError

SOURCES = Path(__file__).parent / "c"
KIB, MIB = 1 << 10, 1 << 20
Uart = Literal["cmsdk", "stm32", "nrf51"]


@dataclass(frozen=True)
class Memory:
    """Where a program lies: origins and sizes in bytes; `vectors` where they are not in the flash."""

    flash: int
    flash_bytes: int
    ram: int
    ram_bytes: int
    vectors: int | None = None


@dataclass(frozen=True)
class Board:
    """A machine of qemu-system-arm: what it is called there, its memory and its first UART."""

    machine: str
    core: str
    memory: Memory
    uart: Uart
    uart_base: int

    def limited(self, flash_bytes: int, ram_bytes: int) -> Memory:
        """The board's memory, no more of it than a device has.

        Raises ConfigError where the device has more than the board.
        """
        own = self.memory
        sizes = {"flash": (flash_bytes, own.flash_bytes), "ram": (ram_bytes, own.ram_bytes)}
        for what, (wanted, there) in sizes.items():
            if wanted > there:
                raise ConfigError(f"{what}: {wanted} bytes are more than the {there} of board {self.machine}",
                                  "name a larger board, or the part of the memory that programs may use")
        return Memory(own.flash, flash_bytes, own.ram, ram_bytes, own.vectors)


# Origins and sizes as QEMU 7.2 maps them (`info mtree`). The boards with TrustZone start in the secure
# state: their memory and UARTs are addressed by the secure aliases.
BOARDS: Mapping[str, Board] = {board.machine: board for board in (
    Board("microbit", "cortex-m0", Memory(0, 256 * KIB, 0x20000000, 16 * KIB), "nrf51", 0x40002000),
    Board("mps2-an385", "cortex-m3", Memory(0, 4 * MIB, 0x20000000, 4 * MIB), "cmsdk", 0x40004000),
    Board("mps2-an386", "cortex-m4", Memory(0, 4 * MIB, 0x20000000, 4 * MIB), "cmsdk", 0x40004000),
    Board("netduinoplus2", "cortex-m4", Memory(0x08000000, MIB, 0x20000000, 128 * KIB), "stm32", 0x40011000),
    Board("mps2-an500", "cortex-m7", Memory(0, 4 * MIB, 0x20000000, 4 * MIB), "cmsdk", 0x40004000),
    Board("mps2-an505", "cortex-m33", Memory(0x10000000, 4 * MIB, 0x38000000, 2 * MIB), "cmsdk", 0x50200000),
    Board("mps3-an547", "cortex-m55", Memory(0x11000000, 2 * MIB, 0x31000000, 4 * MIB, vectors=0), "cmsdk",
          0x59303000),
)}


def harness(transport: Literal["semihosting"] | Uart | Path) -> tuple[Path, ...]:
    """The C files of the test firmware, without the model.

    `transport` is semihosting, or the UART of the serial link: a kind, or the user's own file for it.
    """
    if transport == "semihosting":
        return tuple(SOURCES / name for name in ("start.c", "test_main.c", "semihosting.c"))
    driver = transport if isinstance(transport, Path) else SOURCES / f"uart_{transport}.c"
    return (*(SOURCES / name for name in ("start.c", "test_main.c", "serial.c")), driver)


def linker_script(memory: Memory, stack_bytes: int = 2048, what: str = "a board's memory") -> str:
    """The script, for GNU ld, of a program in `memory`; `what` is said at its top."""
    split = memory.vectors is not None
    words = {
        "WHAT": what, "VECTORS_IN": "VECTORS" if split else "FLASH",
        "VECTORS": f"  VECTORS (rx) : ORIGIN = {memory.vectors:#x}, LENGTH = 1K\n" if split else "",
        "FLASH": hex(memory.flash), "FLASH_BYTES": str(memory.flash_bytes),
        "RAM": hex(memory.ram), "RAM_BYTES": str(memory.ram_bytes), "STACK_BYTES": str(stack_bytes)}
    text = (SOURCES / "flash.ld").read_text(encoding="utf-8")
    for name, word in words.items():
        text = text.replace(f"@{name}@", word)
    return text
