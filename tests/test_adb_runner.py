"""The runner of phones: accuracy, times and their source, and when a time is none."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import phones
import pytest
from graphs import dense, noise

from edgeq.artifact import Artifact, Origin
from edgeq.devices import benchmark_model, conditions
from edgeq.devices.android import read
from edgeq.devices.benchmark_model import Benchmark, timed, words
from edgeq.devices.record import Record, percentile
from edgeq.devices.standin import state
from edgeq.devices.standin.phone import Phone
from edgeq.devices.standin.state import State
from edgeq.errors import ConfigError, DeviceError, Refused, ToolError
from edgeq.gates import Gate
from edgeq.interpret import run_litert
from edgeq.program import OUTPUTS, SHIP, costs_in, source_in
from edgeq.quantization import notes_in
from edgeq.runners.adb import Adb
from edgeq.store import Store
from edgeq.tool import Finished, cache
from edgeq.workers import Workers

PIXEL = State(model="Pixel 8")
# The output of `adb shell dumpsys thermalservice` of a Samsung Galaxy A52 5G with Android 12, as far as it
# tells temperatures (https://android.stackexchange.com/questions/246774).
SAMSUNG = """
IsStatusOverride: false
Thermal Status: 0
Cached temperatures:
\tTemperature{mValue=95.0, mType=0, mName=AP, mStatus=0}
HAL Ready: true
Current temperatures from HAL:
\tTemperature{mValue=25.6, mType=0, mName=AP, mStatus=0}
\tTemperature{mValue=23.8, mType=2, mName=BAT, mStatus=0}
\tTemperature{mValue=24.7, mType=3, mName=LRB, mStatus=0}
\tTemperature{mValue=25.7, mType=5, mName=PA, mStatus=0}
Current cooling devices from HAL:
"""
# Lines as benchmark_model prints them: of a run on a GPU (LiteRT 2.x), and of an older tool.
NEW = """INFO: Use gpu: [1]
INFO: Explicitly applied GPU delegate, and the model graph will be completely executed by the delegate.
INFO: Initialized session in 5664.36ms.
INFO: count=2 first=328140 curr=309932 min=309932 max=328140 avg=319036 std=9104 p5=309932 median=328140 p95=328140

INFO: count=50 first=307215 curr=309783 min=305938 max=333030 avg=309350 std=4411 p5=306372 median=307968 p95=315711

INFO: Inference timings in us: Init: 5664363, First inference: 328140, Warmup (avg): 319036, Inference (avg): 309350
"""  # noqa: E501
OLD = """count=12 first=156677 curr=33205 min=32578 max=156677 avg=43268.1 std=34197

count=50 first=33228 curr=33130 min=32687 max=33239 avg=1.3576e+06 std=129

Inference timings in us: Init: 3501, First inference: 156677, Warmup (avg): 43268.1, Inference (avg): 1.3576e+06
"""  # noqa: E501
NOTHING = ("INFO: Though NNAPI delegate is explicitly applied, the model graph will not be executed by the "
           "delegate.\n")
PART = ("INFO: Explicitly applied NNAPI delegate, and the model graph will be partially executed by the "
        "delegate w/ 2 delegate kernels.\n")
GPU, NNAPI = Benchmark("gpu", 5, 50), Benchmark("nnapi", 5, 50, "google-edgetpu")


@pytest.fixture(scope="module", autouse=True)
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with phones.server(tmp_path_factory.mktemp("home")):
        yield


@pytest.fixture(scope="module")
def attached(server: None) -> Iterator[Phone]:
    with phones.attached(PIXEL) as made:
        yield made


@pytest.fixture
def pixel(attached: Phone) -> Iterator[Phone]:
    """A stand-in that passes for a real phone."""
    state.write(attached.root, PIXEL)
    yield attached
    assert phones.left_on(attached) == []


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ships: one dense layer."""
    folder = tmp_path_factory.mktemp("program")
    (folder / SHIP).mkdir()
    (folder / SHIP / "model.tflite").write_bytes(dense(noise("float32", (10, 64)), noise("float32", (10,))))
    return folder


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("samples")
    np.save(folder / "x.npy", np.random.default_rng(0).normal(0, 5, (20, 64)).astype(np.float32))
    return folder


def run(runner: Adb, out: Path, program: Path, samples: Path) -> dict:
    """What the runner leaves in `out`: its costs, and the particulars."""
    runner.run(out, program, samples)
    wanted = run_litert(program / SHIP / "model.tflite", np.load(samples / "x.npy"), "xnnpack")
    np.testing.assert_allclose(np.load(out / OUTPUTS), wanted, rtol=1e-4, atol=1e-4)
    return json.loads((out / "details/device.json").read_text())


