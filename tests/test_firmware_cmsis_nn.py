"""CMSIS-NN as a provider: bit for bit what TFLM computes, in the memory that the library says it takes."""

import itertools
import shutil
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from firmware_nets import ACTIVATIONS, Net, by_tflm, case
from linking import Program, link

from edgeq import tool
from edgeq.emulation.boards import BOARDS, harness, linker_script
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
from edgeq.firmware.order import COMPILER, LIBRARY
from edgeq.firmware.portable import PORTABLE
from edgeq.firmware.prelude import PRELUDE
from edgeq.graph import parse, values_of

MACHINES = {"cortex-m3": "mps2-an385", "cortex-m4": "mps2-an386", "cortex-m55": "mps3-an547"}
needs_copy = pytest.mark.skipif(find_spec("bakenn") is None, reason="needs the package bakenn")
needs_board = pytest.mark.skipif(not (tool.find(COMPILER) and tool.find(EMULATOR)),
                                 reason="needs arm-none-eabi-gcc and qemu-system-arm")


def convolutions():
    shapes = [((1, 5, 6, 3), 4, (3, 3)), ((1, 4, 4, 8), 5, (1, 1)), ((1, 7, 5, 2), 3, (2, 4)),
              ((1, 1, 8, 3), 4, (1, 3)), ((1, 6, 6, 20), 6, (3, 3)), ((2, 4, 3, 4), 2, (3, 1))]
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
        net.add(name, "in", [1, *sizes, net.shape("in")[3]], net.grid("in"),
                padding=["SAME", "VALID"].index(padding), filterHeight=size[0], filterWidth=size[1],
                strideH=stride[0], strideW=stride[1], fusedActivationFunction=(0, 1)[seed % 2])
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
        texts = {"all.c": self.dispatcher(), "all_kernels.c": "", "all_constants.c": "",
                 "prelude.h": f"#pragma once\n#include <stdint.h>\n{PRELUDE}"}
        for program in self.programs:
            for name, text in source.sources(program).items():
                once = text.replace(PRELUDE, '#include "prelude.h"\n')
                merged = name.replace(program.name, "all")  # compiled together, it takes a third of the time
                if merged in ("all_kernels.c", "all_constants.c"):
                    texts[merged] += once
                elif name != "plan.txt":
                    texts[name] = once
        texts |= {name: text for each in self.programs for taken in each.network.libraries
                  for name, text in taken.files.items()}
        for name, text in texts.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        elf = link(folder, self.linked(folder, texts))
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
        return Program((*compiled, *harness("semihosting")), CORES[self.core],
                                 linker_script(board.memory), defines, tuple(sorted(includes)))

    def dispatcher(self):
        names = [program.name for program in self.programs]
        headers = "".join(f'#include "{name}.h"\n' for name in names)
        cases = "".join(f"    case {i}: {name}_invoke(x, out); break;\n" for i, name in enumerate(names))
        return (f"{headers}{SIZES}\nvoid all_invoke(const int32_t *in, void *out);\n"
                "void all_invoke(const int32_t *in, void *out) {\n  const void *x = &in[1];\n"
                f"  switch (in[0]) {{\n{cases}    default: sizes(x, out); break;\n  }}\n}}\n")


