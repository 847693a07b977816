"""Running a test firmware on an emulated board: samples in, outputs and exact counts out.

The one rule: whatever a firmware does (hang, fault, write too little, print without end) is a
ToolError that says so, within the time and the disk space that it was given.

    emulation = Emulation(BOARDS["mps2-an386"], input_bytes=490, output_bytes=12, counting="instructions")
    emulated = run(elf, samples.tobytes(), emulation)
    outputs = np.frombuffer(emulated.outputs, np.int8).reshape(-1, 12)
    emulated.counts.samples[0].instructions
"""

from __future__ import annotations

import re
import struct
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, Literal, TypeVar

from edgeq import tool
from edgeq.emulation import elf as elf_file
from edgeq.emulation import plugin
from edgeq.emulation.boards import Board
from edgeq.emulation.faults import found, told
from edgeq.emulation.timing import Events, Flash, events_of
from edgeq.errors import ToolError

EMULATOR = "qemu-system-arm"
BEGINS, ENDS = "eq_counting_begins", "eq_counting_ends"
STEP = re.compile(r"_step_(\d+)$")
SPARE = 16 << 20  # bytes that a run may write beside its outputs: what it prints among them
STATUSES: Mapping[int, str] = {  # of eq_test.h
    64: "found no samples", 65: "found a part of a sample at their end", 66: "could not write its outputs"}
Counting = Literal["none", "instructions", "memory", "events"]


@dataclass(frozen=True)
class Emulation:
    """How a firmware is run: on which board, with which sizes (bytes a sample), and for how long at most.

    `counting` is of `instructions`, or of loads and stores (`memory`) as well, which is slower, or of
    `events`, slower still, with the reads of the `flash` that the device has; `trace_bytes` is what a
    firmware with EQ_TRACE writes of a sample's steps.
    """

    board: Board
    input_bytes: int
    output_bytes: int
    timeout_s: float = 60.0
    counting: Counting = "none"
    trace_bytes: int = 0
    flash: Flash | None = None


@dataclass(frozen=True)
class Count:
    """Executed instructions, and the loads and stores among them (0 where they were not counted)."""

    instructions: int
    loads: int
    stores: int


Counted = TypeVar("Counted")


@dataclass(frozen=True)
class Counts(Generic[Counted]):
    """`samples` in their order; `steps` the steps of the model, each summed over the samples.

    `outside` is what runs before the first step.
    """

    samples: tuple[Counted, ...]
    steps: tuple[Counted, ...]
    outside: Counted


@dataclass(frozen=True)
class Emulated:
    """What a run left: the outputs, the bytes of stack used, and what was asked for besides.

    `trace` is a sequence of (step, size: 4 bytes each, little-endian; bytes), sample by sample.
    """

    outputs: bytes
    stack_bytes: int
    counts: Counts[Count] | None = None
    trace: bytes = b""
    events: Counts[Events] | None = None


