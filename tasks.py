"""Tasks for `invoke`: each is a line or two over the command line and the scripts."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys

from invoke import Context, Exit, task


@task(iterable=["target", "model"],
      help={"target": "only this target", "model": "only this model",
            "device": "the address of an attached one", "args": "goes on to edgeq build"})
def build(c: Context, target: list[str], model: list[str], device: str = "", args: str = "") -> None:
    """Build and judge pipeline.yaml."""
    chosen = [f"--target={name}" for name in target] + [f"--model={name}" for name in model]
    chosen += [f"--device={device}"] if device else []
    _python("edgeq.cli", "build", *chosen, *shlex.split(args))


@task
def test(c: Context) -> None:
    """Run the tests."""
    _python("pytest", "-n", "auto")


@task(help={"target": "the target that is tested", "device": "the address of one that is attached"})
def device_test(c: Context, target: str, device: str = "") -> None:
    """Run what only a device or an emulator can show."""
    _python("pytest", "device_tests", f"--target={target}", *([f"--device={device}"] if device else []))


@task(help={"args": "images, by the folders of docker/, and --base pull: see docs/containers.md"})
def docker_test(c: Context, args: str = "") -> None:
    """Build images with buildah, without a daemon, and run them."""
    _finish([sys.executable, "docker/trial.py", *shlex.split(args)])


@task
def check(c: Context) -> None:
    """Lint and type-check."""
    _python("ruff", "check", "edgeq", "tasks.py", "tests", "device_tests", "benchmarks", "models", "docker")
    _python("mypy")


@task(help={"only": "the name of one benchmark"})
def bench(c: Context, only: str = "") -> None:
    """Run the benchmarks, each a table of ratios."""
    _python("benchmarks", *shlex.split(only))


@task(help={"folder": "what a build left"})
def report(c: Context, folder: str = "build") -> None:
    """Write report.html again, with what the history knows by now."""
    _python("edgeq.cli", "report", folder)


@task
def doctor(c: Context) -> None:
    """Say what can be built here, and what to install for the rest."""
    _python("edgeq.cli", "doctor")


@task
def clean(c: Context) -> None:
    """Remove what builds and tests leave in the checkout; the store is left alone."""
    for folder in ("build", "dist", ".hypothesis", ".pytest_cache", ".mypy_cache", ".ruff_cache"):
        shutil.rmtree(folder, ignore_errors=True)


def _python(module: str, *words: str) -> None:
    """Run `python -m module words…` of this environment; its exit status becomes ours.

    Not by invoke's own `run`, which takes output in pieces and breaks the lines of tables.
    """
    _finish([sys.executable, "-m", module, *words])


def _finish(argv: list[str]) -> None:
    finished = subprocess.run(argv, check=False)
    if finished.returncode:
        raise Exit(code=finished.returncode)
