"""The terminal: what the commands share of printing, and of options."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from edgeq import tool
from edgeq.errors import ConfigError, EdgeqError
from edgeq.history.address import NOWHERE, address, default

WIDE = 160  # columns, where the output goes into a file or a CI log
COMMANDS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")  # to a terminal, in a name


class Terminal(Console):
    """A console that no text commands, and whose reader may go away before the end."""

    def print(self, *objects: Any, **how: Any) -> None:
        """Print; ConfigError where results cannot be written. What cannot be said of an error is not said."""
        try:
            super().print(*objects, **how)
        except OSError as error:
            self.on_broken_pipe()
            if not self.stderr:
                raise ConfigError(f"standard output cannot be written: {error.strerror}",
                                  "free some space where it goes, or send it elsewhere") from error

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """What is printed of `renderable`: in its text, whoever wrote that, nothing that a terminal obeys."""
        for text, style, control in super().render(renderable, options):
            shown = text if control else COMMANDS.sub("\N{REPLACEMENT CHARACTER}", text)
            yield Segment(shown, style, control)

    def on_broken_pipe(self) -> None:
        """Print on into nothing: `| head` decides what is read, and not how the command ends."""
        self.quiet = True
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, self.file.fileno())
        os.close(nothing)


out = Terminal(emoji=False, width=None if Console().is_terminal else WIDE)
err = Terminal(emoji=False, stderr=True)

FILE = click.Path(path_type=Path)
PIPELINE = click.argument("pipeline", type=FILE, default=Path("pipeline.yaml"))
TARGETS = click.option("--target", "targets", multiple=True, help="Only this target (repeatable).")
MODELS = click.option("--model", "models", multiple=True, help="Only this model (repeatable).")
STORE = click.option("--store", type=FILE, envvar="EDGEQ_STORE", show_envvar=True,
                     default=lambda: tool.home() / ".cache/edgeq", show_default="~/.cache/edgeq",
                     help="Where artifacts are kept.")


def _place(_: click.Context, __: click.Parameter, given: str) -> str:
    """Where history is kept; ConfigError, before any work is done, for what is no such place."""
    if given != NOWHERE:
        address(given)
    return given


HISTORY = click.option("--history", metavar="FILE|URL|none", envvar="EDGEQ_HISTORY", show_envvar=True,
                       default=default, show_default="~/.local/share/edgeq/history.sqlite",
                       callback=_place, help="Where the results of all builds are kept.")


def say(text: str) -> None:
    """Print `text` as it is: no markup, no colours, no folding."""
    out.print(text, highlight=False, markup=False, soft_wrap=True)


def complain(error: EdgeqError, word: str = "error") -> None:
    """Print what went wrong, and what to do about it, to stderr."""
    err.print(f"{word}: {error.message}", style="red", highlight=False, markup=False, soft_wrap=True)
    if error.hint:
        err.print(f"  {error.hint}", highlight=False, markup=False, soft_wrap=True)