# What the library says of a window: image, outputs, kernel, stride, dilation, padding, depth, multiplier.
SIZES = """
#include <arm_nnfunctions.h>
static void sizes(const int32_t *x, int32_t *y) {
  const cmsis_nn_dims input = {1, x[0], x[1], x[12]}, filter = {1, x[4], x[5], x[12]};
  const cmsis_nn_dims output = {1, x[2], x[3], x[12] * x[13]};
  const cmsis_nn_conv_params conv = {
    .stride = {x[7], x[6]}, .dilation = {x[9], x[8]}, .padding = {x[11], x[10]}};
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
    programs = tuple(source.Program(each.name, net, planned(net))
                     for each, net in zip(cases, made, strict=True))
    sizes = [(net.size(net.graph.inputs[0]), net.size(net.graph.outputs[0])) for net in made]
    return Firmware(programs, core, 4 + -(-max(64, *(size for size, _ in sizes)) // 4) * 4,
                    -(-max(size for _, size in sizes) // 4) * 4)


def fed(cases):
    """The inputs of all cases, each with the number of its program."""
    return [(number, row.tobytes()) for number, each in enumerate(cases) for row in each.inputs]


def windows():
    chosen = itertools.product(((9, 8), (1, 8)), ((1, 1), (3, 3), (1, 4)), ((1, 1), (2, 2)), ((1, 1), (1, 2)),
                               ((0, 0), (1, 1)), (1, 3, 40), (1, 2))
    for image, kernel, stride, dilation, padding, depth, multiplier in chosen:
        outputs = tuple(-(-n // s) for n, s in zip(image, stride, strict=True))
        yield Window(image, outputs, kernel, stride, dilation, padding, depth), multiplier


def words(window, multiplier):
    sizes = (window.image, window.outputs, window.kernel, window.stride, window.dilation, window.padding)
    return np.array([*itertools.chain(*sizes), window.depth, multiplier], np.int32).tobytes()


# The documented arithmetic of functions that the package's copy has not.
ADD = """
#include "arm_nnfunctions.h"
#include "arm_nnsupportfunctions.h"
arm_cmsis_nn_status arm_elementwise_add_s8(const int8_t *a, const int8_t *b, const int32_t a_offset,
    const int32_t a_mult, const int32_t a_shift, const int32_t b_offset, const int32_t b_mult,
    const int32_t b_shift, const int32_t left_shift, int8_t *y, const int32_t offset, const int32_t mult,
    const int32_t shift, const int32_t least, const int32_t most, const int32_t size) {
  for (int32_t i = 0; i < size; i++) {
    const int32_t sum = arm_nn_requantize((a[i] + a_offset) * (1 << left_shift), a_mult, a_shift)
        + arm_nn_requantize((b[i] + b_offset) * (1 << left_shift), b_mult, b_shift);
    const int32_t value = arm_nn_requantize(sum, mult, shift) + offset;
    y[i] = (int8_t)CLAMP(value, most, least);
  }
  return ARM_CMSIS_NN_SUCCESS;
}
"""
MULTIPLY = """
#include "arm_nnfunctions.h"
#include "arm_nnsupportfunctions.h"
arm_cmsis_nn_status arm_elementwise_mul_s8(const int8_t *a, const int8_t *b, const int32_t a_offset,
    const int32_t b_offset, int8_t *y, const int32_t offset, const int32_t mult, const int32_t shift,
    const int32_t least, const int32_t most, const int32_t size) {
  for (int32_t i = 0; i < size; i++) {
    const int32_t value = arm_nn_requantize((a[i] + a_offset) * (b[i] + b_offset), mult, shift) + offset;
    y[i] = (int8_t)CLAMP(value, most, least);
  }
  return ARM_CMSIS_NN_SUCCESS;
}
"""
SOFTMAX = """
#include "arm_nnfunctions.h"
#include "arm_nnsupportfunctions.h"
static int32_t raised(int32_t difference, int32_t mult, int32_t shift) {
  return EXP_ON_NEG(MUL_SAT(difference * (1 << shift), mult));
}
void arm_softmax_s8(const int8_t *x, const int32_t rows, const int32_t size, const int32_t mult,
    const int32_t shift, const int32_t least, int8_t *y) {
  for (int32_t row = 0; row < rows; row++, x += size, y += size) {
    int32_t most = x[0], sum = 0;
    for (int32_t i = 1; i < size; i++) { most = MAX(most, x[i]); }
    for (int32_t i = 0; i < size; i++) {
      if (x[i] - most >= least) { sum += DIV_POW2(raised(x[i] - most, mult, shift), 12); }
    }
    const int32_t headroom = __CLZ((uint32_t)sum);
    const int32_t scale = ONE_OVER1((sum > 0 ? sum << headroom : 0) - (1 << 31));
    for (int32_t i = 0; i < size; i++) {
      const int32_t seen = x[i] - most >= least;
      const int32_t part = MUL_SAT(scale, raised(x[i] - most, mult, shift));
      y[i] = (int8_t)(seen ? CLAMP(DIV_POW2(part, 12 - headroom + 23) - 128, 127, -128) : -128);
    }
  }
}
"""


def pairs():
    for seed, (name, activation) in enumerate((("ADD", 0), ("ADD", 3), ("MUL", 0), ("MUL", 1))):
        net = Net((1, 5, 5, 3), seed, scale=0.05, zero=seed - 2)
        half = net.add("MAX_POOL_2D", "in", [1, 5, 5, 3], net.grid("in"), padding=0, filterHeight=3,
                       filterWidth=3, strideH=1, strideW=1, fusedActivationFunction=0)
        net.add(name, f"in {half}", [1, 5, 5, 3], {"scale": (0.11, 0.3)[seed // 2], "zero": 7},
                fusedActivationFunction=activation)
        yield case(f"{name.lower()}_{seed}", net.file())
    for seed, (rows, size, scale) in enumerate(((1, 12, 0.1), (3, 5, 0.03))):
        net = Net((rows, size), seed, scale=scale, zero=3)
        net.add("SOFTMAX", "in", [rows, size], {"scale": 1 / 256, "zero": -128}, beta=1.0)
        yield case(f"softmax_{seed}", net.file())


@pytest.fixture
def whole(tmp_path, monkeypatch):
    """A folder of the library with functions that the package's copy has not, which CMSIS_NN_ROOT names."""
    root = tmp_path / "CMSIS-NN"
    shutil.copytree(library.found().root, root)
    for name, text in (("elementwise_add", ADD), ("elementwise_mul", MULTIPLY), ("softmax", SOFTMAX)):
        (root / "Source" / f"arm_{name}_s8.c").write_text(text)
    monkeypatch.setenv(LIBRARY, str(root))
    return root


