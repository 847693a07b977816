"""The serial link, against the firmware in QEMU: a line that fails, a device that resets, none at all."""

from __future__ import annotations

import functools
import os
import random
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from emulated import INPUT_BYTES, MODEL, SAMPLES, WANTED, firmware, harmful

from edgeq.emulation.boards import BOARDS
from edgeq.emulation.frames import Frame, Unframer, decoded, encoded
from edgeq.emulation.qemu import arguments
from edgeq.emulation.serial_link import Link, Patience
from edgeq.emulation.serial_port import Descriptor, Line, opened
from edgeq.errors import ConfigError, ToolError

QUICK = Patience(repeat_s=0.05, reply_s=15.0, run_s=15.0)
DIGEST = bytes(range(8))


@dataclass
class Faulty:
    """A line that drops, flips and doubles bytes, each with a `chance`, from a seed."""

    line: Line
    chance: float
    seed: int = 0
    done: int = 0
    random: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)

    def read(self, timeout_s: float) -> bytes:
        return self.spoilt(self.line.read(timeout_s))

    def write(self, data: bytes) -> None:
        self.line.write(self.spoilt(data))

    def spoilt(self, data: bytes) -> bytes:
        out = bytearray()
        for byte in data:
            draw = self.random.random() / self.chance
            self.done += draw < 3
            if draw < 1:
                continue
            out.append(byte ^ (1 << self.random.randrange(8)) if draw < 2 else byte)
            if 2 <= draw < 3:
                out.append(byte)
        return bytes(out)


@dataclass
class Interrupted:
    """A line where something happens in the midst of a session."""

    line: Line
    kinds: list[str]  # of the requests that it happens after, one after the other
    event: Callable[[], None]
    seen: Unframer = field(default_factory=Unframer)

    def read(self, timeout_s: float) -> bytes:
        return self.line.read(timeout_s)

    def write(self, data: bytes) -> None:
        self.line.write(data)
        if [frame.kind for frame in self.seen.frames(data)] == self.kinds[:1]:
            del self.kinds[0]
            self.event()


class Device:
    """QEMU with the firmware at `elf`: its UART at `line`, and a monitor to reset it by."""

    def __init__(self, elf: Path, machine: str, folder: Path) -> None:
        self.monitor_path, serial = folder / "monitor", folder / "serial"
        argv = arguments(elf, BOARDS[machine], f"unix:{serial},server=on,wait=off")
        argv += ["-qmp", f"unix:{self.monitor_path},server=on,wait=off"]
        self.process = subprocess.Popen(list(map(str, argv)), cwd=folder)
        self.socket = connected(serial)
        self.line = Descriptor(self.socket.fileno(), "the emulator")

    def reset(self) -> None:
        with connected(self.monitor_path) as monitor:
            monitor.settimeout(5)
            monitor.sendall(b'{"execute": "qmp_capabilities"} {"execute": "system_reset"}')
            seen = b""
            while b'"RESET"' not in seen:
                seen += monitor.recv(4096)

    def close(self) -> None:
        self.socket.close()
        self.process.kill()
        self.process.wait()


def connected(path: Path) -> socket.socket:
    for _ in range(200):
        found = socket.socket(socket.AF_UNIX)
        try:
            found.connect(str(path))
        except OSError:
            found.close()
            time.sleep(0.02)
        else:
            found.setblocking(False)
            return found
    raise AssertionError(f"nothing listens at {path}")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    @functools.cache
    def build(machine: str = "mps2-an386", model: str = MODEL, **defines: str) -> Path:
        board = BOARDS[machine]
        return firmware(tmp_path_factory.mktemp("firmware"), board, board.uart, model, **defines,
                        EQ_UART=f"{board.uart_base:#x}u", EQ_DIGEST=",".join(map(str, DIGEST)))

    return build


