"""What only a device, or its emulator, can show: that it computes what was promised, again and again."""

from __future__ import annotations

import numpy as np
import pytest
from benches import Bench, Ran, of_host, plain

from edgeq.errors import EdgeqError
from edgeq.graph import read
from edgeq.program import runnable_in

TIMES, MEMORY = ("latency_ms", "cycles", "instructions"), ("ram_bytes", "arena_bytes", "flash_bytes")
REPEATED = 100


def accuracy(outputs: np.ndarray, labels: np.ndarray) -> float:
    return float((outputs.reshape(len(labels), -1).argmax(1) == labels).mean())


def step(bench: Bench) -> float:
    """An LSB of the output; for a .pte, whose outputs are reals, what kernels may differ by."""
    model = runnable_in(bench.program)
    if model.suffix != ".tflite":
        return 1e-3
    graph = read(model)
    grid = graph.tensors[graph.outputs[0]].quantization
    return float(grid.scales[0]) if grid else 1e-4


def test_accuracy(bench: Bench, whole: Ran) -> None:
    found, wanted = accuracy(whole.outputs, bench.labels), accuracy(bench.reference, bench.labels)
    assert found >= wanted - 0.03, f"{found:.1%} of {len(bench.labels)}; the float baseline has {wanted:.1%}"


@pytest.mark.parametrize("metrics", [TIMES, MEMORY], ids=["latency", "memory"])
def test_time_and_memory_are_told_or_why_they_are_not(
        bench: Bench, whole: Ran, metrics: tuple[str, ...]) -> None:
    told = {metric: whole.costs[metric] for metric in metrics if metric in whole.costs}
    if not told:
        pytest.skip(f"{bench.job.target.name}: nothing here tells {', '.join(metrics)}")
    for metric, value in told.items():
        assert (value.value or 0) > 0 or value.reason, metric
    if bench.attached and metrics is TIMES:
        latency = told["latency_ms"]
        assert latency.source == "measured" or latency.invalid, latency.reason


def test_outputs_are_those_of_this_machine_within_one_step(bench: Bench, whole: Ran) -> None:
    wanted = bench.run(of_host(bench.job), bench.samples).outputs
    apart = np.abs(whole.outputs.reshape(wanted.shape) - wanted).max()
    assert apart <= step(bench) * 1.001, f"{apart:g} apart; a step of the output is {step(bench):g}"


def test_the_reference_kernels_are_equal_to_the_golden_outputs_bit_for_bit(
        bench: Bench, golden: np.ndarray) -> None:
    runner = bench.job.target.runner
    if not hasattr(runner, "kernels") or runnable_in(bench.program).suffix != ".tflite":
        pytest.skip(f"the runner of {bench.job.target.name} has no reference kernels for it")
    few = slice(0, None, 10)
    found = bench.run(plain(runner), bench.samples[few]).outputs
    assert np.array_equal(found, golden[few])


def test_a_hundred_inferences_of_one_sample_give_one_output(bench: Bench, whole: Ran) -> None:
    again = np.repeat(bench.samples[3:4], REPEATED, axis=0)
    outputs = bench.run(bench.job.target.runner, again).outputs
    assert len(outputs) == REPEATED
    assert (outputs == whole.outputs[3]).all()


@pytest.mark.parametrize("cut", [(slice(None), slice(0, -1)), (slice(None), slice(0, 1), slice(0, 1))],
                         ids=["a row less", "a pixel"])
def test_samples_of_another_size_are_refused_and_harm_nothing(
        bench: Bench, whole: Ran, cut: tuple[slice, ...]) -> None:
    with pytest.raises((EdgeqError, ValueError)):
        bench.run(bench.job.target.runner, bench.samples[cut])
    outputs = bench.run(bench.job.target.runner, bench.samples[:2]).outputs
    assert np.array_equal(outputs, whole.outputs[:2])
