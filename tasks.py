"""Tasks for `invoke`: each is a line or two over the command line and the scripts."""

from __future__ import annotations

import shutil

from invoke import Context, task


@task(iterable=["target", "model"], help={"target": "only this target", "model": "only this model"})
def build(c: Context, target: list[str], model: list[str], args: str = "") -> None:
    """Build and judge pipeline.yaml (`--args` goes on to `edgeq build`)."""
    chosen = [f"--target {name}" for name in target] + [f"--model {name}" for name in model]
    _run(c, " ".join(["edgeq build", *chosen, args]))


@task
def test(c: Context) -> None:
    """Run the tests."""
    _run(c, "python -m pytest")


@task
def check(c: Context) -> None:
    """Lint and type-check the package."""
    _run(c, "ruff check edgeq tasks.py tests benchmarks models && mypy")


@task(help={"only": "a benchmark's name"})
def bench(c: Context, only: str = "") -> None:
    """Run the benchmarks, each a table of ratios."""
    _run(c, f"python -m benchmarks {only}")


@task
def doctor(c: Context) -> None:
    """Say what can be built here, and what to install for the rest."""
    _run(c, "edgeq doctor")


@task
def clean(c: Context) -> None:
    """Remove what builds and tests leave in the checkout; the store is left alone."""
    for folder in ("build", "dist", ".pytest_cache", ".mypy_cache", ".ruff_cache"):
        shutil.rmtree(folder, ignore_errors=True)


def _run(c: Context, command: str) -> None:
    """Run `command` as the shell would, its exit status becoming ours."""
    finished = c.run(command, pty=False, warn=True)
    if finished is None or finished.exited:
        raise SystemExit(finished.exited if finished else 1)
