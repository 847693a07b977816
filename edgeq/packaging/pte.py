"""A .pte for ExecuTorch on a microcontroller: the array, how to feed it, and its operators.

The one rule: the list of operators is read from the .pte itself, so that a selective build has just these.
"""

from __future__ import annotations

from edgeq.packaging.glue import Shipped, cmake, shared

LINKED = """\
The runtime is yours: github.com/pytorch/executorch. {} is what its
selective build takes (gen_selected_ops(ROOT_OPS …), or EXECUTORCH_SELECT_OPS_LIST)."""


def texts(given: Shipped) -> dict[str, str]:
    """The files of the package, by name."""
    name, operators = given.name, given.feed.operators
    variable = f"{name}_OPERATORS"
    more = (f'set({variable} "{",".join(operators)}" CACHE INTERNAL "what {name} calls")',)
    return {
        **shared(given, _arena(given)),
        "operators.txt": "".join(f"{operator}\n" for operator in operators),
        "CMakeLists.txt": cmake(name, LINKED.format(variable), more),
    }


def _arena(given: Shipped) -> str:
    """The memory that was planned ahead of time, with how it is known."""
    found, whole = (given.costs.get(metric) for metric in ("arena_bytes", "ram_bytes"))
    if found is None or found.value is None:
        return "/* How much memory it plans ahead is not known: MethodMeta says so at run time. */"
    lines = [f"/* Planned by ExecuTorch ahead of time: {int(found.value)} bytes. The runtime takes memory",
             " * for its own structures besides, and a delegate for its scratch buffers. */",
             f"#define {given.name}_PLANNED_BYTES {int(found.value)}u"]
    if whole and whole.value is not None:
        lines += ["/* The same with what the NPU works in, by Vela (simulated). */",
                  f"#define {given.name}_RAM_BYTES {int(whole.value)}u"]
    return "\n".join(lines)
