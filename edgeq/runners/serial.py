"""A board at a serial port: the same firmware on the device itself, its outputs and its time measured.

The one rule: an output of the device counts only where it is, bit for bit, that of TensorFlow Lite
Micro and of the host build.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, get_args

import numpy as np

from edgeq import tool
from edgeq.arrays import Array
from edgeq.decode import meant
from edgeq.emulation.boards import SOURCES, Memory, Uart, harness, linker_script
from edgeq.emulation.cores import CORES
from edgeq.emulation.serial_link import Answer, Link, Patience
from edgeq.emulation.serial_port import held, opened
from edgeq.errors import ConfigError, ToolError
from edgeq.firmware.order import compiler
from edgeq.firmware.toolchain import WARNINGS, Toolchain
from edgeq.graph import read
from edgeq.interpret import from_grid, on_grid
from edgeq.measurement import Value, quantity, unavailable, value_of
from edgeq.program import ELF, OUTPUTS, SHIP, runnable_in, write_costs
from edgeq.runners.agreement import agreed, see_same, spread
from edgeq.samples import samples_in

FLASH_TIMEOUT_S = 300.0
FRAME_BITS = 10 * 2 * 260  # a request and its answer, ten bits a byte


@dataclass(frozen=True)
class Serial:
    """The device at the port `address`, flashed by the command `flash`; {elf} there is the firmware.

    `core`, `memory` (flash, flash_bytes, ram, ram_bytes) and `stack` are those that the firmware is linked
    for; `uart` is a kind that edgeq has, with its address `uart_base`, or a C file of the user's with
    eq_uart_open, eq_uart_read and eq_uart_write (see eq_test.h). `trigger` is a C file with eq_trigger, which
    sets a pin for a power meter. So many `samples`, spread over all, run
    on it; their cycles are counted where the core can, and `clock` makes them time.
    """

    packages: ClassVar = ("ai-edge-litert", "tflite-micro")
    live: ClassVar = True
    address: str
    core: str
    memory: Mapping[str, int | str]
    uart: str
    clock: float | str
    flash: tuple[str, ...] = ()
    uart_base: int = 0
    trigger: str = ""
    baud: int = 115200
    stack: int | str = "2KiB"
    samples: int = 20
    timeout_s: float = 60.0

    def tools(self) -> tuple[Path, ...]:
        """The cross compiler; ToolError with what to install where there is none."""
        return (compiler(),)

    def run(self, out: Path, program: Path, samples: Path) -> None:
        """Write the outputs for `samples`, and the cycles and the time of an inference on the device.

        Raises ToolError where it cannot be flashed, does not answer, or computes anything else.
        """
        graph = read(runnable_in(program))
        given = on_grid(graph, samples_in(samples))
        outputs, _ = agreed(program, given)
        chosen = spread(len(given), self.samples)
        answers = self.answers(program, given[chosen], outputs[0].nbytes)
        made = np.frombuffer(b"".join(answer.output for answer in answers), outputs.dtype)
        see_same(f"the device at {self.address}", made, outputs[chosen])
        np.save(out / OUTPUTS, from_grid(graph, outputs), allow_pickle=False)
        write_costs(out, self._costs(answers))

    def answers(self, program: Path, given: Array, output_bytes: int) -> list[Answer]:
        """What the device makes of `given` (n, *shape), of the model's own type; errors as `run`."""
        with tempfile.TemporaryDirectory() as work, held(self.address):
            elf = self._linked(Path(work), program, given[0].nbytes, output_bytes)
            return self._answered(elf, given, _digest(program))

    def _linked(self, work: Path, program: Path, input_bytes: int, output_bytes: int) -> Path:
        """The firmware for the device: the library that ships, and the serial link."""
        if self.core not in CORES:
            raise ConfigError(f"core: nothing is known of {self.core!r}{meant(self.core, CORES)}",
                              "correct it in target.yaml")
        archive = next((program / SHIP).glob("lib*.a"))
        name = archive.stem.removeprefix("lib")
        sources = (*harness(self._uart()), *self._trigger())
        for file in (archive, program / SHIP / "firmware" / f"{name}.h", *SOURCES.iterdir(), *sources):
            shutil.copyfile(file, work / file.name)
        (work / "device.ld").write_text(
            linker_script(self._memory(), self._bytes("stack", self.stack), "the device"), encoding="utf-8")
        macros = {
            "EQ_HEADER": f'"{name}.h"', "EQ_INVOKE": f"{name}_invoke", "EQ_INPUT": f"{name}_input()",
            "EQ_OUTPUT": f"{name}_output()", "EQ_INPUT_BYTES": input_bytes, "EQ_OUTPUT_BYTES": output_bytes,
            "EQ_TRACE": 1,  # what a traced library calls; over a serial line it tells nothing
            "EQ_DIGEST": ",".join(map(str, _digest(program))), "EQ_UART": f"{self.uart_base:#x}u",
            **({"EQ_TRIGGER": 1} if self.trigger else {})}
        chain = Toolchain(compiler(), (*CORES[self.core].flags, "-O2"))
        objects = chain.objects(work, [file.name for file in sources],
                                [*WARNINGS, *(f"-D{macro}={value}" for macro, value in macros.items())])
        return chain.linked(work, [*(each.name for each in objects), archive.name, "-T", "device.ld"], ELF)

    def _answered(self, elf: Path, given: Array, digest: bytes) -> list[Answer]:
        """What the device makes of `given`, sample by sample."""
        if self.flash:
            words = [word.replace("{elf}", str(elf)) for word in self.flash]
            finished = tool.run(words, timeout_s=FLASH_TIMEOUT_S, cwd=elf.parent)
            if finished.status:
                raise ToolError(f"{words[0]} ended with status {finished.status}: the device is not flashed",
                                tool.tail(finished.output))
        patience = Patience(repeat_s=0.3 + FRAME_BITS / self.baud, run_s=self.timeout_s)
        with opened(self.address, self.baud) as line:
            link = Link(line, patience, elf)
            if link.hello().digest != digest:
                raise ToolError(f"the device at {self.address} runs the firmware of another model",
                                "give the command that flashes it as `flash:`, with {elf} for the firmware")
            return [link.infer(np.ascontiguousarray(sample).tobytes()) for sample in given]

    def _costs(self, answers: list[Answer]) -> dict[str, Value]:
        """The cycles and the time of the longest inference."""
        most = max(answer.cycles for answer in answers)
        if not most:
            reason = "this core has no counter of cycles"
            return {metric: unavailable(metric, reason) for metric in ("cycles", "latency_ms")}
        return {metric: value_of(metric, value, "measured", n=len(answers), aggregation="max")
                for metric, value in (("cycles", most), ("latency_ms", 1000 * most / self._hertz))}

    def _uart(self) -> Uart | Path:
        kinds: Iterator[Uart] = (kind for kind in get_args(Uart) if kind == self.uart)
        if kind := next(kinds, None):
            if not self.uart_base:
                raise ConfigError(f"uart_base: the address of the {kind} UART is wanted",
                                  "it is in the reference manual of the device")
            return kind
        if not Path(self.uart).is_file():
            raise ConfigError(f"uart: there is no kind and no file {self.uart!r}",
                              f"use one of {', '.join(get_args(Uart))}, or a C file of your own")
        return Path(self.uart)

    def _trigger(self) -> tuple[Path, ...]:
        if self.trigger and not Path(self.trigger).is_file():
            raise ConfigError(f"trigger: there is no file {self.trigger!r}",
                              "name a C file of your own with eq_trigger (docs/power.md)")
        return (Path(self.trigger),) if self.trigger else ()

    def _memory(self) -> Memory:
        try:
            return Memory(**{name: self._bytes(name, size) for name, size in self.memory.items()})
        except TypeError as error:
            raise ConfigError("memory: flash, flash_bytes, ram and ram_bytes are wanted, "
                              f"not {', '.join(self.memory)}", "correct it in target.yaml") from error

    def _bytes(self, name: str, size: int | str) -> int:
        try:
            return int(quantity(size, "bytes"))
        except ValueError as error:
            raise ConfigError(f"{name}: {error}", "correct it in target.yaml") from error

    @property
    def _hertz(self) -> float:
        try:
            return quantity(self.clock, "hz")
        except ValueError as error:
            raise ConfigError(f"clock: {error}", "correct it in target.yaml") from error


def _digest(program: Path) -> bytes:
    """What the model of `program` is known by on the device."""
    return hashlib.sha256(runnable_in(program).read_bytes()).digest()[:8]
