"""CONV_2D of 1x1 kernels, and matrix products of many rows: blocks of three pixels, widened once.

Scratch: one block (see product.py). The last block begins so that it ends with the last pixel, and
computes some pixels once more. Rows of any length are read by words, up to three bytes beyond their end.
"""

from __future__ import annotations

from collections.abc import Iterator

from edgeq.firmware.assembly import function, label
from edgeq.firmware.dsp.emitting import IMMEDIATE, added, number
from edgeq.firmware.dsp.layer import Layer
from edgeq.firmware.dsp.product import PIXELS, Product, constants, mixable
from edgeq.firmware.kernel import Constant, Input, Kernel, Output, Routine, Scratch

PARAMETERS = "const int8_t *in, int8_t *out, const uint32_t *constants, uint32_t *scratch"
OUT, STOP, END, IN, LEFT, BLOCK, CONSTANTS = range(0, 28, 4)  # places in the frame
FRAME = 28


def pointwise(layer: Layer, pixels: int) -> Kernel | None:
    """The product of (pixels, inputs) with the weights of `layer`; None for less than a block of them."""
    if pixels < PIXELS or layer.outputs < 2 or PIXELS * layer.outputs > IMMEDIATE:
        return None
    together = mixable(layer.weights)
    product = Product(layer, together, (OUT, END))
    told = f"@ pixels x inputs -> outputs: {pixels} x {layer.inputs} -> {layer.outputs}"
    routine = Routine("pointwise", PARAMETERS, assembly=function([told, *_instructions(product, pixels)]))
    words = Constant("pointwise", constants(layer, together=together))
    return Kernel(routine, (Input(), Output(), words, Scratch()), scratch=8 * PIXELS * product.steps,
                  over_read=-layer.inputs % 4)


def _instructions(product: Product, pixels: int) -> Iterator[str]:
    block, outputs = label("b"), product.layer.outputs
    yield from ("push {r4-r11, lr}", f"sub sp, sp, #{FRAME}", f"str r0, [sp, #{IN}]", f"str r1, [sp, #{OUT}]",
                f"str r2, [sp, #{CONSTANTS}]", f"str r3, [sp, #{BLOCK}]")
    yield from added("r3", 8 * PIXELS * product.steps, "r4")
    yield f"str r3, [sp, #{END}]"
    yield from number("r0", pixels // PIXELS)
    yield from (f"str r0, [sp, #{LEFT}]", f"{block}:")
    yield from _packed(product)
    yield from (f"ldr r12, [sp, #{BLOCK}]", f"ldr lr, [sp, #{CONSTANTS}]", f"ldr r0, [sp, #{OUT}]")
    yield from added("r0", product.pairs, "r1")
    yield f"str r0, [sp, #{STOP}]"
    yield from product.instructions()
    yield from added("r0", (PIXELS - 1) * outputs, "r1")
    yield from (f"str r0, [sp, #{OUT}]", f"ldr r1, [sp, #{LEFT}]", "subs r1, r1, #1",
                f"str r1, [sp, #{LEFT}]", f"bgt.w {block}")
    if pixels % PIXELS:
        yield from _back(product, PIXELS - pixels % PIXELS)
    yield from (f"add sp, sp, #{FRAME}", "pop {r4-r11, pc}")


def _back(product: Product, pixels: int) -> Iterator[str]:
    """After all whole blocks one more, of the last pixels: the count is zero then, and after that below."""
    done = label("e")
    yield f"bmi {done}"
    yield from added("r0", -pixels * product.layer.outputs, "r1")
    yield from (f"str r0, [sp, #{OUT}]", f"ldr r0, [sp, #{IN}]")
    yield from added("r0", -pixels * product.layer.inputs, "r1")
    yield from (f"str r0, [sp, #{IN}]", f"b.w {label('b')}", f"{done}:")


def _packed(product: Product) -> Iterator[str]:
    """Three pixels' inputs widened into the block."""
    loop, steps, inputs = label("p"), product.steps, product.layer.inputs
    unrolled = steps if steps <= 4 else next(count for count in (4, 2, 1) if steps % count == 0)
    yield from (f"ldr r12, [sp, #{IN}]", f"ldr lr, [sp, #{BLOCK}]", "mov r6, r12")
    yield from added("r6", inputs, "r0")
    yield "mov r7, r6"
    yield from added("r7", inputs, "r0")
    yield f"{loop}:"
    for _ in range(unrolled):
        for i, pointer in enumerate(("r12", "r6", "r7")):
            yield f"ldr r{i}, [{pointer}], #4"
        for i in range(PIXELS):
            yield from (f"sxtb16 r{PIXELS + i}, r{i}, ror #8", f"sxtb16 r{i}, r{i}")
        yield "stm lr!, {r0-r5}"
    if unrolled < steps:
        yield from (f"ldr r0, [sp, #{END}]", "cmp lr, r0", f"bne {loop}")
    yield from added("r7", inputs - 4 * steps, "r0")
    yield f"str r7, [sp, #{IN}]"
