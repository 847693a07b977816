"""Small pieces of assembly that several kernels are made of.

The one rule: immediates that an instruction cannot hold are never asked of it, whatever the shape.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

IMMEDIATE = 4095  # of add, sub, ldr and strb
PAIR_OFFSET = 1020  # of ldrd
CODE_WORTH = 0.75  # instructions that a step less of code is worth


def listed(registers: Iterable[str]) -> str:
    """Registers as ldm and stm have them."""
    return f"{{{', '.join(registers)}}}"


def added(register: str, amount: int, spare: str) -> Iterator[str]:
    """Add a number of any size to a register; `spare` is lost where it is large."""
    name = "add" if amount >= 0 else "sub"
    if abs(amount) > IMMEDIATE:
        yield from number(spare, abs(amount))
        yield f"{name} {register}, {register}, {spare}"
    elif amount:
        yield f"{name} {register}, {register}, #{abs(amount)}"


def number(register: str, value: int) -> Iterator[str]:
    """A number of 32 bits in a register."""
    yield f"movw {register}, #{value & 0xFFFF}"
    if value >> 16 & 0xFFFF:
        yield f"movt {register}, #{value >> 16 & 0xFFFF}"


def limited(values: Sequence[str], spare: str, room: tuple[int, int]) -> Iterator[str]:
    """Keep int8 in registers within -128 + up .. 127 - down, of which `room` is both.

    The values come less `up`, and saturated: the additions of bytes saturate, too. `spare` is lost.
    """
    up, down = room
    for instruction, amount in (("qadd8", up + down), ("qsub8", down)):
        for part in (min(amount, 127), min(amount - 127, 127), amount - 254):
            if part > 0:
                yield f"mov {spare}, #{part}"
                yield from (f"{instruction} {each}, {each}, {spare}" for each in values)


def loop_cost(steps: int, body: int, instructions: tuple[int, int]) -> float:
    """What `steps` cost in a loop of `body` of them, what is left over before it: instructions, and code.

    `instructions` are those at the end of the loop, and those that clear the sums where nothing is left.
    """
    end, cleared = instructions
    rest = steps % body
    return end * (steps // body) + (0 if rest else cleared) + CODE_WORTH * (body + rest)
