"""The meter: energy an inference by an instrument and the target's own runner, up to a whole build."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import sys
import textwrap
import threading
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from edgeq import pipeline
from edgeq.emulation.boards import BOARDS
from edgeq.emulation.frames import Unframer
from edgeq.errors import ConfigError, DeviceError
from edgeq.identity import identity
from edgeq.marks import inferring
from edgeq.measurement import value_of
from edgeq.meters.power import Power
from edgeq.plan import Chosen, plan
from edgeq.power.instruments.hwmon import Hwmon
from edgeq.power.instruments.ppk2 import Ppk2
from edgeq.power.instruments.rapl import Rapl
from edgeq.power.recording import Recording
from edgeq.power.standin import ppk2
from edgeq.power.trace import Trace, cumulated
from edgeq.program import write_costs
from edgeq.target import read_target

IDLE_W, BUSY_W = 0.0033, 0.066


@dataclass
class Device:
    """What a board uses: more while it infers. `log` has the changes of its pin."""

    log: list[tuple[float, bool]] = field(default_factory=list)
    ran: list[int] = field(default_factory=list)

    def switch(self, *, on: bool) -> None:
        self.log.append((time.monotonic(), on))

    def infer(self, seconds: float) -> None:
        for on in (True, False):
            self.switch(on=on)
            time.sleep(seconds if on else seconds / 5)

    def high(self, times: np.ndarray) -> np.ndarray:
        """Whether the pin was high at the `times`."""
        at, on = (np.asarray(each) for each in zip((0.0, False), *self.log, strict=True))
        return on[np.searchsorted(at, times, side="right") - 1].astype(bool)

    def load(self, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What a PPK2 sees."""
        high = self.high(times)
        return np.where(high, 0.020, 0.001), high.astype(int)


    def took(self, count: int) -> float:
        """The median over the recordings, of `count` inferences each, of how long one of them was (s)."""
        on = [off - on for (on, _), (off, _) in zip(self.log[::2], self.log[1::2], strict=True)][2:]
        return float(np.median(np.asarray(on).reshape(-1, count).mean(axis=1)))


@dataclass(frozen=True)
class Board:
    """A runner of a live device."""

    live: ClassVar[bool] = True
    device: Any
    address: str = "/dev/ttyBOARD0"
    uart: str = "stm32"
    core: str = "cortex-m4"
    flash: tuple[str, ...] = ("flash",)
    samples: int = 20
    seconds: float = 0.03
    latency_ms: float | None = None

    def run(self, out: Path, program: Path, samples: Path) -> None:
        count = len(np.load(samples / "x.npy"))
        assert count == self.samples
        self.device.ran.append(count if self.flash else -count)
        for _ in range(count):
            with inferring():
                self.device.infer(self.seconds)
        costs = {"latency_ms": value_of("latency_ms", self.latency_ms, "measured")} if self.latency_ms else {}
        write_costs(out, costs)


@dataclass(frozen=True)
class Ideal:
    """An instrument without fault, that is taken for a real one; `changes` spoil its trace."""

    gpio: ClassVar[bool] = True
    packages: ClassVar = ("numpy",)
    device: Any
    changes: Any = None

    def start(self) -> Recording[Trace]:
        begun = time.monotonic()

        def made(marks: tuple) -> Trace:
            times = np.arange(begun, time.monotonic(), 1e-4)
            high = self.device.high(times)
            energy = cumulated(times, np.where(high, BUSY_W, IDLE_W))
            trace = Trace(times, energy, "Ideal 0001", high, period_s=1e-4, marks=marks)
            return replace(trace, **self.changes(trace) if self.changes else {})

        return Recording("Ideal 0001", lambda ended: (ended.wait(), None)[1], made)


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    folder = tmp_path / "samples"
    folder.mkdir()
    np.save(folder / "x.npy", np.arange(12, dtype=np.float32).reshape(3, 4))
    return folder


