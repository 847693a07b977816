"""The C of a network: its driver, its kernels, its constants and its header.

The one rule: what is emitted depends on the network, its plan and its name alone, so the same model
gives the same text everywhere.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from edgeq import __version__
from edgeq.arrays import Array
from edgeq.firmware.arena import Plan, drawn
from edgeq.firmware.c_text import TYPES, c_array, literal
from edgeq.firmware.kernel import NAME, Argument, Constant, Input, Output, Routine, Scratch
from edgeq.firmware.network import Network, Step
from edgeq.firmware.prelude import PRELUDE
from edgeq.graph import Tensor, values_of

ALIGNED = """\
/* Kernels read constants by words. Optimized together with the driver (-flto), GCC 12.2 loses calls of
 * them: it is not to look into them from there. */
#if defined(__GNUC__)
#define EQ_ALIGNED __attribute__((aligned(4)))
#else
#define EQ_ALIGNED
#endif
#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 8
#define EQ_KERNEL __attribute__((noipa))
#else
#define EQ_KERNEL
#endif
"""

# What the assembly of a provider needs of a core: the macro that compilers tell it by, and its name.
EXTENSIONS: Mapping[str, tuple[str, str]] = {
    "dsp": ("__ARM_FEATURE_DSP", "the DSP instructions"), "mve": ("__ARM_FEATURE_MVE", "Helium (MVE)")}


@dataclass(frozen=True, eq=False)
class Program:
    """A network with its plan, to be written as C under a name that begins all its symbols."""

    name: str
    network: Network
    plan: Plan

    @property
    def source(self) -> Tensor:
        """The model's input."""
        return self.network.graph.tensors[self.network.graph.inputs[0]]

    @property
    def sink(self) -> Tensor:
        """The model's output."""
        return self.network.graph.tensors[self.network.graph.outputs[0]]

    def address(self, tensor: int) -> str:
        """Where a tensor lies, in the driver's C."""
        return f"at({self.plan.tensors[tensor]}u)"


class Pool:
    """The routines and constants of a program, each once, with the names that they got."""

    def __init__(self, program: str) -> None:
        self.program = program
        self.routines: dict[Routine, str] = {}
        self.constants: dict[tuple[str, bytes], tuple[str, Array]] = {}

    def routine(self, routine: Routine) -> str:
        """The name of `routine`, the same for all that share it."""
        return self.routines.setdefault(routine, self._name(routine.stem))

    def constant(self, stem: str, values: Array) -> str:
        """The name of an array with these values, the same for all that share them."""
        flat = np.ascontiguousarray(values).reshape(-1)
        return self.constants.setdefault((flat.dtype.str, flat.tobytes()), (self._name(stem), flat))[0]

    def _name(self, stem: str) -> str:
        """One that nothing in the pool has yet."""
        return f"{self.program}_{stem}_{len(self.routines) + len(self.constants)}"


def sources(program: Program) -> dict[str, str]:
    """The files of `program`: name -> text."""
    name, pool = program.name, Pool(program.name)
    driver = _driver(program, pool)
    texts = {
        f"{name}.h": _header(program),
        f"{name}.c": driver,
        f"{name}_internal.h": _internal(pool),
        f"{name}_arithmetic.h": _arithmetic(name),
        f"{name}_kernels.c": _kernels(pool),
        f"{name}_constants.c": _constants(pool),
        "plan.txt": drawn(program.plan, program.network.steps),
    }
    if any(routine.assembly for routine in pool.routines):
        texts[f"{name}_fast.S"] = _assembly(pool, {step.provider.name for step in program.network.steps})
    return texts


def described(prefix: str, tensor: Tensor) -> str:
    """The macros of C that tell a tensor's shape, elements, and scale and zero point where it has them."""
    lines = [f"#define {prefix}_SHAPE {{{', '.join(map(str, tensor.shape))}}}",
             f"#define {prefix}_ELEMENTS {tensor.elements}u"]
    if tensor.quantization is not None:
        lines += [f"#define {prefix}_SCALE {literal(float(tensor.grid.scales[0]))}",
                  f"#define {prefix}_ZERO_POINT ({tensor.grid.zero_points[0]})"]
    return "\n".join(lines)


def _header(program: Program) -> str:
    name, source, sink = program.name, program.source, program.sink
    return f"""\
/* {name}: made by edgeq {__version__} from a full-integer .tflite. Not to be edited. */
#ifndef {name}_H
#define {name}_H
#include <stddef.h>
#include <stdint.h>
#ifdef __cplusplus
extern "C" {{
#endif

/* real = scale * (integer - zero point) */
{described(f"{name}_INPUT", source)}
{described(f"{name}_OUTPUT", sink)}
#define {name}_ARENA_BYTES {program.plan.arena}u

/* One inference. Either may lie anywhere; what lies at {name}_input() or {name}_output() is not copied.
 * Not reentrant: there is one arena. */
void {name}_invoke(const {TYPES[source.dtype]} *in, {TYPES[sink.dtype]} *out);
/* The memory that all inferences work in. */
size_t {name}_arena_bytes(void);
/* Where in the arena the input is read, and the output left; an inference overwrites the input. */
{TYPES[source.dtype]} *{name}_input(void);
{TYPES[sink.dtype]} *{name}_output(void);

#ifdef __cplusplus
}}
#endif
#endif
"""


