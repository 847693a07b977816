"""The window of a kernel over an image, axis by axis: where it lies, and which of its taps are inside.

The one rule: an axis along which every window is complete is written with literals alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from edgeq.firmware.kernel import Operation
from edgeq.firmware.portable.text import Lines, plus, term

SAME = 0  # of schema.fbs: Padding


@dataclass(frozen=True)
class Axis:
    """One axis of a window: `name` is y or x; `size` that of the input, `outputs` that of the output."""

    name: str
    size: int
    outputs: int
    taps: int
    stride: int
    dilation: int
    padding: int

    @property
    def reach(self) -> int:
        """From its first tap to its last one, both included."""
        return (self.taps - 1) * self.dilation + 1

    @property
    def complete(self) -> bool:
        """Whether all taps of every window are within the image."""
        return self.padding == 0 and (self.outputs - 1) * self.stride + self.reach <= self.size

    @property
    def first(self) -> str:
        """The first tap within the image, in C."""
        return "0" if self.complete else f"first_{self.name}"

    @property
    def end(self) -> str:
        """One behind the last tap within the image, in C."""
        return str(self.taps) if self.complete else f"end_{self.name}"

    @property
    def start(self) -> str:
        """Where the first tap within the image lies, in C."""
        origin = f"{self.name}0"
        return origin if self.complete else f"({origin}{term(self.dilation, self.first)})"

    @property
    def count(self) -> str:
        """How many taps are within the image, in C."""
        return str(self.taps) if self.complete else f"({self.end} - {self.first})"

    def bounds(self) -> Lines:
        """C that finds the window of output o`name`: its origin, and its first and last tap inside."""
        origin, room = f"{self.name}0", f"{self.size} - {self.name}0"
        lines = [f"const int32_t {origin} = o{self.name} * {self.stride}{plus(-self.padding)};"]
        if self.complete:
            return lines
        before = f"-{origin}" if self.dilation == 1 else f"({self.dilation - 1} - {origin}) / {self.dilation}"
        inside = room if self.dilation == 1 else f"({room}{plus(self.dilation - 1)}) / {self.dilation}"
        return [*lines,
                f"const int32_t {self.first} = {origin} < 0 ? {before} : 0;",
                f"const int32_t {self.end} = {room} < {self.reach} ? {inside} : {self.taps};"]


def whole(both: tuple[Axis, Axis]) -> Lines:
    """C of `whole`: whether all taps of a window are within the image; nothing where they always are."""
    found = " && ".join(f"{axis.end} - {axis.first} == {axis.taps}" for axis in both if not axis.complete)
    return [f"const int32_t whole = ({found}) ? 1 : 0;"] if found else []


def axes(operation: Operation, taps: tuple[int, int]) -> tuple[Axis, Axis]:
    """The two axes of an operation whose kernel has `taps` (height, width); TFLite's padding."""
    options, found = operation.operator.options, []
    for place, (name, letter) in enumerate((("y", "H"), ("x", "W"))):
        size, outputs = operation.source.shape[place + 1], operation.sink.shape[place + 1]
        stride = cast("int", options[f"stride{letter}"])
        dilation = cast("int", options.get(f"dilation{letter}Factor", 1))
        missing = (outputs - 1) * stride + (taps[place] - 1) * dilation + 1 - size
        padding = max(0, missing) // 2 if options["padding"] == SAME else 0
        found.append(Axis(name, size, outputs, taps[place], stride, dilation, padding))
    return found[0], found[1]