def same(cases, outputs, folder):
    """Fails where the next `outputs` are not those of TFLM."""
    for each, theirs in zip(cases, by_tflm(cases, folder), strict=True):
        assert len(np.unique(theirs)) > 1, f"{each.name}: TFLM's outputs are all the same"
        ours = [np.frombuffer(next(outputs), np.int8)[: row.size].reshape(row.shape) for row in theirs]
        np.testing.assert_array_equal(ours, theirs, err_msg=each.name)


@needs_copy
@needs_board
@pytest.mark.parametrize("core", MACHINES)
def test_outputs_are_those_of_tflm_and_scratch_is_what_the_library_says(core, tmp_path):
    cases = [*convolutions(), *others()][:: 3 if core == "cortex-m3" else 1]
    made = firmware(cases, core)
    assert {step.provider.name for each in made.programs for step in each.network.steps} == {"cmsis-nn"}
    asked = [*windows()]
    questions = [(2**32 - 1, words(*each)) for each in asked]
    left = iter(made.outputs(tmp_path / core, [*fed(cases), *questions]))
    same(cases, left, tmp_path)
    build = Build("dsp" in CORES[core].kernels, "mve" in CORES[core].kernels, recent=False)
    for window, multiplier in asked:
        said = np.frombuffer(next(left), np.int32)[:3].tolist()
        assert said == [build.convolution(window), build.depthwise(window, 1, multiplier),
                        build.average(window.depth)], window


@needs_copy
@needs_board
def test_a_whole_library_adds_multiplies_and_takes_softmax(whole, tmp_path):
    cases = [*pairs()]
    made = firmware(cases, "cortex-m4")
    assert {step.provider.name for each in made.programs for step in each.network.steps} == {"cmsis-nn"}
    same(cases, iter(made.outputs(tmp_path / "m4", fed(cases))), tmp_path)


def operation(net):
    graph = parse(net.file(), "net")
    last = graph.operators[-1]
    return Operation(last, graph.inputs_of(last), graph.outputs_of(last))


def kernel(net, instructions=("dsp",)):
    made = operation(net)
    return cmsis_nn(instructions).kernels[made.name](made)


