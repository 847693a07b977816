"""A report and its run as rows of the history's tables.

The one rule: a report may come from anywhere, as from CI's artifacts, so that what is no report is told
as such, and no name, note or number in it breaks a database.
"""

from __future__ import annotations

import hashlib
import json
import math
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from edgeq.errors import ConfigError

REPORT = "edgeq-report/1"
RUN = "edgeq-run/1"
LONGEST = 500  # characters of what stands in an index: PostgreSQL's take 2,700 bytes
LARGEST = 2**63

Row = dict[str, Any]
Rows = dict[str, list[Row]]


def rows(content: Mapping[str, Any], run: Mapping[str, Any]) -> Rows:
    """The rows of `content` (report.json) and `run` (run.json) by table, those of `runs` but one.

    All but the runs and the benches lack the number of their run. Raises ConfigError where either is cut
    short or of another schema.
    """
    for what, name, schema in ((content, "report.json", REPORT), (run, "run.json", RUN)):
        if not isinstance(what, Mapping) or what.get("schema") != schema:
            raise ConfigError(f"this {name} is not of the schema {schema}", "build again with this edgeq")
    try:
        found = dict(_tables(content, run))
        return {table: [_kept(row) for row in each] for table, each in found.items()}
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError, RecursionError) as error:
        raise ConfigError(f"the report of this build is cut short or damaged: {error!r:.200}",
                          "build again") from error


def kept(text: str) -> str:
    """`text` as both databases take it: no NUL, and no half of a character."""
    return text.replace("\0", "\N{SYMBOL FOR NULL}").encode("utf-8", "replace").decode("utf-8")


def project(name: str) -> str:
    """The name of a project as it stands in the history."""
    return kept(name)[:LONGEST]


def _tables(content: Mapping[str, Any], run: Mapping[str, Any]) -> Iterator[tuple[str, list[Row]]]:
    results = list(enumerate(content["results"]))
    yield "runs", [_run(content, run)]
    yield "benches", _benches([result for _, result in results])
    yield "tools", [{"position": place, "name": name, "version": version}
                    for place, (name, version) in enumerate(content["tools"].items())]
    yield "jobs", [_job(number, result) for number, result in results]
    yield "artifacts", [_artifact(*each) for each in _numbered(results, "artifacts")]
    rungs = _numbered(results, "rungs")
    yield "rungs", [_rung(*each) for each in rungs]
    yield "metrics", [row for each in rungs for row in _metrics(*each)]
    yield "reports", [{"content": zlib.compress(json.dumps(content).encode("ascii"), 1)}]


def _numbered(results: Iterable[tuple[int, Any]], key: str) -> list[tuple[int, int, Any]]:
    """What each of `results` has under `key`, with the result's number and its own."""
    return [(number, place, each) for number, result in results for place, each in enumerate(result[key])]


def _run(content: Mapping[str, Any], run: Mapping[str, Any]) -> Row:
    if not 0 < len(run["id"]) <= LONGEST:
        raise ValueError("the id of the run is empty or too long")
    return {"id": run["id"], "project": project(run["project"]), "started": run["started"][:LONGEST],
            "seconds": _number(run["seconds"]), "commit_id": _text(run.get("commit"))[:LONGEST] or None,
            "branch": run.get("branch"), "dirty": run.get("dirty"), "edgeq": content["edgeq"],
            "passed": bool(content["passed"]), "host": _json(content["host"])}


def _benches(results: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Each bench once, in the order of their digests: two builds at once then never wait for each other."""
    found = {_digest(result): result.get("identity", {}) for result in results}
    return [{"digest": digest, "runner": identity.get("runner", {}).get("name"),
             "board": _board(identity.get("runner", {})), "host": identity.get("host", {}).get("cpu"),
             "identity": _json(identity)} for digest, identity in sorted(found.items())]


def _board(runner: Mapping[str, Any]) -> str | None:
    """What the runner runs on, where target.yaml tells: a board, an address, a device."""
    told = (runner.get(key) for key in ("board", "address", "device", "serial"))
    return next((str(each) for each in told if each), None)


def _digest(result: Mapping[str, Any]) -> str:
    return hashlib.sha256(_json(result.get("identity", {})).encode("ascii")).hexdigest()


def _job(number: int, result: Mapping[str, Any]) -> Row:
    error = result["error"] or {}
    return {"job": number, "model": result["model"], "target": result["target"],
            "passed": bool(result["passed"]), "best": _best(result), "bench": _digest(result),
            "recipe": result["recipe"], "options": _json(result["options"]),
            "evaluation": result.get("evaluation"), "error_kind": error.get("kind"),
            "error": error.get("message"), "notice": result.get("notice")}


def _artifact(number: int, place: int, file: Mapping[str, Any]) -> Row:
    return {"job": number, "position": place, **{key: file[key] for key in ("path", "sha256", "bytes")}}


def _best(result: Mapping[str, Any]) -> int | None:
    """The place of the rung whose figures stand for the job; None where none was judged."""
    told = [result[key] for key in ("recipe", "options", "metrics", "verdicts")]
    return next((place for place, rung in enumerate(result["rungs"])
                 if rung["state"] in ("passed", "failed")
                 and [rung[key] for key in ("recipe", "options", "metrics", "verdicts")] == told), None)


def _rung(number: int, place: int, rung: Mapping[str, Any]) -> Row:
    return {"job": number, "rung": place, "recipe": rung["recipe"], "options": _json(rung["options"]),
            "state": rung["state"], "reason": rung["reason"]}


def _metrics(number: int, place: int, rung: Mapping[str, Any]) -> Iterator[Row]:
    """Every figure of a rung, with what its gates say; a gate's metric that has no figure among them."""
    metrics = {verdict["metric"]: {"source": "unavailable"} for verdict in rung["verdicts"]} | rung["metrics"]
    for position, (name, found) in enumerate(metrics.items()):
        low, high = found.get("interval") or (None, None)
        yield {"job": number, "rung": place, "position": position, "name": name,
               "value": _number(found.get("value")), "source": found["source"],
               **{key: found.get(key) for key in ("unit", "aggregation", "basis", "rig", "reason", "n")},
               "low": _number(low), "high": _number(high),
               **_judged([each for each in rung["verdicts"] if each["metric"] == name])}


def _judged(verdicts: Sequence[Mapping[str, Any]]) -> Row:
    """What all gates on one metric say: passed if all do, why not by the first, the tightest limits."""
    return {"passed": all(each["passed"] for each in verdicts) if verdicts else None,
            "verdict": next((each["reason"] for each in verdicts if each["reason"]), None),
            "minimum": max((_number(each["min"]) for each in verdicts if "min" in each), default=None),
            "maximum": min((_number(each["max"]) for each in verdicts if "max" in each), default=None)}


def _number(value: Any) -> Any:
    """`value`, a number or None, as a float; None where it is not finite."""
    if value is None or not math.isfinite(value):
        return None
    return float(value)


def _text(value: str | None) -> str:
    return value or ""


def _json(value: object) -> str:
    """`value` as JSON that is the same for what is the same; pure ASCII, whatever it holds."""
    return json.dumps(value, sort_keys=True)


def _kept(row: Row) -> Row:
    return {name: kept(value) if isinstance(value, str) else _plain(name, value)
            for name, value in row.items()}


def _plain(name: str, value: Any) -> Any:
    """`value` where a column takes it; TypeError, ValueError where none does."""
    if not isinstance(value, (bool, int, float, bytes, type(None))):
        raise TypeError(f"{name} is {type(value).__name__}")
    if isinstance(value, int) and abs(value) >= LARGEST:
        raise ValueError(f"{name} is too large")
    return value
