"""The device tests themselves, as a user runs them: by target, and where there is no such device."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from conftest import ROOT


def ran(shared_store: Path, *words: str) -> str:
    """What `pytest device_tests` prints, its skips explained."""
    finished = subprocess.run(
        [sys.executable, "-m", "pytest", "device_tests", "-v", "-rs", "-p", "no:cacheprovider", *words],
        cwd=ROOT, env={**os.environ, "EDGEQ_STORE": str(shared_store)}, capture_output=True, text=True,
        timeout=300, check=False)
    assert finished.returncode == 0, finished.stdout
    return finished.stdout


def test_this_machine_passes_them(shared_store, store):
    printed = ran(shared_store, "--target", "host")
    assert "6 passed, 2 skipped" in printed
    assert "host: nothing here tells latency_ms" in printed


@pytest.mark.parametrize(("words", "why"), [
    ((), "no --target is named"),
    (("--target", "rpi4", "--device", "pi@no-such-board.invalid"),
     "rpi4: the board pi@no-such-board.invalid has a name that nobody knows"),
    (("--target", "edgetpu", "--device", "usb"), "edgetpu: not compiled: edgetpu_compiler was not found"),
])
def test_without_a_device_they_are_skipped_and_say_why(shared_store, store, monkeypatch, words, why):
    monkeypatch.delenv("EDGETPU_COMPILER", raising=False)
    printed = ran(shared_store, *words)
    assert "8 skipped" in printed
    assert why in printed


def test_they_are_not_among_the_tests_of_edgeq():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert settings["tool"]["pytest"]["ini_options"]["testpaths"] == ["tests"]