@pytest.fixture
def device() -> Device:
    return Device()


def meter(device: Device, **changes: Any) -> Power:
    given = {"instrument": Ideal(device), "trigger": "gpio", "repeats": 2, "inferences": 4, "idle_s": 0.2,
             "runner": Board(device), **changes}
    return Power(**given)


def energy(made: Power, tmp_path: Path, samples: Path) -> Any:
    return made.measure(tmp_path, samples)["energy_uj"]


@pytest.mark.parametrize("trigger", ["gpio", "serial", "host"])
def test_energy_an_inference(device: Device, tmp_path: Path, samples: Path, trigger: str) -> None:
    value = energy(meter(device, trigger=trigger), tmp_path, samples)
    assert value.value == pytest.approx((BUSY_W - IDLE_W) * device.took(4) * 1e6, rel=0.05)
    assert (value.source, value.n, value.aggregation) == ("measured", 2, "median")
    assert value.rig == "Ideal 0001, cortex-m4 /dev/ttyBOARD0"
    assert value.basis.startswith("net of 3.3 mW idle; gross ")
    assert "2 x 4 inferences, told " in value.basis
    assert device.ran == [2, -4, -4]  # flashed once; the first run does not count


def test_six_repeats_have_an_interval(device: Device, tmp_path: Path, samples: Path) -> None:
    quick = Board(device, seconds=0.005)
    value = energy(meter(device, repeats=6, inferences=2, idle_s=0.05, runner=quick), tmp_path, samples)
    assert value.interval[0] <= value.value <= value.interval[1]


def test_without_a_floor_the_figure_is_gross(device: Device, tmp_path: Path, samples: Path) -> None:
    value = energy(meter(device, floor="none"), tmp_path, samples)
    assert value.value == pytest.approx(BUSY_W * device.took(4) * 1e6, rel=0.02)
    assert value.basis.startswith("no idle power subtracted; ")


def test_the_pin_tells_the_time_of_a_device_that_cannot(
    device: Device, tmp_path: Path, samples: Path,
) -> None:
    made = meter(device).measure(tmp_path, samples)["latency_ms"]
    assert made.value == pytest.approx(1000 * device.took(4), rel=0.02)
    assert made.basis == "by its trigger pin"
    counting = Board(device, latency_ms=29.9)
    assert "latency_ms" not in meter(device, runner=counting).measure(tmp_path, samples)


def saturated(trace: Trace) -> dict[str, Any]:
    return {"beyond": trace.trigger}


def dead(trace: Trace) -> dict[str, Any]:
    return {"trigger": np.zeros(trace.times.size, bool)}


def upside_down(trace: Trace) -> dict[str, Any]:
    return {"energy": cumulated(trace.times, np.where(trace.trigger, IDLE_W, BUSY_W))}


def late(trace: Trace) -> dict[str, Any]:
    kept = slice(int(np.flatnonzero(trace.trigger)[0]) - 5, None)
    return {"times": trace.times[kept], "energy": trace.energy[kept], "trigger": trace.trigger[kept]}


@pytest.mark.parametrize(("changes", "reason"), [
    (saturated, "recording 1 of 2: the instrument was out of its range"),
    (dead, "recording 1 of 2: no edge was seen on the trigger"),
    (upside_down, r"recording 1 of 2: it used 3\.\d+ mW in the run and 6\d\.?\d* mW idle"),
    (late, "too few samples in the 0.2 s before the run"),
])
def test_a_recording_with_a_fault_is_no_figure(
    device: Device, tmp_path: Path, samples: Path, changes: Callable, reason: str,
) -> None:
    value = energy(meter(device, instrument=Ideal(device, changes)), tmp_path, samples)
    assert (value.value, value.invalid) == (None, True)
    assert re.search(reason, value.reason)


