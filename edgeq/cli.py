"""The command line: the only place that prints, and the only one that turns errors into codes.

Results go to stdout, progress and complaints to stderr. Exit: 0 every gate passed, 1 a gate
failed or an operator is not supported, 2 the configuration or the call is wrong, 3 a tool is
missing or crashed.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import fields
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from rich.console import Console
from rich.table import Table

from edgeq import __version__, building, console, inspection, lint
from edgeq.deliver import write
from edgeq.doctor import findings, frontends_and_recipes
from edgeq.errors import ConfigError, EdgeqError, ToolError
from edgeq.graph import read
from edgeq.junit import junit as as_junit
from edgeq.recipes import RECIPES
from edgeq.schema import schema
from edgeq.target import all_of, find

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False,
                  help="Quantize, compile and prove models for edge targets.")
out = console.wide(Console())
err = Console(stderr=True)

PipelineFile = Annotated[Path, typer.Argument(help="the pipeline to build", show_default=True)]
Targets = Annotated[list[str] | None, typer.Option("--target", help="only this target (repeatable)")]
Models = Annotated[list[str] | None, typer.Option("--model", help="only this model (repeatable)")]
StoreFolder = Annotated[Path | None, typer.Option(
    "--store", help="where artifacts are kept [default: $EDGEQ_STORE, else ~/.cache/edgeq]")]
DEFAULT = Path("pipeline.yaml")


class Format(StrEnum):
    """How `edgeq lint` tells what it found."""

    TEXT = "text"
    JSON = "json"
    SARIF = "sarif"


@app.command()
def build(
    pipeline: PipelineFile = DEFAULT,
    target: Targets = None,
    model: Models = None,
    output_dir: Annotated[Path, typer.Option(help="where the results go")] = Path("build"),
    store: StoreFolder = None,
    jobs: Annotated[int, typer.Option(min=1, help="worker processes")] = os.cpu_count() or 1,
    frozen: Annotated[bool, typer.Option("--frozen", help="make nothing: fail instead")] = False,
    measure: Annotated[bool, typer.Option("--measure", help="take every live measurement")] = False,
    require_compiled: Annotated[bool, typer.Option(
        "--require-compiled", help="fail where a compiler is missing")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="write report.json here too")] = None,
    junit: Annotated[Path | None, typer.Option(help="write the JUnit XML here too")] = None,
) -> None:
    """Build and judge what the pipeline declares."""
    order = building.Order(
        pipeline, tuple(target or ()), tuple(model or ()), output_dir, _store(store), jobs,
        frozen=frozen, measure=measure, require_compiled=require_compiled)
    planned = building.planned(order)
    with console.progress(err, len(planned.jobs)) as tell:
        report, content = building.build(order, planned, tell)
    if json_file:
        write(json_file, json.dumps(content, indent=1))
    if junit:
        write(junit, as_junit(report))
    out.print(console.verdicts(report))
    for remark in console.remarks(report):
        out.print(remark, highlight=False, markup=False)
    raise typer.Exit(report.exit_code)


@app.command()
def plan(
    pipeline: PipelineFile = DEFAULT, target: Targets = None, model: Models = None,
    store: StoreFolder = None,
) -> None:
    """Say what would be made, what the store has already, and why a rung is skipped."""
    order = building.Order(pipeline, tuple(target or ()), tuple(model or ()), Path("build"),
                           _store(store), 1, frozen=True)
    planned = building.planned(order)
    out.print(console.jobs(planned.jobs, building.looked_up(order, planned)))


@app.command("lint")
def lint_model(
    model: Annotated[Path, typer.Argument(help="a quantized .tflite")],
    target: Annotated[str, typer.Option(help="the target whose rules are applied")],
    format_: Annotated[Format, typer.Option("--format")] = Format.TEXT,
) -> None:
    """Check every operator of a .tflite against the rules of a target; 1 if one stays unmapped."""
    rules = find(Path(), target).rules
    if rules is None:
        raise ConfigError(f"target {target} has no operator rules", "see `edgeq targets`")
    found = lint.lint(read(model), rules)
    if format_ is Format.TEXT:
        out.print(lint.as_text(found, model.name), highlight=False, markup=False)
    else:
        present = lint.as_json if format_ is Format.JSON else lint.as_sarif
        _print_json(present(found, model.name, target))
    raise typer.Exit(0 if found.mapped == found.total else 1)


@app.command()
def inspect(
    model: Annotated[Path, typer.Argument(help="a .tflite file")],
    as_json: Annotated[bool, typer.Option("--json", help="for a machine")] = False,
) -> None:
    """List a .tflite's operators, tensors, quantization, sizes and multiply-accumulates."""
    described = inspection.described(model)
    if as_json:
        _print_json(described)
    else:
        out.print(console.operators(described))
        out.print(console.totals(described), highlight=False)


@app.command()
def doctor() -> None:
    """Say which tools are found, which targets can be built and run here, and what to install."""
    table = Table("target", "can be built and run here", "found", header_style="bold")
    for finding in findings(Path()):
        state = f"no: pip install {' '.join(finding.missing)}" if finding.missing else "yes"
        table.add_row(finding.target, "\n".join((state, *finding.notes)), "\n".join(finding.tools))
    out.print(table)
    table = Table("extension", "state", header_style="bold")
    for role, name, missing in frontends_and_recipes():
        state = f"missing: pip install {' '.join(missing)}" if missing else "ready"
        table.add_row(f"{role} {name}", state)
    out.print(table)


@app.command("schema")
def print_schema() -> None:
    """Print the JSON Schema of pipeline.yaml."""
    _print_json(schema())


@app.command()
def targets() -> None:
    """List the targets that a pipeline here may name."""
    table = Table("target", "takes", "description", header_style="bold")
    for each in all_of(Path()):
        table.add_row(each.name, ", ".join(each.precisions), each.description)
    out.print(table)


@app.command()
def recipes() -> None:
    """List the recipes that a ladder may name, and what each may be told."""
    table = Table("recipe", "format", "options", "description", header_style="bold")
    for (model_format, name), kind in RECIPES.items():
        options = ", ".join(field.name for field in fields(cast("Any", kind)))
        table.add_row(name, model_format, options, (kind.__doc__ or "").splitlines()[0])
    out.print(table)


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="print the version")] = False,
) -> None:
    if version:
        out.print(f"edgeq {__version__}", highlight=False)
        raise typer.Exit


def main() -> None:
    """Run the command line; every error becomes words and an exit code, never a traceback."""
    try:
        app()
    except EdgeqError as error:
        _complain(error)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        err.print("stopped")
        sys.exit(130)
    except Exception as error:
        if os.environ.get("EDGEQ_TRACEBACK"):
            raise
        _complain(ToolError(f"edgeq itself failed: {type(error).__name__}: {error}",
                            "this is a bug: set EDGEQ_TRACEBACK=1 and report what it prints"))
        sys.exit(ToolError.exit_code)


def _store(given: Path | None) -> Path:
    named = given or os.environ.get("EDGEQ_STORE")
    return Path(named) if named else Path.home() / ".cache" / "edgeq"


def _print_json(value: object) -> None:
    out.print(json.dumps(value, indent=1), highlight=False, markup=False, soft_wrap=True)


def _complain(error: EdgeqError) -> None:
    err.print(f"error: {error.message}", style="red", highlight=False, markup=False, soft_wrap=True)
    if error.hint:
        err.print(f"  {error.hint}", highlight=False, markup=False, soft_wrap=True)


if __name__ == "__main__":
    main()
