"""A lint in words for people, as JSON for programs, and as SARIF 2.1.0 for code review.

All three say the same, and all say that it is estimated.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import PurePath
from typing import Any
from urllib.parse import quote

from edgeq.lint.advice import ADVICE
from edgeq.lint.linting import Lint, Placed

CONSEQUENCES = ("follows-unmapped", "compilation-refused")
LISTED = 5
SARIF = "https://json.schemastore.org/sarif-2.1.0.json"


def as_text(lint: Lint, model: str) -> str:
    """The lint of the file `model` as lines: what stays on the CPU, why, and what to do."""
    return "\n".join(_lines(lint, model))


def as_table(lint: Lint) -> str:
    """A row a kind of operator: how many of how many are mapped, and why the others are not."""
    kinds = Counter(each.name for each in lint.operators)
    width = max(map(len, kinds), default=0)
    return "\n".join(f"  {name:{width}}  {kinds[name] - lint.left_by_type.get(name, 0)} of {kinds[name]}"
                     f"{_whys(lint, name)}" for name in kinds)


def as_json(lint: Lint, model: str, target: str) -> dict[str, Any]:
    """The lint of the file `model` for `target` as plain data."""
    return {
        "model": model,
        "target": target,
        "source": "estimated",
        "refused": bool(lint.refusals),
        "mapped": lint.mapped,
        "total": lint.total,
        "left_by_type": dict(lint.left_by_type),
        "cached_bytes": lint.cached_bytes,
        "streamed_bytes": lint.streamed_bytes,
        "operators": [{**asdict(each), "mapped": each.mapped} for each in lint.operators],
        "findings": [asdict(finding) for finding in lint.findings],
    }


def as_sarif(lint: Lint, model: str, target: str) -> dict[str, Any]:
    """The lint of the file `model` for `target` as a SARIF 2.1.0 log.

    https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html
    """
    names = {operator.index: _element(operator) for operator in lint.operators}
    results = [
        _result(each.rule, each.level, f"{each.message}: {each.hint}", _location(
            model, [names[index] for index in each.operators]))
        for each in lint.findings
    ] + [
        _result(each.rule, "warning", f"{_title(each)} stays on the CPU: {each.reason}; {each.hint}",
                _location(model, [names[each.index]]))
        for each in lint.left
    ]
    rules = [{"id": rule, "shortDescription": {"text": ADVICE[rule].meaning},
              "help": {"text": ADVICE[rule].hint}}
             for rule in sorted({result["ruleId"] for result in results})]
    driver = {"name": "edgeq", "fullName": f"edgeq lint for {target} (estimated)", "rules": rules}
    return {"$schema": SARIF, "version": "2.1.0",
            "runs": [{"tool": {"driver": driver}, "results": results}]}


def _lines(lint: Lint, model: str) -> Iterator[str]:
    yield f"{model}: {lint.mapped} of {lint.total} operators are mapped (estimated)"
    if lint.cached_bytes is None:
        yield as_table(lint)
    else:
        yield (f"parameters: {lint.cached_bytes} bytes cached, {lint.streamed_bytes} bytes streamed on "
               "every inference (estimated)")
    broken: dict[tuple[str, str], list[Placed]] = {}
    for each in lint.left:
        if each.rule not in CONSEQUENCES:
            broken.setdefault((each.rule, each.hint), []).append(each)
    for finding in lint.findings:
        if finding.rule not in {rule for rule, _ in broken}:
            yield f"{finding.level}: {finding.message}"
            yield f"    {finding.hint}"
    for (rule, hint), alike in broken.items():
        yield f"{ADVICE[rule].meaning} {len(alike)} on the CPU:"
        yield from _listed(lint, alike)
        yield f"    {hint}"


def _whys(lint: Lint, name: str) -> str:
    reasons = dict.fromkeys(each.reason for each in lint.left if each.name == name)
    return f"  {'; '.join(reasons)}" if reasons else ""


def _listed(lint: Lint, operators: list[Placed]) -> Iterator[str]:
    for operator in operators[:LISTED]:
        yield f"    {_title(operator)}: {operator.reason}{_followers(lint, operator)}"
    if len(operators) > LISTED:
        yield f"    and {len(operators) - LISTED} more"


def _followers(lint: Lint, operator: Placed) -> str:
    kinds = Counter(each.name for each in lint.left if each.follows == operator.index)
    names = ", ".join(f"{count} {name}" for name, count in kinds.items())
    return f"; behind it stay {names}" if names else ""


def _title(operator: Placed) -> str:
    return f"operator {operator.index} {operator.name}"


def _element(operator: Placed) -> dict[str, str]:
    return {"name": operator.name, "kind": "element",
            "fullyQualifiedName": f"operators/{operator.index}/{operator.name}"}


def _location(model: str, elements: list[dict[str, str]]) -> dict[str, Any]:
    file = {"uri": quote(PurePath(model).as_posix())}
    place: dict[str, Any] = {"physicalLocation": {"artifactLocation": file}}
    return place | {"logicalLocations": elements} if elements else place


def _result(rule: str, level: str, message: str, location: dict[str, Any]) -> dict[str, Any]:
    return {"ruleId": rule, "level": level, "message": {"text": message}, "locations": [location]}
