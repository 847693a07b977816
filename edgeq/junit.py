"""The report as JUnit XML, for CI viewers: a suite a target, a case a gate."""

from __future__ import annotations

import re
from collections.abc import Iterator

from edgeq.report import Report, Result

UNFIT = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")  # what a tool prints, and XML 1.0 has no way to say


def junit(report: Report) -> str:
    """The JUnit XML of `report`: a gate that did not pass is a failure, a stopped job an error."""
    from junitparser import JUnitXml, TestSuite

    document = JUnitXml("edgeq")
    for target in dict.fromkeys(result.target for result in report.results):
        suite = TestSuite(target)
        for result in report.results:
            if result.target == target:
                suite.add_testcases(_cases(result))
        document.add_testsuite(suite)
    document.update_statistics()
    text = document.tostring()
    written = text.decode("utf-8") if isinstance(text, bytes) else str(text)
    return UNFIT.sub("\ufffd", written)


def _cases(result: Result) -> Iterator[object]:
    from junitparser import Error, Failure, TestCase

    name = f"{result.model}.{result.target}"
    best = result.best
    for verdict in best.verdicts if best else ():
        case = TestCase(f"{verdict.gate.metric} {verdict.gate.limits()}", name)
        if not verdict.passed:
            case.result = [Failure(f"{verdict.found.value}: {verdict.explanation}", verdict.reason)]
        yield case
    if result.error:
        case = TestCase("build", name)
        case.result = [Error(result.error.message, result.error.kind)]
        yield case
    elif best is None:
        case = TestCase("build", name)
        reasons = "; ".join(f"{rung.recipe}: {rung.reason}" for rung in result.rungs)
        case.result = [Failure(f"no rung could be tried: {reasons}", "refused")]
        yield case
