"""Assembly as text: a function of a routine, its lines one instruction or label each.

Unified syntax for GNU as and clang alike; a label ends with a colon, everything else is indented.
"""

from __future__ import annotations

from collections.abc import Iterable

from edgeq.firmware.kernel import NAME


def function(lines: Iterable[str], suffix: str = "") -> str:
    """The function `@NAME@` (with a `suffix`) made of `lines`, in a section of its own."""
    name = NAME + suffix
    body = "\n".join(line if line.endswith(":") else f"  {line}" for line in lines)
    return (f'.section .text.{name},"ax",%progbits\n.balign 4\n.global {name}\n.type {name}, %function\n'
            f"{name}:\n{body}\n  .ltorg\n.size {name}, .-{name}\n")


def label(word: str) -> str:
    """A label that no other function of the file has, as it is branched to; `word` is unique in its own."""
    return f".L{NAME}_{word}"
