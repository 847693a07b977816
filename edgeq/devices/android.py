"""What an Android phone says of itself: its properties, its temperatures, its battery.

The one rule: what a phone does not tell is left out, never made up.
"""

from __future__ import annotations

import re

from edgeq.devices import conditions
from edgeq.devices.device import Fact

ARM64, OTHER = "arm64-v8a", ","
PROPERTIES = {"model": "ro.product.model", "maker": "ro.product.manufacturer",
              "system": "ro.build.version.release", "api_level": "ro.build.version.sdk",
              "abis": "ro.product.cpu.abilist", "chip": "ro.soc.model"}
ASKED = f"""getprop
{conditions.SCRIPT}
echo THERMAL; dumpsys thermalservice 2>/dev/null
echo BATTERY; dumpsys battery 2>/dev/null
"""
TOLD = re.compile(r"^\[([\w.]+)\]: \[(.*)\]\r?$", re.MULTILINE)
STATUS = re.compile(r"Thermal Status: (\d+)")
WARM = re.compile(r"Temperature\{mValue=([-\d.]+), mType=(\d+), mName=([^,]*), mStatus=(\d+)\}")
TELLING = (0, 1, 3)  # CPU, GPU and skin, of android.hardware.thermal's TemperatureType
BATTERY = re.compile(r"^\s*temperature: (-?\d+)", re.MULTILINE)
LEVEL = re.compile(r"^\s*level: (\d+)", re.MULTILINE)
# android.os.PowerManager, THERMAL_STATUS_*: from 1 on cores are slowed down.
THROTTLING = ("", "light", "moderate", "severe", "critical", "emergency", "shutdown")


def read(output: str) -> dict[str, Fact]:
    """What ASKED printed, as facts: `abi` is aarch64 where the phone runs programs for arm64-v8a.

    `temperature_c` is that of the hottest sensor of the CPU, the GPU and the skin, `throttling` the thermal
    status in words (absent where there is none), `battery_c` and `battery_percent` the battery's.
    """
    basics, _, services = output.partition("\nTHERMAL")
    thermal, _, battery = services.partition("\nBATTERY")
    said = dict(TOLD.findall(basics))
    facts: dict[str, Fact] = {name: said[key] for name, key in PROPERTIES.items() if said.get(key)}
    facts |= conditions.read(basics)
    facts["abi"] = _abi(str(facts.get("abis", "")), str(facts.get("abi", "unknown")))
    return facts | _thermal(thermal) | _battery(battery)


def _abi(abis: str, machine: str) -> str:
    """The architecture of programs: a 64-bit kernel may run a system of 32 bits."""
    if ARM64 in abis.split(OTHER):
        return "aarch64"
    return abis.split(OTHER, maxsplit=1)[0] or machine


def _thermal(output: str) -> dict[str, Fact]:
    current = output.partition("Current temperatures")[2] or output
    degrees = [float(value) for value, kind, _, _ in WARM.findall(current) if int(kind) in TELLING]
    facts: dict[str, Fact] = {"temperature_c": max(degrees)} if degrees and max(degrees) > 0 else {}
    status = STATUS.search(output)
    if status and int(status[1]) > 0:
        facts["throttling"] = f"thermal status {THROTTLING[min(int(status[1]), len(THROTTLING) - 1)]}"
    return facts


def _battery(output: str) -> dict[str, Fact]:
    """Its temperature comes in tenths of a degree."""
    warm, level = BATTERY.search(output), LEVEL.search(output)
    facts: dict[str, Fact] = {"battery_c": int(warm[1]) / 10} if warm else {}
    return facts | ({"battery_percent": int(level[1])} if level else {})
