"""From sums to int8 in vectors of four: the constants of a layer, and the instructions that use them.

The one rule: two forms, and every layer has one. `Fitted` is a product without rounding whose constants
are proved (see edgeq.firmware.fit); `Exact` repeats TFLM's own two roundings.

GNU as 2.40 encodes VQSHRNB and VQSHRNT as VQRSHRNB and VQRSHRNT. So the rounding ones are used
throughout, and half of what they divide by is taken out of the offset.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from edgeq.arrays import Array, Integers
from edgeq.firmware.fit import Sums, fitted

NARROWEST = 16  # VQRSHRN shifts no further


@dataclass(frozen=True)
class Fitted:
    """int8 = ((R << k) + add) * factor >> 32, plus offset, >> n, saturated; 1 << k is the `unit`."""

    n: int
    low: int
    high: int

    @property
    def rows(self) -> tuple[str, ...]:
        """The constants of a channel, in the order that instructions take them."""
        return ("add", "factor", "offset")


@dataclass(frozen=True)
class Exact:
    """int8 = R + bias, shifted `left` if any channel is, times mantissa, rounded, shifted right, rounded.

    `whole` says that some channel is shifted by nothing: then its sign must not count.
    """

    zero_point: int
    left: bool
    whole: bool
    low: int
    high: int

    @property
    def rows(self) -> tuple[str, ...]:
        """The constants of a channel, in the order that instructions take them."""
        return ("bias", *(("left",) if self.left else ()), "mantissa", "right")


Form = Fitted | Exact


@dataclass(frozen=True, eq=False)
class Requantization:
    """A form with its constants: `unit` for the layer, `rows` (in the form's order) by channels."""

    form: Form
    unit: int
    rows: Integers

    def padded(self, channels: int) -> Array:
        """The rows as words, with zeros for the channels that are not there."""
        missing = channels - self.rows.shape[1]
        return words(np.pad(self.rows, ((0, 0), (0, missing))))


def requantization(sums: Sums) -> Requantization:
    """How the sums of a layer become int8; the fitted form where it has one and is the shorter one."""
    unsigned = sums.low >= sums.zero_point
    fit = fitted(sums, NARROWEST) if unsigned else None
    if fit is not None and fit.less is None:
        rows = np.stack([fit.add, fit.factor, fit.offset - (1 << fit.n >> 1)])
        return Requantization(Fitted(fit.n, sums.low, sums.high), 1 << fit.k, rows)
    shifts = np.where(sums.mantissas == 0, -1, sums.shifts)  # of a product of 0, any
    left, right = np.maximum(shifts, 0), np.minimum(shifts, 0)
    form = Exact(sums.zero_point, bool(left.any()), bool((right == 0).any()), sums.low, sums.high)
    rows = np.stack([sums.bias, *([left] if form.left else []), sums.mantissas, right])
    return Requantization(form, 0, rows)


def words(values: Array) -> Array:
    """Integers as they lie in memory: 32 bits, the higher ones dropped."""
    return (np.asarray(values, np.int64) & 0xFFFFFFFF).astype(np.uint32)


def of_channels(form: Form, vectors: int, *, shared: bool = True) -> Iterator[str]:
    """Requantize one or two vectors of four channels, on the stack, to q0.

    The rows are at r1, a vector each (of each vector of sums, unless the channels are `shared`), and r1 is
    moved behind them; r11 holds the unit. The bytes of q0 that count are those at even places: the
    first of the first vector, the first of the second, the second of the first, …. r0, q1, q2, q3 are lost.
    """
    yield from [f"vldrw.u32 q{i}, [sp, #{16 * i}]" for i in range(vectors)]
    if isinstance(form, Fitted):
        yield from _fitted(vectors, shared=shared)
        yield from narrowed(form, ("q2", "q3")[:vectors])
    else:
        yield from _exact(form, vectors, shared=shared)
        yield from narrowed(form, ("q0", "q1")[:vectors])


def _fitted(vectors: int, *, shared: bool) -> Iterator[str]:
    """What a fitted form does to q0 and q1, left in q2 and q3."""
    if vectors == 2:
        yield from ("vldrw.u32 q2, [r1]" if shared else "vldrw.u32 q2, [r1], #16", "vldrw.u32 q3, [r1], #16")
    else:
        yield "vldrw.u32 q2, [r1], #16"
    sums = ("q2", "q3")[:vectors]
    yield from [f"vmla.s32 {each}, q{i}, r11" for i, each in enumerate(sums)]
    for instruction in ("vmulh.s32", "vadd.i32"):
        yield from _rowed("q0", [[f"{instruction} {each}, {each}, q0"] for each in sums], shared=shared)


def _exact(form: Exact, vectors: int, *, shared: bool) -> Iterator[str]:
    """What an exact form does to q0 and q1, in their place."""
    sums = ("q0", "q1")[:vectors]
    before = ("vadd.i32", "vshl.s32", "vqrdmulh.s32") if form.left else ("vadd.i32", "vqrdmulh.s32")
    for instruction in before:
        yield from _rowed("q2", [[f"{instruction} {each}, {each}, q2"] for each in sums], shared=shared)
    yield from _rowed("q2", [_halved(form, each) for each in sums], shared=shared)


def _rowed(constant: str, steps: Iterable[list[str]], *, shared: bool) -> Iterator[str]:
    """`steps`, one a vector of sums, each with its row in the register `constant`."""
    for i, step in enumerate(steps):
        if i == 0 or not shared:
            yield f"vldrw.u32 {constant}, [r1], #16"
        yield from step


def _halved(form: Exact, each: str) -> list[str]:
    """A vector shifted right by q2; a negative half is rounded down, so one less is rounded up."""
    sign = [f"vand q3, {each}, q2", "vshr.s32 q3, q3, #31"] if form.whole else [f"vshr.s32 q3, {each}, #31"]
    return [*sign, f"vadd.i32 {each}, {each}, q3", f"vrshl.s32 {each}, {each}, q2"]


def of_pixels(form: Form, vectors: int) -> Iterator[str]:
    """Requantize four or eight sums of one channel, on the stack, to the bytes at even places of q0.

    Byte 0 is the first sum of the first four, byte 2 that of the second four, and so on. r3 and r5 hold
    what the form adds first and last (bias and shift of the exact one), q5 the factor and q4 the unit.
    r0, q1, q2 are lost.
    """
    sums = ("q1", "q2")[:vectors]
    yield from [f"vldrw.u32 {each}, [sp, #{16 * i}]" for i, each in enumerate(sums)]
    if isinstance(form, Fitted):
        for instruction in ("vmlas.s32 {0}, q4, r3", "vmulh.s32 {0}, {0}, q5", "vadd.i32 {0}, {0}, r5"):
            yield from [instruction.format(each) for each in sums]
    else:
        for each in sums:
            yield from (f"vadd.i32 {each}, {each}, r3", f"vqrdmulh.s32 {each}, {each}, q5",
                        f"vshr.s32 q0, {each}, #31", f"vadd.i32 {each}, {each}, q0",
                        f"vrshl.s32 {each}, r5")
    yield from narrowed(form, sums)


def narrowed(form: Form, sums: Sequence[str]) -> Iterator[str]:
    """One or two vectors of 32 bits to the bytes at even places of q0, within the limits of a form.

    r0 is lost, and q1 where there are limits.
    """
    if isinstance(form, Fitted):
        yield from [f"vqrshrn{'bt'[i]}.s32 q0, {each}, #{form.n}" for i, each in enumerate(sums)]
    else:
        yield from [f"vqmovn{'bt'[i]}.s32 q0, {each}" for i, each in enumerate(sums)]
        yield from (f"mov r0, #{form.zero_point}", "vqadd.s16 q0, q0, r0")
    yield "vqmovnb.s16 q0, q0"
    if form.low > -128:
        yield from (f"mov r0, #{form.low}", "vdup.8 q1, r0", "vmax.s8 q0, q0, q1")
    if form.high < 127:
        yield from (f"mov r0, #{form.high}", "vdup.8 q1, r0", "vmin.s8 q0, q0, q1")
