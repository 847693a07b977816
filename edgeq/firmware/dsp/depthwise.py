"""DEPTHWISE_CONV_2D of 3x3 kernels, strides 1 or 2: four channels at a time, pairs of rows in a word.

Scratch: two planes of rows for each of four channels. A word of a plane holds a column's value of two
padded rows: the upper one in its low half. Plane A has the rows 2j and 2j + 1, plane B the next two; the
planes change places from one step to the next, so each input is widened once. The constants hold, for each
channel, the weights of the rows (0, 1) of its three columns as pairs of 16 bits, those of the rows (1, 2),
then the constants of its requantization.

A word of A with the weights (0, 1) and the upper half of B's with weight 2 make an output of an even row;
the lower half of A's with weight 0 and a word of B with the weights (1, 2) make one of the odd row below.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from edgeq.arrays import Array
from edgeq.firmware.assembly import function, label
from edgeq.firmware.dsp.emitting import IMMEDIATE, PAIR_OFFSET, added, listed, number
from edgeq.firmware.dsp.layer import Layer, Window
from edgeq.firmware.kernel import Constant, Input, Kernel, Output, Routine, Scratch

PARAMETERS = "const int8_t *in, int8_t *out, const uint32_t *constants, uint32_t *scratch"
CHANNELS = 4
# Places in the frame: the requantization's constants, a return address, what is widened next, where the
# next outputs go, the four channels' constants, the planes, what is counted, and the arguments.
HELD, BACK, SOURCE, SINK, CONSTANTS, PLANES, GROUPS, REPEATS, END, IN, OUT = (0, *range(16, 56, 4))
FRAME = 56
FEW = 8  # columns that are widened without a loop
FEW_BLOCKS = 3  # blocks of outputs that are written out
WEIGHTS, LOADED = ("r0", "r1", "r2", "r3", "r4", "r5"), ("r7", "r8", "r9", "r10")


@dataclass(frozen=True, eq=False)
class _Shape:
    """What the emitting functions ask for again and again."""

    window: Window
    layer: Layer

    @property
    def stride(self) -> int:
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


def depthwise(layer: Layer, window: Window) -> Kernel | None:
    """The depthwise convolution of `layer`, its weights (channels, 9); None for shapes unknown here."""
    shape = _Shape(window, layer)
    if not shape.taken:
        return None
    (h, w), (below, beside) = window.source, window.sink
    told = f"@ {h}x{w}x{window.channels} -> {below}x{beside}, strides {window.strides[0]}"
    routine = Routine("depthwise", PARAMETERS, assembly=function([told, *_instructions(shape)]))
    return Kernel(routine, (Input(), Output(), Constant("depthwise", _constants(layer)), Scratch()),
                  scratch=2 * CHANNELS * shape.plane)


def _constants(layer: Layer) -> Array:
    taps = layer.weights.reshape(-1, 3, 3) & 0xFFFF
    pairs = np.stack([taps[:, 0] | taps[:, 1] << 16, taps[:, 1] | taps[:, 2] << 16], 1).astype(np.uint32)
    words: Array = np.concatenate([pairs.reshape(len(taps), 6), layer.requantization.words], 1)
    return words


def _instructions(shape: _Shape) -> Iterator[str]:
    """All groups of four channels; then the parts that they call."""
    yield from ("push {r4-r11, lr}", f"sub sp, sp, #{FRAME}", f"str r0, [sp, #{IN}]", f"str r1, [sp, #{OUT}]",
                f"str r2, [sp, #{CONSTANTS}]", f"str r3, [sp, #{PLANES}]")
    yield from number("r0", shape.window.channels // CHANNELS)
    yield f"str r0, [sp, #{GROUPS}]"
    yield from _cleared(shape)
    yield f"{label('g')}:"
    for argument, moving in ((IN, SOURCE), (OUT, SINK)):
        yield from (f"ldr r0, [sp, #{argument}]", f"str r0, [sp, #{moving}]", f"adds r0, r0, #{CHANNELS}",
                    f"str r0, [sp, #{argument}]")
    parts: dict[str, Iterator[str]] = {}
    yield from _steps(shape, parts)
    yield f"ldr r0, [sp, #{CONSTANTS}]"
    yield from added("r0", 4 * CHANNELS * (6 + shape.layer.requantization.width), "r1")
    yield from (f"str r0, [sp, #{CONSTANTS}]", f"ldr r0, [sp, #{GROUPS}]", "subs r0, r0, #1",
                f"str r0, [sp, #{GROUPS}]", f"bne.w {label('g')}", f"add sp, sp, #{FRAME}",
                "pop {r4-r11, pc}")
    for name, part in parts.items():
        yield from (f"{label(name)}:", f"str lr, [sp, #{BACK}]", *part, f"ldr pc, [sp, #{BACK}]")


def _cleared(shape: _Shape) -> Iterator[str]:
    """Zero points all over the planes: what lies beside the input's columns stays so."""
    yield from number("r4", shape.pad)
    yield from ("mov r5, r4", "mov r6, r4", "mov r7, r4", "mov r0, r3")
    yield from added("r0", 2 * CHANNELS * shape.plane, "r1")
    yield from (f"{label('z')}:", "stm r3!, {r4-r7}", "cmp r3, r0", f"bne {label('z')}")


