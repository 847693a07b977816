"""A build as GitHub Actions shows it: annotations on the lines of pipeline.yaml, and a step summary.

The one rule: what comes from a model, a tool or a file is data. It is escaped for the workflow command or the
Markdown that it stands in, so that no name can end a command, open a tag or make a link.

    https://docs.github.com/actions/reference/workflows-and-actions/workflow-commands
"""

from __future__ import annotations

import html
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from edgeq import limits
from edgeq.decode import Document
from edgeq.errors import ConfigError, EdgeqError
from edgeq.gates import Gate, Verdict, shown
from edgeq.measurement import Measurement, Value
from edgeq.report import Climbed, Report, Result

LARGEST = 1 << 20  # bytes that GitHub takes of a step's summary
ROOM = 1 << 10
PLACED = re.compile(r"(?P<file>[^\n]+?):(?P<line>[0-9]+): (?P<problem>[^\n]+)")
SPECIAL = re.compile(r"([\\`*_{}\[\]()#+\-.!|~:@])")
COLUMNS = ("accuracy", "accuracy_drop", "agreement", "model_bytes", "flash_bytes", "ram_bytes", "arena_bytes",
           "instructions", "cycles", "latency_ms", "energy_uj")


def commands(report: Report, pipeline: Path) -> Iterator[str]:
    """A workflow command for each gate that did not pass, on its line, and for each job that stopped."""
    lines = lines_of_gates(pipeline)
    for result in report.results:
        title = f"edgeq: {result.model}/{result.target}"
        if result.error:
            yield from mistakes(result.error, title)
            continue
        for verdict in _failed(result):
            line = next((line for gate, line in lines if gate == verdict.gate), None)
            yield command(_sentence(result, verdict), title=title, file=placed(pipeline), line=line)
        if result.best is None:
            yield command(f"no rung could be tried: {_reasons(result)}", title=title)


def mistakes(error: EdgeqError, title: str = "edgeq") -> Iterator[str]:
    """A workflow command for each line of an error's message, where it says so on its file and line."""
    for said in error.message.splitlines() if isinstance(error, ConfigError) else [error.message]:
        found = PLACED.fullmatch(said)
        if found:
            place, line = placed(Path(found["file"])), int(found["line"])
            yield command(found["problem"], title=title, file=place, line=line)
        else:
            yield command(f"{said}\n{error.hint}".strip(), title=title)


def command(message: str, *, title: str, file: str = "", line: int | None = None) -> str:
    """A line that makes GitHub show `message` as an error, with a title and a place if one is known."""
    given = {"file": file, "line": str(line) if line and file else "", "title": title}
    said = ",".join(f"{key}={_property(value)}" for key, value in given.items() if value)
    return f"::error {said}::{_data(message)}"


def placed(file: Path) -> str:
    """Where `file` is, from the top of the checkout, which GitHub counts from."""
    root = os.environ.get("GITHUB_WORKSPACE")
    found = file.absolute()
    inside = root and found.is_relative_to(Path(root).absolute())
    return (found.relative_to(Path(root).absolute()) if root and inside else file).as_posix()


def lines_of_gates(pipeline: Path) -> list[tuple[Gate, int]]:
    """The gates of the `pipeline`, each with its line; none where it cannot be read."""
    try:
        document = Document(pipeline)
    except ConfigError:
        return []
    gates = document.value.get("gates") if isinstance(document.value, dict) else None
    found = ((limits.gate(document, value, ("gates", i), {}), document.line(("gates", i)))
             for i, value in enumerate(gates if isinstance(gates, list) else []))
    return [(gate, line) for gate, line in found if gate]


