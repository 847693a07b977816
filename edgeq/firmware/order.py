"""What firmware is ordered with: all that a target may say of it, and where its compiler is.

The one rule: nothing is imported here that generates code, so that who only looks a result up does
not load it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgeq import tool
from edgeq.containers import Container, Image, image
from edgeq.errors import ToolError

COMPILER = "arm-none-eabi-gcc"
INSTALL = "apt-get install gcc-arm-none-eabi libnewlib-arm-none-eabi, or set ARM_NONE_EABI_GCC"
ERROR = "error.json"
LIBRARY = "CMSIS_NN_ROOT"  # where the user's own copy of it is named
Choice = Literal["auto", "portable", "cmsis-nn"]


@dataclass(frozen=True)
class Order:
    """`core` as GCC names it, `flash` and `ram` the device's, `stack` what of its RAM is the stack's.

    `board` is the emulator's machine that the test firmware is linked for; `kernels` are the fastest
    that the core has (`auto`), plain C (`portable`), or CMSIS-NN's (`cmsis-nn`); `compiler` is the path
    or name of arm-none-eabi-gcc, else $ARM_NONE_EABI_GCC, else the PATH, and `container` an image that has
    it, for where it is nowhere of these. With `traced` the test firmware tells what each operator leaves.
    `model` comes from the plan.
    """

    core: str
    board: str
    flash: int | str
    ram: int | str
    stack: int | str = "2KiB"
    kernels: Choice = "auto"
    optimize: Literal["-O2", "-O3", "-Os"] = "-O2"
    compiler: str = ""
    container: Container = ""
    traced: bool = False
    model: str = "model"

    def images(self) -> Mapping[str, Image]:
        """The image that has the compiler, where that is not here; ToolError where there is no such image."""
        contained = self.container and not tool.find(COMPILER, self.compiler)
        return {COMPILER: image(self.container, COMPILER)} if contained else {}


def compiler(setting: str = "") -> Path:
    """The cross compiler; ToolError with what to install where there is none."""
    found = tool.find(COMPILER, setting)
    if found is None:
        raise ToolError(f"{COMPILER} was not found", INSTALL)
    return found
