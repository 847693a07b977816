"""What every package in C has: the model as an array, the header that says how to feed it, CMake, Zephyr.

The one rule: the files include each other by name only, so that the folder is dropped in as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgeq import __version__
from edgeq.arrays import Array
from edgeq.firmware.c_text import TYPES, c_array, literal
from edgeq.firmware.zephyr import kconfig, module
from edgeq.measurement import Measurement
from edgeq.packaging.feeding import Feed, Port


@dataclass(frozen=True, eq=False)
class Shipped:
    """A model by its C name and bytes, how it is fed, what it costs, and golden inputs and outputs."""

    name: str
    model: bytes
    feed: Feed
    costs: Measurement
    golden: tuple[Array, Array]


def shared(given: Shipped, arena: str) -> dict[str, str]:
    """The files that every package has; `arena` are lines of the header, on the memory to set aside."""
    name = given.name
    return {
        f"{name}_model_data.c": _data(given),
        f"{name}_model.h": _header(given, arena),
        f"{name}_golden.h": _golden(given),
        "zephyr/Kconfig": kconfig(name, f"The model as an array of constants: see {name}_model.h."),
        "zephyr/module.yml": module(name),
        "zephyr/CMakeLists.txt": _zephyr(name),
    }


def cmake(name: str, told: str, more: Sequence[str] = ()) -> str:
    """A CMakeLists.txt that makes the library `name`; `told` says with what to link it."""
    return "\n".join((
        f"# add_subdirectory() this folder and link {name}; the target's flags are the toolchain's.",
        *(f"# {line}" for line in told.splitlines()),
        "cmake_minimum_required(VERSION 3.13)",
        f"project({name} LANGUAGES C CXX)",
        f"add_library({name} STATIC {name}_model_data.c)",
        f"target_include_directories({name} PUBLIC ${{CMAKE_CURRENT_SOURCE_DIR}})",
        f"set_target_properties({name} PROPERTIES C_STANDARD 99)",
        *more, ""))


def guarded(name: str, text: str) -> str:
    """`text` as a header that may be included twice; the guard is `name`."""
    return f"#ifndef {name}\n#define {name}\n{text}#endif\n"


def _data(given: Shipped) -> str:
    array = c_array("unsigned char", f"{given.name}_model_data", np.frombuffer(given.model, np.uint8))
    return f"""\
/* {given.feed.file}, sha256 {given.feed.sha256}: made by edgeq {__version__}. Not to be edited. */
#include "{given.name}_model.h"

/* Interpreters read tables in it by words, and NPUs their commands by 16 bytes. */
#if defined(__GNUC__) || defined(__clang__)
__attribute__((aligned(16)))
#endif
{array}const unsigned int {given.name}_model_bytes = sizeof {given.name}_model_data;
"""


def _header(given: Shipped, arena: str) -> str:
    name = given.name
    return guarded(f"{name}_MODEL_H", f"""\
/* How to feed {given.feed.file}: made by edgeq {__version__}. Not to be edited.
 * real = scale * (integer - zero point) */
#include <stdint.h>
#ifdef __cplusplus
extern "C" {{
#endif

{_port(f"{name}_INPUT", given.feed.source)}
{_port(f"{name}_OUTPUT", given.feed.sink)}

{arena}
#define {name}_MODEL_BYTES {len(given.model)}u
extern const unsigned char {name}_model_data[{name}_MODEL_BYTES];
extern const unsigned int {name}_model_bytes;

#ifdef __cplusplus
}}
#endif
""")


def _port(prefix: str, port: Port) -> str:
    lines = [f"#define {prefix}_SHAPE {{{', '.join(map(str, port.shape))}}}",
             f"#define {prefix}_ELEMENTS {port.elements}u",
             f"typedef {TYPES[port.type]} {prefix}_t;"]
    if port.scale is not None:
        lines += [f"#define {prefix}_SCALE {literal(port.scale)}",
                  f"#define {prefix}_ZERO_POINT ({port.zero_point})"]
    return "\n".join(lines)


def _golden(given: Shipped) -> str:
    name, (inputs, outputs) = given.name, given.golden
    arrays = "\n".join(f"static {c_array(f'{name}_{end}_t', f'{name}_golden_{what}', values.reshape(-1))}"
                       for end, what, values in (("INPUT", "inputs", inputs), ("OUTPUT", "outputs", outputs)))
    return guarded(f"{name}_GOLDEN_H", f"""\
/* The first samples of the evaluation data, and what was computed of them when the model was judged. */
#include "{name}_model.h"

#define {name}_GOLDEN {len(inputs)}u
{arrays}""")


def _zephyr(name: str) -> str:
    return f"""\
if(CONFIG_EDGEQ_{name.upper()})
  zephyr_include_directories(${{CMAKE_CURRENT_LIST_DIR}}/..)
  zephyr_library_named({name})
  zephyr_library_sources(${{CMAKE_CURRENT_LIST_DIR}}/../{name}_model_data.c)
endif()
"""
