"""Google's Edge TPU: edgetpu_compiler where it is installed, else the linter's prediction.

What the compiler writes runs on the device alone, so the quantized model goes along as
functional.tflite. The compiler leaves whatever it cannot map to the CPU and still succeeds: the
split is read from the file that it wrote, never from its exit status.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from edgeq import tool
from edgeq.errors import ConfigError, Refused, ToolError
from edgeq.graph import Graph, read
from edgeq.lint import Lint, Rules, as_json, lint
from edgeq.measurement import SCALES, Source, Value, unavailable, value_of
from edgeq.program import FUNCTIONAL, NOTICE, counted, ship, write_costs
from edgeq.quantization import MODEL

log = logging.getLogger(__name__)
PROGRAM = "edgetpu_compiler"
SUFFIX = "_edgetpu.tflite"
NOT_COMPILED = f"""\
not compiled: {PROGRAM} was not found. What is shipped is the quantized model, checked against the
compiler's rules; which operators would be mapped, and the bytes cached and streamed, are estimated.
To get the compiler (Debian or Ubuntu on x86-64, https://coral.ai/docs/edgetpu/compiler/):
  curl https://packages.cloud.google.com/apt/doc/apt-key.gpg | sudo apt-key add -
  echo "deb https://packages.cloud.google.com/apt coral-edgetpu-stable main" | \\
    sudo tee /etc/apt/sources.list.d/coral-edgetpu.list
  sudo apt-get update && sudo apt-get install edgetpu-compiler
or set EDGETPU_COMPILER to where it is.
"""

VERSION = re.compile(r"^Edge TPU Compiler version (\S+)", re.MULTILINE)
FIGURES: Mapping[str, re.Pattern[str]] = {
    "cached_bytes": re.compile(r"^On-chip memory used for caching model parameters: (\S+)", re.MULTILINE),
    "streamed_bytes": re.compile(r"^Off-chip memory used for streaming uncached model parameters: (\S+)",
                                 re.MULTILINE),
    "subgraphs": re.compile(r"^Number of Edge TPU subgraphs: (\d+)", re.MULTILINE),
    "operations": re.compile(r"^Total number of operations: (\d+)", re.MULTILINE),
}
SIZE = re.compile(r"(\d+(?:\.\d+)?)([KMG]?i?B)")
STATUS = re.compile(r"^([A-Z][A-Z0-9_]*) +(\d+) +(\S.*?) *$", re.MULTILINE)
# What these lines say is of the model. "Internal compiler error" is none of them: that is a crash.
FAULT = re.compile(
    r"^(?:Compilation failed: |ERROR: |Invalid model: |loc\(.*?\): error: )(.+?) *$|^(Model not quantized)",
    re.MULTILINE)


@dataclass(frozen=True)
class Said:
    """What the compiler printed: `statuses` are rows of operator, count and status.

    A figure that it did not print is None; sizes are in bytes. `faults` are its reasons against
    the model.
    """

    version: str
    succeeded: bool
    subgraphs: float | None
    operations: float | None
    cached_bytes: float | None
    streamed_bytes: float | None
    statuses: tuple[tuple[str, int, str], ...]
    faults: tuple[str, ...]


@dataclass(frozen=True)
class EdgeTpu:
    """`operators` are the compiler's rules, which a target names by a file.

    `compiler` is the path or name of edgetpu_compiler, else $EDGETPU_COMPILER, else the PATH.
    """

    packages: ClassVar = ("ai-edge-litert",)
    operators: Rules = field(default_factory=Rules)
    compiler: str = ""
    timeout_s: float = 600.0

    def tools(self) -> tuple[Path, ...]:
        """The compiler, where there is one; ToolError where the setting names no program."""
        found = tool.find(PROGRAM, self.compiler)
        return (found,) if found else ()

    def compile(self, out: Path, quantized: Path) -> None:
        """Ship the compiled model with the compiler's split and memory, or the checked model.

        Raises Refused where the linter or the compiler refuses the model, ToolError where the
        compiler crashes, hangs, or writes what cannot be read.
        """
        if not self.operators.operators:
            raise ConfigError("the target has no rules for the Edge TPU's operators",
                              "say `operators: operators.yaml` in its target.yaml")
        model = (quantized / MODEL).absolute()
        graph = read(model)
        found = lint(graph, self.operators)
        _refuse(found)
        (out / "lint.json").write_text(json.dumps(as_json(found, MODEL, "edgetpu"), indent=1), encoding="utf-8")
        compilers = self.tools()
        if compilers:
            costs = self._compiled(compilers[0], out, model, graph)
        else:
            costs = ship(out, model, MODEL) | _estimated(found)
            (out / NOTICE).write_text(NOT_COMPILED, encoding="utf-8")
        write_costs(out, costs | counted(model))

    def _compiled(self, compiler: Path, out: Path, model: Path, graph: Graph) -> dict[str, Value]:
        """Ship what the compiler makes of `model`, and return what it costs."""
        work = (out / "work").absolute()
        work.mkdir()
        finished = tool.run([compiler, "-s", "-o", work, model], timeout_s=self.timeout_s, cwd=work)
        said = heard(finished.output)
        if finished.status or not said.succeeded:
            raise failure(said, finished)
        compiled = work / f"{model.stem}{SUFFIX}"
        left = _left(compiled, self.operators.model.compiled, finished)
        costs = ship(out, compiled, compiled.name) | simulated(said, len(graph.operators), left)
        shutil.copyfile(model, out / FUNCTIONAL)
        (out / "compiler.json").write_text(json.dumps(asdict(said), indent=1), encoding="utf-8")
        shutil.rmtree(work)
        return costs


def heard(output: str) -> Said:
    """What the compiler's `output` says, with or without the table of operators (-s).

    The lines are those of compilers 14 to 16 (https://coral.ai/docs/edgetpu/compiler/).
    """
    figures: dict[str, Any] = {
        name: size(match[1]) if (match := pattern.search(output)) else None
        for name, pattern in FIGURES.items()}
    version = VERSION.search(output)
    return Said(
        version=version[1] if version else "",
        succeeded="Model compiled successfully" in output and "Compilation failed" not in output,
        statuses=tuple((name, int(count), status) for name, count, status in STATUS.findall(output)),
        faults=tuple(dict.fromkeys("".join(groups) for groups in FAULT.findall(output))),
        **figures)


def size(text: str) -> float | None:
    """The bytes in `3.33MiB` or `0.00B`, and plain numbers as they are; None for anything else."""
    match = SIZE.fullmatch(text)
    if match:
        return float(match[1]) * SCALES["bytes"][match[2]]
    return float(text) if text.isdigit() else None


def failure(said: Said, finished: tool.Finished) -> Refused | ToolError:
    """The error of a compilation that failed: the model's where the compiler gives a reason."""
    if said.faults and "Internal compiler error" not in finished.output:
        return Refused(f"edgetpu_compiler refuses the model: {'; '.join(said.faults)}",
                       "see `edgeq lint` for its operators, or use a smaller model")
    return ToolError(f"edgetpu_compiler ended with status {finished.status} and no reason",
                     tool.tail(finished.output))


def simulated(said: Said, total: int, left: int) -> dict[str, Value]:
    """The costs that the compiler states, and the share of `total` operators not `left` over."""
    costs = {"mapped_ops_ratio": _share(total - left, total, "simulated")}
    for metric, value in (("cached_bytes", said.cached_bytes), ("streamed_bytes", said.streamed_bytes)):
        costs[metric] = (value_of(metric, value, "simulated") if value is not None else
                         unavailable(metric, "edgetpu_compiler did not print it"))
    return costs


def _estimated(found: Lint) -> dict[str, Value]:
    return {
        "mapped_ops_ratio": _share(found.mapped, found.total, "estimated"),
        "cached_bytes": value_of("cached_bytes", found.cached_bytes, "estimated"),
        "streamed_bytes": value_of("streamed_bytes", found.streamed_bytes, "estimated"),
    }


def _share(mapped: int, total: int, source: Source) -> Value:
    return value_of("mapped_ops_ratio", mapped / max(1, total), source)


def _refuse(found: Lint) -> None:
    """Raise Refused where the compiler would not read the file, with every reason."""
    if found.refusals:
        reasons = "; ".join(finding.message for finding in found.refusals)
        hints = dict.fromkeys(finding.hint for finding in found.refusals)
        raise Refused(f"the Edge TPU compiler refuses the model: {reasons}", "; ".join(hints))


def _left(compiled: Path, custom: str, finished: tool.Finished) -> int:
    """How many operators of the file `compiled` are not the accelerator's `custom` operator."""
    try:
        graph = read(compiled)
    except ConfigError as error:
        raise ToolError(f"edgetpu_compiler said that it succeeded, but {error.message}",
                        tool.tail(finished.output)) from error
    return sum(operator.name != f"CUSTOM:{custom}" for operator in graph.operators)
