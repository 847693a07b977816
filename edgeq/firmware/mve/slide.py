"""Windows that slide along a strip of an image, in assembly: four channels, one or two windows high.

    void @NAME@(const int8_t *in, int8_t *out, const uint32_t *constants, int8_t *scratch)

The one rule: a strip is first laid out in scratch memory, as columns of 16 bytes (four channels of four
rows each), borders included. Then a vector that gathers a word of each of four columns is a channel's
window of 4 x 4, and one VMLADAV with weights that are zero beyond the window's own size is an output.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from edgeq.firmware.assembly import function, label
from edgeq.firmware.mve.layer import Axis
from edgeq.firmware.mve.multiply import SUMS, added
from edgeq.firmware.mve.requantize import Fitted, Form, of_pixels

# Where the stack has them; the sums come first.
PLACES, RETURN, ROW, OUT, CONSTANTS, SCRATCH, GROUPS, TIMES, IN_GROUP, OUT_GROUP, UNIT, FRAME = (
    32, 48, 52, 56, 60, 64, 68, 72, 76, 80, 84, 88)
COLUMN = 16  # bytes of a column in scratch memory
UNROLLED = 3  # blocks of outputs along a strip without a loop


@dataclass(frozen=True)
class Strip:
    """Strips along `inner`, one behind the other along `outer`; `across` where inner is the image's rows.

    `steps_in` and `steps_out` are the distances in bytes of neighbours along inner and outer, in the
    input and in the output.
    """

    inner: Axis
    outer: Axis
    steps_in: tuple[int, int]
    steps_out: tuple[int, int]
    channels: int
    border: int
    across: bool
    form: Form

    @property
    def height(self) -> int:
        """The outputs that a strip gives along the outer axis."""
        return 2 if self.outer.taps + self.outer.stride <= 4 and self.outer.outputs > 1 else 1

    @property
    def rows(self) -> int:
        """The rows of the input in a strip."""
        return self.outer.taps + (self.height - 1) * self.outer.stride

    @property
    def columns(self) -> int:
        """The columns of scratch memory."""
        inner = self.inner
        return max(inner.before + -(-inner.size // 4) * 4, inner.stride * (inner.outputs - 1) + 4)

    @property
    def hanging(self) -> int:
        """The columns behind the last of the image that windows see."""
        inner = self.inner
        return max(inner.stride * (inner.outputs - 1) + inner.taps - inner.before - inner.size, 0)

    @property
    def places(self) -> list[int]:
        """Where the eight outputs of a block go, in a strip of full height."""
        return self.placed(self.height)

    def placed(self, height: int) -> list[int]:
        """Where the eight outputs of a block go, in a strip of `height`."""
        inner, outer = self.steps_out
        return [i // height * inner + i % height * outer for i in range(8)]

    @property
    def cost(self) -> int:
        """About how many instructions four channels take."""
        strips = -(-self.outer.outputs // self.height)
        full, rest = divmod(self.inner.outputs * self.height, 8)
        outputs = full * (28 + 8 // self.height) + (18 + rest if rest else 0) + 12
        return strips * (25 + (self.rows + 6) * -(-self.inner.size // 4) + 4 * outputs)

    @property
    def filling(self) -> int:
        """A word of four borders."""
        return (self.border & 0xFF) * 0x01010101


def slide(strip: Strip) -> str:
    """The function `@NAME@`."""
    kinds = [_kind(strip, i) for i in range(-(-strip.outer.outputs // strip.height))]
    lines = [*_begun(strip), *_group(strip, kinds)]
    for inside in dict.fromkeys(inside for inside, _ in kinds):
        lines += _laid(strip, inside)
    for height in dict.fromkeys(height for _, height in kinds):
        lines += _outputs(strip, height)
    return function([*lines, *_tables(strip)])


def _kind(strip: Strip, number: int) -> tuple[str, int]:
    """Which rows of a strip are inside the image, as `0111`, and how many outputs high it is."""
    first = number * strip.height * strip.outer.stride - strip.outer.before
    inside = "".join(str(int(0 <= first + i < strip.outer.size)) for i in range(strip.rows))
    return inside, min(strip.height, strip.outer.outputs - number * strip.height)


def _begun(strip: Strip) -> Iterator[str]:
    """Registers and arguments saved, and scratch memory filled with borders."""
    fill = label("fill")
    yield from ("push {r4-r11, lr}", "vpush {d8-d15}", f"sub sp, sp, #{FRAME}",
                f"str r0, [sp, #{IN_GROUP}]", f"str r1, [sp, #{OUT_GROUP}]", "ldr r0, [r2], #4",
                f"str r0, [sp, #{UNIT}]", f"str r2, [sp, #{CONSTANTS}]", f"str r3, [sp, #{SCRATCH}]",
                f"ldr r0, ={strip.channels // 4}", f"str r0, [sp, #{GROUPS}]",
                f"ldr r0, ={strip.filling:#x}", "vdup.32 q0, r0", f"ldr r0, ={strip.columns}",
                "dls lr, r0", f"{fill}:", "vstrw.32 q0, [r3], #16", f"le lr, {fill}")


def _group(strip: Strip, kinds: list[tuple[str, int]]) -> Iterator[str]:
    """Four channels after the other; of each, strip after strip, the same ones in a loop."""
    each = 4 * (COLUMN * strip.height + 12)
    yield from (f"{label('group')}:", f"ldr r1, [sp, #{IN_GROUP}]", "adds r0, r1, #4",
                f"str r0, [sp, #{IN_GROUP}]", *added("r1", "r1", -strip.outer.before * strip.steps_in[1]),
                f"str r1, [sp, #{ROW}]", f"ldr r0, [sp, #{OUT_GROUP}]", f"str r0, [sp, #{OUT}]",
                "adds r0, r0, #4", f"str r0, [sp, #{OUT_GROUP}]")
    first = 0
    while first < len(kinds):
        inside, height = kinds[first]
        times = next((i for i, kind in enumerate(kinds[first:]) if kind != kinds[first]), len(kinds) - first)
        calls = f"bl {label(f'laid{inside}')}", f"bl {label(f'outputs{height}')}"
        loop = label(f"strips{first}")
        if times > 1:
            yield from (f"ldr r0, ={times}", f"str r0, [sp, #{TIMES}]", f"{loop}:", *calls,
                        f"ldr r0, [sp, #{TIMES}]", "subs r0, r0, #1", f"str r0, [sp, #{TIMES}]",
                        f"bne {loop}")
        else:
            yield from calls
        first += times
    yield from (f"ldr r1, [sp, #{CONSTANTS}]", *added("r1", "r1", each), f"str r1, [sp, #{CONSTANTS}]",
                f"ldr r0, [sp, #{GROUPS}]", "subs r0, r0, #1", f"str r0, [sp, #{GROUPS}]",
                f"bne.w {label('group')}", f"add sp, sp, #{FRAME}", "vpop {d8-d15}", "pop {r4-r11, pc}",
                ".ltorg")


def _laid(strip: Strip, inside: str) -> Iterator[str]:
    """A strip laid out: rows in q0 to q3, four columns of four channels each, written row by row.

    r4 goes along the scratch memory, q7 holds the distances of the next columns from r0 to r3.
    """
    step = strip.steps_in[1]
    yield from (f"{label(f'laid{inside}')}:", f"str lr, [sp, #{RETURN}]", f"ldr r4, [sp, #{SCRATCH}]",
                *added("r4", "r4", COLUMN * strip.inner.before), f"ldr r5, [sp, #{ROW}]",
                *(line for i in range(len(inside)) for line in added(f"r{i}", "r5", i * step)),
                f"ldr r6, ={strip.height * strip.outer.stride * step}", "adds r5, r5, r6",
                f"str r5, [sp, #{ROW}]", f"adr r6, {label('columns')}", "vldrw.u32 q7, [r6]",
                f"ldr r5, ={strip.filling:#x}")
    yield from [f"vdup.32 q{i}, r5" for i, there in enumerate(inside) if there == "0"]
    yield from (*_columns(strip, inside), f"ldr pc, [sp, #{RETURN}]", ".ltorg")


def _columns(strip: Strip, inside: str) -> Iterator[str]:
    """All columns of a strip, four at a time, and those that are left by predicates."""
    (full, rest), loop = divmod(strip.inner.size, 4), label(f"columns{inside}")
    loads = [f"vldrw.u32 q{i}, [r{i}, q7]" for i, there in enumerate(inside) if there == "1"]
    stores = [f"vst4{i}.8 {{q0, q1, q2, q3}}, [r4]{'!' if i == 3 else ''}" for i in range(4)]
    if full:
        yield from (f"ldr r5, ={4 * strip.steps_in[0]}", f"ldr r6, ={full}", "dls lr, r6", f"{loop}:",
                    *loads, *stores, "vadd.i32 q7, q7, r5", f"le lr, {loop}")
    if rest:
        then = [load.replace("vldrw.", "vldrwt.") for load in loads]
        yield from (f"movs r6, #{rest}", "vctp.32 r6", f"vps{'t' * len(then)}", *then, *stores)
        yield from _hung(strip, 4 - rest)


def _hung(strip: Strip, behind: int) -> Iterator[str]:
    """Borders again in the columns behind the image, where the last vector wrote zeros."""
    if strip.hanging:
        yield from (f"ldr r5, ={strip.filling:#x}", "vdup.32 q0, r5")
    yield from [f"vstrw.32 q0, [r4, #{COLUMN * (i - behind)}]" for i in range(min(strip.hanging, behind))]


def _outputs(strip: Strip, height: int) -> Iterator[str]:
    """The outputs of a strip: channel by channel, in blocks of eight.

    q3 holds the addresses of a window's columns, less a step; q6 and q7 weights, q5 the factor, q4 the
    unit, r3 and r5 the other constants; r7 is at the output, r9 at the constants, r11 and r1 count.
    """
    inner, loop = strip.inner, label(f"channel{height}")
    unit = (f"ldr r0, [sp, #{UNIT}]", "vdup.32 q4, r0") if isinstance(strip.form, Fitted) else ()
    yield from (f"{label(f'outputs{height}')}:", f"str lr, [sp, #{RETURN}]",
                f"adr r0, {label(f'places{height}')}", "vldrw.u32 q0, [r0]",
                f"vstrw.32 q0, [sp, #{PLACES}]", *unit,
                f"ldr r9, [sp, #{CONSTANTS}]", f"ldr r7, [sp, #{OUT}]", f"ldr r1, [sp, #{SCRATCH}]",
                f"adr r0, {label('windows')}", "vldrw.u32 q3, [r0]", "vadd.i32 q3, q3, r1", "movs r11, #4",
                f"{loop}:", *(f"vldrw.u32 q{6 + i}, [r9], #16" for i in range(strip.height)),
                "ldrd r3, r5, [r9], #8", "ldr r0, [r9], #4", "vdup.32 q5, r0", *_along(strip, height),
                f"ldr r0, ={inner.outputs * inner.stride * COLUMN - 4}", "vsub.i32 q3, q3, r0",
                *added("r7", "r7", 1 - inner.outputs * strip.steps_out[0]),
                "subs r11, r11, #1", f"bne.w {loop}",
                *added("r7", "r7", height * strip.steps_out[1] - 4), f"str r7, [sp, #{OUT}]",
                f"ldr pc, [sp, #{RETURN}]", ".ltorg")


def _along(strip: Strip, height: int) -> Iterator[str]:
    """All outputs of a channel along a strip."""
    count = 8 // height
    blocks, rest = divmod(strip.inner.outputs, count)
    if blocks + (rest > 0) <= UNROLLED:
        for _ in range(blocks):
            yield from _block(strip, height, count)
    else:
        loop = label(f"along{height}")
        yield from (f"ldr r1, ={blocks}", f"{loop}:", *_block(strip, height, count), "subs r1, r1, #1",
                    f"bne {loop}")
    if rest:
        yield from _block(strip, height, rest)


def _block(strip: Strip, height: int, count: int) -> Iterator[str]:
    """`count` windows along a strip, each with `height` outputs: eight outputs at most."""
    outputs = count * height
    order = SUMS if outputs <= 4 else tuple(SUMS[i // 2 + i % 2 * 4] for i in range(8))
    for i in range(count):
        yield f"vldrw.u32 q0, [q3, #{COLUMN * strip.inner.stride}]!"
        yield from [f"vmladav.s8 {order[i * height + j]}, q{6 + j}, q0" for j in range(height)]
    yield from _kept(order[:outputs])
    yield from of_pixels(strip.form, 1 if outputs <= 4 else 2)
    yield from _stored(height, outputs)
    yield from added("r7", "r7", count * strip.steps_out[0])


def _kept(sums: tuple[str, ...]) -> Iterator[str]:
    """The sums on the stack, every one at its place."""
    if len(sums) in (4, 8):
        yield f"stm sp, {{{', '.join(sorted(sums, key=SUMS.index))}}}"
    else:
        yield from [f"str {each}, [sp, #{4 * SUMS.index(each)}]" for each in sums]


def _stored(height: int, outputs: int) -> Iterator[str]:
    """The bytes at even places of q0 (every fourth, if they are few) to where they belong."""
    few = outputs <= 4
    bits, full = 32 if few else 16, outputs in (4, 8)
    if few:
        yield from (f"adr r0, {label(f'few{height}')}", "vldrw.u32 q1, [r0]")
    else:
        yield f"vldrw.u32 q1, [sp, #{PLACES}]"
    yield from () if full else (f"movs r0, #{outputs}", f"vctp.{bits} r0", "vpst")
    yield f"vstrb{'' if full else 't'}.{bits} q0, [r7, q1]"


def _tables(strip: Strip) -> Iterator[str]:
    """Distances: of columns in the input, of columns in scratch memory, of outputs."""
    step, before = strip.steps_in[0], COLUMN * strip.inner.stride
    yield from (".balign 4", f"{label('columns')}:", f".word {', '.join(str(i * step) for i in range(4))}",
                f"{label('windows')}:", f".word {', '.join(str(i * COLUMN - before) for i in range(4))}")
    for height in range(1, strip.height + 1):
        places = strip.placed(height)
        yield from (f"{label(f'places{height}')}:", f".short {', '.join(map(str, places))}",
                    f"{label(f'few{height}')}:", f".word {', '.join(map(str, places[:4]))}")
