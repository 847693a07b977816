"""A product in assembly: pixels of a row times the weights of all channels, two and four of them at once.

    void @NAME@_run(const int8_t *const *rows, int8_t *out, const uint32_t *constants, uint32_t pixels)

The one rule: sums stay in the eight even registers, which VMLADAV adds to, until a window is done.
So r1 is at the constants, r3 and r7 at the two pixels, r5 at the output, r9 at the table of rows,
and r11 has the end of a loop, then the unit.

`rows` points at the rows of the first pixel's window and has a multiple of four entries; the function
moves a copy of its own on.
"""

from __future__ import annotations

from collections.abc import Iterator

from edgeq.firmware.assembly import function, label
from edgeq.firmware.mve.product import BYTE_REACH, VECTOR, WORD_REACH, Product
from edgeq.firmware.mve.requantize import of_channels

SUMS = ("r0", "r2", "r4", "r6", "r8", "r10", "r12", "lr")
UNROLLED = 18  # vectors of a window that are multiplied without a loop
BODY = 8  # vectors in the body of a loop along a row
KEPT = ("q5", "q6", "q7")
RING = ("q0", "q1", *KEPT, "q3")
CONSTANTS, LEFT, UNIT, END, TABLE = 32, 36, 40, 44, 48  # where the stack has them; the sums come first


def run(product: Product, suffix: str = "_run") -> str:
    """The function `@NAME@_run`, or one of another `suffix`; labels have it in front."""
    text = function(_run(product), suffix)
    return text.replace(label(""), label(suffix[1:] + "_"))


def added(target: str, source: str, amount: int) -> list[str]:
    """Instructions for `target` = `source` + `amount`, which may be more than one of them can add."""
    if 0 <= amount < 4096:
        return [f"add {target}, {source}, #{amount}"]
    if -4096 < amount < 0:
        return [f"sub {target}, {source}, #{-amount}"]
    if target != source:
        return [f"ldr {target}, ={amount}", f"add {target}, {target}, {source}"]
    return [f"ldr r0, ={amount}", f"add {target}, {target}, r0"]