def test_where_no_phone_is_attached_the_stand_in_runs_it(
        program: Path, samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(phones.free_port()))
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache().parent))
    monkeypatch.setenv("HOME", str(tmp_path))
    told = run(Adb(stand_in="raspberry-pi-5"), tmp_path, program, samples)
    phones.adb("kill-server")
    assert notes_in(tmp_path) == ("on the stand-in phone: no phone was attached",)
    assert source_in(tmp_path) == "simulated"
    assert told["emulated"]
    assert {value.source for value in costs_in(tmp_path).values()} == {"unavailable"}
    assert "emulated" in costs_in(tmp_path)["latency_ms"].reason


def test_where_none_is_attached_and_no_stand_in_is_wanted(
        program: Path, samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANDROID_SERIAL", "")
    with phones.server(tmp_path), pytest.raises(DeviceError, match="no phone is attached"):
        Adb().run(tmp_path, program, samples)


def test_a_phone_that_is_named_has_no_stand_in(program: Path, samples: Path, tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="no phone 'R58M' is attached"):
        Adb(address="R58M", stand_in="android-a76").run(tmp_path, program, samples)


def test_a_real_phones_figures_are_measured(
        pixel: Phone, program: Path, samples: Path, tmp_path: Path) -> None:
    told = run(Adb(stand_in="android-a76"), tmp_path, program, samples)
    costs = costs_in(tmp_path)
    assert source_in(tmp_path) == "measured"
    assert {name: (each.source, each.aggregation) for name, each in costs.items()} == {
        "latency_ms": ("measured", "median"), "latency_p90_ms": ("measured", "p90"),
        "ram_bytes": ("measured", "max")}
    assert len(told["times_us"]) == costs["latency_ms"].n == 20
    assert costs["latency_ms"].value == pytest.approx(np.median(told["times_us"]) / 1000)
    assert 0 < costs["latency_ms"].value <= costs["latency_p90_ms"].value
    assert told["before"]["temperature_c"] == told["after"]["temperature_c"] == 31.0
    assert "Pixel 8, Android 14" in notes_in(tmp_path)[0]
    assert "31 and 31 °C" in notes_in(tmp_path)[0]


def test_a_run_on_a_throttled_phone_is_invalid(
        pixel: Phone, program: Path, samples: Path, tmp_path: Path) -> None:
    state.change(pixel.root, thermal_status="2")
    run(Adb(), tmp_path, program, samples)
    reason = "it was throttled before the run (thermal status moderate)"
    verdict = Gate("latency_ms", max=1e9).judge(costs_in(tmp_path))
    assert (verdict.passed, verdict.reason, verdict.explanation) == (False, "invalid", reason)
    assert f"invalid: {reason}" in notes_in(tmp_path)[0]
    assert source_in(tmp_path) == "measured"  # what it computed is as right as ever


def test_the_tool_of_tensorflow_lite_where_its_path_is_set(
        pixel: Phone, program: Path, samples: Path, tmp_path: Path) -> None:
    told = run(Adb(benchmark_model=tool(tmp_path, NEW), accelerator="gpu", processes=3, runs=50),
               tmp_path, program, samples)
    costs = costs_in(tmp_path)
    assert (costs["latency_ms"].value, costs["latency_p90_ms"].value) == (307.968, 307.968)
    assert (costs["latency_ms"].n, told["each"]) == (3, "medians of 50 inferences")
    assert [each["runs"] for each in told["benchmark_model"]] == [50] * 3
    said = "times are those of benchmark_model on gpu, outputs those of LiteRT on the CPU"
    assert said in notes_in(tmp_path)


def test_what_an_accelerator_did_not_take_is_no_time_of_it(
        pixel: Phone, program: Path, samples: Path, tmp_path: Path) -> None:
    runner = Adb(benchmark_model=tool(tmp_path, NOTHING + NEW), accelerator="nnapi", processes=1)
    run(runner, tmp_path, program, samples)
    latency = costs_in(tmp_path)["latency_ms"]
    assert (latency.source, latency.reason) == (
        "unavailable", "nnapi took no operator of the model, and the CPU ran it")


def test_a_phone_that_is_full(pixel: Phone, program: Path, samples: Path, tmp_path: Path) -> None:
    state.change(pixel.root, free_bytes=10_000)
    with pytest.raises(DeviceError, match="is full"):
        Adb().run(tmp_path, program, samples)


def test_outputs_that_are_cut_short_on_their_way(
        pixel: Phone, program: Path, samples: Path, tmp_path: Path) -> None:
    state.change(pixel.root, cut_after=100)
    with pytest.raises(DeviceError, match=r"out\.bin was cut short"):
        Adb().run(tmp_path, program, samples)
    assert not (tmp_path / OUTPUTS).exists()


def test_a_build_that_is_stopped_leaves_nothing_on_the_phone(
        pixel: Phone, program: Path, samples: Path, tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as threads, Workers(tmp_path / "store", 1, 600) as workers:
        run = threads.submit(made, workers, Adb(), program, samples)
        phones.until(lambda: bool(phones.left_on(pixel)))
        (pixel.root / "data/local/tmp/stopped").touch()
    assert run.exception() is not None
    (pixel.root / "data/local/tmp/stopped").unlink()


def test_a_build_that_is_stopped_leaves_no_stand_in(
        program: Path, samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with phones.server(tmp_path):
        with ThreadPoolExecutor(1) as threads, Workers(tmp_path / "store", 1, 600) as workers:
            run = threads.submit(made, workers, Adb(stand_in="android-a76"), program, samples)
            phones.until(lambda: "device" in phones.adb("devices").stdout.partition("attached")[2])
        assert run.exception() is not None
        assert phones.adb("devices").stdout.strip() == "List of devices attached"
    assert not list(tmp_path.glob("edgeq-standin-*"))


def test_a_hot_stand_in_has_no_memory_of_a_phone(
        pixel: Phone, program: Path, samples: Path, tmp_path: Path) -> None:
    state.change(pixel.root, model=State.model, celsius="80")
    told = run(Adb(address=pixel.address), tmp_path, program, samples)
    costs = costs_in(tmp_path)
    assert told["emulated"]
    assert (costs["latency_ms"].invalid, costs["ram_bytes"].source) == (True, "unavailable")
    assert notes_in(tmp_path) == ("on a stand-in phone",)


def test_a_tool_that_is_not_there(
        pixel: Phone, program: Path, samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCHMARK_MODEL", str(tmp_path / "nothing"))
    with pytest.raises(ConfigError, match="benchmark_model: there is no file"):
        Adb().run(tmp_path, program, samples)


def test_an_ndk_that_is_none(pixel: Phone, program: Path, samples: Path, tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="no compiler for Android"):
        Adb(ndk=str(tmp_path)).run(tmp_path, program, samples)


def test_a_stand_in_that_nobody_knows(
        program: Path, samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with phones.server(tmp_path), pytest.raises(ConfigError, match="did you mean 'android-a76'"):
        Adb(stand_in="android-a77").run(tmp_path, program, samples)


def test_the_words_for_each_accelerator() -> None:
    said = {each: words(Benchmark(each, 3, 40), "m.tflite") for each in ("cpu", "xnnpack", "nnapi", "gpu")}
    assert said["cpu"] == ["./benchmark_model", "--graph=m.tflite", "--num_threads=1", "--warmup_runs=3",
                           "--warmup_min_secs=0", "--num_runs=40", "--min_secs=0", "--use_xnnpack=false"]
    assert said["xnnpack"][-1] == "--use_xnnpack=true"
    assert said["nnapi"][-2:] == ["--use_nnapi=true", "--disable_nnapi_cpu=true"]
    assert said["gpu"][-1] == "--use_gpu=true"
    assert words(NNAPI, "m.tflite")[-1] == "--nnapi_accelerator_name=google-edgetpu"


def test_what_the_tool_tells_is_read() -> None:
    told = timed(Finished(0, NEW), GPU)
    assert (told.load_us, told.first_us, told.typical_us, told.is_median) == (5664363, 328140, 307968, True)
    assert (told.runs, told.fallback) == (50, "")
    old = timed(Finished(0, OLD), Benchmark("xnnpack", 1, 50))
    assert (old.typical_us, old.is_median, old.first_us) == (1357600.0, False, 156677)


def test_runs_that_all_took_the_same_are_read() -> None:
    same = OLD.replace("first=33228 curr=33130 min=32687 max=33239 avg=1.3576e+06 std=129",
                       "curr=33(all same)")
    assert timed(Finished(0, same), Benchmark("cpu", 1, 50)).runs == 50


@pytest.mark.parametrize(("printed", "benchmark", "fallback"), [
    (NOTHING + NEW, NNAPI, "nnapi took no operator of the model, and the CPU ran it"),
    (PART + NEW, NNAPI, "nnapi took a part of the model (2 pieces), and the CPU ran the rest"),
    (OLD, GPU, "benchmark_model does not say that gpu ran the model"),
    (PART + "INFO: NNAPI accelerators available: [nnapi-reference]\n" + NEW, Benchmark("nnapi", 1, 50),
     "the device has no accelerator for NNAPI, only NNAPI's own code for the CPU"),
    (NEW, GPU, "")])
def test_a_silent_fallback_is_told(printed: str, benchmark: Benchmark, fallback: str) -> None:
    assert timed(Finished(0, printed), benchmark).fallback == fallback


def test_an_accelerator_that_refuses_the_model() -> None:
    printed = ("ERROR: Following operations are not supported by GPU delegate:\n"
               "ERROR: Failed to apply GPU delegate.\n")
    with pytest.raises(Refused, match="gpu cannot run the model on the device"):
        timed(Finished(1, printed), GPU)


def test_the_tool_fails() -> None:
    with pytest.raises(ToolError, match="benchmark_model ended with status 1") as caught:
        timed(Finished(1, "ERROR: Failed to load the model\nBenchmarking failed."), NNAPI)
    assert "Failed to load the model" in caught.value.hint


@pytest.mark.parametrize("printed", ["", "INFO: STARTING!\n", NEW[:200]])
def test_a_tool_that_tells_no_times(printed: str) -> None:
    with pytest.raises(ToolError, match="told no times"):
        timed(Finished(0, printed), GPU)


def test_the_hottest_sensor_that_counts_is_read() -> None:
    facts = read(f"[ro.product.model]: [SM-A526B]\nabi=aarch64\nTHERMAL\n{SAMSUNG}\n"
                 "BATTERY\n  temperature: 238\n")
    assert facts == {"model": "SM-A526B", "abi": "aarch64", "temperature_c": 25.6, "battery_c": 23.8}


def test_an_old_phone_that_tells_no_temperatures_is_read_by_its_zones() -> None:
    facts = read("millidegrees=43000\nkilohertz=300000 1800000\ngovernor=schedutil walt\n"
                 "THERMAL\n\nBATTERY\n")
    assert facts == {"temperature_c": 43.0, "frequency_mhz": 1800.0, "governor": "schedutil walt",
                     "abi": "unknown"}


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_the_zones_and_cores_of_linux_are_read_by_any_shell(shell: str, tmp_path: Path) -> None:
    cores = ("walt 300000 1800000 1800000", "walt 2900000 2900000 2910000", "schedutil 1 2 3")
    for number, told in enumerate(cores):
        place = tmp_path / f"sys/devices/system/cpu/cpu{number}/cpufreq"
        place.mkdir(parents=True)
        names = ("scaling_governor", "scaling_cur_freq", "scaling_max_freq", "cpuinfo_max_freq")
        for name, text in zip(names, told.split(), strict=True):
            (place / name).write_text(f"{text}\n")
    for number, told in enumerate(("43000", "-40000", "garbage", "65000", "170000", "12")):
        (tmp_path / f"sys/class/thermal/thermal_zone{number}").mkdir(parents=True)
        (tmp_path / f"sys/class/thermal/thermal_zone{number}/temp").write_text(f"{told}\n")
    finished = subprocess.run([shell, "-c", conditions.SCRIPT.replace("/sys/", f"{tmp_path}/sys/")],
                              capture_output=True, text=True, check=True)
    facts = conditions.read(finished.stdout)
    assert finished.stderr == ""
    assert (facts["temperature_c"], facts["governor"]) == (65.0, "walt schedutil")
    assert [facts[f"frequency{name}_mhz"] for name in ("", "_allowed", "_max")] == [2900.0, 2900.0, 2910.0]
    assert facts["abi"] == os.uname().machine


def test_what_makes_a_run_unfit() -> None:
    assert conditions.unfit({"temperature_c": 69.9}, {"temperature_c": 69.9}) == ""
    assert "after" in conditions.unfit({"temperature_c": 40.0}, {"temperature_c": 70.0})
    assert "hot" in conditions.unfit({"temperature_c": 45.0}, {}, hottest_c=45.0)
    assert conditions.unfit({}, {}) == ""
    assert conditions.unfit({"temperature_c": 71.0}, {}) \
        == "it was hot before the run (71 °C; 70 °C is the limit)"


def test_percentiles_are_of_the_nearest_rank() -> None:
    assert [percentile(range(1, 11), share) for share in (1, 50, 90, 91, 100)] == [1, 5, 9, 10, 10]
    record = Record({}, {}, [3000.0, 1000.0, 2000.0, 10000.0], 5000, 9000)
    assert {name: value.value for name, value in record.costs().items()} == {
        "latency_ms": 2.5, "latency_p90_ms": 10.0}


def made(workers: Workers, runner: Adb, program: Path, samples: Path) -> Artifact:
    """What `runner` leaves, run in a worker, as a build does it."""
    store = Store(workers.root, workers.make)
    return store.make(runner.run, store.take(Origin(program)), store.take(Origin(samples)))


def tool(place: Path, printed: str, status: int = 0) -> str:
    """A program for the phone that prints what benchmark_model would."""
    made = place / benchmark_model.PROGRAM
    made.write_text(f"#!/bin/busybox sh\ncat <<'END'\n{printed}\nEND\nexit {status}\n")
    made.chmod(0o755)
    return os.fspath(made)
