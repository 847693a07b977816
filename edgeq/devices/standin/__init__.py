"""The stand-in phone: an adb daemon on loopback in front of a small arm64 system that QEMU runs.

The one rule: it speaks adb's protocol as a phone does, and never passes for one: its model is
"edgeq stand-in", and what is found out on it is `simulated`.
"""
