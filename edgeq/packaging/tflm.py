"""A .tflite for TensorFlow Lite Micro: the array, its resolver, the arena, golden vectors and an example.

The one rule: the resolver has exactly the operators of the shipped model, so that no other kernel is linked.
"""

from __future__ import annotations

from collections.abc import Sequence

from edgeq.measurement import Measurement
from edgeq.packaging.glue import Shipped, cmake, guarded, shared
from edgeq.packaging.resolver import CUSTOM, method

ALLOWANCE = 8192  # bytes for the interpreter's own structures, where nothing here could count them
NPU = f"{CUSTOM}ethos-u"
EXAMPLE = "example_main.cc"
LINKED = """\
The interpreter is yours: github.com/tensorflow/tflite-micro, whose headers must be found.
Set EDGEQ_TFLM to its library before this folder is added, and the example is built, too."""


def texts(given: Shipped) -> dict[str, str]:
    """The files of the package, by name."""
    name = given.name
    more = ("if(DEFINED EDGEQ_TFLM)", f"  add_executable({name}_example {EXAMPLE})",
            f"  target_link_libraries({name}_example {name} ${{EDGEQ_TFLM}})", "endif()")
    return {
        **shared(given, _arena(given)),
        f"{name}_resolver.h": _resolver(name, given.feed.operators),
        EXAMPLE: _example(name),
        "CMakeLists.txt": cmake(name, LINKED, more),
    }


def _arena(given: Shipped) -> str:
    """The arena as the header has it, with how it is known."""
    name = given.name
    if NPU in given.feed.operators:
        return _arena_by_vela(name, given.costs)
    found = given.costs.get("arena_bytes")
    if found is None or found.value is None:
        return f"/* The arena is not known: set {name}_ARENA_BYTES by what arena_used_bytes() says. */"
    return (f"/* What TFLM takes by its reference kernels on a 64-bit host, {int(found.value)} bytes: an\n"
            " * upper bound for a 32-bit core, whose pointers are smaller. Kernels of CMSIS-NN and other\n"
            " * libraries take scratch memory besides: print arena_used_bytes() once on the device. */\n"
            f"#ifndef {name}_ARENA_BYTES\n#define {name}_ARENA_BYTES {_rounded(found.value)}u\n#endif")


def _arena_by_vela(name: str, costs: Measurement) -> str:
    found = costs.get("ram_bytes")
    known = found.value if found and found.value is not None else 0
    return (f"/* Tensors: {int(known)} bytes by Vela (simulated). The interpreter's own structures come on\n"
            f" * top, which nothing here could count: {name}_INTERPRETER_BYTES is an allowance. Print\n"
            " * arena_used_bytes() once on the device, and lower it. */\n"
            f"#ifndef {name}_INTERPRETER_BYTES\n#define {name}_INTERPRETER_BYTES {ALLOWANCE}u\n#endif\n"
            f"#ifndef {name}_ARENA_BYTES\n"
            f"#define {name}_ARENA_BYTES ({_rounded(known)}u + {name}_INTERPRETER_BYTES)\n#endif")


def _rounded(count: float) -> int:
    """Bytes, up to the next multiple of what an arena is aligned to."""
    return -(-int(count) // 16) * 16


def _resolver(name: str, operators: Sequence[str]) -> str:
    """A resolver with `operators`; what TFLM has no kernel for stops the compiler, by name."""
    missing = "".join(f'#error "TensorFlow Lite Micro has no kernel for {_plain(operator)}"\n'
                      for operator in operators if method(operator) is None)
    methods = [found for operator in operators if (found := method(operator))]
    calls = "\n".join(f"  if (resolver.{each}() != kTfLiteOk) return kTfLiteError;" for each in methods)
    return guarded(f"{name}_RESOLVER_H", f"""\
/* The operators of the model {name}, and no others. */
#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"
{missing}
using {name}_Resolver = tflite::MicroMutableOpResolver<{max(1, len(operators))}>;

inline TfLiteStatus {name}_register({name}_Resolver &resolver) {{
{calls}
  return kTfLiteOk;
}}
""")


def _plain(operator: str) -> str:
    """The name of an operator as a string of C may hold it: a custom one is whatever its maker wrote."""
    return "".join(letter if letter.isascii() and (letter.isalnum() or letter in "_:.- ") else "?"
                   for letter in operator)


def _example(name: str) -> str:
    return f"""\
// Runs the golden vectors by TensorFlow Lite Micro; main returns how many outputs differ, -1 … for an error.
#include <cstring>

#include "tensorflow/lite/micro/micro_interpreter.h"
#include "tensorflow/lite/schema/schema_generated.h"
#include "{name}_golden.h"
#include "{name}_model.h"
#include "{name}_resolver.h"

alignas(16) static uint8_t arena[{name}_ARENA_BYTES];

int main() {{
  static {name}_Resolver resolver;
  if ({name}_register(resolver) != kTfLiteOk) return -1;
  static tflite::MicroInterpreter interpreter(tflite::GetModel({name}_model_data), resolver, arena,
                                              sizeof arena);
  if (interpreter.AllocateTensors() != kTfLiteOk) return -2;
  int wrong = 0;
  for (unsigned i = 0; i < {name}_GOLDEN; i++) {{
    memcpy(interpreter.input(0)->data.raw, &{name}_golden_inputs[i * {name}_INPUT_ELEMENTS],
           {name}_INPUT_ELEMENTS * sizeof({name}_INPUT_t));
    if (interpreter.Invoke() != kTfLiteOk) return -3;
    wrong += memcmp(interpreter.output(0)->data.raw, &{name}_golden_outputs[i * {name}_OUTPUT_ELEMENTS],
                    {name}_OUTPUT_ELEMENTS * sizeof({name}_OUTPUT_t)) != 0;
  }}
  return wrong;
}}
"""
