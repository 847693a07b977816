"""Instruments, each against a stand-in at the lowest layer that runs here.

PPK2: its bytes at a pseudo-terminal, through the real ppk2_api. Joulescope: at the topics of its driver.
Sensors and counters of the kernel: trees of files. Bench instruments: files as they export them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import pyjoulescope_driver
import pytest
from ppk2_api.ppk2_api import PPK2_API

from edgeq.errors import ConfigError, DeviceError, EdgeqError
from edgeq.power import arithmetic, attached, table
from edgeq.power.arithmetic import Asked
from edgeq.power.instruments.bench_csv import BenchCsv
from edgeq.power.instruments.hwmon import Hwmon
from edgeq.power.instruments.joulescope import Joulescope
from edgeq.power.instruments.ppk2 import Ppk2
from edgeq.power.instruments.rapl import Rapl
from edgeq.power.ppk2_samples import amperes
from edgeq.power.standin import joulescope, ppk2
from edgeq.power.standin.ppk2 import Ailment
from edgeq.power.trace import Trace

IDLE_A, BUSY_A, VOLTS = 0.001, 0.020, 3.3
WANTED_UJ = (BUSY_A - IDLE_A) * VOLTS * 0.05 * 1e6  # of a pulse of 50 ms


def pulsed(times: np.ndarray) -> np.ndarray:
    """High for 50 ms, ten times a second, from 0.3 s on, five times."""
    return (times >= 0.3) & (times < 0.8) & ((times - 0.3) % 0.1 < 0.05)


def currents(times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    high = pulsed(times)
    return np.where(high, BUSY_A, IDLE_A), high.astype(int) << 2


def kit(load: ppk2.Load = currents, ailment: Ailment = ppk2.HEALTHY) -> AbstractContextManager[str]:
    """A stand-in whose `load` begins with its first sample."""
    first: list[float] = []

    def since(times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        first.append(float(times[0]))
        return load(times - first[0])

    return ppk2.started(since, ailment)


def recorded(instrument: object, seconds: float = 1.0) -> Trace:
    with instrument.start() as recording:
        time.sleep(seconds)
        return recording.stop()


def figures(trace: Trace, count: int = 5) -> arithmetic.Taken:
    found = arithmetic.pulses(trace)
    assert not arithmetic.unfit(trace, found, Asked(count, count, "gpio"))
    floor = arithmetic.floor_w(trace, arithmetic.idle_before(found[0][0], 0.25))
    return arithmetic.taken(trace, found, floor, count)


def fault(trace: Trace) -> str:
    return arithmetic.unfit(trace, arithmetic.pulses(trace), Asked(5, 5, "gpio"))


# Nordic PPK2

def test_a_ppk2_measures_what_flows() -> None:
    with kit() as port:
        trace = recorded(Ppk2("3300 mV", port, channel=2))
    assert trace.rig == "PPK2 edgeq stand-in at 3.3 V (source)"
    assert trace.stand_in
    found = figures(trace)
    assert found.net_uj == pytest.approx(WANTED_UJ, rel=0.01)
    assert found.floor_mw == pytest.approx(3.3, rel=0.01)
    assert found.window_ms == pytest.approx(50, rel=0.001)


def test_the_times_of_a_ppk2_are_those_of_the_host() -> None:
    with kit() as port:
        before = time.monotonic()
        trace = recorded(Ppk2(3.3, port, channel=2), 0.6)
        ended = time.monotonic()
    assert before < trace.times[0] < trace.times[-1] < ended
    assert 0 <= trace.slack_s < ended - before


def test_amperes_in_bulk_are_those_of_the_library() -> None:
    generator = np.random.default_rng(0)
    current = np.repeat(10 ** generator.uniform(-6, -0.5, 12), 700)
    words = np.frombuffer(ppk2.samples(current, np.zeros(current.size, int), 0), "<u4")
    ours, reference = (object.__new__(PPK2_API) for _ in range(2))
    for each in (ours, reference):
        each.__dict__.update(ser=None, modifiers=modifiers(), current_vdd=3300, adc_mult=1.8 / 163840,
                             rolling_avg=None, rolling_avg4=None, prev_range=None,
                             consecutive_range_samples=0,
                             spike_filter_alpha=0.18, spike_filter_alpha5=0.06, spike_filter_samples=3,
                             after_spike=0, remainder={"sequence": b"", "len": 0})
        each.MEAS_ADC, each.MEAS_RANGE, each.MEAS_LOGIC = (
            each._generate_mask(*place) for place in ((14, 0), (3, 14), (8, 24)))
    wanted = np.asarray(reference.get_samples(words.tobytes())[0]) * 1e-6
    made = amperes(ours, words)
    assert np.max(np.abs(made - wanted) / np.abs(wanted)) < 1e-6
    assert np.median(np.abs(made - current) / current) < 0.02


def modifiers() -> dict[str, object]:
    generator = np.random.default_rng(1)
    rows = {"R": ppk2.OHMS, "GS": generator.normal(0, 1, 5), "GI": 1 + generator.normal(0, 0.01, 5),
            "O": [ppk2.OFFSET] * 5, "S": generator.normal(0, 1e-8, 5), "I": generator.normal(0, 1e-8, 5),
            "UG": [1.0] * 5}
    return {name: {str(index): float(value) for index, value in enumerate(row)} for name, row in rows.items()}


@pytest.mark.parametrize(("load", "ailment", "reason"), [
    (currents, Ailment(lost=10), "samples were lost in the run"),
    (currents, Ailment(rate=40_000), "% slow by the host's"),
    (lambda times: (np.where(pulsed(times), 1.2, 0.001), pulsed(times).astype(int)), ppk2.HEALTHY,
     "out of its range"),
    (lambda times: (currents(times)[0], np.zeros(times.size, int)), ppk2.HEALTHY, "no edge was seen"),
])
def test_what_ails_a_ppk2_is_told(load: ppk2.Load, ailment: Ailment, reason: str) -> None:
    channel = 0 if ailment is ppk2.HEALTHY else 2
    with kit(load, ailment) as port:
        assert reason in fault(recorded(Ppk2(3.3, port, channel=channel)))


@pytest.mark.parametrize(("ailment", "seconds", "reason"), [
    (Ailment(gone_after_s=0.3), 1.2, "vanished in mid-run"),
    (Ailment(silent_after_s=0.2), 2.7, "fell silent in mid-run"),
    (Ailment(garbled=True), 0.5, "out of step"),
])
def test_a_ppk2_that_fails_in_mid_run_is_an_error(ailment: Ailment, seconds: float, reason: str) -> None:
    with kit(currents, ailment) as port, pytest.raises(DeviceError, match=reason) as error:
        recorded(Ppk2(3.3, port, channel=2), seconds)
    assert error.value.hint


LOST = """
import os
from edgeq.power.instruments import ppk2
ours, theirs = os.openpty()
kit = ppk2._opened(os.ttyname(theirs))
os.close(ours)
os.close(theirs)
kit.start_measuring()
"""


def test_the_library_of_a_ppk2_that_is_lost_prints_nothing() -> None:
    ended = subprocess.run([sys.executable, "-c", LOST], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


@pytest.mark.parametrize(("absent", "kind", "reason"), [
    (Ppk2(3.3, "/dev/there-is-none"), DeviceError, "cannot be opened"),
    (Ppk2(3.3), DeviceError, "no PPK2 is attached"),
    (Ppk2("9 V", "/dev/null"), ConfigError, "0.8 to 5 V"),
    (Ppk2(3.3, "/dev/null", channel=8), ConfigError, "channels 0 to 7"),
    (Ppk2("3.3 A", "/dev/null"), ConfigError, "'A' is no unit of V"),
])
def test_a_ppk2_that_is_not_there(absent: Ppk2, kind: type[EdgeqError], reason: str) -> None:
    with pytest.raises(kind, match=reason):
        absent.start()


# Joulescope

def watts(times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    high = pulsed(times)
    return np.where(high, BUSY_A, IDLE_A) * VOLTS, high


def made_by(monkeypatch: pytest.MonkeyPatch, **options: object) -> list[joulescope.Driver]:
    drivers: list[joulescope.Driver] = []

    def driver() -> joulescope.Driver:
        drivers.append(joulescope.Driver(watts, **options))
        return drivers[-1]

    monkeypatch.setattr(pyjoulescope_driver, "Driver", driver)
    return drivers


def test_a_joulescope_measures_what_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    drivers = made_by(monkeypatch)
    trace = recorded(Joulescope(channel=1))
    assert (trace.rig, trace.stand_in) == ("JS220 edgeq stand-in", True)
    assert trace.period_s == 1e-5
    assert figures(trace).net_uj == pytest.approx(WANTED_UJ, rel=0.001)
    said = dict(drivers[0].published)
    assert said[f"{joulescope.PATH}/s/gpi/1/ctrl"] == said[f"{joulescope.PATH}/s/p/ctrl"] == 1
    assert said[f"{joulescope.PATH}/s/i/range/mode"] == "auto"
    assert said[joulescope.PATH] == "closed"


def test_what_ails_a_joulescope_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    made_by(monkeypatch, lost=(range(31_000, 31_100),))
    assert "samples were lost" in fault(recorded(Joulescope()))
    made_by(monkeypatch, gone_after_s=0.2)
    with pytest.raises(DeviceError, match="vanished in mid-run"):
        recorded(Joulescope(), 2.6)
    made_by(monkeypatch, paths=())
    with pytest.raises(DeviceError, match=r"attached \(none\), 0 are meant"):
        Joulescope().start()
    with pytest.raises(ConfigError, match="not 5"):
        Joulescope(channel=5).start()


def test_the_real_driver_of_joulescopes_finds_none_here() -> None:
    with pytest.raises(DeviceError, match="0 are meant"):
        Joulescope(serial="000000").start()


# Files of the kernel

@contextmanager
def changing(files: dict[Path, Callable[[float], int]]) -> Iterator[float]:
    """Files whose numbers change with the time (s), as those of a driver do; when that began."""
    begun, ended = time.monotonic(), threading.Event()

    def write() -> None:
        while True:
            for file, value in files.items():
                draft = file.with_suffix(".draft")
                draft.write_text(f"{value(time.monotonic() - begun)}\n")
                draft.replace(file)
            if ended.wait(0.001):
                return

    thread = threading.Thread(target=write)
    for file in files:
        file.write_text("0\n")
    thread.start()
    try:
        yield begun
    finally:
        ended.set()
        thread.join()


def sensor(root: Path, number: int, name: str) -> Path:
    folder = root / f"hwmon{number}"
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"{name}\n")
    return folder


def busy(begun: float) -> Callable[[float], bool]:
    return lambda at: begun <= at < begun + 0.9


@pytest.mark.parametrize("whole", [True, False])
def test_a_sensor_of_the_kernel(tmp_path: Path, whole: bool) -> None:
    sensor(tmp_path, 0, "coretemp")
    chip = sensor(tmp_path, 3, "ina226")
    (chip / "update_interval").write_text("2\n")
    on = busy(0.8)
    if whole:
        files = {chip / "power1_input": lambda at: 66_000 if on(at) else 3_300}
    else:
        files = {chip / "curr1_input": lambda at: 20 if on(at) else 1, chip / "in1_input": lambda at: 3300}
    with changing(files) as begun:
        trace = recorded(Hwmon("ina226", root=str(tmp_path)), 2.2)
    assert trace.rig == "ina226 (hwmon3) channel 1, edgeq stand-in"
    assert trace.stand_in
    floor = arithmetic.floor_w(trace, (float(trace.times[0]), begun + 0.7))
    assert floor == pytest.approx(0.0033)
    found = arithmetic.taken(trace, [(begun + 0.7, begun + 2.0)], floor, 1)
    assert found.net_uj == pytest.approx(0.0627 * 0.9 * 1e6, rel=0.15)


def test_sensors_that_are_not_there_or_vanish(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="0 sensors of power are meant; there are: none"):
        Hwmon(root=str(tmp_path)).start()
    for number in (0, 1):
        (sensor(tmp_path, number, "ina219") / "power1_input").write_text("5\n")
    with pytest.raises(DeviceError, match="2 sensors of power are meant") as error:
        Hwmon("ina219", root=str(tmp_path)).start()
    assert "chip:" in error.value.hint
    with Hwmon("hwmon1", root=str(tmp_path)).start() as recording:
        time.sleep(0.05)
        shutil.rmtree(tmp_path / "hwmon1")
        time.sleep(0.1)
        with pytest.raises(DeviceError, match="vanished in mid-run"):
            recording.stop()


def counter(root: Path, whole: int = 1_000_000) -> Path:
    folder = root / "intel-rapl:0"
    folder.mkdir()
    (folder / "name").write_text("package-0\n")
    (folder / "max_energy_range_uj").write_text(f"{whole}\n")
    (folder / "energy_uj").write_text("0\n")
    return folder / "energy_uj"


def test_a_counter_of_energy_that_begins_anew(tmp_path: Path) -> None:
    file = counter(tmp_path)
    with changing({file: lambda at: (900_000 + int(at * 5e6)) % 1_000_000}):
        begun = time.monotonic()
        trace = recorded(Rapl(root=str(tmp_path)), 0.6)
    assert (trace.rig, trace.stand_in) == ("RAPL package-0, edgeq stand-in", True)
    assert arithmetic.energy_in(trace, (begun + 0.1, begun + 0.5)) == pytest.approx(5 * 0.4, rel=0.1)


def test_a_counter_of_energy_that_is_not_to_be_had(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="no counter of energy 'package-0'; there are: none"):
        Rapl(root=str(tmp_path)).start()
    counter(tmp_path).write_text("nonsense\n")
    with pytest.raises(DeviceError, match="holds no number"):
        Rapl(root=str(tmp_path)).start()
    with pytest.raises(DeviceError, match="'dram'; there are: package-0"):
        Rapl("dram", root=str(tmp_path)).start()


def test_what_is_attached_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (sensor(tmp_path, 0, "ina226") / "power1_input").write_text("5\n")
    counter(tmp_path)
    monkeypatch.setattr(attached.hwmon, "ROOT", str(tmp_path))
    monkeypatch.setattr(attached.rapl, "ROOT", str(tmp_path))
    made_by(monkeypatch)
    assert attached.attached() == [
        ("edgeq stand-in", "a power meter, joulescope (JS220)"),
        ("ina226", "a sensor of power, hwmon (hwmon0)"),
        ("package-0", "a counter of energy, rapl")]


# Bench instruments

def export(rows: list[str], head: str = "Time (ms),Main current (mA),GPI1") -> str:
    return "\n".join(["Otii export", "", head, *rows]) + "\n"


def pulse_rows(form: Callable[[float, float, int], str], skip: range = range(0)) -> list[str]:
    times = np.arange(0, 1000) / 1000
    high = pulsed(times)
    return [form(at, BUSY_A if on else IDLE_A, int(on)) for index, (at, on)
            in enumerate(zip(times, high, strict=True))
            if index not in skip]


def english(at: float, amps: float, on: int) -> str:
    return f"{at * 1000:.3f},{amps * 1000:.6f},{on}"


def german(at: float, amps: float, on: int) -> str:
    return f"{at:.3f};{amps:.9f};{3.3 * on:.2f}".replace(".", ",")


COLUMNS = {"time": "Time (ms)", "current": "Main current (mA)", "trigger": "GPI1"}
UNITS = {"time": "ms", "current": "mA"}


def bench(place: Path, **changes: object) -> BenchCsv:
    return BenchCsv(**{"file": str(place), "instrument": "Otii Arc 0042", "columns": COLUMNS, "units": UNITS,
                       "voltage": "3.3 V", "wait_s": 2.0, **changes})


def read_back(instrument: BenchCsv, content: bytes) -> Trace:
    with instrument.start() as recording:
        Path(instrument.file).write_bytes(content)
        return recording.stop()


def test_the_file_of_a_bench_instrument(tmp_path: Path) -> None:
    trace = read_back(bench(tmp_path / "otii.csv"), export(pulse_rows(english)).encode())
    assert (trace.rig, trace.stand_in, trace.own_clock) == ("Otii Arc 0042 at 3.3 V", False, True)
    assert figures(trace).net_uj == pytest.approx(WANTED_UJ, rel=0.01)


@pytest.mark.parametrize("coding", ["utf-8-sig", "utf-16"])
def test_marks_commas_and_columns_by_number(tmp_path: Path, coding: str) -> None:
    instrument = bench(tmp_path / "rigol.csv", columns={"time": 1, "current": 2, "trigger": 3}, units={},
                       delimiter=";", decimal=",", level=1.65)
    trace = read_back(instrument, "\n".join(["s;A;V", *pulse_rows(german)]).encode(coding))
    assert figures(trace).net_uj == pytest.approx(WANTED_UJ, rel=0.01)


def test_a_stand_in_of_a_bench_instrument_says_so(tmp_path: Path) -> None:
    content = f"# edgeq stand-in\n{export(pulse_rows(english))}"
    assert read_back(bench(tmp_path / "otii.csv"), content.encode()).stand_in


def test_gaps_in_a_file_are_lost_samples(tmp_path: Path) -> None:
    content = export(pulse_rows(english, range(310, 320))).encode()
    assert "samples were lost" in fault(read_back(bench(tmp_path / "otii.csv"), content))


def test_a_file_in_another_unit_of_time_is_seen(tmp_path: Path) -> None:
    with bench(tmp_path / "otii.csv", units={"current": "mA"}).start() as recording:
        for end in ("begun", "ended"):
            recording.mark(end)
            time.sleep(0.1)
        (tmp_path / "otii.csv").write_text(export(pulse_rows(english)))
        trace = recording.stop()
    assert "its times are in another unit" in fault(trace)


@pytest.mark.parametrize(("content", "reason"), [
    (export(["0,1,0", "1,1"]), r"otii.csv:5: the row is cut short"),
    (export(["0,1,0", "1,n/a,0"]), r"otii.csv:5: 'n/a' is no number"),
    (export([], "Zeit,Strom"), "has no header with Time"),
    ("", "is not there|has no header|was not written"),
])
def test_files_that_are_no_recording(tmp_path: Path, content: str, reason: str) -> None:
    with pytest.raises(DeviceError, match=reason):
        read_back(bench(tmp_path / "otii.csv"), content.encode())


def test_a_file_of_an_earlier_run_is_none_of_this_one(tmp_path: Path) -> None:
    place = tmp_path / "otii.csv"
    place.write_text(export(pulse_rows(english)))
    os.utime(place, (1e9, 1e9))
    with pytest.raises(DeviceError, match="was not written during the run"), \
            bench(place, wait_s=0.5).start() as recording:
        recording.stop()


@pytest.mark.parametrize(("changes", "reason"), [
    ({"columns": {"current": "I"}}, "that of the time is wanted"),
    ({"columns": {"time": "t", "curent": "I"}}, "unknown 'curent'; did you mean 'current'"),
    ({"voltage": 0.0}, "power, or current and voltage, are wanted"),
    ({"units": {"time": "minutes"}}, "'minutes' is no unit of s"),
    ({"delimiter": ",", "decimal": ","}, "do not go together"),
])
def test_columns_that_cannot_do(tmp_path: Path, changes: dict[str, object], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        bench(tmp_path / "otii.csv", **changes).start()


def test_a_command_records(tmp_path: Path) -> None:
    program = tmp_path / "record.sh"
    source = tmp_path / "source.csv"
    source.write_text(export(pulse_rows(english)))
    program.write_text(f'#!/bin/sh\ncat >/dev/null\ncp {source} "$1"\n')
    program.chmod(0o755)
    instrument = bench(tmp_path / "otii.csv", command=(str(program), "{file}"))
    assert figures(recorded(instrument, 0.1)).net_uj == pytest.approx(WANTED_UJ, rel=0.01)
    program.write_text("#!/bin/sh\necho no instrument; exit 3\n")
    with pytest.raises(DeviceError, match="ended in mid-run, with status 3") as error:
        recorded(instrument, 0.5)
    assert "no instrument" in error.value.hint


def test_numbers_that_are_none_are_seen_later(tmp_path: Path) -> None:
    layout = table.layout({"time": 1, "power": 2}, {}, ",", ".")
    (tmp_path / "t.csv").write_text("0,1\n1,nan\n2,1\n")
    assert np.isnan(table.read(tmp_path / "t.csv", layout).columns["power"][1])
