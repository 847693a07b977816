"""The options of the device tests, and what they share: the demo, built for one target, run once.

    pytest device_tests --target rpi4                           on the emulator of the target
    pytest device_tests --target rpi4 --device pi@raspberrypi   on a board
    pytest device_tests --target pixel-8 --device R58M41        on a phone

The one rule: where there is no such device, the tests are skipped, and say why.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path

import numpy as np
import pytest
from benches import ROOT, SAMPLES, Bench, Ran, of_host, plain, planned, ran

from edgeq import flow
from edgeq.errors import DeviceError
from edgeq.pipeline import load
from edgeq.plan import Job
from edgeq.program import notice_in
from edgeq.samples import labels_in, samples_in
from edgeq.store import Store, fill


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of this folder."""
    group = parser.getgroup("devices")
    group.addoption("--target", help="the target to test, by its name (see `edgeq targets`)")
    group.addoption("--device", default="", help="the attached device: a serial number, or user@host[:port]")
    group.addoption("--pipeline", default=str(ROOT / "pipeline.yaml"), help="where the model is from")


@pytest.fixture(scope="session")
def job(request: pytest.FixtureRequest) -> Job:
    """The demo for the target, by its cheapest integer recipe."""
    name = request.config.getoption("--target")
    if not name:
        pytest.skip("no --target is named")
    pipeline = load(Path(request.config.getoption("--pipeline")))
    return planned(pipeline, name, request.config.getoption("--device"))


@pytest.fixture(scope="session")
def bench(request: pytest.FixtureRequest, job: Job, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """The demo, built for the target; skipped where there is no such device."""
    root = Path(os.environ.get("EDGEQ_STORE", Path.home() / ".cache/edgeq")).absolute()
    store = Store(root, functools.partial(fill, root))
    prepared = flow.prepare(job, store)
    recipe = job.rungs[0].recipe
    quantized = store.make(recipe.quantize, *(prepared.given[name] for name in recipe.inputs))
    program = store.path(store.make(job.target.backend.compile, quantized))
    attached = bool(request.config.getoption("--device"))
    if attached and (notice := notice_in(program)):
        pytest.skip(f"{job.target.name}: {notice.partition('.')[0]}")
    data = store.path(prepared.given["evaluation"])
    run = functools.partial(ran, program, tmp_path_factory)
    samples = samples_in(data)[:SAMPLES]
    try:
        run(job.target.runner, samples[:1])
    except DeviceError as error:
        pytest.skip(f"{job.target.name}: {error.message} ({error.hint})")
    reference = np.load(store.path(prepared.reference) / "outputs.npy")[:SAMPLES]
    return Bench(job, program, samples, labels_in(data)[:SAMPLES], reference, run, attached)


@pytest.fixture(scope="session")
def whole(bench: Bench) -> Ran:
    """All samples, once."""
    return bench.run(bench.job.target.runner, bench.samples)


@pytest.fixture(scope="session")
def golden(bench: Bench) -> np.ndarray:
    """What this machine makes of the same program by its reference kernels, where it has them."""
    return bench.run(plain(of_host(bench.job)), bench.samples).outputs
