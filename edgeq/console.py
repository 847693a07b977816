"""What a person reads on a terminal: tables and lines of a build. Nothing is printed here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from edgeq.errors import ConfigError, EdgeqError
from edgeq.flow import Said
from edgeq.gates import Verdict, between, shown
from edgeq.measurement import WORST, Measurement, Value
from edgeq.parity import Chain
from edgeq.plan import Job
from edgeq.ptq.sensitivity import Table as Sensitivities
from edgeq.report import Climbed, Report, Result

STYLES = {"passed": "green", "failed": "red", "refused": "yellow", "error": "bold red",
          "skipped": "dim"}
WHY = {"inconclusive": ", inconclusive: ", "incomparable": ", not comparable: ", "invalid": ": ",
       "unavailable": ": "}
COSTS = ("model_bytes", "flash_bytes", "arena_bytes", "ram_bytes", "instructions", "latency_ms", "energy_uj")
SHORT = {"accuracy": "accuracy", "accuracy_drop": "drop", "agreement": "agree", "sqnr_db": "sqnr",
         "model_bytes": "model", "arena_bytes": "arena", "ram_bytes": "ram",
         "flash_bytes": "flash", "instructions": "instructions", "latency_ms": "latency",
         "energy_uj": "energy"}


def verdicts(report: Report) -> Table:
    """A row a rung: what it scored, what it costs, and how each gate judged it."""
    table = Table("model, target", "rung, state", "scores", "verdicts", header_style="bold",
                  show_lines=True)
    for result in report.results:
        for rung in result.rungs or [Climbed("—", {}, "error")]:
            table.add_row(
                f"{result.model}\n{result.target}", _rung(rung), "\n".join(_scores(rung.metrics)),
                "\n".join(map(_verdict, rung.verdicts)) or escape(rung.reason.partition("\n")[0]))
    return table


def remarks(report: Report) -> Iterator[str]:
    """What a table has no room for: notices, warnings and errors, a paragraph each."""
    for result in report.results:
        name = f"{result.model}/{result.target}"
        yield from (f"warning: {name}: {warning}" for warning in result.warnings)
        yield from (f"{name} {named(rung.recipe, rung.options)}: {note}"
                    for rung in result.rungs if rung.judged for note in rung.notes)
        if result.best and result.best.notice:
            yield f"{name}: {result.best.notice}"
        if result.error:
            yield f"error: {name}: {result.error.message}\n  {result.error.hint}"
    yield _summary(report.results)


def jobs(
    planned: tuple[Job, ...], looked_up: tuple[Result, ...], costs: tuple[tuple[str, ...], ...]
) -> Table:
    """A row a rung of each job: whether it can be tried, its gates, what the store has, the cost."""
    table = Table("model", "target", "rung", "gates", "state", "estimated cost", header_style="bold")
    for job, result, expected in zip(planned, looked_up, costs, strict=True):
        gates = "\n".join(escape(f"{gate.metric} {gate.limits()}") for gate in job.gates)
        climbed = (*result.rungs, *[None] * (len(job.rungs) - len(result.rungs)))
        for rung, found, cost in zip(job.rungs, climbed, expected, strict=True):
            state = f"skipped: {rung.skipped}" if rung.skipped else _stored(found, result.error)
            table.add_row(job.model.name, job.target.name, Text(named(rung.name, rung.options)), gates,
                          Text(state), cost)
    return table


def operators(described: Mapping[str, Any]) -> Table:
    """A row an operator of what `inspection.described` found."""
    table = Table("#", "operator", "version", "output", "weights", "MACs", header_style="bold")
    for operator in described["operators"]:
        weights = [t for t in operator["inputs"] if t["constant_bytes"]]
        table.add_row(
            str(operator["index"]), operator["name"], str(operator["version"]),
            "\n".join(f"{t['type']} {t['shape']}" for t in operator["outputs"]),
            "\n".join(f"{t['type']} {t['shape']} {(t['quantization'] or {}).get('granularity', '')}"
                      for t in weights), f"{operator['macs']:,}")
    return table


def layers(found: Sensitivities, top: int | None) -> Table:
    """A row a layer, the most sensitive first: how much noise it makes alone, and how much remains."""
    table = Table("rank", "#", "operator", "output", "layer", "alone quantized", "alone not", "weights",
                  header_style="bold")
    for rank, row in enumerate(found.layers[:top], start=1):
        table.add_row(*map(escape, (
            str(rank), str(row.index), row.operator, "x".join(map(str, row.shape)), row.short,
            f"{row.alone_quantized_db:.1f} dB", f"{row.alone_not_db:.1f} dB", f"{row.weight_bytes:,} B")))
    return table


def judged(model: str, found: Sensitivities) -> str:
    """What a table of layers stands on, in a line."""
    return (f"{model}: {len(found.layers)} layers; with all of them quantized the output has "
            f"{found.all_quantized_db:.1f} dB; by {found.samples} of {found.calibration_samples} "
            "calibration samples")


def links(chain: Chain) -> Table:
    """A row an operator: how far each link of the chain is from the one before it, in LSB."""
    table = Table("#", "operator", *(f"{link.before} -> {link.name}" for link in chain.links),
                  header_style="bold")
    rows: dict[tuple[int, str], dict[str, str]] = {}
    for link in chain.links:
        for each in link.operators:
            rows.setdefault((each.index, each.name), {})[link.name] = _apart(each.lsb, each.samples)
    for (index, name), found in rows.items():
        table.add_row(str(index), name, *(found.get(link.name, "") for link in chain.links))
    return table


def firsts(chain: Chain) -> Iterator[str]:
    """A line a link: that all is equal, or the first operator that is not."""
    for link in chain.links:
        told = f"{link.before} -> {link.name}:"
        if link.first is None:
            yield f"{told} equal bit for bit in {chain.samples} samples"
        else:
            yield (f"{told} first differs at operator {link.first.index} {link.first.name}, by "
                   f"{_apart(link.first.lsb, link.first.samples)} of {chain.samples}")


def _apart(lsb: int, samples: int) -> str:
    return f"{lsb} LSB in {samples}" if lsb else "="


def totals(described: Mapping[str, Any]) -> str:
    """The figures of the whole model, in a line."""
    return (f"{described['model']}: {described['bytes']:,} bytes, {described['parameter_bytes']:,} of "
            f"them parameters, {len(described['operators'])} operators, {described['macs']:,} MACs")


@contextmanager
def progress(terminal: Console, jobs: int) -> Iterator[Said]:
    """A function that tells how a job goes: a bar on a terminal, a line a step elsewhere."""
    if not terminal.is_terminal:
        yield _lines(terminal)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    with Progress(BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"),
                  TimeElapsedColumn(), console=terminal, transient=True) as bar:
        task = bar.add_task("", total=jobs)

        def tell(job: object, step: str, done: float | None = None) -> None:
            share = "" if done is None else f" {100 * done:.0f} %"
            bar.update(task, description=f"{job}: {step}{share}", advance=step in ("passed", "FAILED"))

        yield tell


def named(recipe: str, options: Mapping[str, Any]) -> str:
    """A recipe with its options, as `static-int8 {granularity: per_tensor}`."""
    said = ", ".join(f"{key}: {value}" for key, value in options.items())
    return f"{recipe} {{{said}}}" if said else recipe


def _lines(terminal: Console) -> Said:
    """A function that prints a line for each step of a job, however often it is told of it."""
    latest: dict[str, str] = {}

    def tell(job: object, step: str, _: float | None = None) -> None:
        if latest.get(str(job)) != step:
            latest[str(job)] = step
            terminal.print(f"{job}: {step}", highlight=False, markup=False)

    return tell


def _stored(climbed: Climbed | None, error: EdgeqError | None) -> str:
    if climbed is None:
        return (f"cannot be built: {error.message}" if isinstance(error, ConfigError) else
                "tried only if the rungs before it fail")
    if climbed.state == "error":
        return f"to make: {climbed.reason}"
    return f"in the store: {climbed.state}"


def _rung(rung: Climbed) -> Text:
    told = f"{rung.state}, not compiled" if rung.notice else rung.state
    return Text.assemble(named(rung.recipe, rung.options), "\n", (told, STYLES[rung.state]))


def _scores(metrics: Measurement) -> Iterator[str]:
    """Accuracy with its drop, or agreement where there are no labels; the costs; the n of the scores."""
    scores = ("accuracy", "accuracy_drop") if "accuracy" in metrics else ("agreement", "sqnr_db")
    for metric in (*scores, *COSTS):
        found = metrics.get(metric)
        if found and found.value is not None:
            yield f"{SHORT[metric]} {_figure(found)}{_ends(metric, found)}"
    if counts := {found.n for metric in scores if (found := metrics.get(metric)) and found.n}:
        yield f"n {max(counts)}"


def _figure(found: Value) -> str:
    about = "about " if found.source == "estimated" else ""
    return f"{about}{shown(found.value, found.unit)}"


def _ends(metric: str, found: Value) -> str:
    return f" ({between(found.interval)})" if found.interval and metric != "accuracy" else ""


def _verdict(verdict: Verdict) -> str:
    mark = "[green]pass[/]" if verdict.passed else "[bold red]FAIL[/]"
    value = shown(verdict.found.value, verdict.found.unit)
    whose = f", group {verdict.found.group}" if verdict.gate.metric == WORST and verdict.found.group else ""
    source = f"{'invalid' if verdict.reason == 'invalid' else verdict.found.source}{whose}"
    why = WHY.get(verdict.reason or "", ", " if verdict.reason and verdict.change else "")
    told = f"{source}{why}{verdict.explanation}" if why else source
    gate = f"{verdict.gate.metric} {value} {verdict.gate.limits()}"
    return f"{mark} {escape(f'{gate} ({told})')}"


def _summary(results: tuple[Result, ...]) -> str:
    passed = sum(result.passed for result in results)
    return f"{passed} of {len(results)} jobs passed"