def test_what_no_device_runs_has_no_energy(device: Device, tmp_path: Path, samples: Path) -> None:
    @dataclass(frozen=True)
    class Emulator:
        pass

    value = energy(meter(device, runner=Emulator()), tmp_path, samples)
    assert (value.source, value.invalid) == ("unavailable", None)
    assert "an emulator has no power of its own" in value.reason
    timed = replace(Board(device))
    object.__setattr__(timed, "benchmark_model", "tool")
    assert "benchmark_model" in energy(meter(device, runner=timed), tmp_path, samples).reason


@pytest.mark.parametrize(("changes", "reason"), [
    ({"instrument": Hwmon()}, "no digital input"),
    ({"repeats": 0}, "repeats: 0, .*at least one repeat"),
    ({"idle_s": 0.0}, "idle_s above 0"),
])
def test_settings_that_do_not_fit(
    device: Device, tmp_path: Path, samples: Path, changes: dict[str, Any], reason: str,
) -> None:
    with pytest.raises(ConfigError, match=reason):
        meter(device, **changes).measure(tmp_path, samples)


def test_a_clock_of_its_own_needs_a_trigger(device: Device, tmp_path: Path, samples: Path) -> None:
    own = Ideal(device, lambda _: {"own_clock": True})
    with pytest.raises(ConfigError, match="only trigger: gpio"):
        meter(device, instrument=own, trigger="host").measure(tmp_path, samples)
    assert energy(meter(device, instrument=own), tmp_path, samples).source == "measured"


def test_what_a_stand_in_measures_is_simulated(device: Device, tmp_path: Path, samples: Path) -> None:
    with ppk2.started(device.load) as port:
        value = energy(meter(device, instrument=Ppk2(3.3, port)), tmp_path, samples)
    assert value.source == "simulated", value.reason
    assert value.rig == "PPK2 edgeq stand-in at 3.3 V (source), cortex-m4 /dev/ttyBOARD0"
    wanted = (BUSY_W - IDLE_W) * device.took(4) * 1e6
    assert value.value == pytest.approx(wanted, rel=0.05)


def test_a_device_at_a_pseudo_terminal_is_none(device: Device, tmp_path: Path, samples: Path) -> None:
    ours, theirs = os.openpty()
    board = Board(device, address=os.ttyname(theirs))
    value = energy(meter(device, runner=board), tmp_path, samples)
    assert value.source == "simulated"
    os.close(ours)
    os.close(theirs)


@pytest.mark.parametrize("command", range(1, 10))
def test_a_meter_that_vanishes_is_an_error_of_the_device(
    device: Device, tmp_path: Path, samples: Path, command: int,
) -> None:
    with ppk2.started(device.load, ppk2.Ailment(gone_at_command=command)) as port, \
            pytest.raises(DeviceError, match=r"vanished|cannot be opened"):
        meter(device, instrument=Ppk2(3.3, port)).measure(tmp_path, samples)


# In a pipeline

def target(project: Path, text: str) -> Path:
    folder = project / "targets/board"
    folder.mkdir(parents=True)
    file = folder / "target.yaml"
    file.write_text(textwrap.dedent(text))
    return file


ON_HOST = """
    description: this machine
    precisions: [float32, int8]
    backend: litert
    runner: host
    meters:
      - {name: power, instrument: {name: rapl, domain: psys}, repeats: 3}
"""


def test_a_target_names_its_instrument(project: Path, edit: Callable) -> None:
    read, document = read_target(target(project, ON_HOST))
    assert not document.problems
    assert read.meters[0].instrument == Rapl("psys")
    edit("pipeline.yaml", "targets: [host,", "targets: [board, host,")
    loaded = pipeline.load(project / "pipeline.yaml")
    (job,) = plan(loaded, Chosen(targets=("board",), measure=True))
    assert job.meters[0].runner is job.target.runner
    assert plan(loaded, Chosen(targets=("board",)))[0].meters == ()  # no gate asks for it
    told = identity(job, {}).meters[0]
    assert told["name"] == "power"
    assert told["instrument"] == {"name": "rapl", "domain": "psys", "root": "/sys/class/powercap"}


