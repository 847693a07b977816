"""From accumulators to int8 outputs in the DSP extension's instructions, and the constants that they take.

Constants are words that stand behind the weights of their channel. Four instructions an output do, two
more where outputs below the zero point are seen; where no such constants exist, the reference's own
seven do. Limits other than -128 and 127 are kept by saturating additions of bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgeq.arrays import Array
from edgeq.firmware.dsp.emitting import limited
from edgeq.firmware.fit import LIMIT, Sums, fitted

# The shifts n and k that are tried first: layers of one shape with the same shifts share their routine.
SHARED = (10, 8)
# Each is done for all sums before the next; what a semicolon joins, for each sum in turn.
EXACT = ("add {a}, {c[0]}, {scaled}", "lsl {a}, {a}, #1", "smmulr {a}, {a}, {c[1]}",
         "add {a}, {a}, {a}, asr #31", "add {a}, {a}, {c[2]}", "asr {a}, {a}, {c[3]}", "ssat {a}, #8, {a}")
FAST = ("add {a}, {c[0]}, {scaled}", "smmla {a}, {a}, {c[1]}, {c[2]}", "ssat {a}, #8, {a}, asr #{n}")
SIGNED = (FAST[0], "and {t}, {c[3]}, {a}, asr #31; sub {a}, {a}, {t}", *FAST[1:])


@dataclass(frozen=True, eq=False)
class Requantization:
    """How a layer's accumulators become outputs.

    `words` are the constants, (channels, 3 or 4) of uint32; `k` and `n` the layer's shifts; `up` and
    `down` how far its limits are from -128 and 127.
    """

    words: Array
    steps: tuple[str, ...]
    k: int
    n: int
    up: int
    down: int

    @property
    def width(self) -> int:
        """How many registers the constants of a channel take."""
        return int(self.words.shape[1])

    def loaded(self, pointer: str, registers: Sequence[str]) -> str:
        """The instruction that takes a channel's constants from `pointer`, which moves on."""
        return f"ldm {pointer}!, {{{', '.join(registers[:self.width])}}}"

    def instructions(
        self, sums: Sequence[str], constants: Sequence[str], spare: Sequence[str], scaled: int = 0
    ) -> Iterator[str]:
        """Turn the registers `sums`, each a sum times 2^scaled, into int8; the registers `spare` are lost."""
        for step in self.steps:
            yield from self._step(step, sums, (constants, spare), scaled)
        yield from limited(sums, spare[0], (self.up, self.down))

    def instructions_with(self, sums: Sequence[str], place: int, spare: tuple[str, str]) -> Iterator[str]:
        """The same with constants that lie on the stack from `place` on, loaded when they are needed."""
        for step in self.steps:
            wanted = [i for i in range(self.width) if f"c[{i}]" in step]
            if len(wanted) == 2:
                yield f"ldrd {spare[0]}, {spare[1]}, [sp, #{place + 4 * wanted[0]}]"
            elif wanted:
                yield f"ldr {spare[0]}, [sp, #{place + 4 * wanted[0]}]"
            constants = [spare[i in wanted[1:]] for i in range(self.width)]
            yield from self._step(step, sums, (constants, spare[1:]), 0)
        yield from limited(sums, spare[0], (self.up, self.down))

    def _step(
        self, step: str, sums: Sequence[str], registers: tuple[Sequence[str], Sequence[str]], scaled: int
    ) -> Iterator[str]:
        constants, spare = registers
        left = self.k - scaled
        shift = f", {'lsl' if left > 0 else 'asr'} #{abs(left)}" if left else ""
        for i, each in enumerate(sums):
            text = step.format(a=each, c=constants, t=spare[i % len(spare)], n=self.n, scaled=each + shift)
            yield from text.split("; ")


def requantization(sums: Sums) -> Requantization | None:
    """The way from `sums` to outputs; None where the sums are too large even for the reference's own steps.

    What is saturated lies at -128: outputs are computed less `up`, so that their lower limit is there.
    """
    up, down = sums.low + 128, 127 - sums.high
    moved = replace(sums, zero_point=sums.zero_point - up, low=-128, high=sums.high - up)
    fit = fitted(moved, *SHARED) or fitted(moved)
    if fit is None:
        return _exact(moved, (up, down))
    rows = [fit.add, fit.factor, fit.offset] + ([] if fit.less is None else [fit.less])
    steps = FAST if fit.less is None else SIGNED
    return Requantization(_words(rows), steps, fit.k, fit.n, up, down)


def _exact(sums: Sums, limits: tuple[int, int]) -> Requantization | None:
    """The reference's steps: bias, doubling high product, shift rounded half away from zero, saturation."""
    shift = np.where(sums.mantissas == 0, 1, -sums.shifts)
    if shift.min() < 1 or shift.max() > 30:
        return None
    rounding = (np.int64(1) << (shift - 1)) + (np.int64(sums.zero_point) << shift)
    largest = np.maximum(np.abs(sums.least + sums.bias), np.abs(sums.most + sums.bias))
    if largest.max() >= LIMIT // 2 or (np.abs(rounding) + largest).max() + 2 >= LIMIT:
        return None
    return Requantization(_words([sums.bias, sums.mantissas, rounding, shift]), EXACT, 0, 0, *limits)


def _words(rows: Sequence[Array]) -> Array:
    words: Array = (np.stack(rows, 1) & 0xFFFFFFFF).astype(np.uint32)
    return words