def run(elf: Path, samples: bytes, emulation: Emulation) -> Emulated:
    """Run the firmware at `elf` on `samples`, one after the other without a gap.

    Raises ToolError where QEMU is missing, or the firmware hangs, faults, or ends without its outputs.
    """
    if len(samples) % emulation.input_bytes:
        raise ValueError(f"{len(samples)} bytes are no whole number of samples of {emulation.input_bytes}")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        (work / "in.bin").write_bytes(samples)
        argv = [*_limited(emulation, len(samples)), *arguments(elf, emulation.board),
                *_counted(work, elf, emulation)]
        finished = tool.run(argv, timeout_s=emulation.timeout_s, cwd=work,
                            name=f"the firmware on {emulation.board.machine}")
        _check(finished, elf, emulation.board)
        return _read(work, len(samples) // emulation.input_bytes, emulation)


def program() -> Path:
    """QEMU; ToolError with what to install where it is missing."""
    path = tool.find(EMULATOR)
    if path is None:
        raise ToolError(f"{EMULATOR} is not installed", "apt-get install qemu-system-arm")
    return path


def arguments(elf: Path, board: Board, serial: str = "none") -> list[str | Path]:
    """QEMU's command line for the firmware at `elf`, the board's first UART at `serial`."""
    return [program(), "-machine", board.machine, "-display", "none", "-monitor", "none", "-serial", serial,
            "-semihosting-config", "enable=on,target=native", "-kernel", elf.resolve()]


def _limited(emulation: Emulation, size: int) -> list[str | Path]:
    """What keeps a firmware from filling the disk: no file larger than what it is to write.

    QEMU's threads block the signal that would end them there, so the firmware goes on until its time is up.
    """
    limiter = tool.find("prlimit")
    if limiter is None:
        return []
    count = size // emulation.input_bytes
    largest = SPARE + count * max(emulation.output_bytes, emulation.trace_bytes)
    return [limiter, f"--fsize={largest}:{largest}"]


def _counted(work: Path, elf: Path, emulation: Emulation) -> list[str]:
    """The words that load the plugin, told where a sample and each step begins."""
    if emulation.counting == "none":
        return []
    functions = elf_file.functions(elf)
    if BEGINS not in functions or ENDS not in functions:
        raise ToolError(f"{elf.name} has no marks to count between", "link it with test_main.c")
    steps = sorted((int(match[1]), symbol.address) for name, symbol in functions.items()
                   if (match := STEP.search(name)))
    (work / "steps").write_text("".join(f"{address:x}\n" for _, address in steps), encoding="utf-8")
    begin, end = functions[BEGINS].address, functions[ENDS].address
    words = (f"begin={begin:#x}", f"end={end:#x}", "out=counts", "steps=steps", *_asked(emulation))
    source = plugin.EVENTS if emulation.counting == "events" else plugin.COUNT
    return ["-plugin", ",".join((str(plugin.built(source)), *words))]


def _asked(emulation: Emulation) -> tuple[str, ...]:
    """What the plugin is told to count."""
    if emulation.counting != "events":
        return (f"memory={'on' if emulation.counting == 'memory' else 'off'}",)
    flash, memory = emulation.flash, emulation.board.memory
    if flash is None:
        return ()
    return (f"flash={memory.flash}-{memory.flash + memory.flash_bytes}", f"read={flash.read_bytes}",
            f"line={flash.line_bytes}", f"fetched={flash.instruction_lines}", f"held={flash.data_lines}")


def _check(finished: tool.Finished, elf: Path, board: Board) -> None:
    """Raises ToolError where the firmware did not end well."""
    if registers := found(finished.output):
        message, hint = told(registers, elf)
        raise ToolError(f"the firmware faulted on {board.machine}: {message}", hint)
    if finished.status:
        what = STATUSES.get(finished.status, f"ended with status {finished.status}")
        raise ToolError(f"the firmware on {board.machine} {what}", tool.tail(finished.output))


def _read(work: Path, count: int, emulation: Emulation) -> Emulated:
    """What the firmware left in `work`; ToolError where it is not what `count` samples give."""
    outputs, end = _left(work, "out.bin"), _left(work, "end.bin")
    wanted = count * emulation.output_bytes
    if len(outputs) != wanted or len(end) != 8:
        raise ToolError(f"the firmware wrote {len(outputs)} bytes of outputs; {count} samples have {wanted}",
                        "it ended early, or was built for another model")
    done, stack = struct.unpack("<II", end)
    if done != count:
        raise ToolError(f"the firmware ran {done} samples of {count}", "it was built for another model")
    emulated = Emulated(outputs, stack, trace=_left(work, "trace.bin"))
    if emulation.counting == "none":
        return emulated
    if emulation.counting == "events":
        return replace(emulated, events=_counts(_left(work, "counts"), count, events_of))
    return replace(emulated, counts=_counts(_left(work, "counts"), count, lambda row: Count(*row)))


def _left(work: Path, name: str) -> bytes:
    path = work / name
    return path.read_bytes() if path.exists() else b""


def _counts(text: bytes, count: int, made: Callable[[list[int]], Counted]) -> Counts[Counted]:
    """What the plugin wrote (see count.c and events.c); `made` is made of its rows."""
    rows = [line.split() for line in text.decode("ascii", "replace").splitlines()]
    samples = tuple(made([int(word) for word in row[1:]]) for row in rows if row[0] == "sample")
    steps = [made([int(word) for word in row[2:]]) for row in rows if row[0] == "step"]
    if len(samples) != count or not steps:
        raise ToolError(f"instructions were counted of {len(samples)} samples, not of {count}",
                        "the emulator ended before its plugin had, or its version is another")
    return Counts(samples, tuple(steps[1:]), steps[0])
