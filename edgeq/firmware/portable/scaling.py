"""How the sums of a weighted layer begin and become outputs, int8 and int16x8: constants and C.

The one rule: what differs between channels is an array, a record a channel; what a layer's channels share is
written into the text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from edgeq.arrays import Array, Integers
from edgeq.errors import Refused
from edgeq.firmware.arithmetic import bounds, multipliers
from edgeq.firmware.kernel import NAME, Constant, Operation
from edgeq.firmware.portable.text import Lines, plus
from edgeq.graph import Tensor, values_of

WIDEST = 2**31 - 1
SHORT = 2**30  # below it a sum can be rounded in fewer instructions
ENTRY = re.compile(r"channel\[(\d+)\]")
BLOCKS = (4, 2)  # how many channels are summed at once, so that an input is loaded once for all of them


@dataclass(frozen=True, eq=False)
class Layer:
    """A weighted layer: `weights` (channels, taps …) as int8, one row what an output sums over.

    `places` are those of source, weights and bias among the inputs; `complete` says that every output
    sums over all of its row; `narrow_bias` that TFLM has the operator for int16 with a bias of int32.
    """

    operation: Operation
    weights: Array
    complete: bool
    places: tuple[int, int, int] = (0, 1, 2)
    narrow_bias: bool = True

    @property
    def source(self) -> Tensor:
        """What the layer reads."""
        return self.operation.input(self.places[0])

    @property
    def wide(self) -> bool:
        """Whether its activations are int16."""
        return self.source.dtype == "INT16"

    @property
    def offset(self) -> int:
        """What is added to every input: its zero point, negated."""
        return -int(self.source.grid.zero_points[0])

    @property
    def bias_tensor(self) -> Tensor | None:
        """The bias, where there is one."""
        place = self.places[2]
        return self.operation.inputs[place] if place < len(self.operation.inputs) else None

    @property
    def bias(self) -> Integers:
        """The bias, a channel each; zeros where there is none."""
        tensor, channels = self.bias_tensor, len(self.weights)
        return np.zeros(channels, np.int64) if tensor is None else values_of(tensor).astype(np.int64)

    def factors(self) -> tuple[Integers, Integers]:
        """Mantissas and shifts, a channel each."""
        grid = self.operation.input(self.places[1]).grid
        found = multipliers(self.operation.name, self.source.grid, grid, self.operation.sink.grid)
        mantissas, shifts = (np.broadcast_to(each, len(self.weights)) for each in found)
        return mantissas, shifts


@dataclass(frozen=True, eq=False)
class Sums:
    """The C of a channel's sum: the type it is kept in, how it begins and how it ends.

    It begins as `whole` over raw inputs, as `part` over inputs with `offset`; `record` is how many
    entries of `channels` a channel has; `output` is what becomes of `sum`, of the type `result`.
    """

    constants: tuple[Constant, ...]
    parameters: str
    kind: str
    whole: str
    part: str
    offset: int
    record: int
    result: str
    output: str

    def taken(self, value: str) -> str:
        """An input as it is multiplied, where a window is not complete."""
        return f"({value}{plus(self.offset)})" if self.offset else value

    def finish(self) -> Lines:
        """The function that makes an output of a channel's sum, to stand before the routine."""
        return [f"static inline {self.result} {NAME}_output({self.kind} sum, const int32_t *channel) {{",
                f"  return ({self.result})({self.output});", "}", ""]

    def begun(self, block: int, *, part: bool = False, declared: bool = True) -> Lines:
        """The sums of `block` channels side by side as they begin."""
        begin, kind = self.part if part else self.whole, f"{self.kind} " if declared else ""
        return [f"{kind}sum{each} = {_ahead(begin, each * self.record)};" for each in range(block)]

    def finished(self, block: int) -> Lines:
        """Stores the outputs of `block` channels, and goes on to the next ones."""
        ahead = [f" + {each * self.record}" if each else "" for each in range(block)]
        return [*(f"*y++ = {NAME}_output(sum{each}, channel{step});" for each, step in enumerate(ahead)),
                f"channel += {block * self.record};"]


def weights_of(operation: Operation, place: int) -> Array:
    """The weights at an input, as int8 in their shape; Refused where they are no symmetric constant."""
    tensor = operation.input(place)
    if not tensor.constant:
        raise Refused("its weights are computed at run time", "export the model with constant weights")
    if tensor.dtype not in ("INT8", "INT4") or tensor.grid.zero_points.any():
        raise Refused(f"its weights are {tensor.dtype}, and not all of their zero points are 0"
                      if tensor.grid.zero_points.any() else f"its weights are {tensor.dtype}",
                      "use an int8 or int16x8 recipe, with symmetric weights")
    return values_of(tensor)


def sums(layer: Layer) -> Sums:
    """The sums of a layer."""
    mantissas, shifts = layer.factors()
    sink, options = layer.operation.sink, layer.operation.operator.options
    clamp = bounds(int(str(options.get("fusedActivationFunction", 0))), sink.grid, sink.dtype)
    return _wide(layer, mantissas, shifts, clamp) if layer.wide else _narrow(layer, mantissas, shifts, clamp)


