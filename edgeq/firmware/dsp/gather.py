"""The windows of a convolution, gathered into a block (see product.py): functions in assembly.

Rows of a window are read by words, up to three bytes beyond their end, where the weights are zero. Where
one byte of each of up to four rows is left over, these make one word together.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from edgeq.arrays import Array
from edgeq.firmware.assembly import label
from edgeq.firmware.dsp.emitting import IMMEDIATE, added
from edgeq.firmware.dsp.layer import Window
from edgeq.firmware.dsp.product import PIXELS

LOOP_FREE = 24  # words of a window that are gathered without a loop
ROW = 80  # instructions of a row that are written out


@dataclass(frozen=True)
class Rows:
    """How the rows of a `window` come into a block: `words` of each, and what is left over."""

    window: Window

    @property
    def count(self) -> int:
        """How many rows the window has."""
        return self.window.kernel[0]

    @property
    def bytes(self) -> int:
        """The bytes of a row of the window."""
        return self.window.kernel[1] * self.window.channels

    @property
    def joined(self) -> bool:
        """Whether the rows' last bytes make a word together."""
        return self.bytes % 4 == 1 and self.count <= 4 and self.count * (self.bytes // 4) <= LOOP_FREE

    @property
    def words(self) -> int:
        """The words that are read of each row."""
        return self.bytes // 4 if self.joined else -(-self.bytes // 4)

    @property
    def beside(self) -> int:
        """The bytes from a pixel's window to that of the next in its row."""
        return self.window.strides[1] * self.window.channels

    @property
    def threes(self) -> bool:
        """Whether there are three pixels in a row whose windows lie inside the input."""
        (h, w), (kh, kw) = self.window.source, self.window.kernel
        inside = h >= kh and w >= kw + 2 * self.window.strides[1] and self.window.sink[1] >= PIXELS
        return inside and self.count * w * self.window.channels + 2 * self.beside <= IMMEDIATE

    def ordered(self, weights: Array) -> Array:
        """Weights (outputs, rows * bytes) in the order that the block has the inputs in; zero elsewhere."""
        rows = weights.reshape(len(weights), self.count, self.bytes)
        filled = np.zeros((len(weights), self.count, 4 * self.words), np.int64)
        width = min(self.bytes, 4 * self.words)
        filled[:, :, :width] = rows[:, :, :width]
        tail = np.zeros((len(weights), 4 if self.joined else 0), np.int64)
        if self.joined:
            tail[:, :self.count] = rows[:, :, -1]
        together: Array = np.concatenate([filled.reshape(len(weights), -1), tail], 1)
        return together

    def one(self) -> Iterator[str]:
        """The function of (window, place in the block, bytes from a row to the next): one pixel."""
        word = ("ldr r3, [r0], #4", "sxtb16 r12, r3, ror #8", "sxtb16 r3, r3",
                f"str r12, [r1, #{4 * PIXELS}]", f"str r3, [r1], #{8 * PIXELS}")
        yield from ("push {r4-r7, lr}", f"sub r2, r2, #{4 * self.words}")
        yield from self._all(word, ["add r0, r0, r2"], "ldrsb r{}, [r0]" if self.joined else "", "1")
        if self.joined:
            yield from self._joined(["r4", "r5", "r6", "r7"], 0)
        yield "pop {r4-r7, pc}"

    def three(self) -> Iterator[str]:
        """The function of (window, block): three pixels of a row, all inside the input."""
        word = (f"ldr r7, [r0, #{self.beside}]", f"ldr r8, [r0, #{2 * self.beside}]", "ldr r6, [r0], #4",
                *(f"sxtb16 r{9 + i}, r{6 + i}, ror #8" for i in range(PIXELS)),
                *(f"sxtb16 r{6 + i}, r{6 + i}" for i in range(PIXELS)), "stm r1!, {r6-r11}")
        row = self.window.source[1] * self.window.channels
        yield "push {r4-r11, lr}"
        if self.joined:
            yield "mov r2, r0"
        yield from self._all(word, [*added("r0", row - 4 * self.words, "r3")], "", "3")
        if self.joined:
            for pixel in range(PIXELS):
                tails = [f"r{4 + i}" for i in range(4)]
                for i in range(self.count):
                    yield f"ldrsb {tails[i]}, [r2, #{i * row + 4 * self.words + pixel * self.beside}]"
                yield from self._joined(tails, 4 * pixel)
        yield "pop {r4-r11, pc}"

    def _all(self, word: tuple[str, ...], on: list[str], last: str, name: str) -> Iterator[str]:
        """All rows: r0 moves `on` from each to the next, `last` takes a row's last byte."""
        if self.count * self.words * len(word) <= 5 * LOOP_FREE:
            for row in range(self.count):
                yield from word * self.words
                if last:
                    yield last.format(4 + row)
                yield from on
            return
        yield from (f"mov r4, #{self.count}", f"{label(f'y{name}')}:")
        most = min(ROW // len(word), self.words)
        body = next(count for count in range(most, 0, -1) if self.words % count == 0)
        if body < self.words:
            yield from (f"movw r5, #{self.words // body}", f"{label(f'x{name}')}:")
        yield from word * body
        if body < self.words:
            yield from ("subs r5, r5, #1", f"bne {label(f'x{name}')}")
        yield from (*on, "subs r4, r4, #1", f"bne.w {label(f'y{name}')}")

    def _joined(self, bytes_: list[str], place: int) -> Iterator[str]:
        """A pixel's word of last bytes, as (x0, x2) and (x1, x3)."""
        one, two, three, four = bytes_
        yield f"pkhbt r3, {one}, {three}, lsl #16" if self.count > 2 else f"uxth r3, {one}"
        yield f"pkhbt r12, {two}, {four}, lsl #16" if self.count > 3 else f"uxth r12, {two}"
        yield from (f"str r12, [r1, #{4 * PIXELS + place}]", f"str r3, [r1, #{place}]")