@pytest.fixture
def started(built: Callable[..., Path], tmp_path: Path) -> Iterator[Callable[..., Device]]:
    devices: list[Device] = []

    def start(machine: str = "mps2-an386", **how: str) -> Device:
        devices.append(Device(built(machine, **how), machine, tmp_path))
        return devices[-1]

    yield start
    for device in devices:
        device.close()


def outputs(link: Link, count: int) -> np.ndarray:
    made = b"".join(link.infer(sample.tobytes()).output for sample in SAMPLES[:count])
    return np.frombuffer(made, np.int8).reshape(count, -1)


@pytest.mark.parametrize("content", [b"", b"\0", b"\0\0\1\0", bytes(range(240)), b"\xff" * 244, b"\0" * 244])
def test_a_frame_survives_its_coding(content: bytes) -> None:
    frame = Frame("W", 7, 0x1200, content)
    coded = encoded(frame)
    assert coded.count(0) == 2
    assert decoded(coded.strip(b"\0")) == frame


def test_a_frame_may_come_in_any_pieces_and_among_anything() -> None:
    frames = [Frame("G", i, 1, bytes([i] * i)) for i in range(60)]
    data = b"boot: hello\r\n" + b"".join(b"\7\7" * (i % 3) + encoded(frame) for i, frame in enumerate(frames))
    unframer, chance, found = Unframer(), random.Random(1), []
    while data:
        size = chance.randrange(1, 40)
        found += unframer.frames(data[:size])
        data = data[size:]
    assert found == frames


@pytest.mark.parametrize("seed", range(20))
def test_damage_is_never_taken_for_a_frame(seed: int) -> None:
    chance = random.Random(seed)
    frame = Frame("W", 3, 9, chance.randbytes(100))
    coded = bytearray(encoded(frame)[1:-1])
    coded[chance.randrange(len(coded))] ^= 1 << chance.randrange(8)
    assert not [each for each in Unframer().frames(bytes(coded) + b"\0") if each != frame]
    assert decoded(bytes(coded)[:-1]) is None


def test_endless_noise_takes_no_memory() -> None:
    unframer = Unframer()
    for _ in range(1000):
        assert not list(unframer.frames(b"\xa5" * 1000))
    assert (unframer.received, len(unframer._pending)) == (1_000_000, 508)


def test_a_frame_too_long_for_the_device_is_a_bug() -> None:
    with pytest.raises(ValueError, match="too many"):
        encoded(Frame("W", 1, 1, bytes(250)))


@pytest.mark.parametrize("machine", ["mps2-an386", "microbit", "netduinoplus2", "mps2-an505", "mps3-an547"])
def test_samples_go_to_every_kind_of_uart_and_come_back(started: Callable[..., Device], machine: str) -> None:
    link = Link(started(machine).line, QUICK)
    device = link.hello()
    assert (device.digest, device.input_bytes, device.output_bytes) == (DIGEST, INPUT_BYTES, INPUT_BYTES)
    assert np.array_equal(outputs(link, 3), WANTED[:3])
    answer = link.infer(SAMPLES[0].tobytes())
    assert 0 < answer.stack_bytes < 200
    assert answer.cycles == 0  # the emulator counts none


@pytest.mark.parametrize("seed", range(2))
def test_a_line_that_drops_flips_and_doubles_bytes_changes_no_output(
    started: Callable[..., Device], seed: int,
) -> None:
    line = Faulty(started().line, chance=0.0008, seed=seed)
    link = Link(line, QUICK)
    assert np.array_equal(outputs(link, 8), WANTED[:8])
    assert line.done > 5
    assert link.repeats > 3


def test_a_device_that_resets_in_mid_run_is_run_again(started: Callable[..., Device]) -> None:
    device = started()
    link = Link(Interrupted(device.line, ["W", "G", "R"], device.reset), QUICK)
    assert np.array_equal(outputs(link, 2), WANTED[:2])
    assert link.resets == 3


