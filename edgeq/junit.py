"""The report as JUnit XML, for CI viewers: a suite a target, a case a gate.

The one rule: what viewers show is filled in, and nothing changes from run to run: `time` is 0, since a case
is a figure that was judged, and not a run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from edgeq.gates import Verdict, shown
from edgeq.report import Report, Result

UNFIT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")  # what XML 1.0 cannot say
HEAD = '<?xml version="1.0" encoding="utf-8"?>\n'


def junit(report: Report) -> str:
    """The JUnit XML of `report`: a gate that did not pass is a failure, a stopped job an error."""
    from junitparser import JUnitXml, TestSuite

    document = JUnitXml("edgeq")
    for target in dict.fromkeys(result.target for result in report.results):
        suite = TestSuite(target)
        suite.add_property("edgeq", report.version)
        for result in report.results:
            if result.target == target:
                suite.add_property(f"{result.model} recipe", result.best.recipe if result.best else "none")
                suite.add_testcases(_cases(result))
        document.add_testsuite(suite)
    document.update_statistics()
    text = document.tostring()
    written = text.decode("utf-8") if isinstance(text, bytes) else str(text)
    return HEAD + written


def _cases(result: Result) -> Iterator[object]:
    from junitparser import Error, Failure

    best = result.best
    for verdict in best.verdicts if best else ():
        case = _case(result, f"{verdict.gate.metric} {verdict.gate.limits()}")
        case.system_out = _fit(_told(best.recipe if best else "", verdict))
        if not verdict.passed:
            case.result = [Failure(_fit(f"{_figure(verdict)}: {verdict.explanation}"), verdict.reason)]
        yield case
    if result.error:
        case = _case(result, "build")
        case.result = [Error(_fit(result.error.message), result.error.kind)]
        case.system_out = _fit(result.error.hint)
        yield case
    elif best is None:
        case = _case(result, "build")
        reasons = "; ".join(f"{rung.recipe}: {rung.reason}" for rung in result.rungs)
        case.result = [Failure(_fit(f"no rung could be tried: {reasons}"), "refused")]
        yield case


def _case(result: Result, name: str) -> Any:
    from junitparser import TestCase

    return TestCase(_fit(name), f"{result.model}.{result.target}", 0)


def _fit(text: str) -> str:
    """`text` as XML can hold it: what a tool prints may be anything."""
    return UNFIT.sub("\ufffd", text)


def _told(recipe: str, verdict: Verdict) -> str:
    """A figure and the rung that it is of."""
    return f"{recipe}: {verdict.gate.metric} {_figure(verdict)}"


def _figure(verdict: Verdict) -> str:
    """What was found, with its unit, source and number of samples."""
    found = verdict.found
    count = f", n {found.n}" if found.n else ""
    return f"{shown(found.value, found.unit)} ({found.source}{count})"
