"""The condition that a device is in: how warm, how fast its cores may run, whether it slows itself down.

The one rule: a time taken on a hot or throttled device is no slow time, it is none: see `unfit`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from edgeq.devices.device import Fact

LINE = re.compile(r"^([a-z_]+)=(.*)$", re.MULTILINE)
FREQUENCIES = {"kilohertz": "frequency_mhz", "kilohertz_allowed": "frequency_allowed_mhz",
               "kilohertz_max": "frequency_max_mhz"}
HOTTEST_C = 70.0
# The largest of the thermal zones that say anything sensible, in millidegrees, and the cores' frequencies in
# kHz (https://docs.kernel.org/driver-api/thermal/sysfs-api.html, /admin-guide/pm/cpufreq.html).
SCRIPT = r"""
take() { v=''; read -r v 2>/dev/null <"$1"; [ -n "$v" ]; }
t=''; for f in /sys/class/thermal/thermal_zone*/temp; do take "$f" || continue
case "$v" in *[!0-9]*) continue;; esac
[ "$v" -lt 1000 ] || [ "$v" -gt 150000 ] && continue
[ -z "$t" ] || [ "$v" -gt "$t" ] && t=$v; done; [ -z "$t" ] || echo "millidegrees=$t"
g=''; h=''; l=''; m=''; for c in /sys/devices/system/cpu/cpu[0-9]*/cpufreq; do
take "$c/scaling_governor" && case " $g " in *" $v "*) ;; *) g="$g $v";; esac
take "$c/scaling_cur_freq" && h="$h $v"; take "$c/scaling_max_freq" && l="$l $v"
take "$c/cpuinfo_max_freq" && m="$m $v"; done
[ -z "$g" ] || echo "governor=$g"; [ -z "$h" ] || echo "kilohertz=$h"
[ -z "$l" ] || echo "kilohertz_allowed=$l"; [ -z "$m" ] || echo "kilohertz_max=$m"
both() { echo "kernel=$1"; echo "abi=$2"; }; both $(uname -rm)
"""


def read(output: str) -> dict[str, Fact]:
    """What SCRIPT printed, as facts: `abi`, `kernel`, `governor`, `temperature_c` (of the hottest zone).

    Besides, of the fastest core, `frequency_mhz`, what it is allowed now, and the most that it can. What it
    did not print is left out.
    """
    said = {name: text.strip() for name, text in LINE.findall(output)}
    facts: dict[str, Fact] = {name: said[name] for name in ("abi", "kernel", "governor") if said.get(name)}
    if said.get("millidegrees", "").isdigit():
        facts["temperature_c"] = int(said["millidegrees"]) / 1000
    for name, fact in FREQUENCIES.items():
        speeds = [int(word) for word in said.get(name, "").split() if word.isdigit()]
        if speeds:
            facts[fact] = max(speeds) / 1000
    return facts


def unfit(before: Mapping[str, Fact], after: Mapping[str, Fact], hottest_c: float = HOTTEST_C) -> str:
    """Why a time taken between `before` and `after` is none; empty where it is one.

    A device is hot from `hottest_c` (degrees C) on, and throttled where its fact `throttling` says anything.
    """
    for facts, when in ((before, "before"), (after, "after")):
        if throttling := facts.get("throttling"):
            return f"it was throttled {when} the run ({throttling})"
        warm = facts.get("temperature_c")
        if isinstance(warm, (int, float)) and warm >= hottest_c:
            return f"it was hot {when} the run ({warm:g} °C; {hottest_c:g} °C is the limit)"
    return ""
