"""The command line: the only place that prints, and the only one that turns errors into codes.

Results go to stdout, progress and complaints to stderr. Exit: 0 every gate passed, 1 a gate
failed or an operator is not supported, 2 the configuration or the call is wrong, 3 a tool is
missing or crashed, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, fields
from functools import partial
from io import TextIOWrapper
from pathlib import Path
from typing import Any, cast, get_args

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from edgeq import __version__, building, console, inspection, probing
from edgeq import lint as linter
from edgeq.deliver import ready, write
from edgeq.doctor import devices, findings, frontends_and_recipes
from edgeq.errors import ConfigError, EdgeqError, ToolError
from edgeq.graph import read
from edgeq.junit import junit as as_junit
from edgeq.quantization import Granularity
from edgeq.recipes import RECIPES
from edgeq.schema import schema as pipeline_schema
from edgeq.target import all_of, find

out = console.wide(Console())
err = Console(stderr=True)

FILE = click.Path(path_type=Path)
PIPELINE = click.argument("pipeline", type=FILE, default=Path("pipeline.yaml"))
TARGETS = click.option("--target", "targets", multiple=True, help="Only this target (repeatable).")
MODELS = click.option("--model", "models", multiple=True, help="Only this model (repeatable).")
STORE = click.option("--store", type=FILE, envvar="EDGEQ_STORE", show_envvar=True,
                     default=lambda: Path.home() / ".cache/edgeq", show_default="~/.cache/edgeq",
                     help="Where artifacts are kept.")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, message="edgeq %(version)s")
def cli() -> None:
    """Quantize, compile and prove models for edge targets."""


@cli.command()
@PIPELINE
@TARGETS
@MODELS
@click.option("--output-dir", type=FILE, default=Path("build"), show_default=True,
              help="Where the results go.")
@STORE
@click.option("--jobs", type=click.IntRange(min=1), default=os.cpu_count() or 1, show_default=True,
              help="Worker processes.")
@click.option("--frozen", is_flag=True, help="Make nothing: fail instead.")
@click.option("--measure", is_flag=True, help="Take every live measurement.")
@click.option("--device", default="", help="The attached device to run on: a serial number, user@host, …")
@click.option("--require-compiled", is_flag=True, help="Fail where a compiler is missing.")
@click.option("--json", "json_file", type=FILE, help="Write report.json here too.")
@click.option("--junit", "junit_file", type=FILE, help="Write the JUnit XML here too.")
def build(json_file: Path | None, junit_file: Path | None, **ordered: Any) -> None:
    """Build and judge what the pipeline declares."""
    for option, file in (("--json", json_file), ("--junit", junit_file)):
        if file and not file.exists():
            ready(file.parent, option)
    order = building.Order(**ordered)
    planned = building.planned(order)
    with console.progress(err, len(planned.jobs)) as tell:
        report, content = building.build(order, planned, tell)
    if json_file:
        write(json_file, json.dumps(content, indent=1))
    if junit_file:
        write(junit_file, as_junit(report))
    out.print(console.verdicts(report))
    for remark in console.remarks(report):
        _say(remark)
    sys.exit(report.exit_code)


@cli.command()
@PIPELINE
@TARGETS
@MODELS
@STORE
def plan(**ordered: Any) -> None:
    """Say what would be made and about how long it takes, what is there, and why a rung is skipped."""
    order = building.Order(**ordered, frozen=True)
    planned = building.planned(order)
    found = building.looked_up(order, planned)
    out.print(console.jobs(planned.jobs, found, building.costs(order, planned)))
    wrong = [result.error for result in found if isinstance(result.error, ConfigError)]
    for error in wrong:
        _complain(error)
    sys.exit(ConfigError.exit_code if wrong else 0)


@cli.command()
@click.argument("model", type=FILE)
@click.option("--target", required=True, help="The target whose rules are applied.")
@click.option("--format", "form", type=click.Choice(["text", "json", "sarif"]), default="text")
def lint(model: Path, target: str, form: str) -> None:
    """Check every operator of a quantized .tflite against a target's rules; 1 if one stays unmapped."""
    rules = find(Path(), target).rules
    if rules is None:
        raise ConfigError(f"target {target} has no operator rules", "see `edgeq targets`")
    found = linter.lint(read(model), rules)
    if form == "text":
        _say(linter.as_text(found, model.name))
    else:
        present = linter.as_json if form == "json" else linter.as_sarif
        _say(json.dumps(present(found, model.name, target), indent=1))
    sys.exit(0 if found.mapped == found.total else 1)


@cli.command()
@click.argument("model", type=FILE)
@click.option("--json", "as_json", is_flag=True, help="For a machine.")
def inspect(model: Path, as_json: bool) -> None:
    """List a .tflite's operators, tensors, quantization, sizes and multiply-accumulates."""
    described = inspection.described(model)
    if as_json:
        _say(json.dumps(described, indent=1))
    else:
        out.print(console.operators(described))
        _say(console.totals(described))


