"""The cores of Cortex-M: how a compiler is told, and which kernels they can run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Core:
    """`flags` are GCC's (and clang's); `kernels` the providers whose instructions it has, the best first."""

    name: str
    flags: tuple[str, ...]
    kernels: tuple[str, ...] = ()


def _core(name: str, *flags: str, kernels: tuple[str, ...] = ()) -> Core:
    return Core(name, (f"-mcpu={name}", "-mthumb", *(flags or ("-mfloat-abi=soft",))), kernels)


CORES: Mapping[str, Core] = {core.name: core for core in (
    _core("cortex-m0"),
    _core("cortex-m0plus"),
    _core("cortex-m3"),
    _core("cortex-m4", "-mfpu=fpv4-sp-d16", "-mfloat-abi=hard", kernels=("dsp",)),
    _core("cortex-m7", "-mfpu=fpv5-sp-d16", "-mfloat-abi=hard", kernels=("dsp",)),
    _core("cortex-m33", "-mfpu=fpv5-sp-d16", "-mfloat-abi=hard", kernels=("dsp",)),
    _core("cortex-m55", "-mfloat-abi=hard", kernels=("mve", "dsp")),
)}