def _driver(program: Program, pool: Pool) -> str:
    name, source, sink = program.name, program.source, program.sink
    steps = program.network.steps
    functions = "\n".join(_step(program, pool, number) for number in range(len(steps)))
    return f"""\
/* The driver of {name}: its arena, and its {len(steps)} steps in their order. */
#include "{name}.h"
#include "{name}_internal.h"
#include <string.h>

/* With EQ_TRACE somebody sees what each operator leaves, by tensor: for comparing, not for use. */
#ifdef EQ_TRACE
void eq_traced(uint32_t tensor, const void *bytes, uint32_t size);
#define EQ_AFTER(tensor, bytes, size) eq_traced((tensor), (bytes), (size))
#else
#define EQ_AFTER(tensor, bytes, size) ((void)0)
#endif

static union {{ int64_t aligned; int8_t bytes[{name}_ARENA_BYTES]; }} arena;

static void *at(uint32_t offset) {{
  return &arena.bytes[offset];
}}

{functions}
static void (*const steps[{max(1, len(steps))}])(void) = {{
{_table(name, len(steps))}}};

size_t {name}_arena_bytes(void) {{
  return sizeof arena;
}}

{TYPES[source.dtype]} *{name}_input(void) {{
  return {program.address(source.index)};
}}

{TYPES[sink.dtype]} *{name}_output(void) {{
  return {program.address(sink.index)};
}}

void {name}_invoke(const {TYPES[source.dtype]} *in, {TYPES[sink.dtype]} *out) {{
  if (in != {name}_input()) {{
    memcpy({name}_input(), in, {program.network.size(source.index)}u);
  }}
  for (uint32_t i = 0u; i < {len(steps)}u; i++) {{
    steps[i]();
  }}
  if (out != {name}_output()) {{
    memcpy(out, {name}_output(), {program.network.size(sink.index)}u);
  }}
}}
"""


def _table(name: str, count: int) -> str:
    return "".join(f"  {name}_step_{i},\n" for i in range(count)) or "  0,\n"


def _step(program: Program, pool: Pool, number: int) -> str:
    step = program.network.steps[number]
    given = ", ".join(_argument(program, pool, step, number, each) for each in step.kernel.arguments)
    seen = "".join(f"  EQ_AFTER({tensor.index}u, {program.address(tensor.index)}, "
                   f"{program.network.size(tensor.index)}u);\n" for tensor in step.operation.outputs)
    return (f"/* operator {step.label}, {_shapes(step)}: {step.provider.name} */\n"
            f"static void {program.name}_step_{number}(void) {{\n"
            f"  {pool.routine(step.kernel.routine)}({given});\n{seen}}}\n")


def _shapes(step: Step) -> str:
    operation = step.operation
    return " -> ".join("x".join(map(str, tensor.shape)) for tensor in (operation.source, operation.sink))


def _argument(program: Program, pool: Pool, step: Step, number: int, argument: Argument) -> str:
    operation, index = step.operation, step.operation.operator.index
    match argument:
        case Input(place):
            root = program.network.graph.tensors[program.network.root(operation.input(place).index)]
            return (pool.constant(f"input_{place}_of_{index}", values_of(root)) if root.constant else
                    program.address(root.index))
        case Output(place):
            return program.address(operation.outputs[place].index)
        case Scratch():
            return f"at({program.plan.scratch.get(number, 0)}u)"
        case Constant(stem, values):
            return pool.constant(f"{stem}_of_{index}", values)


def _internal(pool: Pool) -> str:
    prototypes = "".join(f"EQ_KERNEL void {name}({_named(routine.parameters, name)});\n"
                         for routine, name in pool.routines.items())
    arrays = "".join(f"extern const {_type(values)} {name}[{values.size}] EQ_ALIGNED;\n"
                     for name, values in pool.constants.values())
    guard = f"{pool.program}_INTERNAL_H"
    return (f"/* What the files of {pool.program} share. */\n#ifndef {guard}\n#define {guard}\n"
            f"#include <stdint.h>\n\n{ALIGNED}\n{prototypes}\n{arrays}\n#endif\n")


def _type(values: Array) -> str:
    return "float" if values.dtype.kind == "f" else f"{values.dtype.name}_t"


def _arithmetic(name: str) -> str:
    guard = f"{name}_ARITHMETIC_H"
    return (f"/* The arithmetic that the kernels of {name} share. */\n#ifndef {guard}\n#define {guard}\n"
            f"#include <stdint.h>\n\n{PRELUDE}\n#endif\n")


def _kernels(pool: Pool) -> str:
    headers = dict.fromkeys(header for routine in pool.routines for header in routine.headers)
    return "\n".join((
        f"/* The kernels of {pool.program}. */", *(f"#include <{header}>" for header in headers),
        "#include <string.h>", f'#include "{pool.program}_arithmetic.h"',
        f'#include "{pool.program}_internal.h"', "",
        *(_named(routine.c, name) for routine, name in pool.routines.items() if routine.c)))


def _assembly(pool: Pool, providers: Collection[str]) -> str:
    texts = [_named(routine.assembly, name) for routine, name in pool.routines.items() if routine.assembly]
    guards = [f'#ifndef {macro}\n#error "{pool.program} is for cores with {what}: build it for yours"\n#endif'
              for provider, (macro, what) in EXTENSIONS.items() if provider in providers]
    return "\n".join((f"/* The kernels of {pool.program} in assembly. */", *guards,
                      "  .syntax unified", "  .thumb", "", *texts))


def _constants(pool: Pool) -> str:
    arrays = (c_array(_type(values), name, values) for name, values in pool.constants.values())
    return "\n".join((f"/* Weights and other constants of {pool.program}. */",
                      f'#include "{pool.program}_internal.h"', "", *arrays))


def _named(text: str, name: str) -> str:
    return text.replace(NAME, name)

