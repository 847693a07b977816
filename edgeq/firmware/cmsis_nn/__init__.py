"""Kernels that call Arm's CMSIS-NN, where the user has it: what ours can be compared with.

The one rule: the library is compiled as it is; our routines fill its parameter structures and call it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from edgeq.firmware.cmsis_nn.buffers import Build
from edgeq.firmware.cmsis_nn.calls import Call
from edgeq.firmware.cmsis_nn.elementwise import add, multiply, softmax
from edgeq.firmware.cmsis_nn.layers import convolution, dense, depthwise
from edgeq.firmware.cmsis_nn.pooling import average, maximum
from edgeq.firmware.cmsis_nn.sources import found
from edgeq.firmware.network import Provider

CALLS: Mapping[str, Call] = {
    "CONV_2D": Call("arm_convolve_wrapper_s8", 11, convolution),
    "DEPTHWISE_CONV_2D": Call("arm_depthwise_conv_wrapper_s8", 11, depthwise),
    "FULLY_CONNECTED": Call("arm_fully_connected_s8", 11, dense),
    "AVERAGE_POOL_2D": Call("arm_avgpool_s8", 7, average),
    "MAX_POOL_2D": Call("arm_max_pool_s8", 7, maximum),
    "ADD": Call("arm_elementwise_add_s8", 16, add),
    "MUL": Call("arm_elementwise_mul_s8", 11, multiply),
    "SOFTMAX": Call("arm_softmax_s8", 7, softmax, helium=False),
}
BARE = 4  # parameters of arm_vector_sum_s8, where it takes sums of weights and no more


def cmsis_nn(instructions: Sequence[str]) -> Provider:
    """The kernels of the operators that the library found has; for a core with `instructions` (dsp, mve).

    It is that in $CMSIS_NN_ROOT, else the copy in the package bakenn. Raises ToolError where both are
    missing, or where its functions take other arguments than those of the releases 4.0 to 7.0.
    """
    copy = found()
    build = Build("dsp" in instructions, "mve" in instructions, copy.recent,
                  copy.parameters.get("arm_vector_sum_s8", 0) > BARE)
    known = {name: call for name, call in CALLS.items()
             if call.function in copy.functions and (call.helium or not build.mve)}
    for call in known.values():
        copy.require(call.function, call.parameters)
    return Provider("cmsis-nn", {name: partial(call.generator, build) for name, call in known.items()},
                    copy.library([call.function for call in known.values()]))