def _steps(shape: _Shape, parts: dict[str, Iterator[str]]) -> Iterator[str]:
    """The calls of a group's steps; two that come again and again are a loop. Fills in the `parts` called."""
    def widened(pair: int) -> str:
        upper, lower = shape.inside(pair)
        name = f"w{upper:d}{lower:d}{pair & 1}"
        if name not in parts:
            parts[name] = _widened(shape, (upper, lower), pair & 1)
        return f"bl {label(name)}"

    def computed(step: int) -> str:
        name = f"c{shape.rows(step)}{step & 1}"
        if name not in parts:
            parts[name] = _computed(shape, shape.rows(step), step & 1)
        return f"bl {label(name)}"

    kinds = [(shape.inside(step + 1), shape.rows(step)) for step in range(shape.steps)]
    yield widened(0)
    step = 0
    while step < shape.steps:
        alike = next((i for i, kind in enumerate(kinds[step:]) if kind != kinds[step]), shape.steps - step)
        again = alike // 2 if alike >= 4 else 0
        loop = label(f"s{step}")
        if again:
            yield from (*number("r0", again), f"str r0, [sp, #{REPEATS}]", f"{loop}:")
        for each in range(step, step + (2 if again else 1)):
            yield from (widened(each + 1), computed(each))
        if again:
            yield from (f"ldr r0, [sp, #{REPEATS}]", "subs r0, r0, #1", f"str r0, [sp, #{REPEATS}]",
                        f"bne {loop}")
        step += 2 * again or 1


def _widened(shape: _Shape, inside: tuple[bool, bool], parity: int) -> Iterator[str]:
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


def _columns(shape: _Shape, inside: tuple[bool, bool], count: int) -> Iterator[str]:
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


def _column(shape: _Shape, inside: tuple[bool, bool], place: int, targets: Sequence[str]) -> Iterator[str]:
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


def _computed(shape: _Shape, rows: int, parity: int) -> Iterator[str]:
    """One or two rows of outputs from the planes, of four channels one after the other."""
    channels, columns = shape.window.channels, shape.window.sink[1]
    way, head = shape.layer.requantization, label(f"h{rows}{parity}")
    yield from (f"ldr lr, [sp, #{SINK}]", f"ldr r12, [sp, #{PLANES}]", f"{head}:",
                f"ldr r6, [sp, #{CONSTANTS}]", f"ldm r6!, {listed(WEIGHTS)}", way.loaded("r6", LOADED),
                f"str r6, [sp, #{CONSTANTS}]", f"stm sp, {listed(LOADED[:way.width])}")
    done = yield from _row(shape, rows, parity)
    yield from added("r12", shape.plane - 4 * shape.stride * done, "r6")
    yield from added("lr", 1 - done * channels, "r6")
    yield from (f"ldr r6, [sp, #{SINK}]", f"adds r6, r6, #{CHANNELS}", "cmp lr, r6", f"bne.w {head}",
                f"ldr r6, [sp, #{CONSTANTS}]")
    yield from added("r6", -4 * CHANNELS * (6 + way.width), "r7")
    yield f"str r6, [sp, #{CONSTANTS}]"
    yield from added("lr", rows * columns * channels - CHANNELS, "r6")
    yield f"str lr, [sp, #{SINK}]"


