"""CMSIS-NN as a provider: bit for bit what TFLM computes, in the memory that the library says it takes."""

import itertools
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from edgeq import tool
from edgeq.emulation import toolchain
from edgeq.emulation.boards import BOARDS, linker_script
from edgeq.emulation.cores import CORES
from edgeq.emulation.qemu import EMULATOR, Emulation, run
from edgeq.errors import ConfigError, ToolError
from edgeq.firmware import source
from edgeq.firmware.arena import planned
from edgeq.firmware.cmsis_nn import cmsis_nn
from edgeq.firmware.cmsis_nn import sources as library
from edgeq.firmware.cmsis_nn.buffers import Build, Window
from edgeq.firmware.kernel import Operation
from edgeq.firmware.network import Provider, network
from edgeq.firmware.portable import PORTABLE
from edgeq.firmware.prelude import PRELUDE
from edgeq.graph import parse
from tests.firmware_nets import ACTIVATIONS, Net, by_tflm, case

MACHINES = {"cortex-m3": "mps2-an385", "cortex-m4": "mps2-an386", "cortex-m55": "mps3-an547"}
needs_copy = pytest.mark.skipif(find_spec("bakenn") is None, reason="needs the package bakenn, for its CMSIS-NN")
needs_board = pytest.mark.skipif(not (tool.find(toolchain.COMPILER) and tool.find(EMULATOR)),
                                 reason="needs arm-none-eabi-gcc and qemu-system-arm")


