"""What makes sources droppable: CMake, Zephyr, golden vectors, an example, and a program for the host.

The one rule: a user's build includes the folder as it is; nothing in it has to be edited.
"""

from __future__ import annotations

from collections.abc import Sequence

from edgeq.arrays import Array
from edgeq.firmware.c_text import TYPES, c_array
from edgeq.firmware.source import Program
from edgeq.firmware.zephyr import kconfig, module

COMPILED = (".c", ".S")
EXAMPLE = "example_main.c"
GOLDEN = 4  # golden vectors


def project(
    program: Program, compiled: Sequence[str], includes: Sequence[str], golden: tuple[Array, Array]
) -> dict[str, str]:
    """The files beside the sources, of which some are `compiled`; `includes` are folders of headers.

    `golden` are inputs (n, elements) and what the reference makes of them, of the model's own types.
    """
    return {
        "CMakeLists.txt": _cmake(program.name, compiled, includes),
        "zephyr/CMakeLists.txt": _zephyr_cmake(program.name, compiled, includes),
        "zephyr/Kconfig": kconfig(program.name),
        "zephyr/module.yml": module(program.name),
        f"{program.name}_golden.h": _golden(program, golden),
        EXAMPLE: _example(program),
    }


def host_main(program: Program) -> str:
    """A program of the host: from each input in in.bin an output to out.bin, till its end.

    The file that is named gets what operators leave: tensor and size, four bytes each, then the bytes.
    """
    name = program.name
    return f"""\
/* {name} on the host: in.bin to out.bin, and what each operator leaves to the file named. */
#include "{name}.h"
#include <stdio.h>

static {TYPES[program.source.dtype]} in[{name}_INPUT_ELEMENTS];
static {TYPES[program.sink.dtype]} out[{name}_OUTPUT_ELEMENTS];
static FILE *trace;

void eq_traced(uint32_t tensor, const void *bytes, uint32_t size);
void eq_traced(uint32_t tensor, const void *bytes, uint32_t size) {{
  const uint32_t head[2] = {{tensor, size}};
  if (trace != NULL) {{
    (void)fwrite(head, sizeof head, 1, trace);
    (void)fwrite(bytes, size, 1, trace);
  }}
}}

int main(int count, char **words) {{
  FILE *from = fopen("in.bin", "rb");
  FILE *to = fopen("out.bin", "wb");
  if (from == NULL || to == NULL) {{
    return 1;
  }}
  trace = count > 1 ? fopen(words[1], "wb") : NULL;
  while (fread(in, sizeof in, 1, from) == 1) {{
    {name}_invoke(in, out);
    if (fwrite(out, sizeof out, 1, to) != 1) {{
      return 1;
    }}
  }}
  return (trace == NULL || fclose(trace) == 0) && fclose(to) == 0 ? 0 : 1;
}}
"""


def _cmake(name: str, compiled: Sequence[str], includes: Sequence[str]) -> str:
    private = "".join(f" ${{CMAKE_CURRENT_SOURCE_DIR}}/{folder}" for folder in includes)
    within = f" PRIVATE{private}" if includes else ""
    return f"""\
# add_subdirectory() this folder and link {name}; the target's flags (-mcpu=…) are the toolchain's.
cmake_minimum_required(VERSION 3.13)
project({name} LANGUAGES C ASM)
add_library({name} STATIC {" ".join(compiled)})
target_include_directories({name} PUBLIC ${{CMAKE_CURRENT_SOURCE_DIR}}{within})
set_target_properties({name} PROPERTIES C_STANDARD 99)
if(CMAKE_C_COMPILER_ID MATCHES "GNU|Clang")
  target_compile_options({name} PRIVATE $<$<COMPILE_LANGUAGE:C>:-O2>)
endif()
if(CMAKE_SOURCE_DIR STREQUAL CMAKE_CURRENT_SOURCE_DIR)
  add_executable({name}_example {EXAMPLE})
  target_link_libraries({name}_example {name})
endif()
"""


def _zephyr_cmake(name: str, compiled: Sequence[str], includes: Sequence[str]) -> str:
    private = "".join(f"\n  zephyr_library_include_directories(${{CMAKE_CURRENT_LIST_DIR}}/../{folder})"
                      for folder in includes)
    sources = "\n".join(f"    ${{CMAKE_CURRENT_LIST_DIR}}/../{file}" for file in compiled)
    return f"""\
if(CONFIG_EDGEQ_{name.upper()})
  zephyr_include_directories(${{CMAKE_CURRENT_LIST_DIR}}/..)
  zephyr_library_named({name})
  zephyr_library_sources(
{sources}){private}
  zephyr_library_compile_options(-O2)
endif()
"""


def _golden(program: Program, golden: tuple[Array, Array]) -> str:
    name, (inputs, outputs) = program.name, golden
    arrays = (f"static {c_array(TYPES[tensor.dtype], f'{name}_golden_{end}', values.reshape(-1))}"
              for end, tensor, values in (("inputs", program.source, inputs),
                                          ("outputs", program.sink, outputs)))
    return (f"/* Inputs, and what TensorFlow Lite Micro's reference kernels make of them. */\n"
            f"#ifndef {name}_GOLDEN_H\n#define {name}_GOLDEN_H\n#include <stdint.h>\n\n"
            f"#define {name}_GOLDEN {len(inputs)}u\n" + "\n".join(arrays) + "\n#endif\n")


def _example(program: Program) -> str:
    name = program.name
    return f"""\
/* Runs the golden vectors; main returns how many outputs differ. */
#include "{name}.h"
#include "{name}_golden.h"
#include <string.h>

int main(void) {{
  int wrong = 0;
  for (uint32_t i = 0u; i < {name}_GOLDEN; i++) {{
    {TYPES[program.sink.dtype]} out[{name}_OUTPUT_ELEMENTS];
    {name}_invoke(&{name}_golden_inputs[i * {name}_INPUT_ELEMENTS], out);
    if (memcmp(out, &{name}_golden_outputs[i * {name}_OUTPUT_ELEMENTS], sizeof out) != 0) {{
      wrong++;
    }}
  }}
  return wrong;
}}
"""
