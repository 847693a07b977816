"""DEPTHWISE_CONV_2D of 3x3 kernels, strides 1 or 2: four channels at a time, pairs of rows in a word.

Scratch: two planes (see planes.py). The constants hold, for each channel, the weights of the rows (0, 1)
of its three columns as pairs of 16 bits, those of the rows (1, 2), then the constants of its
requantization.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from edgeq.arrays import Array
from edgeq.firmware.assembly import function, label
from edgeq.firmware.dsp.emitting import added, number
from edgeq.firmware.dsp.layer import Layer, Window
from edgeq.firmware.dsp.outputs import computed
from edgeq.firmware.dsp.planes import (
    BACK,
    CHANNELS,
    CONSTANTS,
    FRAME,
    GROUPS,
    IN,
    OUT,
    PLANES,
    REPEATS,
    SINK,
    SOURCE,
    Planes,
    widened,
)
from edgeq.firmware.kernel import Constant, Input, Kernel, Output, Routine, Scratch

PARAMETERS = "const int8_t *in, int8_t *out, const uint32_t *constants, uint32_t *scratch"


def depthwise(layer: Layer, window: Window) -> Kernel | None:
    """The depthwise convolution of `layer`, its weights (channels, 9); None for shapes unknown here."""
    shape = Planes(window, layer)
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


def _instructions(shape: Planes) -> Iterator[str]:
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


def _cleared(shape: Planes) -> Iterator[str]:
    """Zero points all over the planes: what lies beside the input's columns stays so."""
    yield from number("r4", shape.pad)
    yield from ("mov r5, r4", "mov r6, r4", "mov r7, r4", "mov r0, r3")
    yield from added("r0", 2 * CHANNELS * shape.plane, "r1")
    yield from (f"{label('z')}:", "stm r3!, {r4-r7}", "cmp r3, r0", f"bne {label('z')}")


def _steps(shape: Planes, parts: dict[str, Iterator[str]]) -> Iterator[str]:
    """The calls of a group's steps; two that come again and again are a loop. Fills in the `parts` called."""
    yield _widening(shape, 0, parts)
    step = 0
    while step < shape.steps:
        alike = _alike(shape, step)
        again = alike // 2 if alike >= 4 else 0
        calls = [call for each in range(step, step + (2 if again else 1))
                 for call in (_widening(shape, each + 1, parts), _computing(shape, each, parts))]
        yield from _repeated(again, calls, f"s{step}") if again else calls
        step += 2 * again or 1


def _alike(shape: Planes, first: int) -> int:
    """How many steps, from the `first` on, call the same parts but for the planes' places."""
    kinds = [(shape.inside(step + 1), shape.rows(step)) for step in range(first, shape.steps)]
    return next((i for i, kind in enumerate(kinds) if kind != kinds[0]), len(kinds))


def _repeated(count: int, calls: list[str], name: str) -> Iterator[str]:
    yield from (*number("r0", count), f"str r0, [sp, #{REPEATS}]", f"{label(name)}:", *calls,
                f"ldr r0, [sp, #{REPEATS}]", "subs r0, r0, #1", f"str r0, [sp, #{REPEATS}]",
                f"bne {label(name)}")


def _widening(shape: Planes, pair: int, parts: dict[str, Iterator[str]]) -> str:
    """The call of the part that widens two rows, which is made where it is new."""
    upper, lower = shape.inside(pair)
    name = f"w{upper:d}{lower:d}{pair & 1}"
    parts.setdefault(name, widened(shape, (upper, lower), pair & 1))
    return f"bl {label(name)}"


def _computing(shape: Planes, step: int, parts: dict[str, Iterator[str]]) -> str:
    """The call of the part that computes a step's outputs, which is made where it is new."""
    name = f"c{shape.rows(step)}{step & 1}"
    parts.setdefault(name, computed(shape, shape.rows(step), step & 1))
    return f"bl {label(name)}"