@pytest.mark.parametrize(("old", "new", "complaint"), [
    ("name: rapl", "name: rappl", "target.yaml:7: meters: unknown name 'rappl'; did you mean 'rapl'"),
    ("domain:", "domian:", "target.yaml:7: unknown key 'domian'; did you mean 'domain'"),
    ("repeats: 3", "repeats: often", "target.yaml:7: meters.0.repeats: expected `int`"),
    ("repeats: 3", "runner: host", "target.yaml:7: meters: the runner is the target's own"),
    ("instrument: {name: rapl, domain: psys}, ", "", "target.yaml:7: 'instrument' is missing"),
])
def test_mistakes_are_told_with_their_line(project: Path, old: str, new: str, complaint: str) -> None:
    assert old in ON_HOST
    read, document = read_target(target(project, ON_HOST.replace(old, new)))
    assert read is None
    assert complaint in document.problems[0]


@dataclass(frozen=True)
class Here:
    """A runner of this very machine."""

    here: ClassVar[bool] = True
    seconds: float

    def run(self, out: Path, program: Path, samples: Path) -> None:
        time.sleep(self.seconds)
        write_costs(out, {})


def test_this_machine_is_a_device_of_its_own_counters(tmp_path: Path, samples: Path, project: Path) -> None:
    zone = tmp_path / "intel-rapl:0"
    zone.mkdir()
    (zone / "name").write_text("package-0")
    (zone / "max_energy_range_uj").write_text("262143328850")
    (zone / "energy_uj").write_text("1")
    begun, ended = time.monotonic(), threading.Event()

    def count() -> None:
        while not ended.wait(0.001):
            (zone / "draft").write_text(str(int((time.monotonic() - begun) * 5e6)))
            (zone / "draft").replace(zone / "energy_uj")

    thread = threading.Thread(target=count)
    thread.start()
    made = Power(Rapl(root=str(tmp_path)), "host", 1, 10, 0.3, "none", Here(1.0))
    value = energy(made, tmp_path, samples)
    ended.set()
    thread.join()
    assert value.source == "simulated"
    assert value.rig == "RAPL package-0, edgeq stand-in"
    assert value.value == pytest.approx(5 * 1.0 / 10 * 1e6, rel=0.2)
    assert "emulator" in energy(replace(made, runner=type("Q", (), {})()), tmp_path, samples).reason
    sensor = replace(made, instrument=Hwmon())
    assert "not said to measure this machine" in energy(sensor, tmp_path, samples).reason
    (tmp_path / "functional.tflite").touch()
    assert "cannot run on this machine" in energy(made, tmp_path, samples).reason


def test_a_sensor_in_this_machines_supply_measures_it(tmp_path: Path, samples: Path) -> None:
    sensor = tmp_path / "sys/hwmon0"
    sensor.mkdir(parents=True)
    (sensor / "name").write_text("ina3221")
    (sensor / "power1_input").write_text("66000000")
    made = Power(Hwmon(here=True, root=str(tmp_path / "sys")), "host", 1, 100, 0.1, "none", Here(0.1))
    value = energy(made, tmp_path, samples)
    assert value.rig == "ina3221 (hwmon0) channel 1, edgeq stand-in"
    assert value.basis.startswith("no idle power subtracted; gross ")
    assert " uJ at 66,000 mW; 1 x 100 inferences" in value.basis


