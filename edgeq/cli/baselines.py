"""The commands that keep figures of a build in the repository: baseline set, baseline show."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
from rich.table import Table
from rich.text import Text

from edgeq import __version__, comparing, sides
from edgeq.cli.comparing import BUILD_FOLDER, exact, figure
from edgeq.cli.terminal import FILE, MODELS, TARGETS, complain, out, say
from edgeq.comparing import Question
from edgeq.deliver import ready, write
from edgeq.errors import ConfigError
from edgeq.history.changes import printable
from edgeq.regressions import kept
from edgeq.regressions.taken import Side, Taken, document_at

NAME = click.argument("name", default=kept.DEFAULT)
PIPELINE = click.option("--pipeline", type=FILE, default=Path("pipeline.yaml"), show_default=True,
                        help="The pipeline that the baselines stand beside.")


@click.group()
def baseline() -> None:
    """Keep figures of a build in the repository, to hold later ones against."""


@baseline.command("set")
@NAME
@click.option("--from", "reports", type=FILE, multiple=True, metavar="REPORT|FOLDER",
              help="The build (several runs of it tell how well the bench repeats).  [build]")
@MODELS
@TARGETS
@PIPELINE
@click.option("--force", is_flag=True, help="Keep the figures of jobs that failed, too.")
def set_(name: str, reports: tuple[Path, ...], pipeline: Path, force: bool, **asked: Any) -> None:
    """Write baselines/NAME.json beside the pipeline; jobs in it that the build has not stay."""
    given = [path / sides.REPORT_FILE if path.is_dir() else path for path in reports or (BUILD_FOLDER,)]
    question = Question(**asked)
    place = kept.place_of(pipeline.parent, name)
    builds = [sides.side_at(path) for path in given]
    if not force:
        _see_passed(given, question)
    jobs = comparing.repeats(builds, question)
    there = kept.read(place).jobs if place.exists() else {}
    ready(place.parent, "--pipeline")
    write(place, kept.text({**there, **jobs}, __version__))
    if any((job.commit or "").endswith("-dirty") for job in jobs.values()):
        complain(ConfigError("the build was of a checkout with changes beside its commit",
                             "commit, build, set it again: others cannot make these figures"), "warning")
    say(f"{place}: {len(jobs)} jobs set, {len(there.keys() - jobs.keys())} others as they were")


@baseline.command()
@NAME
@MODELS
@TARGETS
@PIPELINE
@click.option("--json", "as_json", is_flag=True, help="The file as it is.")
def show(name: str, pipeline: Path, as_json: bool, **asked: Any) -> None:
    """Show what a baseline keeps."""
    place = kept.place_of(pipeline.parent, name)
    side, question = kept.read(place, name), Question(**asked)
    if not any(map(question.asks, side.jobs)):
        raise ConfigError(f"{place} has nothing of what is asked for",
                          f"it has: {', '.join(map('/'.join, side.jobs)) or 'no jobs'}")
    if as_json:
        say(json.dumps(document_at(place, kept.AGAIN), indent=1, sort_keys=True))
    else:
        out.print(_figures(side, question))


def _see_passed(reports: Sequence[Path], question: Question) -> None:
    """See that the jobs that are asked for passed; ConfigError with those that failed."""
    failed = [line for path in reports for line in sides.failures(path, question.asks)]
    if failed:
        raise ConfigError("these jobs failed, and what later builds are held against should not have:\n"
                          + "\n".join(f"  {line}" for line in failed), "mend them, or use --force")


def _figures(side: Side, question: Question) -> Table:
    table = Table("model, target", "recipe, commit", "metric", "value", "source", "n", "95 % interval", "rig",
                  header_style="bold")
    for job, taken in sorted(side.jobs.items()):
        if question.asks(job):
            for cells in _rows("/".join(job), taken):
                table.add_row(*(Text(printable(cell)) for cell in cells))
    return table


def _rows(name: str, taken: Taken) -> Iterator[tuple[str, ...]]:
    """A row a figure of one job; what the job is stands in the first."""
    heads = (name, f"{taken.recipe} at {(taken.commit or 'no commit')[:12]}")
    for metric, value in taken.metrics.items():
        ends = " … ".join(exact(end, value.unit) for end in value.interval or ())
        yield (*heads, metric, figure(value, value.unit), value.source, str(value.n or ""), ends,
               value.rig or "")
        heads = ("", "")