@needs_copy
def test_what_the_library_has_not_is_left_to_others():
    wide, grouped, channels = Net((1, 4, 4, 2), dtype="INT16"), Net((1, 4, 4, 4)), Net((1, 8))
    wide.conv("in", 2, (3, 3))
    grouped.conv("in", 4, (3, 3), groups=2)
    channels.dense("in", 4, per_channel=True)
    assert [kernel(net) for net in (wide, grouped, channels)] == [None] * 3


@needs_copy
def test_layers_of_one_shape_share_a_routine_and_keep_their_weights():
    nets = [Net((1, 4, 4, 4), scale=0.1, zero=0) for _ in range(2)]
    for net in nets:
        net.conv("in", 4, (3, 3))
        net.chance.random()
    made = [kernel(net) for net in nets]
    assert made[0].routine == made[1].routine
    weights = made[0].arguments[2]
    np.testing.assert_array_equal(weights.values, values_of(operation(nets[0]).input(1)))


@needs_copy
def test_files_are_those_that_are_called_their_headers_and_their_licences():
    files = cmsis_nn(("dsp",)).library.files
    assert {"cmsis_nn/LICENSE.txt", "cmsis_core/LICENSE.txt", "cmsis_nn/Include/arm_nnfunctions.h",
            "cmsis_nn/Source/NNSupportFunctions/arm_nn_mat_mult_nt_t_s8.c"} <= {*files}
    assert not any("bakenn_cmsis_memory" in name for name in files)
    copy = library.found()
    alone = copy.library(["arm_max_pool_s8"]).files
    assert [Path(name).name for name in alone if name.endswith(".c")] == ["arm_max_pool_s8.c"]


@needs_copy
def test_the_root_that_is_set_is_taken(whole):
    assert library.found().root == whole
    assert {"ADD", "MUL", "SOFTMAX"} <= {*cmsis_nn(("dsp",)).kernels}
    assert "SOFTMAX" not in cmsis_nn(("mve", "dsp")).kernels


@needs_copy
def test_a_recent_library_is_known_by_its_files(whole):
    (whole / "Source/ConvolutionFunctions/arm_convolve_get_buffer_sizes_s8.c").write_text("")
    assert library.found().recent
    net = Net((1, 8), zero=3)
    net.dense("in", 4, per_channel=False)
    weights, bias = (values_of(operation(net).input(place)).astype(int) for place in (1, 2))
    assert kernel(net, ("mve", "dsp")).arguments[-1].values.tolist() == weights.sum(1).tolist()
    declared = (whole / library.HEADER).read_text()
    folding = "int arm_vector_sum_s8(int *a, int b, int c, int *d, int lhs_offset, int *bias);"
    (whole / library.HEADER).write_text(f"{declared}\n{folding}\n")
    assert kernel(net, ("mve", "dsp")).arguments[-1].values.tolist() == (bias - 3 * weights.sum(1)).tolist()


@needs_copy
def test_a_library_whose_functions_take_something_else_is_an_error(whole):
    text = (whole / library.HEADER).read_text()
    (whole / library.HEADER).write_text(text.replace(
        "arm_cmsis_nn_status arm_convolve_wrapper_s8(const cmsis_nn_context *ctx,",
        "arm_cmsis_nn_status arm_convolve_wrapper_s8(const cmsis_nn_context *ctx, const int *more,"))
    with pytest.raises(ToolError, match="12 parameters, not 11"):
        cmsis_nn(())


def test_no_library_is_an_error_that_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.delenv(LIBRARY, raising=False)
    monkeypatch.setattr(library.importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(ToolError) as raised:
        cmsis_nn(())
    assert "pip install bakenn" in raised.value.hint
    monkeypatch.setenv(LIBRARY, str(tmp_path))
    with pytest.raises(ConfigError, match="has no Include"):
        cmsis_nn(())


@needs_copy
def test_a_library_without_the_headers_that_it_includes_is_an_error(whole, monkeypatch):
    monkeypatch.setattr(library, "_bundled", lambda: None)
    with pytest.raises(ToolError, match=r"cmsis_compiler\.h"):
        cmsis_nn(())
