"""Small quantized graphs for the firmware tests, and programs of generated C that run them."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

import graphs
import numpy as np
from graphs import noise, operator, tensor

from edgeq.firmware.arena import planned
from edgeq.firmware.c_text import TYPES
from edgeq.firmware.network import Provider, network
from edgeq.firmware.portable import PORTABLE
from edgeq.firmware.source import Program, sources
from edgeq.graph import parse
from edgeq.interpret import tflm_outputs

CHECKED = (
    "-std=c99",
    "-O0",
    "-Wall",
    "-Wextra",
    "-Wpedantic",
    "-Wshadow",
    "-Wconversion",
    "-Wno-sign-conversion",
    "-Wmissing-prototypes",
    "-Werror",
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=all",
)
PLAIN = (Provider("portable", PORTABLE),)
ACTIVATIONS = ("none", "relu", "relu_n1_to_1", "relu6")


class Net:
    """A quantized network, grown operator by operator; each method gives the name of what it adds.

    Grids that are not given are drawn by `seed`.
    """

    def __init__(self, shape, seed=0, dtype="INT8", scale=None, zero=None):
        self.chance = np.random.default_rng(seed)
        self.dtype, self.operators, self.tensors = dtype, [], {}
        self.put("in", shape, scale=scale, zero=zero)

    def put(self, name, shape, *, scale=None, zero=None, dtype=None, data=None):
        """A tensor with a grid."""
        dtype = dtype or self.dtype
        scale = self.scale() if scale is None else scale
        zero = self.zero(dtype) if zero is None else zero
        grid = {} if dtype in ("INT32", "FLOAT32") else {"scale": scale, "zero": zero}
        self.tensors[name] = tensor(name, shape, dtype, data=data, **grid)
        return name

    def scale(self):
        low, high = (-5, -1) if self.dtype == "INT8" else (-12, -8)
        return float(np.float32(10 ** (self.chance.uniform(low, high) * 0.5)))

    def zero(self, dtype):
        return (
            int(self.chance.choice([-128, 127, *self.chance.integers(-128, 64, 14)]))
            if dtype == "INT8"
            else 0
        )

    def grid(self, name):
        made = self.tensors[name].quantization
        return {"scale": float(made.scale[0]), "zero": int(made.zeroPoint[0])}

    def shape(self, name):
        return [int(size) for size in self.tensors[name].shape]

    def constant(self, values, dtype=None, **grid):
        values = np.asarray(values)
        name = f"constant{len(self.tensors)}"
        dtype = dtype or values.dtype.name.upper()
        self.tensors[name] = tensor(name, values.shape, dtype, data=values, **grid)
        return name

    def integers(self, *values):
        return self.constant(np.array(values, np.int32))

    def add(self, name, inputs, shape, grid=None, dtype=None, **options):
        """An operator `name`; `grid` of its output as scale and zero, or drawn."""
        made = self.put(f"value{len(self.tensors)}", shape, dtype=dtype, **(grid or {}))
        self.operators.append(operator(name, inputs, made, **options))
        return made

    def split(self, source, axis, parts):
        shape = self.shape(source)
        shape[axis] //= parts
        made = [self.put(f"value{len(self.tensors)}", shape, **self.grid(source)) for _ in range(parts)]
        self.operators.append(
            operator("SPLIT", f"{self.integers_of(axis)} {source}", " ".join(made), numSplits=parts)
        )
        return made

    def integers_of(self, value):
        return self.constant(np.int32(value))

    def weighted(self, weights, axis, source, *, per_channel=True, bias=True, wide=None):
        """Names of weights (an int8 array) and bias, and a grid that the layer's outputs about fit."""
        channels = weights.shape[axis]
        scales = self.chance.uniform(0.002, 0.02, channels if per_channel else 1).astype(np.float32)
        name = self.constant(weights, "INT8", scale=scales, zero=0)
        self.tensors[name].quantization.quantizedDimension = axis
        grid, kind = self.grid(source), wide or ("INT64" if self.dtype == "INT16" else "INT32")
        products = scales * np.float32(grid["scale"])
        top = 3000 if self.dtype == "INT8" else 1000000
        drawn = self.chance.integers(-top, top, channels).astype(kind.lower())
        biased = self.constant(drawn, kind, scale=products, zero=0) if bias else ""
        spread = float(np.sqrt(weights.size / channels) * 60 * 70 * products.mean())
        steps = 60 if self.dtype == "INT8" else 15000
        spread *= 1 if self.dtype == "INT8" else 200
        return name, biased, {"scale": spread / steps * float(self.chance.uniform(0.5, 1.5)), "zero": None}

    def drawn(self, *shape):
        return noise("int8", shape, int(self.chance.integers(1 << 30))).clip(-127, 127)

    def conv(self, source, channels, size, *, kind="CONV_2D", groups=1, options=None, **weighting):
        """CONV_2D, or DEPTHWISE_CONV_2D with `channels` as its multiplier; `options` as graphs.spelled."""
        depth, options = self.shape(source)[3], options or {}
        if kind == "CONV_2D":
            weights, axis = self.drawn(channels, *size, depth // groups), 0
        else:
            weights, axis = self.drawn(1, *size, depth * channels), 3
        names = self.weighted(weights, axis, source, **weighting)
        shape = [self.shape(source)[0], *sizes(self.shape(source), size, options), weights.shape[axis]]
        extra = {} if kind == "CONV_2D" else {"depthMultiplier": channels}
        spelled = {"dilationHFactor": 1, "dilationWFactor": 1, **graphs.spelled(options)}
        return self.add(
            kind,
            f"{source} {names[0]} {names[1] or '-'}".removesuffix(" -"),
            shape,
            names[2],
            **spelled,
            **extra,
        )

    def transposed(self, source, channels, size, *, options=None, **weighting):
        """TRANSPOSE_CONV; `options` as graphs.spelled."""
        options = options or {}
        names = self.weighted(self.drawn(channels, *size, self.shape(source)[3]), 0, source, **weighting)
        grown = [
            n * s + (0 if options.get("padding", "SAME") == "SAME" else max(k - s, 0))
            for n, s, k in zip(self.shape(source)[1:3], options.get("stride", (1, 1)), size, strict=True)
        ]
        shape = [self.shape(source)[0], *grown, channels]
        return self.add(
            "TRANSPOSE_CONV",
            f"{self.integers(*shape)} {names[0]} {source} {names[1]}",
            shape,
            names[2],
            **graphs.spelled(options),
        )

    def dense(self, source, outputs, *, activation="none", keep=False, **weighting):
        inputs = self.shape(source)[-1] if keep else int(np.prod(self.shape(source)[1:]))
        names = self.weighted(self.drawn(outputs, inputs), 0, source, **weighting)
        leading = self.shape(source)[:-1] if keep else self.shape(source)[:1]
        return self.add(
            "FULLY_CONNECTED",
            f"{source} {names[0]} {names[1] or '-'}".removesuffix(" -"),
            [*leading, outputs],
            names[2],
            keepNumDims=keep,
            fusedActivationFunction=graphs.ACTIVATIONS[activation],
        )

    def file(self, output=None):
        """The .tflite file; its output is the last value, or the one named."""
        named = output or self.operators[-1][2][0]
        return graphs.written(list(self.tensors.values()), self.operators, "in", named)


def sizes(shape, size, options):
    """Height and width of what a window of `size` leaves of an image of `shape`."""
    found = []
    for n, k, s, d in zip(
        shape[1:3], size, options.get("stride", (1, 1)), options.get("dilation", None) or (1, 1), strict=True
    ):
        reach = 1 if options.get("padding", "SAME") == "SAME" else (k - 1) * d + 1
        found.append((n - reach) // s + 1)
    return found


@dataclass(frozen=True)
class Case:
    """A .tflite file, as a program with a name and the inputs that it is tried with."""

    name: str
    content: bytes
    inputs: np.ndarray

    @property
    def graph(self):
        return parse(self.content, self.name)

    @property
    def program(self):
        made = network(self.graph, PLAIN)
        return Program(self.name, made, planned(made))


def case(name, content, count=4, seed=0):
    """`content` with random inputs, and extreme ones."""
    source = (graph := parse(content, name)).tensors[graph.inputs[0]]
    kind = np.dtype(source.dtype.lower())
    shape = tuple(source.shape)
    given = noise(kind, (count, *shape), seed)
    if kind.kind in "iu":
        ends = np.array([np.iinfo(kind).min, np.iinfo(kind).max], kind).reshape(2, *(1 for _ in shape))
        given = np.concatenate([given, np.broadcast_to(ends, (2, *shape))])
    return Case(name, content, given)


def by_tflm(cases, folder):
    """The outputs of TensorFlow Lite Micro for every case."""
    found = []
    for each in cases:
        path = Path(folder) / f"{each.name}.tflite"
        path.write_bytes(each.content)
        found.append(tflm_outputs(path, each.inputs)[0])
    return found


def by_firmware(cases, folder):
    """The outputs of the generated C for every case, compiled together, with all warnings and checks."""
    programs, folder = [each.program for each in cases], Path(folder)
    for program in programs:
        for name, text in sources(program).items():
            (folder / f"{program.name}_{name}" if name == "plan.txt" else folder / name).write_text(text)
    (folder / "main.c").write_text(main_of(programs))
    for program in programs:  # one compilation each: gcc takes longer to start than to compile these
        parts = [name for name in sources(program) if name.endswith(".c")]
        (folder / f"all_{program.name}.c").write_text("".join(f'#include "{part}"\n' for part in parts))
    files = ["main.c", *(f"all_{program.name}.c" for program in programs)]
    subprocess.run(["gcc", *CHECKED, *files, "-o", "run"], cwd=folder, check=True)
    return [_ran(each, number, folder) for number, each in enumerate(cases)]


def _ran(each, number, folder):
    sink = each.graph.tensors[each.graph.outputs[0]]
    ran = subprocess.run(
        [folder / "run", str(number), str(len(each.inputs))],
        input=each.inputs.tobytes(),
        capture_output=True,
        check=False,
    )
    assert ran.returncode == 0, f"{each.name}: {ran.stderr.decode()[-3000:]}"
    shape = sink.shape[1:] if sink.shape[:1] == (1,) else sink.shape
    return np.frombuffer(ran.stdout, sink.dtype.lower()).reshape(len(each.inputs), *shape)


def main_of(programs):
    """A program that runs one of `programs` (by its number) on inputs from stdin, as many as it is told."""
    headers = "".join(f'#include "{each.name}.h"\n' for each in programs)
    runs = "".join(_run_of(number, each) for number, each in enumerate(programs))
    return f"""\
#include <stdio.h>
#include <stdlib.h>
{headers}
int main(int argc, char **argv) {{
  const int chosen = argc > 2 ? atoi(argv[1]) : -1;
  for (int i = 0; argc > 2 && i < atoi(argv[2]); i++) {{
{runs}  }}
  return 0;
}}
"""


def _run_of(number, program):
    name, source, sink = program.name, program.source, program.sink
    return f"""\
    if (chosen == {number}) {{
      static {TYPES[source.dtype]} in[{name}_INPUT_ELEMENTS];
      static {TYPES[sink.dtype]} out[{name}_OUTPUT_ELEMENTS];
      if (fread(in, sizeof in, 1u, stdin) != 1u) {{ return 1; }}
      {name}_invoke(in, out);
      if (fwrite(out, sizeof out, 1u, stdout) != 1u) {{ return 1; }}
    }}
"""
