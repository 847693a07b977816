"""The terminal: what the commands share of printing, and of options."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console

from edgeq import console
from edgeq.errors import EdgeqError

out = console.wide(Console())
err = Console(stderr=True)

FILE = click.Path(path_type=Path)
PIPELINE = click.argument("pipeline", type=FILE, default=Path("pipeline.yaml"))
TARGETS = click.option("--target", "targets", multiple=True, help="Only this target (repeatable).")
MODELS = click.option("--model", "models", multiple=True, help="Only this model (repeatable).")
STORE = click.option("--store", type=FILE, envvar="EDGEQ_STORE", show_envvar=True,
                     default=lambda: Path.home() / ".cache/edgeq", show_default="~/.cache/edgeq",
                     help="Where artifacts are kept.")


def say(text: str) -> None:
    """Print `text` as it is: no markup, no colours, no folding."""
    out.print(text, highlight=False, markup=False, soft_wrap=True)


def complain(error: EdgeqError) -> None:
    """Print what went wrong, and what to do about it, to stderr."""
    err.print(f"error: {error.message}", style="red", highlight=False, markup=False, soft_wrap=True)
    if error.hint:
        err.print(f"  {error.hint}", highlight=False, markup=False, soft_wrap=True)
