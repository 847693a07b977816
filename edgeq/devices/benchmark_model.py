"""TensorFlow Lite's own `benchmark_model` on a device: its command line, and what its output says.

The one rule: a time counts for an accelerator only where the tool says that the accelerator ran the model;
it falls back to the CPU without an error. Read are the lines of tflite/tools/benchmark/benchmark_model.cc and
benchmark_tflite_model.cc (github.com/google-ai-edge/LiteRT) and of StatWithPercentiles (xla/tsl/util); the
tool tells a median in later versions only, p90 in none, and no single runs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from edgeq import tool
from edgeq.errors import Refused, ToolError

PROGRAM = "benchmark_model"
Accelerator = Literal["cpu", "xnnpack", "nnapi", "gpu"]
NUMBER = r"(\d[\d.e+]*)"
TIMINGS = re.compile(rf"Inference timings in us: Init: {NUMBER}, First inference: {NUMBER}, "
                     rf"Warmup \(avg\): {NUMBER}, Inference \(avg\): {NUMBER}")
STATISTICS = re.compile(r"count=(\d+) .*")
FIGURE = re.compile(rf"(\w+)={NUMBER}")
APPLIED = re.compile(r"(Explicitly applied|Though) (\S+)( delegate)?.*the model graph will (be|not be) "
                     r"(?:(completely|partially) )?executed by the delegate(?: w/ (\d+))?")
REFERENCE = re.compile(r"NNAPI accelerators available: \[nnapi-reference\]")


@dataclass(frozen=True)
class Benchmark:
    """How it is run: on what, `warm_up` and `runs` inferences a process, on one thread of the CPU.

    `name` is NNAPI's name of an accelerator; without one NNAPI chooses, though never its own CPU code.
    """

    accelerator: Accelerator
    warm_up: int
    runs: int
    name: str = ""


@dataclass(frozen=True)
class Timed:
    """What one process told, in microseconds; `typical_us` is the median, or the mean of an older tool.

    `fallback` says that the accelerator did not run the model, or only a part of it; `figures` are the
    tool's own words for the runs.
    """

    load_us: float
    first_us: float
    typical_us: float
    is_median: bool
    runs: int
    fallback: str
    figures: str


def words(benchmark: Benchmark, model: str) -> list[str]:
    """The command line, to be run in the folder with the tool and `model`; exactly so many runs, no more."""
    on = {"cpu": ["--use_xnnpack=false"], "xnnpack": ["--use_xnnpack=true"],
          "nnapi": ["--use_nnapi=true", "--disable_nnapi_cpu=true"], "gpu": ["--use_gpu=true"]}
    chosen = [f"--nnapi_accelerator_name={benchmark.name}"] if benchmark.name else []
    return [f"./{PROGRAM}", f"--graph={model}", "--num_threads=1", f"--warmup_runs={benchmark.warm_up}",
            "--warmup_min_secs=0", f"--num_runs={benchmark.runs}", "--min_secs=0",
            *on[benchmark.accelerator], *chosen]


def timed(finished: tool.Finished, benchmark: Benchmark) -> Timed:
    """What the tool told.

    Raises Refused where the accelerator cannot have the model, ToolError where the tool failed otherwise, or
    tells what is not known here.
    """
    output = finished.output
    if finished.status:
        if said := _failure(output):
            raise Refused(f"{benchmark.accelerator} cannot run the model on the device: {said}",
                          "another recipe, or the CPU, may")
        raise ToolError(f"{PROGRAM} ended with status {finished.status}", tool.tail(output))
    timings, statistics = TIMINGS.search(output), STATISTICS.findall(output)
    lines = [match[0] for match in STATISTICS.finditer(output)]
    if timings is None or len(statistics) < 2:
        raise ToolError(f"{PROGRAM} told no times", tool.tail(output))
    load, first, _, mean = map(float, timings.groups())
    figures = {name: float(value) for name, value in FIGURE.findall(lines[-1])}
    return Timed(load, first, figures.get("median", mean), "median" in figures, int(statistics[-1]),
                 _fallback(output, benchmark), lines[-1].strip())


def _failure(output: str) -> str:
    """What it says of a delegate that could not be applied."""
    lines = [line.strip() for line in output.splitlines()]
    return next((line for line in lines if "Failed to apply" in line or "not supported by" in line), "")


def _fallback(output: str, benchmark: Benchmark) -> str:
    """Why the times are not the accelerator's; empty where they are, or none was asked for."""
    if benchmark.accelerator in ("cpu", "xnnpack"):
        return ""
    if benchmark.accelerator == "nnapi" and not benchmark.name and REFERENCE.search(output):
        return "the device has no accelerator for NNAPI, only NNAPI's own code for the CPU"
    wanted = [match for match in APPLIED.finditer(output) if match[2].lower() == benchmark.accelerator]
    if not wanted:
        return f"{PROGRAM} does not say that {benchmark.accelerator} ran the model"
    if wanted[-1][4] == "not be":
        return f"{benchmark.accelerator} took no operator of the model, and the CPU ran it"
    if wanted[-1][5] == "partially":
        pieces = f"a part of the model ({wanted[-1][6]} pieces)"
        return f"{benchmark.accelerator} took {pieces}, and the CPU ran the rest"
    return ""