def _run(product: Product) -> Iterator[str]:
    frame = TABLE + 4 * product.pointers + 2 * product.patch
    yield from ("push {r4-r11, lr}", "vpush {d8-d15}", f"sub sp, sp, #{frame}",
                "ldr r11, [r2], #4", f"str r11, [sp, #{UNIT}]", f"str r2, [sp, #{CONSTANTS}]",
                f"adr r2, {label('places')}", "vldrh.u16 q4, [r2]", "mov r5, r1")
    for i in range(0, 4 * product.pointers, VECTOR):
        yield from (f"vldrw.u32 q0, [r0, #{i}]", f"vstrw.32 q0, [sp, #{TABLE + i}]")
    if product.pairs:
        yield from _pairs(product)
    if product.single:
        yield from (*_gathered(product, 1), *_blocks(product, 1), f"{label('done')}:")
    yield from (f"add sp, sp, #{frame}", "vpop {d8-d15}", "pop {r4-r11, pc}",
                ".balign 4", f"{label('places')}:",
                ".short " + ", ".join(str(i // 2 + i % 2 * product.channels) for i in range(8)))


def _pairs(product: Product) -> Iterator[str]:
    """Two pixels after the other; on to what follows with one that is left, else to the end."""
    yield from ("subs r3, r3, #2", f"str r3, [sp, #{LEFT}]", f"blt.w {label('last')}",
                f"{label('pair')}:", *_gathered(product, 2), *_blocks(product, 2), *_moved_on(product),
                f"ldr r0, [sp, #{LEFT}]", "subs r0, r0, #2", f"str r0, [sp, #{LEFT}]",
                f"bge.w {label('pair')}", f"{label('last')}:")
    if product.single:
        yield from (f"ldr r0, [sp, #{LEFT}]", "adds r0, r0, #1", f"bne.w {label('done')}")


def _gathered(product: Product, pixels: int) -> Iterator[str]:
    """The short rows of the pixels' windows put side by side on the stack."""
    if not product.gathered:
        return
    places = ("r7", "r9")[:pixels]
    table = TABLE + 4 * product.pointers
    yield from [f"add {place}, sp, #{table + i * product.patch}" for i, place in enumerate(places)]
    for row in range(product.segments):
        yield f"ldr r0, [sp, #{TABLE + 4 * row}]"
        yield from [f"vldrb.u8 q{i}, [r0, #{i * product.step}]" for i in range(pixels)]
        yield from [f"vstrb.8 q{i}, [{place}, #{row * product.length}]" for i, place in enumerate(places)]


def _moved_on(product: Product) -> Iterator[str]:
    """The table moved on by two pixels, and the output over the second one's channels."""
    if ahead := 2 * product.channels - 4 * product.blocks:
        yield from added("r5", "r5", ahead)
    yield f"ldr r0, ={2 * product.step}"
    if product.segments == 1:
        yield from (f"ldr r2, [sp, #{TABLE}]", "add r2, r2, r0", f"str r2, [sp, #{TABLE}]")
        return
    for i in range(TABLE, TABLE + 4 * product.pointers, VECTOR):
        yield from (f"vldrw.u32 q0, [sp, #{i}]", "vadd.i32 q0, q0, r0", f"vstrw.32 q0, [sp, #{i}]")


def _blocks(product: Product, pixels: int) -> Iterator[str]:
    """All channels of one pixel or two: a loop over blocks of four."""
    loop, long = label(f"channels{pixels}"), product.rows * product.vectors > UNROLLED
    yield from (f"ldr r1, [sp, #{CONSTANTS}]", *added("r9", "r5", 4 * product.blocks),
                f"str r9, [sp, #{END}]")
    if _still(product):
        yield from (*_row(product, pixels, 0), *_resident(product, pixels))
    yield from (f"{loop}:", *_window(product, pixels), f"stm sp, {{{', '.join(SUMS[:4 * pixels])}}}",
                *([f"ldr r11, [sp, #{UNIT}]", f"ldr r9, [sp, #{END}]"] if long else []),
                *of_channels(product.form, pixels), *_stored(product, pixels),
                "cmp r5, r9", f"bne.w {loop}")


def _stored(product: Product, pixels: int) -> Iterator[str]:
    """The bytes at even places of q0 to the output; of the last block, those of channels that there are."""
    partial = product.channels % 4 != 0
    if partial:  # the channels that are left: four or more make a full vector
        yield from (f"ldr r0, [sp, #{END}]", "subs r0, r0, r5", f"sub r0, r0, #{4 - product.channels % 4}")
        yield from (["lsls r0, r0, #1"] if pixels == 2 else [])
        yield from (f"vctp.{32 // pixels} r0", "vpst")
    then = "t" if partial else ""
    if pixels == 2:
        yield from (f"vstrb{then}.16 q0, [r5, q4]", "adds r5, r5, #4")
    else:
        yield f"vstrb{then}.32 q0, [r5], #4"


def _window(product: Product, pixels: int) -> Iterator[str]:
    """The sums of four channels over the pixels' windows."""
    if _still(product):
        yield from _standing(product, pixels)
    elif product.rows * product.vectors <= UNROLLED:
        for row in range(product.rows):
            yield from _row(product, pixels, row)
            yield from _vectors(product, pixels, product.vectors, first=row == 0)
    else:
        yield from [f"mov {each}, #0" for each in SUMS[:4 * pixels]]
        yield from _rows(product, pixels)


def _rows(product: Product, pixels: int) -> Iterator[str]:
    """The rows of a window, in a loop if there are more than one."""
    if product.rows == 1:
        yield from (*_row(product, pixels, 0), *_along(product, pixels))
        return
    loop = label(f"rows{pixels}")
    yield from (f"add r9, sp, #{TABLE}", f"{loop}:", "ldr r3, [r9], #4",
                *_second(product, pixels), *_along(product, pixels),
                f"add r3, sp, #{TABLE + 4 * product.rows}", "cmp r9, r3", f"bne.w {loop}")


def _row(product: Product, pixels: int, row: int) -> Iterator[str]:
    """r3, and r7 where it is needed, at a row of the window."""
    if product.gathered:
        yield f"add r3, sp, #{TABLE + 4 * product.pointers}"
    else:
        yield from (f"ldr r3, [sp, #{TABLE + 4 * row}]", *_second(product, pixels))


def _second(product: Product, pixels: int) -> list[str]:
    return added("r7", "r3", product.step) if pixels == 2 and not _near(product) else []


def _along(product: Product, pixels: int) -> Iterator[str]:
    """A row of the window, in a loop if it is long."""
    times, rest = divmod(product.vectors, BODY)
    if times > 1:  # as _overlaps has it, too
        loop = label(f"along{pixels}")
        yield from (*added("r11", "r3", times * BODY * VECTOR), f"{loop}:",
                    *_vectors(product, pixels, BODY), "cmp r3, r11", f"bne.w {loop}",
                    *_vectors(product, pixels, rest))
    else:
        yield from _vectors(product, pixels, product.vectors)


def _vectors(product: Product, pixels: int, count: int, *, first: bool = False) -> Iterator[str]:
    """`count` vectors of each pixel times those of four channels; `first` begins the sums."""
    if pixels == 2 and _overlaps(product):
        yield from _overlapping(product, first=first)
        return
    far = f"{_load(product)} q1, [r3, #{product.step}]" if _near(product) else "vldrb.u8 q1, [r7], #16"
    for i in range(count):
        yield from ([far] if pixels == 2 else [])
        yield f"{_load(product)} q0, [r3], #16"
        yield from _channels([f"q{pixel}" for pixel in range(pixels)], first=first and i == 0)


def _overlaps(product: Product) -> bool:
    """Whether vectors of the second pixel are those of the first, further on, and a row has no loop."""
    ahead, rest = divmod(product.distance, VECTOR)
    return product.aligned and not rest and 0 < ahead < min(product.vectors, len(RING)) and (
        product.vectors < 2 * BODY)


def _overlapping(product: Product, *, first: bool) -> Iterator[str]:
    """A row of the window; what is loaded for the second pixel stays until it is the first one's turn."""
    ahead = product.distance // VECTOR
    ring = RING[: ahead + 1]
    for i in range(product.vectors + ahead):
        yield f"vldrw.u32 {ring[i % len(ring)]}, [r3], #16"
        if i >= ahead:
            pixels = [ring[(i - ahead) % len(ring)], ring[i % len(ring)]]
            yield from _channels(pixels, first=first and i == ahead)


def _channels(pixels: list[str], *, first: bool) -> Iterator[str]:
    """A vector of each pixel times those of four channels."""
    for channel in range(4):
        yield "vldrw.u32 q2, [r1], #16"
        for i, pixel in enumerate(pixels):
            yield f"{'vmladav' if first else 'vmladava'}.s8 {SUMS[4 * i + channel]}, q2, {pixel}"


def _load(product: Product) -> str:
    return "vldrw.u32" if product.aligned or product.gathered else "vldrb.u8"


def _near(product: Product) -> bool:
    """Whether the second pixel can be loaded by its distance from the first."""
    return product.distance <= (WORD_REACH if product.aligned or product.gathered else BYTE_REACH)


def _still(product: Product) -> bool:
    """Whether all vectors of both pixels can be loaded by their distance from r3, which then stands still."""
    last = product.distance + VECTOR * (product.vectors - 1)
    reach = WORD_REACH if product.aligned or product.gathered else BYTE_REACH
    return product.rows == 1 and product.vectors <= UNROLLED and last <= reach


def _resident(product: Product, pixels: int) -> Iterator[str]:
    """The first vectors, which stay in q5, q6 and q7 for all channels."""
    loads = zip(KEPT, _places(product, pixels), strict=False)
    yield from [f"{_load(product)} {register}, [r3, #{place}]" for register, place in loads]


def _places(product: Product, pixels: int) -> list[int]:
    """The distances of the vectors from r3, the pixels' taking turns."""
    return [i * VECTOR + pixel * product.distance for i in range(product.vectors) for pixel in range(pixels)]


def _standing(product: Product, pixels: int) -> Iterator[str]:
    """A window of one row, some of it in registers already."""
    places = _places(product, pixels)
    for i in range(0, len(places), pixels):
        taken = []
        for pixel in range(pixels):
            kept = i + pixel < len(KEPT)
            taken.append(KEPT[i + pixel] if kept else f"q{pixel}")
            yield from [] if kept else [f"{_load(product)} q{pixel}, [r3, #{places[i + pixel]}]"]
        yield from _channels(taken, first=i == 0)
