"""Who provides the kernels of a program: the fastest that the core can run come first, plain C last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgeq.firmware.cmsis_nn import cmsis_nn
from edgeq.firmware.dsp import DSP
from edgeq.firmware.mve import MVE
from edgeq.firmware.network import Provider
from edgeq.firmware.order import Choice
from edgeq.firmware.portable import PORTABLE

PLAIN = Provider("portable", PORTABLE)
FAST: Mapping[str, Provider] = {"dsp": Provider("dsp", DSP), "mve": Provider("mve", MVE)}


def providers(choice: Choice, instructions: Sequence[str]) -> tuple[Provider, ...]:
    """The providers of `choice`, in order, for a core that has these `instructions` (of FAST).

    Raises ToolError where CMSIS-NN is asked for and is nowhere.
    """
    if choice == "portable":
        return (PLAIN,)
    if choice == "cmsis-nn":
        return (cmsis_nn(instructions), PLAIN)
    return (*(FAST[name] for name in instructions), PLAIN)
