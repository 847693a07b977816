"""The planes of a depthwise 3x3 convolution, and how the rows of its input come into them.

Two planes of rows lie in the scratch for each of four channels. A word of a plane holds a column's value
of two padded rows: the upper one in its low half. Plane A has the rows 2j and 2j + 1, plane B the next
two; they change places from one step to the next, so each input is widened once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edgeq.firmware.assembly import label
from edgeq.firmware.dsp.emitting import IMMEDIATE, PAIR_OFFSET, added, number
from edgeq.firmware.dsp.layer import Layer, Window

CHANNELS = 4
# Places in the frame: the requantization's constants, a return address, what is widened next, where the
# next outputs go, the four channels' constants, the planes, what is counted, and the arguments.
HELD, BACK, SOURCE, SINK, CONSTANTS, PLANES, GROUPS, REPEATS, END, IN, OUT = (0, *range(16, 56, 4))
FRAME = 56
FEW = 8  # columns that are widened without a loop


@dataclass(frozen=True, eq=False)
class Planes:
    """What the emitting functions ask for again and again."""

    window: Window
    layer: Layer

    @property
    def stride(self) -> int:
        """One or two."""
        return self.window.strides[0]

    @property
    def row(self) -> int:
        """The bytes of an input row."""
        return self.window.source[1] * self.window.channels

    @property
    def plane(self) -> int:
        """The bytes of one channel's plane."""
        columns = self.stride * (self.window.sink[1] - 1) + 3
        return 4 * max(columns, self.window.pads[1] + self.window.source[1])

    @property
    def near(self) -> bool:
        """Whether a load from one row reaches the next: there is a pointer to either where it does not."""
        return self.row + 4 * self.window.channels <= IMMEDIATE

    @property
    def pad(self) -> int:
        """A word of two zero points."""
        return (self.layer.zero_point & 0xFFFF) * 0x10001

    @property
    def taken(self) -> bool:
        """Whether the kernel knows the shape: all its offsets have room in their instructions."""
        window = self.window
        known = (window.kernel == (3, 3) and window.strides in {(1, 1), (2, 2)} and max(window.pads) <= 1
                 and window.dilations == (1, 1) and window.channels == self.layer.outputs)
        return (known and window.channels % CHANNELS == 0 and window.channels * 4 <= IMMEDIATE
                and 4 * self.plane + 64 <= IMMEDIATE)

    @property
    def steps(self) -> int:
        """How many times planes are computed with."""
        rows = self.window.sink[0]
        return rows if self.stride == 2 else -(-rows // 2)

    def inside(self, pair: int) -> tuple[bool, bool]:
        """Which of the two padded rows of a `pair` are rows of the input."""
        first = 2 * pair - self.window.pads[0]
        return 0 <= first < self.window.source[0], 0 <= first + 1 < self.window.source[0]

    def rows(self, step: int) -> int:
        """How many rows of outputs a step makes."""
        return 1 if self.stride == 2 or 2 * step + 1 >= self.window.sink[0] else 2


def widened(shape: Planes, inside: tuple[bool, bool], parity: int) -> Iterator[str]:
    """Two rows of the input into a plane; zero points where a row is not `inside`."""
    columns, channels, count = shape.window.source[1], shape.window.channels, sum(inside)
    yield f"ldr lr, [sp, #{PLANES}]"
    yield from added("lr", parity * CHANNELS * shape.plane + 4 * shape.window.pads[1], "r0")
    if count < 2:
        yield from number("r11", shape.pad)
    if count:
        yield f"ldr r12, [sp, #{SOURCE}]"
    if count == 2 and not shape.near:
        yield "mov r8, r12"
        yield from added("r8", shape.row, "r0")
    body = columns if columns <= FEW and shape.near else min(4, columns)
    looped = columns - columns % body if body < columns else 0
    if looped:
        loop = label(f"v{inside[0]:d}{inside[1]:d}{parity}")
        yield "mov r0, lr"
        yield from added("r0", 4 * looped, "r1")
        yield from (f"str r0, [sp, #{END}]", f"{loop}:")
        yield from _columns(shape, inside, body)
        yield f"ldr r0, [sp, #{END}]"
        yield from _on(inside, body * channels, near=shape.near)
        yield from ("cmp lr, r0", f"bne {loop}")
    yield from _columns(shape, inside, columns - looped)
    if count:
        yield from added("r12", count * shape.row - looped * channels, "r0")
        yield f"str r12, [sp, #{SOURCE}]"


def _on(inside: tuple[bool, bool], amount: int, *, near: bool) -> Iterator[str]:
    """The pointers of the rows, moved on."""
    if any(inside):
        yield f"add r12, r12, #{amount}"
    if all(inside) and not near:
        yield f"add r8, r8, #{amount}"


def _columns(shape: Planes, inside: tuple[bool, bool], count: int) -> Iterator[str]:
    """Columns at r12 into the plane at lr, which moves on: two at a time where registers allow."""
    if not any(inside):
        for _ in range(count):
            yield from (f"str r11, [lr, #{channel * shape.plane}]" for channel in (1, 2, 3))
            yield "str r11, [lr], #4"
        return
    at_once = 2 if all(inside) and shape.near else 1
    for column in range(0, count, at_once):
        places = range(column, min(column + at_once, count))
        for i, place in enumerate(places):
            targets = [f"r{4 + i + len(places) * channel}" for channel in range(CHANNELS)]
            yield from _column(shape, inside, place * shape.window.channels, targets)
        for channel in (1, 2, 3, 0):
            yield from _plane_stored(4 + len(places) * channel, len(places), channel * shape.plane)


def _column(shape: Planes, inside: tuple[bool, bool], place: int, targets: Sequence[str]) -> Iterator[str]:
    """Four channels of one column, both rows, as a word each in `targets`; r0 … r3 are lost."""
    upper = ("r0", "r2") if inside[0] else ("r11", "r11")
    lower = ("r1", "r3") if inside[1] else ("r11", "r11")
    if inside[0]:
        yield from (f"ldr r0, [r12, #{place}]", "sxtb16 r2, r0, ror #8", "sxtb16 r0, r0")
    if inside[1]:
        near = f"[r12, #{place + shape.row * inside[0]}]"
        below = f"[r8, #{place}]" if inside[0] and not shape.near else near
        yield from (f"ldr r1, {below}", "sxtb16 r3, r1, ror #8", "sxtb16 r1, r1")
    for i in range(2):
        yield f"pkhbt {targets[i]}, {upper[i]}, {lower[i]}, lsl #16"
    for i in range(2):
        yield f"pkhtb {targets[2 + i]}, {lower[i]}, {upper[i]}, asr #16"


def _plane_stored(first: int, count: int, place: int) -> Iterator[str]:
    """One or two registers to a channel's plane; those of the first channel, last, move the pointer on."""
    registers = [f"r{first + i}" for i in range(count)]
    if not place:
        yield f"strd {', '.join(registers)}, [lr], #8" if count == 2 else f"str {registers[0]}, [lr], #4"
    elif count == 2 and place <= PAIR_OFFSET:
        yield f"strd {', '.join(registers)}, [lr, #{place}]"
    else:
        yield from (f"str {each}, [lr, #{place + 4 * i}]" for i, each in enumerate(registers))