@cli.command()
@click.argument("model", type=FILE)
@click.option("--top", type=click.IntRange(min=1), help="Only so many layers, the most sensitive ones.")
@click.option("--calibration", type=FILE, help="Samples (.npz with x), as the model takes them.")
@click.option("--pipeline", type=FILE, help="What names them for this model.  [default: pipeline.yaml]")
@click.option("--samples", type=click.IntRange(min=1), help="Take so many of them, and judge by all.")
@click.option("--granularity", type=click.Choice(get_args(Granularity)), default="per_channel",
              show_default=True)
@STORE
@click.option("--json", "as_json", is_flag=True, help="All of it, for a machine.")
def sensitivity(top: int | None, granularity: Granularity, as_json: bool, **asked: Any) -> None:
    """Rank a model's layers by what the output loses when each alone is quantized to int8."""
    question = probing.Question(**asked)
    name = question.model.name
    with console.progress(err, 1) as tell:
        found = probing.sensitivity(question, granularity, partial(tell, name))
    if as_json:
        _say(json.dumps({"model": name, "granularity": granularity, **asdict(found)}, indent=1))
    else:
        out.print(console.layers(found, top))
        _say(console.judged(name, found))


@cli.command()
@click.argument("model", type=FILE)
@click.option("--target", required=True, help="The target whose firmware is compared.")
@click.option("--calibration", type=FILE, help="Samples (.npz with x), as the model takes them.")
@click.option("--pipeline", type=FILE, help="What names them for this model.  [default: pipeline.yaml]")
@click.option("--samples", type=click.IntRange(min=1), help="Compare so many of them.  [default: 10]")
@STORE
@click.option("--json", "as_json", is_flag=True, help="All of it, for a machine.")
def parity(target: str, as_json: bool, **asked: Any) -> None:
    """Compare every operator in LiteRT, TFLM, the host build and the firmware; 1 if firmware differs."""
    question = probing.Question(**asked)
    name = question.model.name
    with console.progress(err, 1) as tell:
        chain = probing.parity(question, target, partial(tell, name))
    if as_json:
        _say(json.dumps({"model": name, "target": target, **asdict(chain)}, indent=1))
    else:
        out.print(console.links(chain))
        for line in console.firsts(chain):
            _say(line)
    sys.exit(0 if chain.exact else 1)


@cli.command()
def doctor() -> None:
    """Say which tools are found, which targets can be built and run here, and what to install."""
    table = Table("target", "can be built and run here", "found", header_style="bold")
    for finding in findings(Path()):
        state = f"no: pip install {' '.join(finding.missing)}" if finding.missing else "yes"
        said = "\n".join((state if finding.sound else "no", *finding.notes))
        table.add_row(*map(escape, (finding.target, said, "\n".join(finding.tools))))
    out.print(table)
    table = Table("attached", "what it is", header_style="bold")
    for row in devices() or [("", "no phone, and no serial port")]:
        table.add_row(*map(escape, row))
    out.print(table)
    table = Table("extension", "state", header_style="bold")
    for role, name, missing in frontends_and_recipes():
        state = f"missing: pip install {' '.join(missing)}" if missing else "ready"
        table.add_row(f"{role} {name}", state)
    out.print(table)


@cli.command()
def schema() -> None:
    """Print the JSON Schema of pipeline.yaml."""
    _say(json.dumps(pipeline_schema(), indent=1))


@cli.command()
def targets() -> None:
    """List the targets that a pipeline here may name."""
    table = Table("target", "takes", "description", header_style="bold")
    for each in all_of(Path()):
        table.add_row(*map(escape, (each.name, ", ".join(each.precisions), each.description)))
    out.print(table)


@cli.command()
def recipes() -> None:
    """List the recipes that a ladder may name, and what each may be told."""
    table = Table("recipe", "format", "options", "description", header_style="bold")
    for (model_format, name), kind in RECIPES.items():
        options = ", ".join(field.name for field in fields(cast("Any", kind)))
        table.add_row(name, model_format, options, (kind.__doc__ or "").splitlines()[0])
    out.print(table)


def main() -> None:
    """Run the command line; every error becomes words and an exit code, never a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that has no dash is no reason to fail
    try:
        cli(standalone_mode=False)
    except EdgeqError as error:
        _complain(error)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        err.print("stopped: what was made is kept")
        sys.exit(130)
    except Exception as error:
        if os.environ.get("EDGEQ_TRACEBACK"):
            raise
        _complain(ToolError(f"edgeq itself failed: {type(error).__name__}: {error}",
                            "this is a bug: set EDGEQ_TRACEBACK=1 and report what it prints"))
        sys.exit(ToolError.exit_code)


def _say(text: str) -> None:
    """Print `text` as it is: no markup, no colours, no folding."""
    out.print(text, highlight=False, markup=False, soft_wrap=True)


def _complain(error: EdgeqError) -> None:
    err.print(f"error: {error.message}", style="red", highlight=False, markup=False, soft_wrap=True)
    if error.hint:
        err.print(f"  {error.hint}", highlight=False, markup=False, soft_wrap=True)


if __name__ == "__main__":
    main()
