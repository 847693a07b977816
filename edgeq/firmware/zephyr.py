"""What makes a folder a module of Zephyr, with a switch in its configuration."""

from __future__ import annotations


def kconfig(name: str, told: str = "") -> str:
    """The Kconfig of a network `name`, of which `told` is said at length."""
    return f"""\
config EDGEQ_{name.upper()}
\tbool "The network {name}, as C by edgeq"
\thelp
\t  {told or f"{name}_invoke() runs one inference in an arena of its own."}
"""


def module(name: str) -> str:
    """The module.yml that makes a folder a module of Zephyr."""
    return f"name: edgeq_{name}\nbuild:\n  cmake: zephyr\n  kconfig: zephyr/Kconfig\n"
