"""Kernels on an emulated board: many of them in one firmware, each against what it should answer."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from linking import Program, link

from edgeq.emulation.boards import BOARDS, harness, linker_script
from edgeq.emulation.cores import CORES
from edgeq.emulation.qemu import Emulation, run
from edgeq.firmware.assembly import function
from edgeq.firmware.kernel import NAME, Constant, Input, Kernel, Operation, Output, Routine, Scratch
from edgeq.firmware.prelude import PRELUDE
from edgeq.graph import Operator, Quantization, Tensor

MACHINES = {"cortex-m4": "mps2-an386", "cortex-m7": "mps2-an500", "cortex-m33": "mps2-an505",
            "cortex-m55": "mps3-an547"}
STEPS = """\
#include <stdint.h>
#include <string.h>
typedef void (*routine_t)(void);
typedef struct {
  routine_t routine;
  const void *given[4];  /* 1, 2: inputs, 3: output, 4: scratch, else a constant's address */
  const int8_t *in, *want;
  uint32_t in_bytes, second, out_bytes, scratch_bytes, over;  /* over 1, 2: the output lies there */
} case_t;
void cases_invoke(const void *in, void *out);
uint32_t called(routine_t routine, const void *const arguments[4]);
static union { int64_t aligned; int8_t bytes[@SIZE@]; } source, sink, room;
static uint32_t lost;

static void prepared(const case_t *each, const void *arguments[4]) {
  const void *const places[5] = {0, source.bytes, &source.bytes[each->second], &sink.bytes[64],
                                 &room.bytes[64]};
  memset(&source, 0x5a, sizeof source);
  memset(&sink, 0x5a, sizeof sink);
  memset(&room, 0x5a, sizeof room);
  memcpy(&source, each->in, each->in_bytes);
  for (uint32_t i = 0u; i < 4u; i++) {
    const uintptr_t number = (uintptr_t)each->given[i];
    arguments[i] = (number < 5u) ? places[number] : each->given[i];
  }
}

static uint32_t checked(const case_t *each) {
  uint32_t wrong = (lost != 0u) ? 1000000u : 0u;
  const int8_t *const left[3] = {&sink.bytes[64], source.bytes, &source.bytes[each->second]};
  for (uint32_t i = 0u; i < each->out_bytes; i++) {
    wrong += (left[each->over][i] != each->want[i]) ? 1u : 0u;
  }
  for (uint32_t i = 0u; i < 64u; i++) {
    const int8_t *behind = &sink.bytes[64u + each->out_bytes];
    const int8_t *beyond = &room.bytes[64u + each->scratch_bytes];
    wrong += ((sink.bytes[i] != 0x5a) || (behind[i] != 0x5a)) ? 10000000u : 0u;
    wrong += ((room.bytes[i] != 0x5a) || (beyond[i] != 0x5a)) ? 100000000u : 0u;
  }
  return wrong;
}

static const void *now[4];
"""
INVOKE = """\
void cases_invoke(const void *in, void *out) {
  uint32_t *wrong = out;
  (void)in;
  for (uint32_t i = 0u; i < sizeof steps / sizeof steps[0]; i++) {
    steps[i](&wrong[i / 3u]);
  }
}
"""

CALLED = """\
  .syntax unified
  .thumb
  .global called
  .type called, %function
called:  @ (routine, arguments): zero if the routine keeps the registers that it must
  push {r4-r11, lr}
  sub sp, sp, #4
  mov r12, r0
  ldm r1, {r0-r3}
  movw r4, #0x1234
  movt r4, #0x5678
  add r5, r4, #1
  add r6, r4, #2
  add r7, r4, #3
  add r8, r4, #4
  add r9, r4, #5
  add r10, r4, #6
  add r11, r4, #7
  orr r12, r12, #1
  blx r12
  movw r0, #0x1234
  movt r0, #0x5678
  eor r0, r0, r4
  sub r5, r5, r4
  sub r6, r6, r4
  sub r7, r7, r4
  sub r8, r8, r4
  sub r9, r9, r4
  sub r10, r10, r4
  sub r11, r11, r4
  eor r5, r5, #1
  eor r6, r6, #2
  eor r7, r7, #3
  eor r8, r8, #4
  eor r9, r9, #5
  eor r10, r10, #6
  eor r11, r11, #7
  orr r0, r0, r5
  orr r0, r0, r6
  orr r0, r0, r7
  orr r0, r0, r8
  orr r0, r0, r9
  orr r0, r0, r10
  orr r0, r0, r11
  add sp, sp, #4
  pop {r4-r11, pc}
  .size called, .-called
