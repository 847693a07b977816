"""The command line: the only place that prints, and the only one that turns errors into codes.

Results go to stdout, progress and complaints to stderr. Exit: 0 every gate passed, 1 a gate
failed or an operator is not supported, 2 the configuration or the call is wrong, 3 a tool is
missing or crashed, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import importlib
import os
import sys
from io import TextIOWrapper

import click

from edgeq import __version__
from edgeq.cli.terminal import complain, err
from edgeq.errors import EdgeqError, ToolError

COMMANDS = {
    "build": "edgeq.cli.build", "plan": "edgeq.cli.build",
    "lint": "edgeq.cli.models", "inspect": "edgeq.cli.models",
    "sensitivity": "edgeq.cli.models", "parity": "edgeq.cli.models",
    "explore": "edgeq.cli.models",
    "history": "edgeq.cli.past", "compare": "edgeq.cli.comparing", "baseline": "edgeq.cli.baselines",
    "verify": "edgeq.cli.checking", "report": "edgeq.cli.reporting",
    "doctor": "edgeq.cli.about", "schema": "edgeq.cli.about",
    "targets": "edgeq.cli.about", "recipes": "edgeq.cli.about",
}


class Commands(click.Group):
    """The commands by name, each read when it is asked for: looking up history loads no compiler."""

    def list_commands(self, _: click.Context) -> list[str]:
        """Their names, in the order of COMMANDS."""
        return [*COMMANDS]

    def get_command(self, _: click.Context, name: str) -> click.Command | None:
        """The command `name`, which its module has under that name; None where there is no such."""
        if name not in COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(COMMANDS[name]), name)
        return command


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, message="edgeq %(version)s")
def cli() -> None:
    """Quantize, compile and prove models for edge targets."""


def main() -> None:
    """Run the command line; every error becomes words and an exit code, never a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that has no dash is no reason to fail
    try:
        cli(standalone_mode=False)
    except EdgeqError as error:
        complain(error)
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
        complain(ToolError(f"edgeq itself failed: {type(error).__name__}: {error}",
                            "this is a bug: set EDGEQ_TRACEBACK=1 and report what it prints"))
        sys.exit(ToolError.exit_code)


if __name__ == "__main__":
    main()
