"""Two jobs of about 20 s each, with one worker and with two."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.measuring import EDGEQ, ROOT, Figure, cost, scratch

JOB = """
def evaluation():
    import numpy, time
    ended = time.process_time() + {seconds}
    while time.process_time() < ended:
        sum(range(100_000))
    return {{"x": numpy.zeros((10, 28, 28, 1), numpy.uint8), "y": numpy.arange(10)}}
"""
MODEL = """
  {name}:
    source: {source}
    calibration: {{data: {calibration}, samples: {samples}}}
    evaluation: {{data: "{name}:evaluation", metric: top1}}
"""
SECONDS = 20


def figures() -> Iterator[Figure]:
    """Wall time with one worker over that with two; of what the jobs do they share the conversion."""
    walls = []
    with scratch() as folder:
        models = "".join(MODEL.format(
            name=name, source=ROOT / "models/fashion/model.keras",
            calibration=ROOT / "models/fashion/calibration.npz", samples=samples)
            for name, samples in (("first", 300), ("second", 301)))
        (folder / "pipeline.yaml").write_text(
            f"version: 1\nmodels:{models}targets: [host]\nladder: [static-int8]\n"
            "gates: [{metric: accuracy, min: 0}]\n", encoding="utf-8")
        for name in ("first", "second"):
            (folder / f"{name}.py").write_text(f"# {name}\n" + JOB.format(seconds=SECONDS),
                                               encoding="utf-8")
        for count in (1, 2):
            store = folder / f"store-{count}"
            walls.append(cost((*EDGEQ, "build", folder / "pipeline.yaml", "--store", store, "--jobs",
                               str(count), "--output-dir", folder / "build")).wall_s)
    yield Figure("wall time with one worker / with two", walls[0] / walls[1],
                 f"{walls[0]:.1f} s / {walls[1]:.1f} s", at_least=1.6)
