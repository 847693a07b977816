"""The commands that build: build, plan."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import click

from edgeq import building, console
from edgeq.cli import ci
from edgeq.cli.terminal import FILE, HISTORY, MODELS, PIPELINE, STORE, TARGETS, complain, err, out, say
from edgeq.deliver import ready, write
from edgeq.errors import ConfigError
from edgeq.junit import junit as as_junit
from edgeq.report import Report


@click.command()
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
@click.option("--check-reproducible", "twice", is_flag=True,
              help="Build twice from empty stores first, and compare bytes; 1 if they differ.")
@HISTORY
@click.option("--github", is_flag=True, help="Write GitHub's step summary, and annotations to stdout.")
def build(json_file: Path | None, junit_file: Path | None, twice: bool, github: bool, **ordered: Any) -> None:
    """Build and judge what the pipeline declares."""
    with ci.heard_by_github(github):
        for option, file in (("--json", json_file), ("--junit", junit_file)):
            if file and not file.exists():
                ready(file.parent, option)
        planned = building.planned(order := building.Order(**ordered))
        with (ci.reproduced(order, planned, twice) as (order, code),
              console.progress(err, len(planned.jobs)) as tell):
            report, content = building.build(order, planned, tell)
    if json_file:
        write(json_file, json.dumps(content, indent=1))
    if junit_file:
        write(junit_file, as_junit(report))
    _tell(report)
    if github:
        ci.tell_github(report, order.pipeline)
    sys.exit(report.exit_code or code)


def _tell(report: Report) -> None:
    for fault in report.faults:
        complain(fault, "warning")
    out.print(console.verdicts(report))
    for remark in console.remarks(report):
        say(remark)


@click.command()
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
        complain(error)
    sys.exit(ConfigError.exit_code if wrong else 0)
