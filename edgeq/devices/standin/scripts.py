"""The phone's own programs that edgeq asks, as scripts that read the phone's state (state.py).

Their output is that of Android 14 where edgeq reads it.
"""

from __future__ import annotations

from collections.abc import Mapping

GETPROP = """#!/bin/busybox sh
. /system/etc/phone.conf
all() {
echo "[ro.build.version.release]: [$release]
[ro.build.version.sdk]: [$sdk]
[ro.hardware]: [qemu-aarch64]
[ro.product.cpu.abi]: [${abis%%,*}]
[ro.product.cpu.abilist]: [$abis]
[ro.product.manufacturer]: [edgeq]
[ro.product.model]: [$model]"
}
if [ -z "$1" ]; then all; else all | while IFS= read -r line; do case "$line" in
"[$1]: ["*) line="${line#*: ?}"; echo "${line%?}";; esac; done; fi
"""

DUMPSYS = """#!/bin/busybox sh
. /system/etc/phone.conf
case "$1" in
thermalservice) echo "IsStatusOverride: false
Thermal Status: $thermal_status
Cached temperatures:
\tTemperature{mValue=$celsius, mType=0, mName=CPU0, mStatus=$thermal_status}
\tTemperature{mValue=$celsius, mType=3, mName=SKIN, mStatus=$thermal_status}
HAL Ready: true
Current temperatures from HAL:
\tTemperature{mValue=$celsius, mType=0, mName=CPU0, mStatus=$thermal_status}
\tTemperature{mValue=$celsius, mType=2, mName=BATTERY, mStatus=0}
\tTemperature{mValue=$celsius, mType=3, mName=SKIN, mStatus=$thermal_status}
Current cooling devices from HAL:";;
battery) echo "Current Battery Service state:
  AC powered: false
  USB powered: $powered
  status: 2
  health: 2
  present: true
  level: $battery
  scale: 100
  voltage: 4200
  temperature: 300
  technology: Li-ion";;
*) echo "Can't find service: $1" >&2; exit 1;;
esac
"""

SCRIPTS: Mapping[str, str] = {"getprop": GETPROP, "dumpsys": DUMPSYS}