"""


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """A kernel, the inputs that it gets (laid out one by one), what it should give."""

    kernel: object
    inputs: tuple
    wanted: np.ndarray
    over: int = 0  # 1, 2: the output is written in place of that input


def tensor(index, values, scale, zero=0, *, constant=False):
    """A tensor of the shape and type of `values`."""
    scales = np.atleast_1d(np.float32(scale))
    grid = Quantization(scales, np.full(scales.size, zero, np.int64), 0)
    data = np.ascontiguousarray(values).reshape(-1).view(np.uint8) if constant else None
    kind, shape = values.dtype.name.upper(), values.shape
    return Tensor(index, f"t{index}", shape, shape, kind, grid, data, variable=False)


def operation(name, inputs, output, **options):
    """An Operation of tensors."""
    places = tuple(-1 if each is None else each.index for each in inputs)
    return Operation(Operator(0, name, 1, places, (output.index,), options), tuple(inputs), (output,))


@dataclasses.dataclass(frozen=True)
class Ran:
    """Of each case: how many outputs are wrong, and the instructions, where they were counted.

    1,000,000 wrong is a register lost, 10,000,000 a byte written beside the output, ten times that one
    beside the scratch.
    """

    wrong: list
    instructions: list


def ran(folder: Path, cases, core="cortex-m4", *, counting=False):
    """Every case run once on a board of `core`; a fault or a hang is an error."""
    empty = Case(Kernel(Routine("empty", "void", assembly=function(["bx lr"])), ()),
                 (np.zeros(1, np.int8),), np.full(1, 0x5A, np.int8))
    cases = [empty, *cases]
    size = 256 + max(max(_laid(case)[0].size, case.wanted.size, case.kernel.scratch) for case in cases)
    texts = [STEPS.replace("@SIZE@", str(size + -size % 8)), PRELUDE]
    assembly, calls = ["  .syntax unified\n  .thumb\n", CALLED], []
    for number, case in enumerate(cases):
        _described(number, case, texts, assembly)
        calls.append("".join(f"  cases_step_{3 * number + part},\n" for part in range(3)))
    table = "static void (*const volatile steps[])(uint32_t *wrong)"
    texts.append(f"{table} = {{\n{''.join(calls)}}};\n{INVOKE}")
    (folder / "cases.c").write_text("".join(texts))
    (folder / "cases.S").write_text("".join(assembly))
    board = BOARDS[MACHINES[core]]
    defines = {"EQ_INVOKE": "cases_invoke", "EQ_INPUT_BYTES": "4", "EQ_OUTPUT_BYTES": str(4 * len(cases))}
    sources = (folder / "cases.c", folder / "cases.S", *harness("semihosting"))
    elf = link(folder, Program(sources, CORES[core], linker_script(board.memory), defines))
    kind = "instructions" if counting else "none"
    made = run(elf, bytes(4), Emulation(board, 4, 4 * len(cases), counting=kind))
    steps = [step.instructions for step in made.counts.steps[1::3]] if counting else [0] * len(cases)
    return Ran(np.frombuffer(made.outputs, np.uint32).tolist()[1:], [step - steps[0] for step in steps[1:]])


def _laid(case):
    """The inputs as they lie in memory, and where the second begins."""
    first, *others = (each.reshape(-1) for each in case.inputs)
    gap = np.zeros(-first.size % 8, np.int8)
    return np.concatenate([first, gap, *others]), first.size + gap.size


def _described(number, case, texts, assembly):
    """The C and the assembly of a case: its arrays, its kernel, and two steps: before it, and itself."""
    routine, name = case.kernel.routine, f"k{number}"
    source, second = _laid(case)
    texts.append(f"void {name}({routine.parameters});\n" + routine.c.replace(NAME, name))
    assembly.append(routine.assembly.replace(NAME, name))
    given = []
    for argument in case.kernel.arguments:
        match argument:
            case Input(place):
                given.append(f"(const void *){1 + place}")
            case Output():
                given.append(f"(const void *){case.over or 3}")
            case Scratch():
                given.append("(const void *)4")
            case Constant(_, values):
                given.append(f"words{number}")
                texts.append(_array(f"{values.dtype.name}_t", f"words{number}", values))
    given += ["0"] * (4 - len(given))
    texts.append(f"""{_array("int8_t", f"in{number}", source)}{_array("int8_t", f"want{number}", case.wanted)}
static const case_t case{number} = {{(routine_t){name}, {{{", ".join(given)}}}, in{number}, want{number},
  {source.size}u, {second}u, {case.wanted.size}u, {case.kernel.scratch}u,
  {case.over}u}};
{_step(3 * number, f"(void)wrong; prepared(&case{number}, now)")}\
{_step(3 * number + 1, f"(void)wrong; lost = called(case{number}.routine, now)")}\
{_step(3 * number + 2, f"*wrong = checked(&case{number})")}""")


def _step(number, does):
    function = f"void cases_step_{number}(uint32_t *wrong)"
    return f"{function};\n__attribute__((noinline)) {function} {{ {does}; }}\n"


def _array(kind, name, values):
    suffix = "u" if values.dtype.kind == "u" else ""
    listed = ",".join(f"{value}{suffix}" for value in values.reshape(-1).tolist())
    return f"__attribute__((aligned(4))) static const {kind} {name}[{values.size}] = {{{listed}}};\n"
