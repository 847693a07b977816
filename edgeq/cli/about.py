"""The commands that say what edgeq has and finds here: doctor, schema, targets, recipes."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

import click
from rich.markup import escape
from rich.table import Table

from edgeq import reference
from edgeq.cli.terminal import out, say
from edgeq.doctor import devices, findings, frontends_and_recipes
from edgeq.recipes import RECIPES
from edgeq.schema import schema as pipeline_schema
from edgeq.target import all_of


@click.command()
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


@click.command()
@click.option("--markdown", "as_markdown", is_flag=True, help="As a page for people.")
def schema(as_markdown: bool) -> None:
    """Print the JSON Schema of pipeline.yaml."""
    described = pipeline_schema()
    say(reference.markdown(described) if as_markdown else json.dumps(described, indent=1))


@click.command()
def targets() -> None:
    """List the targets that a pipeline here may name."""
    table = Table("target", "takes", "description", header_style="bold")
    for each in all_of(Path()):
        table.add_row(*map(escape, (each.name, ", ".join(each.precisions), each.description)))
    out.print(table)


@click.command()
def recipes() -> None:
    """List the recipes that a ladder may name, and what each may be told."""
    table = Table("recipe", "format", "options", "description", header_style="bold")
    for (model_format, name), kind in RECIPES.items():
        options = ", ".join(field.name for field in fields(cast("Any", kind)))
        table.add_row(name, model_format, options, (kind.__doc__ or "").splitlines()[0])
    out.print(table)
