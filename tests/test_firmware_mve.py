"""The Helium kernels on an emulated Cortex-M55, bit for bit, against TFLite's arithmetic in numpy."""

import shutil
from dataclasses import dataclass

import numpy as np
import pytest
from linking import Program, link

from edgeq.emulation.boards import BOARDS, harness, linker_script
from edgeq.emulation.cores import CORES
from edgeq.emulation.qemu import Emulation, run
from edgeq.firmware.arithmetic import bounds, multiplier, scaled
from edgeq.firmware.kernel import NAME, Constant, Input, Kernel, Operation, Output
from edgeq.firmware.mve import MVE
from edgeq.firmware.mve.adding import fitted
from edgeq.firmware.portable.tables import hard_swish, relu, sigmoid
from edgeq.firmware.prelude import PRELUDE
from edgeq.graph import Operator, Quantization, Tensor

harness.__test__ = False
BOARD = BOARDS["mps3-an547"]
MEMORY = BOARD.limited(BOARD.memory.flash_bytes, BOARD.memory.ram_bytes - (1 << 20))
RAM_END = BOARD.memory.ram + BOARD.memory.ram_bytes  # inputs end here: what reads on faults
GUARD = 16  # bytes behind an output that must stay as they are
NONE, RELU, RELU6 = 0, 1, 3
INSTRUCTIONS = (74190, 39577, 11771, 281732, 2566, 7194)  # at most


@dataclass(frozen=True)
class Case:
    """An operation with its inputs and what it must give."""

    name: str
    operation: Operation
    inputs: tuple[np.ndarray, ...]
    wanted: np.ndarray

    @property
    def kernel(self) -> Kernel | None:
        return MVE[self.operation.name](self.operation)


def tensor(shape, scale=0.05, zero=0, data=None, dtype="INT8"):
    scales = np.atleast_1d(np.asarray(scale, np.float32))
    grid = Quantization(scales, np.full(scales.size, zero, np.int64), 0)
    data = None if data is None else np.ascontiguousarray(data, dtype.lower()).reshape(-1).view(np.uint8)
    return Tensor(0, "t", tuple(shape), tuple(shape), dtype, grid, data, variable=False)


def operation(name, inputs, output, **options):
    return Operation(Operator(0, name, 1, tuple(range(len(inputs))), (9,), options), tuple(inputs), (output,))


def requantized(sums, found, factors):
    """Accumulators (…, channels) to int8: factors a channel, the output's zero point, its activation."""
    pairs = np.array([multiplier(float(each)) for each in factors])
    return clamped(scaled(sums, pairs[:, 0], pairs[:, 1]) + int(found.sink.grid.zero_points[0]), found)


def clamped(values, found):
    """Values within what the fused activation leaves."""
    limits = bounds(found.option("fusedActivationFunction"), found.sink.grid, "INT8")
    return np.clip(values, *limits).astype(np.int8)


def grids(chance, depth, channels, activation, zero=None):
    """Scales of input, weights and output that use the int8 range, and the zero points."""
    inner, weights = 0.02, chance.uniform(0.5, 2.0, channels) * 0.004
    output = 0.02 * 0.006 * 60 * 80 * depth**0.5 / 128
    zeros = int(chance.integers(-128, 128)), -128 if activation else int(chance.integers(-20, 20))
    return (inner, zeros[0]), weights, (output, zeros[1] if zero is None else zero)


def dense(pixels, depth, channels, activation=NONE, zero=None, seed=0, scale=1.0):
    chance = np.random.default_rng(seed)
    inner, scales, outer = grids(chance, depth, 1, activation, zero)
    outer = outer[0] * scale, outer[1]
    weights = chance.integers(-127, 128, (channels, depth))
    bias = chance.integers(-3000, 3000, channels)
    given = chance.integers(-128, 128, (pixels, depth))
    found = operation("FULLY_CONNECTED", [
        tensor((pixels, depth), *inner), tensor((channels, depth), scales, data=weights),
        tensor((channels,), data=bias, dtype="INT32")], tensor((pixels, channels), *outer),
        fusedActivationFunction=activation)
    sums = (given - inner[1]) @ weights.T + bias
    grid = [each.grid.scales[0] for each in (*found.inputs[:2], found.sink)]
    factor = float(np.float32(grid[0] * grid[1])) / float(grid[2])
    return Case(f"dense {pixels} {depth} {channels} {activation}", found, (given,),
                requantized(sums, found, [factor] * channels))