# "Flashes" a device: starts an emulator with the firmware, its UART at the terminal, and leaves it running.
FLASH = """
    import pathlib, subprocess, sys
    from edgeq.emulation.boards import BOARDS
    from edgeq.emulation.qemu import arguments
    elf, terminal, note = sys.argv[1:]
    note = pathlib.Path(note)
    if note.exists():
        import os, signal
        os.kill(int(note.read_text()), signal.SIGKILL)
    kept = note.with_suffix(".elf")
    kept.write_bytes(pathlib.Path(elf).read_bytes())
    words = [str(word) for word in arguments(kept, BOARDS["mps2-an386"], terminal)]
    device = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL, start_new_session=True)
    note.write_text(str(device.pid))
"""
TRIGGER = """
    #include "eq_test.h"
    static volatile uint32_t *const leds = (volatile uint32_t *)0x40028000u; /* FPGAIO */
    void eq_trigger(uint32_t on) { *leds = on; }
"""


@contextmanager
def wired(device: Device) -> Iterator[tuple[str, str]]:
    """Two terminals, and a pin: high from the request to run until its answer, as a firmware's eq_trigger."""
    ends = [os.openpty() for _ in range(2)]
    for _, slave in ends:
        tty.setraw(slave)
    masters = [master for master, _ in ends]
    unframers, done = [Unframer(), Unframer()], threading.Event()

    def carry() -> None:
        while not done.is_set():
            for ready in select.select(masters, [], [], 0.02)[0]:
                data = os.read(ready, 4096)
                side = masters.index(ready)
                for frame in unframers[side].frames(data):
                    if frame.kind == "R":
                        device.switch(on=side == 0)
                        time.sleep(0.02)
                os.write(masters[1 - side], data)

    thread = threading.Thread(target=carry)
    thread.start()
    try:
        yield os.ttyname(ends[0][1]), os.ttyname(ends[1][1])
    finally:
        done.set()
        thread.join()
        for number in (number for end in ends for number in end):
            os.close(number)


def test_a_build_with_a_board_and_a_power_meter(project: Path, edit: Callable, edgeq: Callable) -> None:
    device = Device()

    (project / "flash.py").write_text(textwrap.dedent(FLASH))
    (project / "trigger.c").write_text(textwrap.dedent(TRIGGER))
    note = project / "device.pid"
    edit("pipeline.yaml", "targets: [host,", "targets: [board, host,")
    with (project / "pipeline.yaml").open("a") as file:
        file.write("  - {metric: energy_uj, max: 1 J, targets: [board]}\n")
    with wired(device) as (ours, theirs), ppk2.started(device.load) as port:
        target(project, f"""
            description: an emulated board at a pseudo-terminal
            samples: 50
            precisions: [int8]
            backend: {{name: firmware, core: cortex-m4, board: mps2-an386, flash: 1MiB, ram: 256KiB}}
            runner:
              name: serial
              address: {ours}
              core: cortex-m4
              memory: {{flash: 0, flash_bytes: 1MiB, ram: 0x20000000, ram_bytes: 256KiB}}
              uart: cmsdk
              uart_base: {BOARDS["mps2-an386"].uart_base:#x}
              clock: 25MHz
              samples: 2
              trigger: {project / "trigger.c"}
              flash: ["{sys.executable}", "{project / "flash.py"}", "{{elf}}", "{theirs}", "{note}"]
            meters:
              - {{name: power, instrument: {{name: ppk2, port: {port}, voltage: 3.3 V}}, trigger: gpio,
                 repeats: 2, inferences: 3, idle_s: 0.5}}
            """)
        try:
            built = edgeq("build", "--target", "board")
        finally:
            if note.exists():
                os.kill(int(note.read_text()), signal.SIGKILL)
    assert built.returncode == 0, built.stdout + built.stderr
    (result,) = json.loads((project / "build/report.json").read_text())["results"]
    figure = result["metrics"]["energy_uj"]
    assert figure["source"] == "simulated"
    assert figure["value"] > 500
    assert figure["rig"] == f"PPK2 edgeq stand-in at 3.3 V (source), cortex-m4 {ours}"
    assert figure["basis"].startswith("net of 3.3")
    assert "2 x 3 inferences, told by its trigger pin" in figure["basis"]
    assert result["identity"]["meters"][0]["instrument"]["name"] == "ppk2"