def convolutions():
    shapes = [((1, 5, 6, 3), 4, (3, 3)), ((1, 4, 4, 8), 5, (1, 1)), ((1, 7, 5, 2), 3, (2, 4)), ((1, 1, 8, 3), 4, (1, 3)),
              ((1, 6, 6, 20), 6, (3, 3)), ((2, 4, 3, 4), 2, (3, 1))]
    options = [{}, {"stride": (2, 2)}, {"padding": "VALID"}, {"dilation": (2, 2)},
               {"stride": (2, 1), "padding": "VALID"}]
    for seed, ((shape, channels, size), option) in enumerate(itertools.product(shapes, options)):
        small = "VALID" in option.values() and min(n - k for n, k in zip(shape[1:3], size, strict=True)) < 0
        if small or (seed + seed // len(options)) % 2:
            continue
        for kind, count in (("CONV_2D", channels), ("DEPTHWISE_CONV_2D", (1, 2, 4)[seed % 3])):
            net = Net(shape, seed)
            net.conv("in", count, size, kind=kind, per_channel=seed % 2 == 0, bias=seed % 5 != 0,
                     options={"activation": ACTIVATIONS[seed % 4], **option})
            yield case(f"{kind.lower()}_{seed}", net.file())


def others():
    for seed, (shape, outputs) in enumerate((((1, 37), 5), ((3, 64), 8), ((1, 640), 16))):
        net = Net(shape, seed)
        net.dense("in", outputs, per_channel=False, bias=seed != 1, activation=ACTIVATIONS[seed])
        yield case(f"dense_{seed}", net.file())
    chosen = itertools.product(("AVERAGE_POOL_2D", "MAX_POOL_2D"), ("SAME", "VALID"), ((2, 2), (3, 1)))
    for seed, (name, padding, stride) in enumerate(chosen):
        net, size = Net((1, 7, 6, (5, 16)[seed % 2]), seed), (3, 2)
        reach = (1, 1) if padding == "SAME" else size
        sizes = [(n - r) // s + 1 for n, r, s in zip((7, 6), reach, stride, strict=True)]
        net.add(name, "in", [1, *sizes, net.shape("in")[3]], net.grid("in"), padding=["SAME", "VALID"].index(padding),
                filterHeight=size[0], filterWidth=size[1], strideH=stride[0], strideW=stride[1],
                fusedActivationFunction=(0, 1)[seed % 2])
        yield case(f"{name.lower()}_{seed}", net.file())


@dataclass(frozen=True)
class Firmware:
    """Several programs in one test firmware: the first word of an input says which one is to run."""

    programs: tuple
    core: str
    input_bytes: int
    output_bytes: int

    def outputs(self, folder, inputs):
        """What the programs `inputs` (number, bytes) name give, each as bytes."""
        folder.mkdir(exist_ok=True)
        texts = {"all.c": self.dispatcher(), "all_kernels.c": f"#include <stdint.h>\n{PRELUDE}", "all_constants.c": ""}
        for program in self.programs:
            for name, text in source.sources(program).items():
                merged = name.replace(program.name, "all")  # compiled together, it takes a third of the time
                if merged in ("all_kernels.c", "all_constants.c"):
                    texts[merged] += text.replace(PRELUDE, "")
                elif name != "plan.txt":
                    texts[name] = text
        texts |= {name: text for each in self.programs for taken in each.network.libraries
                  for name, text in taken.files.items()}
        for name, text in texts.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        elf = toolchain.link(folder, self.linked(folder, texts))
        fed = b"".join((number.to_bytes(4, "little") + given).ljust(self.input_bytes, b"\0")
                       for number, given in inputs)
        board = BOARDS[MACHINES[self.core]]
        left = run(elf, fed, Emulation(board, self.input_bytes, self.output_bytes)).outputs
        return [left[i: i + self.output_bytes] for i in range(0, len(left), self.output_bytes)]

    def linked(self, folder, texts):
        board = BOARDS[MACHINES[self.core]]
        compiled = [folder / name for name in texts if name.endswith((".c", ".S"))]
        defines = {"EQ_INVOKE": "all_invoke", "EQ_INPUT_BYTES": str(self.input_bytes),
                   "EQ_OUTPUT_BYTES": str(self.output_bytes)}
        includes = {folder, *(folder / name for each in self.programs for taken in each.network.libraries
                              for name in taken.includes)}
        return toolchain.Program((*compiled, *toolchain.test_sources("semihosting")), CORES[self.core], linker_script(board.memory),
                       defines, tuple(sorted(includes)))

    def dispatcher(self):
        names = [program.name for program in self.programs]
        headers = "".join(f'#include "{name}.h"\n' for name in names)
        cases = "".join(f"    case {i}: {name}_invoke(x, out); break;\n" for i, name in enumerate(names))
        return (f"{headers}{SIZES}\nvoid all_invoke(const int32_t *in, void *out);\n"
                "void all_invoke(const int32_t *in, void *out) {\n  const void *x = &in[1];\n"
                f"  switch (in[0]) {{\n{cases}    case -1: sizes(x, out); break;\n    default: break;\n  }}\n}}\n")


# What the library says of a convolution: image, outputs, kernel, stride, dilation, padding, depth, multiplier.
SIZES = """
#include <arm_nnfunctions.h>
static void sizes(const int32_t *x, int32_t *y) {
  const cmsis_nn_dims input = {1, x[0], x[1], x[12]}, filter = {1, x[4], x[5], x[12]};
  const cmsis_nn_dims output = {1, x[2], x[3], x[12] * x[13]};
  const cmsis_nn_conv_params conv = {.stride = {x[7], x[6]}, .dilation = {x[9], x[8]}, .padding = {x[11], x[10]}};
  const cmsis_nn_dw_conv_params dw = {
    .ch_mult = x[13], .stride = conv.stride, .dilation = conv.dilation, .padding = conv.padding};
  y[0] = arm_convolve_wrapper_s8_get_buffer_size(&conv, &input, &filter, &output);
  y[1] = arm_depthwise_conv_wrapper_s8_get_buffer_size(&dw, &input, &filter, &output);
  y[2] = arm_avgpool_s8_get_buffer_size(x[3], x[12]);
}
"""


def firmware(cases, core):
    providers = (cmsis_nn(CORES[core].kernels), Provider("portable", PORTABLE))
    made = [network(each.graph, providers) for each in cases]
    programs = tuple(source.Program(each.name, net, planned(net)) for each, net in zip(cases, made, strict=True))
    sizes = [(net.size(net.graph.inputs[0]), net.size(net.graph.outputs[0])) for net in made]
    return Firmware(programs, core, 4 + -(-max(64, *(size for size, _ in sizes)) // 4) * 4,
                    -(-max(size for _, size in sizes) // 4) * 4)


def windows():
    chosen = itertools.product(((9, 8), (1, 8)), ((1, 1), (3, 3), (1, 4)), ((1, 1), (2, 2)), ((1, 1), (1, 2)),
                               ((0, 0), (1, 1)), (1, 3, 40), (1, 2))
    for image, kernel, stride, dilation, padding, depth, multiplier in chosen:
        outputs = tuple(-(-n // s) for n, s in zip(image, stride, strict=True))
        yield Window(image, outputs, kernel, stride, dilation, padding, depth), multiplier


def words(window, multiplier):
    sizes = (window.image, window.outputs, window.kernel, window.stride, window.dilation, window.padding)
    return np.array([*itertools.chain(*sizes), window.depth, multiplier], np.int32).tobytes()


@needs_copy
@needs_board
@pytest.mark.parametrize("core", MACHINES)
def test_outputs_are_those_of_tflm_and_scratch_is_what_the_library_says(core, tmp_path):
    cases = [*convolutions(), *others()]
    made = firmware(cases, core)
    assert {step.provider.name for each in made.programs for step in each.network.steps} == {"cmsis-nn"}
    given = [(i, row.tobytes()) for i, each in enumerate(cases) for row in each.inputs]
    asked = [*windows()]
    left = iter(made.outputs(tmp_path / core, [*given, *((2**32 - 1, words(*each)) for each in asked)]))
    for each, theirs in zip(cases, by_tflm(cases, tmp_path), strict=True):
        ours = [np.frombuffer(next(left), np.int8)[: row.size].reshape(row.shape) for row in theirs]
        np.testing.assert_array_equal(ours, theirs, err_msg=each.name)
    build = Build("dsp" in CORES[core].kernels, "mve" in CORES[core].kernels, recent=False)
    for window, multiplier in asked:
        said = np.frombuffer(next(left), np.int32)[:3].tolist()
        assert said == [build.convolution(window), build.depthwise(window, 1, multiplier),
                        build.average(window.depth)], window
