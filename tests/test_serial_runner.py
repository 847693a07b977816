"""The runner of attached boards, on a pseudo-terminal with the emulator at its other end."""

from __future__ import annotations

import os
import select
import signal
import sys
import textwrap
import threading
import tty
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from firmware_nets import Net

from edgeq.backends.firmware import Firmware
from edgeq.emulation.boards import BOARDS
from edgeq.errors import ConfigError, ToolError
from edgeq.parity import Parity, read_chain
from edgeq.program import OUTPUTS, costs_in
from edgeq.runners.qemu_cortex_m import QemuCortexM
from edgeq.runners.serial import Serial

MEMORY = {"flash": 0, "flash_bytes": "256KiB", "ram": 0x20000000, "ram_bytes": "64KiB"}
# "Flashes" a device: starts an emulator with the firmware, its UART at the terminal, and leaves it running.
FLASH = textwrap.dedent("""
    import pathlib, subprocess, sys
    from edgeq.emulation.boards import BOARDS
    from edgeq.emulation.qemu import arguments
    elf, terminal, note = sys.argv[1:]
    kept = pathlib.Path(note).with_suffix(".elf")
    kept.write_bytes(pathlib.Path(elf).read_bytes())
    words = [str(word) for word in arguments(kept, BOARDS["mps2-an386"], terminal)]
    device = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL, start_new_session=True)
    pathlib.Path(note).write_text(str(device.pid))
""")


@pytest.fixture
def terminals() -> Iterator[tuple[str, str]]:
    """Two pseudo-terminals, and what is written to one comes out of the other."""
    ends = [os.openpty() for _ in range(2)]
    for _, slave in ends:
        tty.setraw(slave)
    masters = [master for master, _ in ends]
    done = threading.Event()

    def carry() -> None:
        while not done.is_set():
            for ready in select.select(masters, [], [], 0.05)[0]:
                os.write(masters[masters[0] == ready], os.read(ready, 4096))

    thread = threading.Thread(target=carry)
    thread.start()
    yield os.ttyname(ends[0][1]), os.ttyname(ends[1][1])
    done.set()
    thread.join()
    for number in (number for end in ends for number in end):
        os.close(number)


@pytest.fixture
def runner(terminals: tuple[str, str], tmp_path: Path) -> Iterator[Serial]:
    note = tmp_path / "device.pid"
    yield Serial(terminals[0], "cortex-m4", MEMORY, "cmsdk", "25MHz", samples=5,
                 flash=(sys.executable, "-c", FLASH, "{elf}", terminals[1], str(note)),
                 uart_base=BOARDS["mps2-an386"].uart_base)
    if note.exists():
        os.kill(int(note.read_text()), signal.SIGKILL)


def quantized(folder: Path, seed: int) -> Path:
    net = Net([1, 12, 12, 4], seed)
    value = net.conv("in", 8, (3, 3), options={"padding": "SAME", "activation": "relu"})
    net.dense(value, 10)
    folder.mkdir()
    (folder / "model.tflite").write_bytes(net.file())
    return folder


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("serial")
    out = folder / "program"
    out.mkdir()
    backend = Firmware("cortex-m4", "mps2-an386", flash="256KiB", ram="64KiB", model="small-net")
    backend.compile(out, quantized(folder / "quantized", 0))
    return out


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("samples")
    np.save(folder / "x.npy", np.random.default_rng(0).normal(size=(12, 12, 12, 4)).astype(np.float32))
    return folder


def test_a_device_gives_what_the_emulator_gives(
    runner: Serial, program: Path, samples: Path, tmp_path: Path,
) -> None:
    places = {"device": runner, "emulator": QemuCortexM("mps2-an386", "25MHz", samples=3)}
    for name, each in places.items():
        (tmp_path / name).mkdir()
        each.run(tmp_path / name, program, samples)
    device, emulator = (np.load(tmp_path / name / OUTPUTS) for name in places)
    assert np.array_equal(device, emulator)
    cycles = costs_in(tmp_path / "device")["cycles"]
    assert (cycles.source, cycles.reason) == ("unavailable", "this core has no counter of cycles")


def test_the_device_is_the_last_link_of_the_equality_chain(
    runner: Serial, program: Path, tmp_path: Path,
) -> None:
    traced, out = tmp_path / "traced", tmp_path / "out"
    traced.mkdir()
    out.mkdir()
    model = quantized(tmp_path / "quantized", 0)
    Firmware("cortex-m4", "mps2-an386", "256KiB", "64KiB", traced=True).compile(traced, model)
    Parity(3, "mps2-an386", runner).look(out, model, traced, None)
    chain = read_chain(out)
    assert chain.exact
    assert [link.name for link in chain.links][-2:] == [
        "firmware on mps2-an386", f"device at {runner.address}"]
    assert [each.name for each in chain.links[-1].operators] == ["FULLY_CONNECTED"]


def test_a_device_with_another_model_is_told(
    runner: Serial, program: Path, samples: Path, tmp_path: Path,
) -> None:
    runner.run(tmp_path, program, samples)
    other = tmp_path / "other"
    other.mkdir()
    Firmware("cortex-m4", "mps2-an386", flash="256KiB", ram="64KiB").compile(
        other, quantized(tmp_path / "quantized", 1))
    with pytest.raises(ToolError, match="runs the firmware of another model") as error:
        replace(runner, flash=()).run(tmp_path, other, samples)
    assert "flash:" in error.value.hint


@pytest.mark.parametrize(("change", "kind", "message"), [
    ({"core": "cortex-m5"}, ConfigError, "core: nothing is known of 'cortex-m5'"),
    ({"uart": "usb"}, ConfigError, "uart: there is no kind and no file 'usb'"),
    ({"uart_base": 0}, ConfigError, "uart_base: the address of the cmsdk UART is wanted"),
    ({"memory": {"flash": 0}}, ConfigError, "memory: flash, flash_bytes, ram and ram_bytes are wanted"),
    ({"memory": MEMORY | {"ram_bytes": "much"}}, ConfigError, "ram_bytes: "),
    ({"address": "/dev/there-is-none", "flash": ()}, ToolError,
     "the port /dev/there-is-none cannot be opened"),
    ({"flash": ("false", "{elf}")}, ToolError, "false ended with status 1: the device is not flashed"),
])
def test_what_is_wrong_is_said(
    program: Path, samples: Path, tmp_path: Path,
    change: dict[str, object], kind: type[Exception], message: str,
) -> None:
    runner = Serial("/dev/null", "cortex-m4", MEMORY, "cmsdk", "25MHz", uart_base=0x40004000)
    with pytest.raises(kind, match=message):
        replace(runner, **change).run(tmp_path, program, samples)
