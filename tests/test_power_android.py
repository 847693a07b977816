"""A phone's own sensors, over real adb, on the stand-in phone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import phones
import pytest

from edgeq.devices.standin import state
from edgeq.devices.standin.phone import Phone
from edgeq.errors import DeviceError
from edgeq.power import arithmetic
from edgeq.power.instruments.android_battery import AndroidBattery
from edgeq.power.instruments.android_rails import AndroidRails
from edgeq.power.trace import Trace

BATTERY, RAILS = "sys/class/power_supply/battery", "sys/bus/iio/devices"


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Phone]:
    with phones.server(tmp_path_factory.mktemp("home")), phones.attached() as made:
        (made.root / BATTERY).mkdir(parents=True)
        for name in ("iio:device0", "iio:device1", "iio:device2"):
            (made.root / RAILS / name).mkdir(parents=True)
        yield made


@pytest.fixture
def unplugged(stand_in: Phone) -> Iterator[Phone]:
    state.change(stand_in.root, powered="false")
    yield stand_in
    state.change(stand_in.root, powered="true")


@contextmanager
def changing(write: Callable[[float], None]) -> Iterator[None]:
    """Let `write` write what the phone's driver has, by the time (s)."""
    begun, ended = time.monotonic(), threading.Event()

    def work() -> None:
        while not ended.wait(0.005):
            write(time.monotonic() - begun)

    write(0.0)
    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def put(file: Path, text: str) -> None:
    draft = file.with_name("draft")
    draft.write_text(text)
    draft.replace(file)


def recorded(instrument: object, seconds: float) -> Trace:
    with instrument.start() as recording:
        time.sleep(seconds)
        return recording.stop()


def test_the_battery_of_a_phone(unplugged: Phone) -> None:
    folder = unplugged.root / BATTERY

    def write(_: float) -> None:
        put(folder / "current_now", "-250000\n")  # discharging, by most makers
        put(folder / "voltage_now", "4000000\n")

    with changing(write):
        trace = recorded(AndroidBattery(unplugged.address, pause_s=0.02), 5.0)
    assert trace.rig == "battery of edgeq stand-in edgeq stand-in"
    assert trace.stand_in
    assert trace.times.size > 1
    middle = (float(trace.times[0]), float(trace.times[-1]))
    assert arithmetic.energy_in(trace, middle) == pytest.approx(middle[1] - middle[0])  # 1 W


def test_a_phone_that_is_charged_tells_nothing(stand_in: Phone) -> None:
    with pytest.raises(DeviceError, match=r"the phone is charged \(USB\)") as error:
        AndroidBattery(stand_in.address).start()
    assert "by the network" in error.value.hint


def test_a_battery_that_tells_no_current_or_is_charged_in_between(unplugged: Phone) -> None:
    folder = unplugged.root / BATTERY
    for file in folder.iterdir():
        file.unlink()
    with pytest.raises(DeviceError, match="tells no current"):
        recorded(AndroidBattery(unplugged.address, pause_s=0.02), 5.0)

    put(folder / "voltage_now", "4000000\n")
    put(folder / "current_now", "-250000\n")
    with AndroidBattery(unplugged.address, pause_s=0.02).start() as recording:
        time.sleep(4)
        put(folder / "current_now", "250000\n")
        time.sleep(4)
        with pytest.raises(DeviceError, match="charged and discharged"):
            recording.stop()


def test_the_rails_of_a_phone(stand_in: Phone) -> None:
    folder = stand_in.root / RAILS

    def write(at: float) -> None:
        stamp, cpu, tpu = int(1e6 + at * 1000), int(at * 2e6), int(at * 1e6)
        put(folder / "iio:device0/energy_value",
            f"t={stamp}\nCH0(T={stamp})[S2M_VDD_CPUCL2], {5000 + cpu}\nCH1(T={stamp})[VSYS_PWR], 77\n")
        put(folder / "iio:device1/energy_value", f"t={stamp}\nCH0(T={stamp})[S10M_VDD_TPU], {900 + tpu}\n")

    with changing(write):
        both = recorded(AndroidRails(stand_in.address, pause_s=0.02), 3.0)
        begun = time.monotonic()
        cpu = recorded(AndroidRails(stand_in.address, ("S2M_VDD_CPUCL2",), 0.02), 3.0)
        with pytest.raises(DeviceError, match="no rails GPU; it has: S2M_VDD_CPUCL2, "):
            AndroidRails(stand_in.address, ("GPU",)).start()
        ended = time.monotonic()
    for trace, watts in ((both, 3.0), (cpu, 2.0)):
        span = (float(trace.times[0]), float(trace.times[-1]))
        assert arithmetic.energy_in(trace, span) == pytest.approx(watts * (span[1] - span[0]), rel=0.1)
    assert begun - 1 < cpu.times[0] < cpu.times[-1] < ended + 1  # the phone's clock is made the host's
    assert both.rig == "rails all of edgeq stand-in edgeq stand-in"


def test_phones_without_rails_and_phones_that_are_gone(stand_in: Phone) -> None:
    for file in (stand_in.root / RAILS).glob("*/energy_value"):
        file.unlink()
    with pytest.raises(DeviceError, match=r"tells no rails: .*No such file") as error:
        AndroidRails(stand_in.address).start()
    assert "adb root" in error.value.hint
    with pytest.raises(DeviceError, match="no phone 'R58M41' is attached"):
        AndroidBattery("R58M41").start()


def test_a_phone_that_vanishes_in_mid_run(tmp_path_factory: pytest.TempPathFactory, unplugged: Phone) -> None:
    folder = unplugged.root / BATTERY
    put(folder / "current_now", "-250000\n")
    put(folder / "voltage_now", "4000000\n")
    with AndroidBattery(unplugged.address, pause_s=0.02).start() as recording:
        time.sleep(0.5)
        phones.adb("disconnect", unplugged.address)
        time.sleep(3)
        with pytest.raises(DeviceError, match="vanished in mid-run"):
            recording.stop()
    phones.adb("connect", unplugged.address)