def _narrow(layer: Layer, mantissas: Integers, shifts: Integers, clamp: tuple[int, int]) -> Sums:
    rows = layer.weights.reshape(len(layer.weights), -1).astype(np.int64).sum(axis=1)
    entries = [_checked(layer.bias + layer.offset * rows), mantissas, *_exponents(shifts)]
    if partial := bool(layer.offset) and not layer.complete:
        entries.append(layer.bias)
    zero_point = int(layer.operation.sink.grid.zero_points[0])
    value = f"{_rescaled(shifts, short=reaches(layer) < SHORT)}{plus(zero_point)}"
    return Sums((_records(entries),), "const int32_t *channels", "int32_t", "channel[0]",
                f"channel[{len(entries) - 1}]" if partial else "channel[0]", layer.offset, len(entries),
                "int8_t", f"eq_clamped({value}, {clamp[0]}, {clamp[1]})")


def _wide(layer: Layer, mantissas: Integers, shifts: Integers, clamp: tuple[int, int]) -> Sums:
    """int16 inputs have no zero point. The bias decides how TFLM sums and scales: in 64 bits, or in 32."""
    tensor = layer.bias_tensor
    if layer.offset or layer.operation.sink.grid.zero_points[0]:
        raise Refused("its int16 tensors have zero points", "use a symmetric int16x8 recipe")
    if tensor is not None and tensor.dtype != "INT64":
        if not layer.narrow_bias:
            raise Refused(f"its bias is {tensor.dtype}; beside int16 activations it is to be INT64",
                          "convert the model again, with the converter's usual biases")
        return _short(layer, mantissas, shifts, clamp)
    reduced = np.where(mantissas < 0x7FFF0000, (mantissas + (1 << 15)) >> 16, 0x7FFF)
    kind = "int32_t" if reaches(layer) <= WIDEST else "int64_t"
    entries = [layer.bias & 0xFFFFFFFF, layer.bias >> 32, reduced, 15 - shifts]
    start = ("(int32_t)channel[0]" if kind == "int32_t"
             else "(int64_t)(((uint64_t)(uint32_t)channel[1] << 32) | (uint32_t)channel[0])")
    entries = entries if kind == "int64_t" else [entries[0], *entries[2:]]
    last = len(entries) - 1
    return Sums((_records(entries),), "const int32_t *channels", kind, start, start, 0, len(entries),
                "int16_t", f"eq_clamped(eq_scaled_wide(sum, channel[{last - 1}], channel[{last}]), "
                f"{clamp[0]}, {clamp[1]})")


def _short(layer: Layer, mantissas: Integers, shifts: Integers, clamp: tuple[int, int]) -> Sums:
    entries = [layer.bias, mantissas, *_exponents(shifts)]
    return Sums((_records(entries),), "const int32_t *channels", "int32_t", "channel[0]", "channel[0]", 0,
                len(entries), "int16_t", f"eq_clamped({_rescaled(shifts)}, {clamp[0]}, {clamp[1]})")


def block_of(channels: int) -> int:
    """How many of so many channels are summed at once."""
    return next((block for block in BLOCKS if channels % block == 0), 1)


def reaches(layer: Layer) -> int:
    """A magnitude that no sum exceeds on its way."""
    rows = np.abs(layer.weights.reshape(len(layer.weights), -1).astype(np.int64)).sum(axis=1)
    most = 32768 if layer.wide else 128
    return int((rows * (most + abs(layer.offset)) + np.abs(layer.bias)).max())


def _ahead(entry: str, step: int) -> str:
    """C of `channel[…]` for a channel whose record is `step` entries further on."""
    return ENTRY.sub(lambda found: f"channel[{int(found[1]) + step}]", entry)


def _exponents(shifts: Integers) -> list[Integers]:
    """What records say of the shifts: nothing where all are one, downward where all are."""
    if (shifts == shifts[0]).all():
        return []
    return [-shifts if shifts.max() <= 0 else shifts]


def _rescaled(shifts: Integers, *, short: bool = False) -> str:
    """C of `sum`, scaled."""
    if (shifts == shifts[0]).all() and shifts[0] > 0:
        return f"eq_scaled(sum, channel[1], {shifts[0]})"
    if shifts.max() > 0:
        return "eq_scaled(sum, channel[1], channel[2])"
    exponent = str(-shifts[0]) if (shifts == shifts[0]).all() else "channel[2]"
    near = short and shifts.min() > -31 and shifts.max() < 0
    rounding = "eq_rounding_shift_short" if near else "eq_rounding_shift"
    return f"{rounding}(eq_doubling_high(sum, channel[1]), {exponent})"


def _records(entries: list[Integers]) -> Constant:
    """The entries of a channel side by side, as int32."""
    values = np.stack(entries, axis=-1)
    return Constant("channels", np.ascontiguousarray(values).astype(np.int64).astype(np.int32))


def _checked(bias: Integers) -> Integers:
    if np.abs(bias).max() > WIDEST:
        raise Refused("its bias does not fit in 32 bits", "check the scales of its input and weights")
    return bias