def test_a_device_that_resets_again_and_again_is_given_up(started: Callable[..., Device]) -> None:
    resetting = MODEL.replace("demo_step_1(void) {",
                              "demo_step_1(void) {\n  *(volatile uint32_t *)0xE000ED0C = 0x05FA0004u;")
    with pytest.raises(ToolError, match="reset 4 times while it ran one sample"):
        Link(started(model=resetting).line, QUICK).infer(SAMPLES[0].tobytes())


def test_a_fault_on_the_device_names_the_function(
    started: Callable[..., Device], built: Callable[..., Path],
) -> None:
    link = Link(started().line, QUICK, built("mps2-an386"))
    with pytest.raises(ToolError, match=r"faulted on the device: .*memory that is not there in demo_step_2"):
        link.infer(harmful("FALT"))


def test_a_device_that_never_ends_is_given_up(started: Callable[..., Device]) -> None:
    link = Link(started().line, Patience(repeat_s=0.1, reply_s=2, run_s=0.5))
    with pytest.raises(ToolError, match=r"did not answer to run, sent 4 times in 0\.5 s"):
        link.infer(harmful("HANG"))


def test_a_device_that_is_silent_is_given_up() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(ToolError, match=r"a greeting, sent 2 times in 0\.2 s") as error:
        Link(Descriptor(ours.fileno(), "x"), Patience(repeat_s=0.1, reply_s=0.2)).hello()
    assert "nothing came back" in error.value.hint


def test_a_device_that_babbles_is_given_up_and_what_it_said_is_quoted() -> None:
    ours, theirs = socket.socketpair()
    theirs.sendall(b"hello from zephyr\r\n")
    with ours, theirs, pytest.raises(ToolError) as error:
        Link(Descriptor(ours.fileno(), "x"), Patience(repeat_s=0.1, reply_s=0.3)).hello()
    assert "19 bytes came back" in error.value.hint
    assert b"zephyr\r\n".hex(" ") in error.value.hint


def test_a_line_that_is_closed_is_an_error() -> None:
    ours, theirs = socket.socketpair()
    theirs.close()
    with ours, pytest.raises(ToolError, match="the line to x failed"):
        Link(Descriptor(ours.fileno(), "x"), QUICK).hello()


def test_a_sample_of_another_size_is_a_bug(started: Callable[..., Device]) -> None:
    with pytest.raises(ValueError, match="the sample has 3 bytes"):
        Link(started().line, QUICK).infer(b"abc")


def test_a_port_is_opened_by_its_path(built: Callable[..., Path], tmp_path: Path) -> None:
    argv = arguments(built("mps2-an386"), BOARDS["mps2-an386"], "pty")
    process = subprocess.Popen(list(map(str, argv)), cwd=tmp_path, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        port = re.search(r"/dev/\S+", process.stdout.readline())[0]
        with opened(port, 115200) as line:
            assert np.array_equal(outputs(Link(line, QUICK), 2), WANTED[:2])
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


@pytest.mark.parametrize(("port", "baud", "message"), [
    ("/dev/there-is-none", 115200, "the port /dev/there-is-none cannot be opened: No such file"),
    ("/dev/null", 115200, "port: /dev/null is no serial port"),
    ("/dev/null", 115201, "baud: 115201 is no speed"),
])
def test_what_is_no_port_is_refused(port: str, baud: int, message: str) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises((ConfigError, ToolError), match=message), opened(port, baud):
        pass
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_device_that_goes_while_its_port_is_opened_is_no_mistake_of_the_user(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours, theirs = os.openpty()
    real = os.open

    def opening(path: str, flags: int) -> int:
        number = real(path, flags)
        os.close(ours)
        return number

    monkeypatch.setattr(os, "open", opening)
    with pytest.raises(ToolError, match=r"the line to /dev/pts/\d+ failed: Input/output error"), \
            opened(os.ttyname(theirs), 115200):
        pass
    os.close(theirs)
