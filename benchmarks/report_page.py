"""The page of a large build, 100 jobs of 6 rungs each: made, weighed, and opened in a browser."""

from __future__ import annotations

import hashlib
import json
import math
import random
import shutil
import statistics
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.measuring import Figure, scratch
from edgeq.html.page import rendered

MODELS, TARGETS, RUNGS, LAYERS, RUNS = 10, 10, 6, 30, 20
OPENINGS = 5
SCORES = ("accuracy", "baseline_accuracy", "accuracy_drop", "agreement")
COSTS = {"model_bytes": 7e4, "flash_bytes": 9e4, "ram_bytes": 1.2e4, "arena_bytes": 9e3, "macs": 9e5,
         "instructions": 1e6, "latency_ms": 12.0, "energy_uj": 650.0}
UNITS = {"latency_ms": "ms", "energy_uj": "uj", "macs": "count", "instructions": "count"}
READY = "return performance.getEntriesByType('navigation')[0].loadEventEnd"
USABLE = """
const begun = performance.now(), header = document.querySelectorAll("#jobs th button")[5];
header.click();
document.body.offsetHeight;
return performance.now() - begun;
"""


def figures() -> Iterator[Figure]:
    """Seconds to make the page, its megabytes, and seconds until its first table has been sorted."""
    with scratch() as folder:
        content, trends = large(folder)
        rendered(content, {}, folder, trends)  # the plotting library is bundled once a machine
        begun = time.perf_counter()
        page = rendered(content, RUN, folder, trends)
        took = time.perf_counter() - begun
        (folder / "report.html").write_text(page, encoding="utf-8")
        opened = _opened(folder / "report.html")
    made_of = f"{MODELS * TARGETS} jobs x {RUNGS} rungs, {LAYERS} layers, {RUNS} runs"
    yield Figure("s to make report.html", took, made_of, at_most=3)
    yield Figure("MB of report.html", len(page.encode()) / 1e6, made_of, at_most=6)
    yield Figure("s to open it and to sort its first table", opened,
                 f"Chromium, the median of {OPENINGS}", at_most=1)


RUN = {"schema": "edgeq-run/1", "id": "20261122T022031Z-00c0ffee", "started": "2026-11-22T02:20:31Z",
       "seconds": 812.4, "project": "github.com/example/wearable", "commit": "0123456789" * 4,
       "branch": "main", "dirty": False}


