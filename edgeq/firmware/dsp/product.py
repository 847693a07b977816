"""Products of a block of three pixels with all channels' weights, two channels at a time.

Memory: the block holds the pixels' inputs as pairs of 16 bits, for each four inputs x0 … x3 the words
(x0, x2) of the three pixels, then their words (x1, x3); the inputs are filled up to a multiple of four.
The constants hold, for each two channels, two words for each four inputs, then the constants of the
requantization of the first channel, and of the second.

Where the sums allow it the weights of two channels are mixed: a halfword is 256 * (weight of the second)
+ (weight of the first), so that its low byte alone has to be widened: the sum with whole halfwords, less
the first channel's sum, is 256 times the second's. Otherwise a word has four weights of one channel.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from edgeq.arrays import Array, Integers
from edgeq.firmware.assembly import label
from edgeq.firmware.dsp.emitting import added, listed, loop_cost
from edgeq.firmware.dsp.layer import Layer
from edgeq.firmware.fit import LIMIT, reach

PIXELS = 3
X, W, T = ("r0", "r1", "r2"), ("r3", "r4"), "r5"  # inputs of a step, its weights, widened weights
SUMS = (("r6", "r7", "r8"), ("r9", "r10", "r11"))  # a channel's, of the three pixels
BLOCK, WEIGHTS = "r12", "lr"
UNROLLED = 18  # steps of four inputs that are written out
BODIES = range(6, 17)  # how many are in a loop, where there are more


def mixable(weights: Integers) -> bool:
    """Whether pairs of channels may share halfwords: those have room, and so has 256 times each sum."""
    least, most = reach(weights)
    return bool(max(-least.min(), most.max()) < LIMIT >> 8 and weights.min() > -128)


def four_by_four(weights: Integers) -> Integers:
    """Weights (outputs, inputs) as (outputs, steps, 4), filled up with zeros."""
    outputs, inputs = weights.shape
    filled = np.zeros((outputs, -(-inputs // 4) * 4), np.int64)
    filled[:, :inputs] = weights
    return filled.reshape(outputs, -1, 4)


def mixed(first: Integers, second: Integers) -> Array:
    """Words of two channels, (steps, 2), from their weights (steps, 4)."""
    halves = (256 * second + first) & 0xFFFF
    return (halves[:, :2] | halves[:, 2:] << 16).astype(np.uint32)


def plain(weights: Integers) -> Array:
    """Words of one channel, (steps,), from its weights (steps, 4)."""
    words: Array = np.ascontiguousarray(weights.astype(np.int8)).view(np.uint32).reshape(-1)
    return words


def constants(layer: Layer, *, together: bool) -> Array:
    """The words of a layer, two channels at a time; of an odd number, the last two come once more."""
    steps, words = four_by_four(layer.weights), layer.requantization.words
    first = [*range(0, layer.outputs - 1, 2), *([layer.outputs - 2] if layer.outputs % 2 else [])]
    parts = []
    for one in first:
        pair = (mixed(steps[one], steps[one + 1]) if together
                else np.stack([plain(steps[one]), plain(steps[one + 1])], 1))
        parts += [pair.reshape(-1), words[one], words[one + 1]]
    return np.concatenate(parts)


@dataclass(frozen=True, eq=False)
class Product:
    """The loop over channels: block at BLOCK, constants at WEIGHTS; the frame is the caller's.

    `frame` are the places, on the stack, of the output pointer and of the end of the block. The word
    behind the first is where the pointer is after the last whole pair (see `pairs`). `name` tells its
    labels from others of the function.
    """

    layer: Layer
    together: bool
    frame: tuple[int, int]
    name: str = "c"

    @property
    def steps(self) -> int:
        """How many times four inputs a pixel has."""
        return -(-self.layer.inputs // 4)

    @property
    def pairs(self) -> int:
        """How many channels come in whole pairs."""
        return self.layer.outputs // 2 * 2

    def instructions(self) -> Iterator[str]:
        """All channels of a block; the output pointer ends behind the first pixel's last channel."""
        loop, out = label(self.name), self.frame[0]
        yield f"{loop}:"
        yield from self._sums()
        yield from self._outputs()
        yield f"ldrd r0, r1, [sp, #{out}]"
        yield from self._stored()
        yield from added(BLOCK, -8 * PIXELS * self.steps, "r2")
        yield f"str r0, [sp, #{out}]"
        yield "cmp r0, r1"
        yield f"blo.w {loop}"
        if self.layer.outputs % 2:
            yield from self._last(loop, out)

    def _last(self, loop: str, out: int) -> Iterator[str]:
        """The last two of an odd number of channels, one channel further back; and no more after that."""
        done = label(f"{self.name}d")
        yield from (f"bhi {done}", "sub r0, r0, #1", f"str r0, [sp, #{out}]", f"b.w {loop}", f"{done}:")

    def _sums(self) -> Iterator[str]:
        body = self._body()
        head = self.steps % body if body < self.steps else self.steps
        for number in range(head):
            yield from self._step(first=number == 0)
        if not head:
            yield from (f"mov {each}, #0" for each in (*SUMS[0], *SUMS[1]))
        if head < self.steps:
            loop = label(f"{self.name}k")
            yield f"{loop}:"
            for _ in range(body):
                yield from self._step(first=False)
            yield from (f"ldr {T}, [sp, #{self.frame[1]}]", f"cmp {BLOCK}, {T}", f"bne.w {loop}")

    def _body(self) -> int:
        """How many steps the loop over inputs has in it; all of them where it is none."""
        if self.steps <= UNROLLED:
            return self.steps
        return min(BODIES, key=lambda body: loop_cost(self.steps, body, (3, 2 * PIXELS)))

    def _step(self, *, first: bool) -> Iterator[str]:
        """Four inputs of each pixel, with the weights of two channels."""
        yield f"ldrd {W[0]}, {W[1]}, [{WEIGHTS}], #8"
        for half in range(2):
            yield f"ldm {BLOCK}!, {listed(X)}"
            fresh = first and half == 0
            if self.together:
                yield f"sxtb16 {T}, {W[half]}"
                yield from _multiplied(SUMS[0], T, fresh=fresh)
                yield from _multiplied(SUMS[1], W[half], fresh=fresh)
            else:
                for sums, weights in zip(SUMS, W, strict=True):
                    yield f"sxtb16 {T}, {weights}" + (", ror #8" if half else "")
                    yield from _multiplied(sums, T, fresh=fresh)

    def _outputs(self) -> Iterator[str]:
        way, free = self.layer.requantization, (*X, *W, T)
        if self.together:
            yield from (f"sub {b}, {b}, {a}" for a, b in zip(*SUMS, strict=True))
        for sums, scaled in zip(SUMS, (0, 8 if self.together else 0), strict=True):
            yield way.loaded(WEIGHTS, free)
            yield from way.instructions(sums, free, free[way.width:], scaled)

    def _stored(self) -> Iterator[str]:
        """Two channels of each pixel, the first last, as it moves the pointer on."""
        for pixel in reversed(range(PIXELS)):
            for channel in (1, 0):
                place = pixel * self.layer.outputs + channel
                yield f"strb {SUMS[channel][pixel]}, " + (f"[r0, #{place}]" if place else "[r0], #2")


def _multiplied(sums: Sequence[str], weights: str, *, fresh: bool) -> Iterator[str]:
    for each, inputs in zip(sums, X, strict=True):
        yield f"smuad {each}, {weights}, {inputs}" if fresh else f"smlad {each}, {weights}, {inputs}, {each}"