def conv(size, depth, channels, taps=(1, 1), stride=1, padding="SAME", activation=RELU, zero=None, seed=0,
         depthwise=False, scale=1.0, dilation=1):
    """A convolution of (height, width, depth), or a depthwise one where `depthwise`."""
    chance = np.random.default_rng(seed)
    inputs = 1 if depthwise else depth
    weights = chance.integers(-127, 128, (channels, *taps, inputs))
    reach = tuple((tap - 1) * dilation + 1 for tap in taps)
    inner, scales, outer = grids(chance, inputs * taps[0] * taps[1], channels, activation, zero)
    outer = outer[0] * scale, outer[1]
    strides = (stride, stride) if isinstance(stride, int) else stride
    same = padding == "SAME"
    outputs = [-(-length // step) if same else (length - tap) // step + 1
               for length, tap, step in zip(size, reach, strides, strict=True)]
    given = chance.integers(-128, 128, (*size, depth))
    bias = chance.integers(-3000, 3000, channels)
    stored = weights.transpose(3, 1, 2, 0) if depthwise else weights
    found = operation(
        "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D",
        [tensor((1, *size, depth), *inner), tensor(stored.shape, scales, data=stored),
         tensor((channels,), data=bias, dtype="INT32")], tensor((1, *outputs, channels), *outer),
        strideH=strides[0], strideW=strides[1], padding=0 if same else 1, dilationHFactor=dilation,
        dilationWFactor=dilation, fusedActivationFunction=activation, depthMultiplier=channels // depth)
    spread = np.zeros((channels, *reach, inputs), np.int64)
    spread[:, ::dilation, ::dilation] = weights
    sums, weights = windows(given - inner[1], outputs, reach, strides, same), spread
    sums = (np.einsum("yxtc,ct->yxc", np.repeat(sums, channels // depth, 3), weights.reshape(channels, -1))
            if depthwise else sums.reshape(*outputs, -1) @ weights.reshape(channels, -1).T)
    factors = (found.source.grid.scales.astype(float) * found.input(1).grid.scales.astype(float)
               / found.sink.grid.scales.astype(float))
    what = f"{found.name} {size} {depth} {channels} {taps} {stride} {padding} {activation}"
    return Case(what, found, (given,), requantized(sums + bias, found, factors))


def windows(given, outputs, taps, strides, same):
    """(…, taps, channels) of what the windows see, zeros outside."""
    before = [max((out - 1) * step + tap - length, 0) // 2 if same else 0
              for out, step, tap, length in zip(outputs, strides, taps, given.shape[:2], strict=True)]
    padded = np.pad(given, ((before[0], taps[0] + strides[0]), (before[1], taps[1] + strides[1]), (0, 0)))
    seen = [padded[y : y + strides[0] * outputs[0] : strides[0], x : x + strides[1] * outputs[1] : strides[1]]
            for y in range(taps[0]) for x in range(taps[1])]
    return np.stack([each[: outputs[0], : outputs[1]] for each in seen], 2)


def added(found, one, two):
    """TFLM's ADD and SUB: both shifted by 20 bits, scaled by less than one, then the sum."""
    scales = [each.grid.scales[0] for each in (*found.inputs, found.sink)]
    if found.name == "ADD":
        scales = [float(each) for each in scales]
    twice = type(scales[0])(2) * max(scales[:2])
    parts = [scaled((np.asarray(each, np.int64) - int(source.grid.zero_points[0])) << 20,
                    *multiplier(float(scale / twice)))
             for each, source, scale in zip((one, two), found.inputs, scales[:2], strict=True)]
    total = parts[0] + parts[1] if found.name == "ADD" else parts[0] - parts[1]
    outer = multiplier(float(twice / (type(scales[0])(1 << 20) * scales[2])))
    return clamped(scaled(total, *outer) + int(found.sink.grid.zero_points[0]), found)


def addition(count, scales=(0.03, 0.05, 0.06), zeros=(3, -20, 5), activation=NONE, name="ADD", seed=0):
    given = np.random.default_rng(seed).integers(-128, 128, (2, count))
    found = operation(name, [tensor((1, count), scales[i], zeros[i]) for i in (0, 1)],
                      tensor((1, count), scales[2], zeros[2]), fusedActivationFunction=activation)
    return Case(f"{name} {count} {scales} {activation}", found, tuple(given), added(found, *given))


def product(shapes, scales=(0.03, 0.05, 0.06), zeros=(3, -20, 5), activation=NONE, seed=0):
    chance, sink = np.random.default_rng(seed), max(shapes, key=np.prod)
    given = tuple(chance.integers(-128, 128, shape) for shape in shapes)
    found = operation("MUL", [tensor(shapes[i], scales[i], zeros[i]) for i in (0, 1)],
                      tensor(sink, scales[2], zeros[2]), fusedActivationFunction=activation)
    factor = float(np.float32(scales[0])) * float(np.float32(scales[1])) / float(np.float32(scales[2]))
    values = scaled((given[0] - zeros[0]) * (given[1] - zeros[1]), *multiplier(factor)) + zeros[2]
    return Case(f"MUL {shapes} {scales}", found, given, clamped(values, found))


def pooled(found, given):
    """Averages, or the largest, of what of each window is there."""
    taps = found.option("filterHeight"), found.option("filterWidth")
    strides = found.option("strideH"), found.option("strideW")
    outputs, same = found.sink.shape[1:3], found.option("padding") == 0
    there = windows(np.ones_like(given), outputs, taps, strides, same).sum(2)
    if found.name == "MAX_POOL_2D":
        raised = windows(given.astype(np.int64) + 128, outputs, taps, strides, same).max(2) - 128
        return clamped(raised, found)
    sums = windows(given.astype(np.int64), outputs, taps, strides, same).sum(2)
    means = np.where(sums > 0, sums + there // 2, -(sums - there // 2)) // there * np.where(sums > 0, 1, -1)
    return clamped(means, found)


def pool(size, channels, taps, stride=1, padding="SAME", name="AVERAGE_POOL_2D", activation=NONE, seed=0):
    same = padding == "SAME"
    outputs = [-(-length // stride) if same else (length - tap) // stride + 1
               for length, tap in zip(size, taps, strict=True)]
    given = np.random.default_rng(seed).integers(-128, 128, (*size, channels))
    ends = (tensor((1, *shape, channels), 0.05, -7) for shape in (size, outputs))
    found = operation(name, [next(ends)], next(ends), filterHeight=taps[0], filterWidth=taps[1],
                      strideH=stride, strideW=stride, padding=0 if same else 1,
                      fusedActivationFunction=activation)
    return Case(f"{name} {size} {channels} {taps} {stride} {padding}", found, (given,), pooled(found, given))


def mean(size, channels, seed=0):
    given = np.random.default_rng(seed).integers(-128, 128, (*size, channels))
    found = operation("MEAN", [tensor((1, *size, channels), 0.05, -7),
                               tensor((2,), data=[1, 2], dtype="INT32")],
                      tensor((1, channels), 0.004, 12))
    count = size[0] * size[1]
    mantissa, shift = multiplier(float(np.float32(0.05)) / float(np.float32(0.004)))
    down = min(count.bit_length() - 1, 32, 31 + shift)
    values = scaled((given + 7).sum((0, 1)), (mantissa << down) // count, shift - down) + 12
    return Case(f"MEAN {size} {channels}", found, (given,), np.clip(values, -128, 127).astype(np.int8))


def lookup(name, count, table):
    given = np.random.default_rng(0).integers(-128, 128, count)
    sink = tensor((1, count), 1 / 256, -128) if name == "LOGISTIC" else tensor((1, count), 0.03, 4)
    found = operation(name, [tensor((1, count), 0.05, 6)], sink)
    return Case(f"{name} {count}", found, (given,), table(given, *found.grids).astype(np.int8))


def firmware(cases):
    """The C and the assembly of a program that runs all cases: their outputs, each with a guard behind it.

    Odd steps are empty, so that even ones count a kernel alone.
    """
    parts, assembly, places = [], [".syntax unified", ".thumb"], np.zeros(2, np.int64)
    for number, case in enumerate(cases):
        kernel, name = case.kernel, f"kernel_{number}"
        assembly.append(kernel.routine.assembly.replace(NAME, name))
        parts += [f"void {name}({kernel.routine.parameters});", kernel.routine.c.replace(NAME, name),
                  called(number, case, kernel, places)]
        places += sum(padded(each.size) for each in case.inputs), padded(case.wanted.size + GUARD)
    headers = dict.fromkeys(header for case in cases for header in case.kernel.routine.headers)
    calls = "\n".join(f"  case_{number}(in, out);" for number in range(len(cases)))
    scratch = max(case.kernel.scratch for case in cases) + GUARD
    text = "\n".join([
        "#include <stdint.h>", "#include <string.h>", *(f"#include <{header}>" for header in headers),
        PRELUDE, f"static uint8_t scratch[{scratch}] __attribute__((aligned(8)));", *parts,
        "void cases(const int8_t *in, int8_t *out);", "void cases(const int8_t *in, int8_t *out) {",
        calls, "}", ""])
    return text, "\n".join([*assembly, ""]), (int(places[0]), int(places[1]))


def called(number, case, kernel, places):
    """The C of a case, whose inputs and output are at `places`; the inputs go to the very end of the RAM."""
    words, copies, arrays, edge = [], [], [], RAM_END
    starts = np.cumsum([places[0], *(padded(each.size) for each in case.inputs)])
    for argument in kernel.arguments:
        if isinstance(argument, Input):
            size = case.inputs[argument.place].size
            edge -= padded(size + kernel.over_read)
            copies.append(f"  memcpy((int8_t *){edge:#x}, in + {starts[argument.place]}, {size});")
            words.append(f"(int8_t *){edge:#x}")
        elif isinstance(argument, Output):
            words.append(f"out + {places[1]}")
        elif isinstance(argument, Constant):
            values = np.asarray(argument.values).reshape(-1)
            words.append(f"constants_{number}_{len(words)}")
            arrays.append(f"static const {values.dtype.name}_t {words[-1]}[] __attribute__((aligned(4))) = "
                          f"{{{', '.join(map(str, values.tolist()))}}};")
        else:
            words.append("(void *)scratch")
    end, size = places[1] + case.wanted.size, case.wanted.size
    return "\n".join([*arrays, f"""
__attribute__((noinline)) void case_step_{2 * number}(int8_t *out);
void case_step_{2 * number}(int8_t *out) {{ kernel_{number}({", ".join(words)}); }}
__attribute__((noinline)) void case_step_{2 * number + 1}(void);
void case_step_{2 * number + 1}(void) {{ __asm__ volatile(""); }}
static void case_{number}(const int8_t *in, int8_t *out) {{
  memset(out + {places[1]}, 0x5A, {size + GUARD});
  memset(scratch, 0x5A, sizeof scratch);""", *copies, f"""\
  case_step_{2 * number}(out);
  case_step_{2 * number + 1}();
  for (unsigned i = {kernel.scratch}u; i < {kernel.scratch + GUARD}u; i++) {{
    out[{end}] = (int8_t)(scratch[i] == 0x5A ? out[{end}] : 0);
  }}
}}"""])


def padded(size):
    return -(-size // 8) * 8


def laid(values):
    flat = np.asarray(values, np.int8).reshape(-1)
    return np.pad(flat, (0, padded(flat.size) - flat.size)).tobytes()


def ran(work, cases, counting="none"):
    """Run the cases on the board; names of those that are wrong, and the instructions of each."""
    text, assembly, (size, outputs) = firmware(cases)
    (work / "cases.c").write_text(text)
    (work / "kernels.S").write_text(assembly)
    defines = {"EQ_INVOKE": "cases", "EQ_INPUT_BYTES": str(size), "EQ_OUTPUT_BYTES": str(outputs)}
    elf = link(work, Program((work / "cases.c", work / "kernels.S", *harness("semihosting")),
                             CORES["cortex-m55"], linker_script(MEMORY), defines))
    sample = b"".join(laid(each) for case in cases for each in case.inputs)
    emulated = run(elf, sample, Emulation(BOARD, size, outputs, counting=counting))
    found, wrong = np.frombuffer(emulated.outputs, np.int8), []
    for case in cases:
        wanted = np.concatenate([case.wanted.reshape(-1), np.full(GUARD, 0x5A, np.int8)])
        bad = np.nonzero(found[: wanted.size] != wanted)[0]
        if bad.size:
            wrong.append((case.name, bad.size, *(each[bad[:6]].tolist() for each in (found, wanted))))
        found = found[padded(wanted.size) :]
    steps = emulated.counts.steps if emulated.counts else ()
    return wrong, [each.instructions for each in steps[::2]]  # every other one is what checks the guards


@pytest.fixture
def board(tmp_path):
    """Runs cases on the board: what comes out wrong, and the instructions of each."""
    if not (shutil.which("qemu-system-arm") and shutil.which("arm-none-eabi-gcc")):
        pytest.skip("no emulator or no cross compiler")
    return lambda cases, counting="none": ran(tmp_path, cases, counting)


@pytest.fixture
def wrong(board):
    """What comes out wrong of cases on the board."""
    return lambda cases: board(cases)[0]


def depthwise(size, channels, taps=(3, 3), stride=1, **more):
    return conv(size, channels, channels, taps, stride, depthwise=True, **more)


def test_products_of_many_shapes(wrong):
    assert not wrong([
        dense(1, 64, 12), dense(1, 640, 128, RELU), dense(1, 8, 128, RELU), dense(1, 300, 10),
        dense(1, 16, 1), dense(1, 24, 16, scale=0.01), dense(1, 33, 13), dense(1, 130, 7),
        dense(3, 20, 7), dense(2, 33, 5, RELU), dense(5, 600, 6, RELU), dense(4, 1, 3),
        dense(2, 4, 4, RELU, zero=-100), dense(3, 12, 9, RELU6, scale=0.1), dense(2, 700, 4)])


def test_convolutions_of_many_shapes(wrong):
    assert not wrong([
        conv((5, 7), 8, 16), conv((4, 4), 24, 6, stride=2), conv((5, 5), 512, 4, stride=2, activation=NONE),
        conv((9, 10), 16, 8, (3, 3)), conv((9, 10), 16, 8, (3, 3), padding="VALID"),
        conv((7, 7), 3, 8, (3, 3), 2), conv((12, 12), 3, 5, (3, 3), 2, activation=NONE),
        conv((49, 10), 1, 16, (10, 4), 2), conv((8, 8), 64, 8, (3, 3)), conv((6, 9), 130, 4, (3, 3)),
        conv((6, 6), 64, 4, (5, 5), activation=NONE), conv((12, 12), 3, 8, (7, 7), 2),
        conv((20, 1), 8, 8, (3, 1)), conv((1, 20), 5, 8, (1, 5)), conv((9, 9), 6, 4, (2, 2), (2, 1)),
        conv((3, 3), 4, 4, (5, 5)), conv((2, 2), 4, 4, (3, 3), zero=-90),
        conv((6, 6), 2, 4, (4, 4), padding="VALID", activation=RELU6, scale=0.1),
        conv((7, 7), 1, 12, (3, 3), depthwise=True)])


def test_borders_of_deep_images_are_pointed_at(wrong):
    cases = [conv((6, 10), 256, 4, (3, 3), 2), conv((6, 9), 256, 4, (3, 3)), conv((3, 4), 160, 5, (5, 3)),
             conv((5, 3), 256, 4, (3, 3), activation=NONE), conv((2, 2), 512, 4, (3, 3))]
    assert [case.kernel.scratch for case in cases] == [256, 256, 160, 256, 512]
    assert not wrong(cases)


def test_depthwise_of_many_shapes(wrong):
    assert not wrong([
        depthwise((25, 5), 8), depthwise((5, 25), 8), depthwise((6, 6), 8, activation=NONE),
        depthwise((3, 3), 16), depthwise((7, 5), 8, stride=2), depthwise((12, 12), 4, stride=2),
        depthwise((13, 9), 4, padding="VALID"), depthwise((1, 1), 4), depthwise((2, 2), 4, stride=2),
        depthwise((10, 1), 8), depthwise((1, 10), 8), depthwise((5, 5), 4, zero=-80),
        depthwise((20, 22), 4, activation=RELU6, scale=0.1),
        depthwise((9, 9), 4, stride=2, padding="VALID", activation=NONE), depthwise((10, 11), 4, (1, 3)),
        depthwise((10, 11), 4, (3, 1)), depthwise((8, 8), 4, (2, 2), 2), depthwise((11, 7), 4, (4, 4)),
        depthwise((11, 17), 4, (3, 3), (2, 1)), depthwise((16, 16), 4, (3, 2), 3)])


def test_depthwise_that_no_strip_suits(wrong):
    cases = [depthwise((5, 8), 3), depthwise((9, 9), 12, (5, 5), 2),
             depthwise((5, 5), 10, (1, 6), scale=0.01), depthwise((8, 7), 9, dilation=2, activation=NONE),
             depthwise((12, 9), 4, dilation=3, padding="VALID"),
             depthwise((10, 10), 17, (7, 7), padding="VALID", zero=-70),
             depthwise((5, 8), 8, scale=0.002, activation=NONE)]
    assert all("arm_mve.h" in case.kernel.routine.headers for case in cases)
    assert not wrong(cases)


def test_sums_of_tensors(wrong):
    assert not wrong([
        addition(64), addition(37, activation=RELU), addition(5, (0.05, 0.05, 0.05)),
        addition(29, name="SUB"), addition(31, (0.05, 0.05, 0.05), name="SUB"),
        addition(80, (0.02, 0.2, 0.3), (-128, -128, -128), RELU),
        addition(16, (0.1, 0.1, 0.04), activation=RELU6)])


def test_products_of_tensors(wrong):
    assert not wrong([
        product([(1, 30), (1, 30)]), product([(1, 3, 2, 9), (1, 1, 1, 9)], activation=RELU),
        product([(1, 1, 8), (1, 5, 8)], (0.01, 0.02, 0.1)), product([(1, 12), (12,)], (2.0, 1.5, 0.5)),
        product([(1, 16), (1, 16)], (1.0, 1.0, 1.5))])


def test_sums_without_proved_constants_repeat_the_steps_of_tflm():
    assert fitted(addition(8).operation) is None
    found = fitted(addition(8, (0.05, 0.05, 0.05)).operation)
    assert (found.first, found.second, found.n) == (65536, 65536, 16)


def test_pools_and_tables(wrong):
    valid = {"padding": "VALID"}
    assert not wrong([
        pool((5, 5), 8, (5, 5), **valid), pool((7, 6), 12, (3, 3), 2), pool((17, 17), 9, (17, 17), **valid),
        pool((4, 4), 20, (2, 2), 2, name="MAX_POOL_2D", activation=RELU, **valid),
        pool((5, 5), 3, (3, 3), name="MAX_POOL_2D"), mean((5, 7), 12), mean((20, 20), 6),
        lookup("LOGISTIC", 100, sigmoid), lookup("HARD_SWISH", 33, hard_swish), lookup("RELU", 16, relu)])


def test_instructions_of_common_layers(board):
    cases = [conv((25, 5), 64, 64), depthwise((25, 5), 64), depthwise((12, 12), 32, stride=2),
             conv((8, 8), 64, 64, (3, 3)), dense(1, 128, 128, RELU), addition(4096, (0.05, 0.05, 0.05))]
    wrong, counts = board(cases, "instructions")
    assert not wrong
    assert [found <= most for found, most in zip(counts, INSTRUCTIONS, strict=True)] == [True] * 6, counts


@pytest.mark.parametrize("case", [
    operation("ADD", [tensor((1, 8)), tensor((8,))], tensor((1, 8)), fusedActivationFunction=NONE),
    operation("AVERAGE_POOL_2D", [tensor((1, 2, 2, 4))], tensor((1, 1, 1, 4), 0.1)),
    operation("QUANTIZE", [tensor((1, 8))], tensor((1, 8), dtype="INT16")),
    operation("CONV_2D", [tensor((1, 2, 2, 4), dtype="INT16"), tensor((4, 1, 1, 4))], tensor((1, 2, 2, 4)))])
def test_others_are_left_to_other_providers(case):
    assert MVE[case.name](case) is None
