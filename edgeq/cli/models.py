"""The commands that look into a model: lint, inspect, sensitivity, parity, explore."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, get_args

import click

from edgeq import console, inspection, probing
from edgeq import explore as exploring
from edgeq import lint as linter
from edgeq.cli.terminal import FILE, STORE, err, out, say
from edgeq.errors import ConfigError
from edgeq.graph import read
from edgeq.quantization import Granularity
from edgeq.target import find


@click.command()
@click.argument("model", type=FILE)
@click.option("--target", required=True, help="The target whose rules are applied.")
@click.option("--format", "form", type=click.Choice(["text", "json", "sarif"]), default="text")
def lint(model: Path, target: str, form: str) -> None:
    """Check every operator of a quantized .tflite against a target's rules; 1 if one stays unmapped."""
    rules = find(Path(), target).rules
    if rules is None:
        raise ConfigError(f"target {target} has no operator rules", "see `edgeq targets`")
    found = linter.lint(read(model), rules)
    if form == "text":
        say(linter.as_text(found, model.name))
    else:
        present = linter.as_json if form == "json" else linter.as_sarif
        say(json.dumps(present(found, model.name, target), indent=1))
    sys.exit(0 if found.mapped == found.total else 1)


@click.command()
@click.argument("model", type=FILE)
@click.option("--json", "as_json", is_flag=True, help="For a machine.")
def inspect(model: Path, as_json: bool) -> None:
    """List a .tflite's operators, tensors, quantization, sizes and multiply-accumulates."""
    described = inspection.described(model)
    if as_json:
        say(json.dumps(described, indent=1))
    else:
        out.print(console.operators(described))
        say(console.totals(described))


@click.command()
@click.argument("model", type=FILE)
@click.option("--top", type=click.IntRange(min=1), help="Only so many layers, the most sensitive ones.")
@click.option("--calibration", type=FILE, help="Samples (.npz with x), as the model takes them.")
@click.option("--pipeline", type=FILE, help="What names them for this model.  [default: pipeline.yaml]")
@click.option("--samples", type=click.IntRange(min=1), help="Take so many of them, and judge by all.")
@click.option("--granularity", type=click.Choice(get_args(Granularity)), default="per_channel",
              show_default=True)
@STORE
@click.option("--json", "as_json", is_flag=True, help="All of it, for a machine.")
def sensitivity(top: int | None, granularity: Granularity, as_json: bool, **asked: Any) -> None:
    """Rank a model's layers by what the output loses when each alone is quantized to int8."""
    question = probing.Question(**asked)
    name = question.model.name
    with console.progress(err, 1) as tell:
        found = probing.sensitivity(question, granularity, partial(tell, name))
    if as_json:
        say(json.dumps({"model": name, "granularity": granularity, **asdict(found)}, indent=1))
    else:
        out.print(console.layers(found, top))
        say(console.judged(name, found))


@click.command()
@click.argument("model", type=FILE)
@click.option("--target", required=True, help="The target whose firmware is compared.")
@click.option("--calibration", type=FILE, help="Samples (.npz with x), as the model takes them.")
@click.option("--pipeline", type=FILE, help="What names them for this model.  [default: pipeline.yaml]")
@click.option("--samples", type=click.IntRange(min=1), help="Compare so many of them.  [default: 10]")
@STORE
@click.option("--json", "as_json", is_flag=True, help="All of it, for a machine.")
def parity(target: str, as_json: bool, **asked: Any) -> None:
    """Compare every operator in LiteRT, TFLM, the host build and the firmware; 1 if firmware differs."""
    question = probing.Question(**asked)
    name = question.model.name
    with console.progress(err, 1) as tell:
        chain = probing.parity(question, target, partial(tell, name))
    if as_json:
        say(json.dumps({"model": name, "target": target, **asdict(chain)}, indent=1))
    else:
        out.print(console.links(chain))
        for line in console.firsts(chain):
            say(line)
    sys.exit(0 if chain.exact else 1)


@click.command()
@click.argument("model", type=FILE)
@click.option("--target", default="", help="Whose rules place the operators, or which job of --build.")
@click.option("--build", type=FILE, help="The folder of a build that tells of this very model.")
@click.option("--calibration", type=FILE, help="Samples (.npz with x), as the model takes them.")
@click.option("--pipeline", type=FILE, help="What names them for this model.  [default: pipeline.yaml]")
@click.option("--samples", type=click.IntRange(min=1), help="Take so many of them.")
@click.option("--output-dir", type=FILE, help="Write the node data here, and show nothing.")
@click.option("--port", type=click.IntRange(1, 65535), help="Where to listen.  [default: 8080, or any]")
@click.option("--no-browser", is_flag=True, help="Open no browser.")
@STORE
def explore(target: str, build: Path | None, output_dir: Path | None, port: int | None,
            no_browser: bool, **asked: Any) -> None:
    """Show a model in Model Explorer, with what each layer loses and costs; Ctrl-C ends it."""
    question = probing.Question(**asked)
    with console.progress(err, 1) as tell:
        shown = exploring.view(exploring.Wanted(question, target, build), partial(tell, question.model.name))
    if output_dir:
        for file in shown.save(output_dir):
            say(str(file))
    else:
        exploring.serve(shown, port, say, browser=not no_browser)
