"""Instruments: what power is measured with, one file each, by the names that a target.yaml uses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeq.power.instruments.android_battery import AndroidBattery
from edgeq.power.instruments.android_rails import AndroidRails
from edgeq.power.instruments.bench_csv import BenchCsv
from edgeq.power.instruments.hwmon import Hwmon
from edgeq.power.instruments.joulescope import Joulescope
from edgeq.power.instruments.ppk2 import Ppk2
from edgeq.power.instruments.rapl import Rapl

INSTRUMENTS: Mapping[str, type[Any]] = {  # each a trace.Instrument
    "android-battery": AndroidBattery,
    "android-rails": AndroidRails,
    "csv": BenchCsv,
    "hwmon": Hwmon,
    "joulescope": Joulescope,
    "ppk2": Ppk2,
    "rapl": Rapl,
}