def summary(report: Report) -> str:
    """The build as Markdown: what failed first, then a row a job, at most as long as GitHub takes."""
    passed = sum(result.passed for result in report.results)
    parts = [f"### edgeq: {passed} of {len(report.results)} jobs passed\n"]
    failed = [row for result in report.results for row in _failures(result)]
    if failed:
        parts.append(_table(("model", "target", "recipe", "gate", "found", "why"), failed))
    parts.append(_table(("model", "target", "result", "recipe", "figures"), [*map(_row, report.results)]))
    parts.append("measured: by the device, or of a file itself · simulated: by an interpreter, an emulator "
                 "or a compiler's model · *about*: estimated\n")
    return "\n".join(parts)


def summary_of(error: EdgeqError) -> str:
    """What is said of a build that could not begin."""
    told = "".join(f"- {escaped(line)}\n" for line in error.message.splitlines())
    return f"### edgeq: nothing was built\n\n{told}\n{escaped(error.hint)}\n"


def escaped(text: str) -> str:
    """`text` as Markdown that shows just that, in one line: no tag, no link, no table of its own."""
    plain = "".join(letter if letter.isprintable() else " " for letter in text)
    return SPECIAL.sub(r"\\\1", html.escape(" ".join(plain.split()), quote=False))


def _data(message: str) -> str:
    return message.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(value: str) -> str:
    return _data(value).replace(":", "%3A").replace(",", "%2C")


def _failed(result: Result) -> list[Verdict]:
    return [verdict for verdict in (result.best.verdicts if result.best else ()) if not verdict.passed]


def _sentence(result: Result, verdict: Verdict) -> str:
    recipe = result.best.recipe if result.best else ""
    return (f"{verdict.gate.metric} is {_figure(verdict.found)}, wanted {verdict.gate.limits()} "
            f"({_why(verdict)}; {recipe})")


def _why(verdict: Verdict) -> str:
    """Why a gate did not pass, without the limit where that stands beside it."""
    limit = f"wanted {verdict.gate.limits()}"
    more = verdict.explanation.removeprefix(limit).lstrip(", ")
    return f"{verdict.reason}: {more}" if more else str(verdict.reason)


def _failures(result: Result) -> Iterator[tuple[str, ...]]:
    """A row for each gate that did not pass, and for what stopped a job."""
    recipe = result.best.recipe if result.best else "—"
    for verdict in _failed(result):
        yield (result.model, result.target, recipe, f"{verdict.gate.metric} {verdict.gate.limits()}",
               _figure(verdict.found), _why(verdict))
    if result.error:
        yield (result.model, result.target, recipe, "—", "—", f"{result.error.message} {result.error.hint}")
    elif result.best is None:
        yield result.model, result.target, "—", "—", "—", f"no rung could be tried: {_reasons(result)}"


def _row(result: Result) -> tuple[str, ...]:
    best = result.best
    return (result.model, result.target, "passed" if result.passed else "FAILED", _recipe(best),
            " · ".join(_figures(best.metrics)) if best else "—")


def _recipe(best: Climbed | None) -> str:
    return f"{best.recipe}{', not compiled' if best.notice else ''}" if best else "—"


def _reasons(result: Result) -> str:
    return "; ".join(f"{rung.recipe}: {rung.reason}" for rung in result.rungs)


def _figures(metrics: Measurement) -> Iterator[str]:
    for metric in COLUMNS:
        found = metrics.get(metric)
        if found and found.value is not None:
            yield f"{metric} {_figure(found)}"


def _figure(found: Value) -> str:
    """A figure with its unit, its source and how many samples it is of."""
    if found.value is None:
        return "unavailable"
    about = "about " if found.source == "estimated" else ""
    count = f", n {found.n}" if found.n else ""
    return f"{about}{shown(found.value, found.unit)} ({found.source}{count})"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, of as many rows as there is room for."""
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    room = LARGEST // 2 - ROOM
    for count, row in enumerate(rows):
        line = f"| {' | '.join(map(escaped, row))} |"
        room -= len(line.encode()) + 1
        if room < 0:
            lines += ["", f"… and {len(rows) - count} more: see report.html"]
            break
        lines.append(line)
    return "\n".join(lines) + "\n"
