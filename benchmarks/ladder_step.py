"""One rung of a ladder in a process of its own.

    python -m benchmarks.ladder_step PIPELINE STORE FILE [INDEX]

The store, the plan and the recipe are those of a build. What the rung comes to is written to FILE as
JSON. Without an index only what all rungs share is made, and with one it must be there, so that no
rung's memory has a part of it.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from benchmarks.measuring import peak_mb
from edgeq import flow
from edgeq.artifact import digest_of_file
from edgeq.measurement import to_json
from edgeq.pipeline import load
from edgeq.plan import Chosen, plan
from edgeq.quantization import MODEL
from edgeq.store import Store, Task, fill, task_of

COSTS = "ladder"  # a folder of the store's: what quantizing took when it was done


def spent_on(root: Path, task: Task) -> Mapping[str, float]:
    """What `task` took, in the store at `root`: made now, unless it was made and timed before."""
    kept = root / COSTS / f"{task.key}.json"
    if not kept.exists():
        shutil.rmtree(root / "objects" / task.key, ignore_errors=True)  # made without being timed
        begun, cpu_begun = time.perf_counter(), time.process_time()
        fill(root, task)
        cost = {"seconds": time.perf_counter() - begun, "cpu_s": time.process_time() - cpu_begun,
                "peak_mb": peak_mb(os.getpid())}
        kept.parent.mkdir(exist_ok=True)
        kept.write_text(json.dumps(cost), encoding="utf-8")
    return json.loads(kept.read_bytes())


def main(pipeline: str, store: str, file: str, index: str = "") -> None:
    """Make what all rungs of the pipeline's only job share, or the one at `index`."""
    root = Path(store)
    bench = flow.Bench(Store(root, functools.partial(fill, root)), lambda *_: {}, lambda *_: None)
    (job,) = plan(load(Path(pipeline)), Chosen())
    if not index:
        flow.prepare(job, bench.store)
        return
    prepared = flow.prepare(job, Store(root))
    rung = job.rungs[int(index)]
    found: dict[str, object] = {}
    if rung.recipe and not rung.skipped:
        inputs = tuple(prepared.given[name] for name in rung.recipe.inputs)
        found |= spent_on(root, task_of(rung.recipe.quantize, inputs))
    climbed = flow.climb(rung, job, prepared, bench)
    found |= {"state": climbed.state, "reason": climbed.reason, "metrics": to_json(climbed.metrics)}
    if climbed.judged:
        quantized, scores = (bench.store.path(climbed.made[name]) for name in ("quantized", "scores"))
        found |= {"digest": digest_of_file(quantized / MODEL), "scores": str(scores)}
    Path(file).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    os.environ["KERAS_BACKEND"] = "tensorflow"  # as in edgeq's own workers
    main(*sys.argv[1:])
