"""The command that checks what a build left: verify."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from edgeq import verifying
from edgeq.cli.terminal import FILE, say


@click.command()
@click.argument("folder", type=FILE, default=Path("build"))
@click.option("--json", "as_json", is_flag=True, help="For a machine.")
def verify(folder: Path, as_json: bool) -> None:
    """Hash all that a build delivered again; 1 if a file is changed, missing, or nothing answers for it."""
    verified = verifying.verify(folder)
    if as_json:
        say(json.dumps(verifying.as_json(verified), indent=1))
    else:
        for line in verifying.as_text(verified):
            say(line)
    sys.exit(0 if verified.passed else 1)
