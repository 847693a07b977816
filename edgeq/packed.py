"""The package of a delivered model, made of its best rung: what an engineer takes beside the program.

The one rule: it is made once a result, not once a rung, of what was run and judged.
"""

from __future__ import annotations

from dataclasses import replace

from edgeq.errors import ToolError
from edgeq.packaging import Package, is_micro
from edgeq.plan import Job
from edgeq.report import Result
from edgeq.store import Store

PACKAGE = "package"  # what it is called among the artifacts that a rung made


def packed(result: Result, job: Job, store: Store) -> Result:
    """`result` of a `job` with the package of its best rung; where that cannot be made, with the error."""
    best = result.best
    if best is None or result.error is not None:
        return result
    package = Package(job.model.name, is_micro(job.target.backend, job.target.runner))
    given = (best.made[name] for name in ("program", "outputs", "evaluation"))
    try:
        found = replace(best, made={**best.made, PACKAGE: store.make(package.pack, *given)})
    except ToolError as failed:
        return replace(result, error=failed)
    return replace(result, rungs=tuple(found if rung is best else rung for rung in result.rungs))