def _row(shape: _Shape, rows: int, parity: int) -> Generator[str, None, int]:
    """The outputs of one channel; answers how many columns the pointers have moved on."""
    at_once, columns = 4 // rows, shape.window.sink[1]
    step, looped = 4 * shape.stride, 0
    if columns // at_once > FEW_BLOCKS:
        loop, looped = label(f"x{rows}{parity}"), columns // at_once * at_once
        yield "mov r6, r12"
        yield from added("r6", looped * step, "r7")
        yield from (f"str r6, [sp, #{END}]", f"{loop}:")
        yield from _block(shape, (rows, parity), (0, at_once))
        yield from (f"ldr r10, [sp, #{END}]", f"add r12, r12, #{at_once * step}")
        yield from added("lr", at_once * shape.window.channels, "r11")
        yield from ("cmp r12, r10", f"bne.w {loop}")
    for column in range(0, columns - looped, at_once):
        yield from _block(shape, (rows, parity), (column, min(at_once, columns - looped - column)))
    return looped


def _block(shape: _Shape, kind: tuple[int, int], span: tuple[int, int]) -> Iterator[str]:
    """Outputs of some columns, from the first of `span` on, as many as its second."""
    (rows, parity), (first, count), stride = kind, span, shape.stride
    sums = [f"r{6 + i}" for i in range(count * rows)]
    started: set[str] = set()
    columns = stride * (count - 1) + 3
    for plane in range(2):
        base = 4 * stride * first + CHANNELS * shape.plane * (parity ^ plane)
        for column in range(0, columns, 2):
            pair = min(2, columns - column)
            yield from _loaded(base + 4 * column, pair)
            for i in range(pair):
                for output in range(count):
                    tap = column + i - stride * output
                    if 0 <= tap < 3:
                        yield from _tapped(sums[output * rows:][:rows], (plane, tap), f"r{10 + i}", started)
    yield from shape.layer.requantization.instructions_with(sums, HELD, ("r10", "r11"))
    below = shape.window.sink[1] * shape.window.channels
    far = rows == 2 and below + (first + count) * shape.window.channels > IMMEDIATE
    if far:
        yield "mov r10, lr"
        yield from added("r10", below, "r11")
    for i, each in enumerate(sums):
        output, row = divmod(i, rows)
        beside = (first + output) * shape.window.channels
        yield f"strb {each}, " + (f"[r10, #{beside}]" if far and row else f"[lr, #{beside + row * below}]")


def _loaded(place: int, count: int) -> Iterator[str]:
    """One or two columns of a channel's plane into r10, r11."""
    if count == 2 and place <= PAIR_OFFSET:
        yield f"ldrd r10, r11, [r12, #{place}]"
    else:
        yield from (f"ldr r{10 + i}, [r12, #{place + 4 * i}]" for i in range(count))


def _tapped(sums: Sequence[str], place: tuple[int, int], values: str, started: set[str]) -> Iterator[str]:
    """A column's values times the weights of a tap, added to the sum of each row of outputs."""
    plane, tap = place
    kinds = (("d", 0), ("tb", 0)) if plane == 0 else (("bt", 3), ("d", 3))
    for each, (halves, weights) in zip(sums, kinds, strict=False):
        fresh = each not in started
        started.add(each)
        name = {"d": "smuad" if fresh else "smlad"}.get(halves, f"{'smul' if fresh else 'smla'}{halves}")
        yield f"{name} {each}, {values}, {WEIGHTS[weights + tap]}" + ("" if fresh else f", {each}")
