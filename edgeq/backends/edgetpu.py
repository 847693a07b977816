"""Google's Edge TPU: edgetpu_compiler where it is installed, else the linter's prediction.

What the compiler writes runs on the device alone, so the quantized model goes along as
functional.tflite. The compiler leaves whatever it cannot map to the CPU and still succeeds: the
split is read from the file that it wrote, never from its exit status.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from edgeq import containers, tool
from edgeq.containers import Container, Image, image
from edgeq.errors import ConfigError, Refused, ToolError
from edgeq.graph import Graph, read
from edgeq.lint import Lint, Rules, as_json, lint
from edgeq.measurement import SCALES, Value, unavailable, value_of
from edgeq.program import FUNCTIONAL, NOTICE, counted, ship, write_costs
from edgeq.quantization import MODEL

PROGRAM = "edgetpu_compiler"
SUFFIX = "_edgetpu.tflite"
LINT, SAID = "lint.json", "compiler.json"
NOT_COMPILED = """\
not compiled: edgetpu_compiler was not found. What is shipped is the quantized model, checked against the
compiler's rules; which operators would be mapped, and the bytes cached and streamed, are estimated.
To get the compiler (Debian or Ubuntu on x86-64, https://coral.ai/docs/edgetpu/compiler/):
  curl -fsSL https://packages.cloud.google.com/apt/doc/apt-key.gpg | \\
    sudo gpg --dearmor -o /usr/share/keyrings/coral-edgetpu.gpg
  echo "deb [signed-by=/usr/share/keyrings/coral-edgetpu.gpg] \\
    https://packages.cloud.google.com/apt coral-edgetpu-stable main" | \\
    sudo tee /etc/apt/sources.list.d/coral-edgetpu.list
  sudo apt-get update && sudo apt-get install edgetpu-compiler
or set EDGETPU_COMPILER to where it is.
"""

VERSION = re.compile(r"^Edge TPU Compiler version (\S+)", re.MULTILINE)
FIGURES: Mapping[str, str] = {
    "cached_bytes": "On-chip memory used for caching model parameters",
    "streamed_bytes": "Off-chip memory used for streaming uncached model parameters",
    "subgraphs": "Number of Edge TPU subgraphs",
    "operations": "Total number of operations",
}
SIZE = re.compile(r"(\d+(?:\.\d+)?)([KMG]iB|B|)")
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
    subgraphs: int | None
    operations: int | None
    cached_bytes: int | None
    streamed_bytes: int | None
    statuses: tuple[tuple[str, int, str], ...]
    faults: tuple[str, ...]


@dataclass(frozen=True)
class EdgeTpu:
    """`operators` are the compiler's rules, which a target names by a file.

    `compiler` is the path or name of edgetpu_compiler, else $EDGETPU_COMPILER, else the PATH;
    `container` is an image that has it, for where it is nowhere of these.
    """

    packages: ClassVar = ("ai-edge-litert",)
    operators: Rules = field(default_factory=Rules)
    compiler: str = ""
    container: Container = ""
    timeout_s: float = 600.0

    def tools(self) -> tuple[Path, ...]:
        """The compiler, where there is one; ToolError where the setting names no program."""
        found = tool.find(PROGRAM, self.compiler)
        return (found,) if found else ()

    def images(self) -> Mapping[str, Image]:
        """The image that has the compiler, where that is not here; ToolError where there is no such image."""
        return {PROGRAM: image(self.container, PROGRAM)} if self.container and not self.tools() else {}

    def compile(self, out: Path, quantized: Path) -> None:
        """Ship the compiled model with the compiler's split and memory, or the checked model.

        Raises Refused where the linter or the compiler refuses the model, ToolError where the
        compiler crashes, hangs, or writes what cannot be read.
        """
        if not (isinstance(self.operators, Rules) and self.operators.operators):
            raise ConfigError("the target has no rules for the Edge TPU's operators",
                              "say `operators: operators.yaml` in its target.yaml")
        model = (quantized / MODEL).absolute()
        graph = read(model)
        found = lint(graph, self.operators)
        _refuse(found)
        _write_json(out / LINT, as_json(found, MODEL, "edgetpu"))
        within = self.images().get(PROGRAM)
        if within or self.tools():
            costs = self._compiled(within, out, model, graph)
        else:
            costs = ship(out, model, MODEL) | _estimated(found)
            (out / NOTICE).write_text(NOT_COMPILED, encoding="utf-8")
        write_costs(out, costs | counted(model))

    def _compiled(self, within: Image | None, out: Path, model: Path, graph: Graph) -> dict[str, Value]:
        """Ship what the compiler, `within` an image or here, makes of `model`, and return what it costs."""
        work = (out / "work").absolute()
        work.mkdir()
        shutil.copyfile(model, work / MODEL)
        program = PROGRAM if within else self.tools()[0]
        finished = containers.run(within, [program, "-s", "-o", ".", MODEL],
                                  timeout_s=self.timeout_s, cwd=work)
        said = heard(finished.output)
        if finished.status or not said.succeeded:
            raise failure(said, finished)
        compiled = work / f"{model.stem}{SUFFIX}"
        try:
            ratio = split(graph, read(compiled), self.operators.model.compiled)
        except ConfigError as error:
            raise ToolError(f"edgetpu_compiler said that it succeeded, but {error.message}",
                            tool.tail(finished.output)) from error
        costs = ship(out, compiled, compiled.name) | simulated(said, ratio)
        shutil.copyfile(model, out / FUNCTIONAL)
        _write_json(out / SAID, asdict(said))
        shutil.rmtree(work)
        return costs


def heard(output: str) -> Said:
    """What the compiler's `output` says, with or without the table of operators (-s).

    The lines are those of compilers 14 to 16 (https://coral.ai/docs/edgetpu/compiler/).
    """
    lines = dict(line.split(": ", 1) for line in output.splitlines() if ": " in line)
    figures: dict[str, Any] = {name: size(lines.get(title, "")) for name, title in FIGURES.items()}
    version = VERSION.search(output)
    return Said(
        version=version[1] if version else "",
        succeeded="Model compiled successfully" in output and "Compilation failed" not in output,
        statuses=tuple((name, int(count), status) for name, count, status in STATUS.findall(output)),
        faults=tuple(dict.fromkeys("".join(groups).rstrip(".") for groups in FAULT.findall(output))),
        **figures)


def size(text: str) -> int | None:
    """The bytes in `3.33MiB` or `0.00B`, and plain numbers as they are; None for anything else."""
    match = SIZE.fullmatch(text.strip())
    return round(float(match[1]) * SCALES["bytes"][match[2]]) if match else None


def failure(said: Said, finished: tool.Finished) -> Refused | ToolError:
    """The error of a compilation that failed: the model's where the compiler gives a reason."""
    if said.faults and "Internal compiler error" not in finished.output:
        return Refused(f"edgetpu_compiler refuses the model: {'; '.join(said.faults)}",
                       "see `edgeq lint` for its operators, or use a smaller model")
    return ToolError(f"edgetpu_compiler ended with status {finished.status} and no reason",
                     tool.tail(finished.output))


def split(source: Graph, compiled: Graph, custom: str) -> float:
    """The share of the operators of `source` that went into the `custom` operator of `compiled`.

    What went in is what is not left: (operators of source - other operators of compiled) / of source.
    """
    left = [operator for operator in compiled.operators if operator.name != f"CUSTOM:{custom}"]
    inside = len(source.operators) - len(left) if len(left) < len(compiled.operators) else 0
    return max(0, inside) / max(1, len(source.operators))


def simulated(said: Said, ratio: float) -> dict[str, Value]:
    """The costs that the compiler states, and the `ratio` of operators that it mapped."""
    costs = {"mapped_ops_ratio": value_of("mapped_ops_ratio", ratio, "simulated")}
    for metric, value in (("cached_bytes", said.cached_bytes), ("streamed_bytes", said.streamed_bytes)):
        costs[metric] = (value_of(metric, value, "simulated") if value is not None else
                         unavailable(metric, "edgetpu_compiler did not print it"))
    return costs


def _estimated(found: Lint) -> dict[str, Value]:
    return {
        "mapped_ops_ratio": value_of("mapped_ops_ratio", found.mapped / max(1, found.total), "estimated"),
        "cached_bytes": value_of("cached_bytes", found.cached_bytes or 0, "estimated"),
        "streamed_bytes": value_of("streamed_bytes", found.streamed_bytes or 0, "estimated"),
    }


def _refuse(found: Lint) -> None:
    """Raise Refused where the compiler would not read the file, with every reason."""
    if found.refusals:
        reasons = "; ".join(finding.message for finding in found.refusals)
        hints = dict.fromkeys(finding.hint for finding in found.refusals)
        raise Refused(f"the Edge TPU compiler refuses the model: {reasons}", "; ".join(hints))


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1), encoding="utf-8")
