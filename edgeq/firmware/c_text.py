"""C as text: names, types, numbers and arrays of constants.

The one rule: it knows nothing of networks, so that what only names things in C loads nothing else.
"""

from __future__ import annotations

from edgeq.arrays import Array

ESCAPES = {"-": "_", "_": "_U", ".": "_D"}
TYPES = {"INT8": "int8_t", "INT16": "int16_t", "INT32": "int32_t", "FLOAT32": "float", "UINT8": "uint8_t",
         "BOOL": "uint8_t", "INT64": "int64_t"}
PER_LINE = 96  # characters of numbers in a line of constants


def identifier(name: str) -> str:
    """A model's name as a C identifier, no two names the same: `vww-96` is `vww_96`.

    Upper case stands in no name, so it marks what is escaped.
    """
    spelled = "".join(ESCAPES.get(letter, letter) for letter in name)
    return spelled if spelled[:1].isalpha() else f"N{spelled}"


def c_array(kind: str, name: str, values: Array) -> str:
    """A constant array of C: `const int8_t name[3] = {1, 2, 3};`, its lines not too long."""
    return f"const {kind} {name}[{values.size}] = {{\n{_listed(values)}}};\n"


def literal(value: float) -> str:
    """A number as a constant of C: a float with all its digits, the least int32 as it must be written."""
    if isinstance(value, float):
        return f"{value:.8e}f"  # nine digits bring a float back
    return str(value) if value != -2**31 else "(-2147483647 - 1)"


def _listed(values: Array) -> str:
    numbers = values.tolist()
    words = ([f"0x{number:x}u" for number in numbers] if values.dtype.kind == "u" else
             [str(number) for number in numbers] if values.dtype.itemsize < 4 else
             [literal(number) for number in numbers])
    per_line = PER_LINE // (max(map(len, words), default=1) + 2)
    lines = (words[i: i + per_line] for i in range(0, len(words), per_line))
    return "".join(f"  {', '.join(line)},\n" for line in lines)
