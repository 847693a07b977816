"""FULLY_CONNECTED, and products of a row or two: four outputs at a time, inputs widened as they are read.

No scratch. The constants hold, for each four outputs, four words for each four inputs, then the
constants of their requantization. Of mixed weights (see product.py) these are two channels' (x0, x2), the
other two's, then both pairs' (x1, x3); else a word each channel. Where the outputs are no multiple of
four the last block begins so that it ends with the last output; fewer than four are filled up with zeros.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from edgeq.arrays import Array
from edgeq.firmware.assembly import function, label
from edgeq.firmware.dsp.emitting import IMMEDIATE, added, listed, loop_cost, number
from edgeq.firmware.dsp.layer import Layer
from edgeq.firmware.dsp.product import four_by_four, mixable, mixed, plain
from edgeq.firmware.kernel import Constant, Input, Kernel, Output, Routine

PARAMETERS = "const int8_t *in, int8_t *out, const uint32_t *constants"
AT_ONCE = 4
W, EVEN, ODD, SUMS, T = ("r0", "r1", "r2", "r3"), "r4", "r5", ("r6", "r7", "r8", "r9"), "r10"
BODIES = range(6, 17)  # steps of four inputs in a loop
OUT, LEFT, CONSTANTS, ROWS = range(0, 16, 4)  # places in the frame
FRAME = 16


def dense(layer: Layer, rows: int) -> Kernel:
    """The product of (rows, inputs) with the weights of `layer`, a row at a time."""
    together = mixable(layer.weights)
    lines = [f"@ {rows} x {layer.inputs} -> {layer.outputs}", *_instructions(layer, rows, together=together)]
    return Kernel(Routine("dense", PARAMETERS, assembly=function(lines)),
                  (Input(), Output(), Constant("dense", _constants(layer, together=together))),
                  over_read=-layer.inputs % 4)


def _constants(layer: Layer, *, together: bool) -> Array:
    count, words = max(layer.outputs, AT_ONCE), layer.requantization.words
    weights = np.zeros((count, *four_by_four(layer.weights).shape[1:]), np.int64)
    weights[:layer.outputs] = four_by_four(layer.weights)
    parts = []
    for first in _firsts(layer.outputs):
        four = weights[first:first + AT_ONCE]
        if together:
            pairs = [mixed(four[0], four[1]), mixed(four[2], four[3])]
            block = np.stack([pairs[pair][:, half] for half in range(2) for pair in range(2)], 1)
        else:
            block = np.stack([plain(each) for each in four], 1)
        parts += [block.reshape(-1), words[first:first + AT_ONCE].reshape(-1)]
    return np.concatenate(parts)


def _firsts(outputs: int) -> list[int]:
    """The first output of each block."""
    whole = list(range(0, outputs - AT_ONCE + 1, AT_ONCE))
    return whole + ([outputs - AT_ONCE] if outputs % AT_ONCE and whole else []) or [0]


def _instructions(layer: Layer, rows: int, *, together: bool) -> Iterator[str]:
    yield from ("push {r4-r11, lr}", f"sub sp, sp, #{FRAME}", "mov r12, r0", f"str r1, [sp, #{OUT}]")
    if rows > 1:
        yield from (f"str r2, [sp, #{CONSTANTS}]", *number("r0", rows), f"str r0, [sp, #{ROWS}]",
                    f"{label('r')}:", f"ldr r2, [sp, #{CONSTANTS}]")
    yield "mov lr, r2"
    blocks = layer.outputs // AT_ONCE
    if blocks:
        yield from (*number("r0", blocks), f"str r0, [sp, #{LEFT}]", f"{label('c')}:")
    yield from _sums(-(-layer.inputs // 4), together=together)
    yield from _outputs(layer, together=together)
    yield from added("r12", -(-layer.inputs // 4) * -4, "r0")
    if blocks:
        yield from _more(layer.outputs % AT_ONCE)
    if rows > 1:
        yield from added("r12", layer.inputs, "r0")
        yield from (f"ldr r0, [sp, #{ROWS}]", "subs r0, r0, #1", f"str r0, [sp, #{ROWS}]",
                    f"bne.w {label('r')}")
    yield from (f"add sp, sp, #{FRAME}", "pop {r4-r11, pc}")


def _more(rest: int) -> Iterator[str]:
    """Back for the next block; with a rest, once more for the last four outputs."""
    yield from (f"ldr r0, [sp, #{LEFT}]", "subs r0, r0, #1", f"str r0, [sp, #{LEFT}]", f"bgt.w {label('c')}")
    if rest:
        yield from (f"bmi {label('e')}", f"sub r5, r5, #{AT_ONCE - rest}", f"str r5, [sp, #{OUT}]",
                    f"b.w {label('c')}", f"{label('e')}:")


def _sums(steps: int, *, together: bool) -> Iterator[str]:
    body = steps
    if steps > max(BODIES):
        body = min(BODIES, key=lambda body: loop_cost(steps, body, (2, AT_ONCE)))
    head = steps % body if body < steps else steps
    for step in range(head):
        yield from _step(fresh=step == 0, together=together)
    if not head:
        yield from (f"mov {each}, #0" for each in SUMS)
    if head < steps:
        yield from (f"mov r11, #{steps // body}" if steps // body < 256 else f"movw r11, #{steps // body}",
                    f"{label('k')}:")
        for _ in range(body):
            yield from _step(fresh=False, together=together)
        yield from ("subs r11, r11, #1", f"bne.w {label('k')}")


def _step(*, fresh: bool, together: bool) -> Iterator[str]:
    """Four inputs with the weights of four outputs."""
    yield from (f"ldr {EVEN}, [r12], #4", f"ldm lr!, {listed(W)}",
                f"sxtb16 {ODD}, {EVEN}, ror #8", f"sxtb16 {EVEN}, {EVEN}")
    if together:
        for word, inputs, first in zip(W, (EVEN, EVEN, ODD, ODD), (0, 2, 0, 2), strict=True):
            yield f"sxtb16 {T}, {word}"
            for weights, each in ((T, SUMS[first]), (word, SUMS[first + 1])):
                yield _multiplied(each, weights, inputs, fresh=fresh and inputs == EVEN)
    else:
        for word, each in zip(W, SUMS, strict=True):
            yield from (f"sxtb16 {T}, {word}", f"sxtb16 {word}, {word}, ror #8",
                        _multiplied(each, T, EVEN, fresh=fresh), _multiplied(each, word, ODD, fresh=False))


def _multiplied(total: str, weights: str, inputs: str, *, fresh: bool) -> str:
    return f"smuad {total}, {weights}, {inputs}" if fresh else f"smlad {total}, {weights}, {inputs}, {total}"


def _outputs(layer: Layer, *, together: bool) -> Iterator[str]:
    """Up to four outputs; r5 is the pointer behind them, as is its place in the frame."""
    way, real = layer.requantization, min(AT_ONCE, layer.outputs)
    if together:
        yield from (f"sub {SUMS[i + 1]}, {SUMS[i + 1]}, {SUMS[i]}" for i in (0, 2))
    yield f"ldr r5, [sp, #{OUT}]"
    for i, each in enumerate(SUMS[:real]):
        yield way.loaded("lr", W)
        yield from way.instructions([each], W, [T], 8 if together and i % 2 else 0)
        yield f"strb {each}, [r5], #1"
    yield f"str r5, [sp, #{OUT}]"


def takes(layer: Layer) -> bool:
    """Whether the loops' counts have room in their instructions."""
    return layer.inputs <= 16 * IMMEDIATE