def large(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A made-up report of `MODELS` x `TARGETS` jobs with its details in `folder`, and the trends of each."""
    chance = random.Random(1)
    jobs = [(f"net-{model}", f"board-{target}") for model in range(MODELS) for target in range(TARGETS)]
    results = [_result(folder, model, target, chance) for model, target in jobs]
    content = {"schema": "edgeq-report/1", "edgeq": "0.1.0", "passed": all(r["passed"] for r in results),
               "host": {"machine": "x86_64"}, "tools": {"numpy": "2.4.6"}, "results": results}
    return content, [series for result in results for series in _trends(result, chance)]


def _result(folder: Path, model: str, target: str, chance: random.Random) -> dict[str, Any]:
    passes = chance.random() < 0.85
    rungs = [_rung(place, passes=passes and place == RUNGS - 1, chance=chance) for place in range(RUNGS)]
    best = rungs[-1]
    return {"model": model, "target": target, "passed": passes, "evaluation": "evaluation.npz", "error": None,
            "artifacts": _files(folder, f"{target}/{model}", chance), "rungs": rungs, "audit": AUDIT,
            "identity": {"data": {"source": "ab" * 32}, "runner": {"name": "qemu-cortex-m"}},
            **{key: best[key] for key in ("recipe", "options", "metrics", "verdicts")}}


AUDIT = {"calibration": 200, "distinct": 200, "constant": 0, "evaluation": 2000, "overlap": 0,
         "missing_classes": [], "looked_at": 200, "activations": 15,
         "saturated": [{"tensor": f"net/layer_{index}", "outside": 0.001, "samples": 0.01}
                       for index in range(12)]}


def _rung(place: int, *, passes: bool, chance: random.Random) -> dict[str, Any]:
    drop = round(chance.uniform(-0.004, 0.009) if passes else chance.uniform(0.011, 0.2), 4)
    shares = {"accuracy": 0.91 - drop, "baseline_accuracy": 0.91, "accuracy_drop": drop, "agreement": 0.98}
    metrics = {name: {"value": shares[name], "unit": "ratio", "source": "simulated", "n": 2000,
                      "interval": [shares[name] - 0.012, shares[name] + 0.012]} for name in SCORES}
    for name, cost in COSTS.items():
        source = "estimated" if name in ("latency_ms", "energy_uj") else "measured"
        metrics[name] = {"value": round(cost * chance.uniform(0.5, 4), 3), "source": source,
                         "unit": UNITS.get(name, "bytes")}
    failed = None if passes else "failed"
    verdict = {"metric": "accuracy_drop", "max": 0.01, "value": drop, "source": "simulated",
               "passed": passes, "reason": failed, "explanation": None if passes else "wanted <= 0.01"}
    size = {"metric": "model_bytes", "max": 524288.0, "value": metrics["model_bytes"]["value"],
            "source": "measured", "passed": True, "reason": None, "explanation": None}
    return {"recipe": f"recipe-{place}", "options": {"granularity": "per_tensor"} if place == 0 else {},
            "state": "passed" if passes else "failed", "reason": None, "notes": ["a note on the rung"],
            "metrics": metrics, "verdicts": [verdict, size], "digests": {"program": "cd" * 32}}


COST = {"metric": "instructions", "source": "simulated"}


def _files(folder: Path, prefix: str, chance: random.Random) -> list[dict[str, Any]]:
    names = [f"{prefix}/firmware/part_{index}.c" for index in range(12)]
    given = [{"path": name, "bytes": 4096, "sha256": "ef" * 32} for name in names]
    details = {"layers.json": _layers(chance), "arena.json": _arena(chance)}
    for name, detail in details.items():
        path = folder / prefix / "details" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        content = json.dumps(detail).encode()
        path.write_bytes(content)
        given.append({"path": f"{prefix}/details/{name}", "bytes": len(content),
                      "sha256": hashlib.sha256(content).hexdigest()})
    return given


def _layers(chance: random.Random) -> Mapping[str, Any]:
    return {"schema": "edgeq-layers/1", "samples": 200, "cost": COST,
            "layers": [_layer(index, chance) for index in range(LAYERS)]}


def _layer(index: int, chance: random.Random) -> Mapping[str, Any]:
    left = index % 7 == 6
    return {"index": index, "operator": ("CONV_2D", "DEPTHWISE_CONV_2D")[index % 2],
            "name": f"net/block_{index // 2}/conv/Relu6", "shape": [1, 14, 14, 32],
            "sqnr_db": round(chance.uniform(12, 45), 2), "macs": 100352, "weight_bytes": 1024,
            "alone_quantized_db": round(chance.uniform(20, 70), 2), "kernel": "dsp",
            "cost": round(1e5 * math.exp(-index / 9) * chance.random()), "placed": "cpu" if left else "npu",
            "reason": "the kernel is larger than 64" if left else None}


def _arena(chance: random.Random) -> Mapping[str, Any]:
    buffers, offset = [], 0
    for index in range(LAYERS):
        size = chance.randrange(500, 4000)
        buffers.append({"name": f"output of {index} CONV_2D", "offset": offset, "bytes": size,
                        "first": index, "last": index + 1})
        offset = 0 if index % 2 else size
    largest = max(each["offset"] + each["bytes"] for each in buffers)
    return {"schema": "edgeq-arena/1", "arena_bytes": largest, "steps": LAYERS, "buffers": buffers}


def _trends(result: Mapping[str, Any], chance: random.Random) -> Iterator[dict[str, Any]]:
    for metric in ("accuracy", "model_bytes", "instructions", "latency_ms"):
        value = result["metrics"][metric]
        yield {"model": result["model"], "target": result["target"], "metric": metric, "points": [
            {"run": f"run-{index}", "started": f"2026-10-{index + 1:02}T02:20:31Z", "commit": "01234567" * 5,
             "branch": "main", "value": value["value"] * chance.uniform(0.98, 1.02), "unit": value["unit"],
             "source": value["source"], "interval": None, "passed": index != 7} for index in range(RUNS)]}


def _opened(page: Path) -> float:
    """Seconds from the call to the load event and a sorted table, the median of several openings."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    for word in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1280,900"):
        options.add_argument(word)
    driver = shutil.which("chromedriver")
    browser = webdriver.Chrome(options, webdriver.ChromeService(driver))
    found = []
    try:
        for _ in range(OPENINGS):
            browser.get(page.as_uri())
            found.append((browser.execute_script(READY) + browser.execute_script(USABLE)) / 1000)
    finally:
        browser.quit()
    return statistics.median(found)
