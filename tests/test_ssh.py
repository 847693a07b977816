"""A board over ssh: the system's own client and an sshd on loopback, and all that can go wrong between."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import demo
import numpy as np
import pytest
from conftest import ROOT
from sshd import Served, key, served

from edgeq.devices import ssh
from edgeq.devices.ssh import Login, happened, opened, slowed
from edgeq.devices.ssh_faults import fault
from edgeq.emulation.linux_boards import BOARDS
from edgeq.errors import ConfigError, DeviceError, ToolError
from edgeq.interpret import run_litert
from edgeq.linux.compiling import system_library
from edgeq.program import costs_in, runnable_in, source_in
from edgeq.quantization import notes_in
from edgeq.runners.ssh import Ssh
from edgeq.samples import samples_in
from edgeq.target import find, on_device


@pytest.fixture(scope="module")
def board(tmp_path_factory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("b") / "s") as made:
        yield made


def login(board: Served, **fields) -> Login:
    return Login(**{"address": board.address, "identity": str(board.identity), "folder": str(board.folder),
                    "known_hosts": str(board.known_hosts), **fields})


def refused(match: str, kind: type[Exception] = DeviceError):
    return pytest.raises(kind, match=f"(?s){match}")


def reach(given: Login) -> None:
    with opened(given):
        pass


def left_in(board: Served) -> list[Path]:
    return list(board.folder.iterdir())


def gone(board: Served) -> bool:
    """Whether the work folder goes, within a few seconds."""
    for _ in range(100):
        if not left_in(board):
            return True
        time.sleep(0.05)
    return False


def test_files_go_there_and_come_back_and_nothing_is_left(board, tmp_path):
    content = bytes(range(256)) * 4096
    (tmp_path / "data").write_bytes(content)
    with opened(login(board)) as device:
        device.push({"a b": tmp_path / "data", "sh": Path("/bin/sh")})
        ended = device.run(["./sh", "-c", "wc -c <'a b'; exit 3"], 30)
        assert (ended.status, ended.output) == (3, f"{len(content)}\n")
        device.run(["sh", "-c", "tr '\\000' 'x' <'a b' >back"], 30)
        device.pull("back", tmp_path / "back")
        [folder] = left_in(board)
        assert folder.stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "back").read_bytes() == content.replace(b"\0", b"x")
    assert left_in(board) == []


def test_words_arrive_as_they_are(board):
    words = ["it's", "$HOME", "a b", "*", "\\", "ü", ""]
    with opened(login(board)) as device:
        ended = device.run(["printf", "<%s>", *words], 30)
    assert ended.output == "".join(f"<{word}>" for word in words)


def test_a_status_of_255_is_the_programs_own(board):
    with opened(login(board)) as device:
        assert device.run(["sh", "-c", "echo said >&2; exit 255"], 30) == ssh.tool.Finished(255, "said\n")
        assert device.run(["no-such-program"], 30).status == 127


def test_facts_are_those_of_the_board(board):
    with opened(login(board)) as device:
        facts = device.facts()
    assert facts["abi"] == os.uname().machine
    assert facts["kernel"] == os.uname().release
    assert facts["system"]


def test_a_board_without_sftp_gets_its_files_by_scps_own_protocol(tmp_path):
    with served(tmp_path / "s", "# no sftp") as board, opened(login(board)) as device:
        device.push({"hosts": Path("/etc/hosts")})
        device.pull("hosts", tmp_path / "hosts")
    assert (tmp_path / "hosts").read_bytes() == Path("/etc/hosts").read_bytes()


def test_a_board_that_takes_one_session_a_connection_is_asked_anew_for_each(tmp_path):
    with served(tmp_path / "s", "MaxSessions 1") as board:
        with opened(login(board)) as device:
            device.push({"hosts": Path("/etc/hosts")})
            assert device.run(["cat", "hosts"], 30).output == Path("/etc/hosts").read_text()
        assert left_in(board) == []


@pytest.mark.parametrize(("address", "message", "hint"), [
    ("nobody@no-such-host.invalid", "has a name that nobody knows", "correct its address"),
    ("nobody@localhost:1", "is there, and has no ssh server at that port", "switch its ssh server on"),
])
def test_a_board_that_is_not_there(board, address, message, hint):
    with refused(f"the board {address} {message}") as raised:
        reach(login(board, address=address))
    assert hint in raised.value.hint


def test_a_user_who_is_not_let_in(board, tmp_path):
    with refused("does not let this user in: .*Permission denied") as raised:
        reach(login(board, identity=str(key(tmp_path / "other"))))
    assert "ssh-copy-id" in raised.value.hint


def test_an_unknown_host_key_is_never_taken(board, tmp_path):
    (tmp_path / "known").touch()
    with refused("has a host key that is not known here") as raised:
        reach(login(board, known_hosts=str(tmp_path / "known")))
    assert "known_hosts:" in raised.value.hint
    assert (tmp_path / "known").read_text() == ""


def test_a_changed_host_key_is_told(board, tmp_path):
    other = key(tmp_path / "other").with_suffix(".pub").read_text()
    (tmp_path / "known").write_text(f"[localhost]:{board.port} {other}")
    with refused("has another host key than it had") as raised:
        reach(login(board, known_hosts=str(tmp_path / "known")))
    assert f"ssh-keygen -R '[localhost]:{board.port}'" in raised.value.hint


@pytest.mark.parametrize(("fields", "found"), [
    ({"address": "-oProxyCommand=touch /tmp/x"}, "is no address of a board"),
    ({"address": "a@b@c"}, "is no address of a board"),
    ({"address": "pi@host:99999"}, "is no address of a board"),
    ({"address": "pi@host;reboot"}, "is no address of a board"),
    ({"identity": "/gone/id"}, "identity: there is no file /gone/id"),
    ({"known_hosts": "/gone/known"}, "known_hosts: there is no file /gone/known"),
])
def test_mistakes_of_the_call_are_told_before_anything_is_tried(board, fields, found):
    with refused(found, ConfigError):
        reach(login(board, **fields))


@pytest.mark.parametrize("address", [
    "pi", "pi@raspberrypi.local", "root@10.0.0.1:2222", "u@[fe80::1%eth0]:22"])
def test_addresses_are_read(address):
    assert Login(address).parts[1]


def test_no_ssh_client(board, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with refused("ssh is not installed", ToolError) as raised:
        reach(login(board))
    assert "openssh-client" in raised.value.hint
    with refused("ssh is not installed", ToolError):
        Ssh().tools()


def test_a_folder_that_cannot_be_made(board):
    with refused("no folder could be made in /proc/none on the board") as raised:
        reach(login(board, folder="/proc/none"))
    assert "`folder:`" in raised.value.hint


def test_too_little_space_is_told_before_anything_is_sent(board, tmp_path):
    (tmp_path / "large").touch()
    os.truncate(tmp_path / "large", 1 << 43)
    with opened(login(board)) as device, refused("has too little space .* bytes are free, 8796093022208"):
        device.push({"large": tmp_path / "large"})
    assert left_in(board) == []


def test_a_board_that_is_full_in_mid_run(board):
    with opened(login(board)) as device:
        ended = device.run(["sh", "-c", "cat /etc/hosts >/dev/full"], 30)
    assert ended.status
    assert "No space left on device" in ended.output


def test_a_connection_that_is_lost_in_mid_run(tmp_path):
    with served(tmp_path / "s") as board:
        with opened(login(board)) as device:
            board.cut()
            with refused(f"the connection to the board {board.address} was lost in mid-run"):
                device.run(["true"], 30)
        assert gone(board)


def test_what_hangs_there_is_stopped_and_gone(board, tmp_path):
    with opened(login(board)) as device, refused("sleep on the board .* had not ended after 1 s"):
        device.run(["sleep", "4242"], 1)
    assert gone(board)
    running = subprocess.run(["pgrep", "-f", "^sleep 4242"], capture_output=True, text=True, check=False)
    assert running.stdout == ""


def test_nothing_is_left_where_the_build_is_killed(board):
    code = ("import sys, time; from edgeq.devices.ssh import Login, opened\n"
            f"with opened({login(board)!r}) as device:\n"
            "    print('in', flush=True); device.run(['sleep', '4343'], 99)")
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=ROOT)
    try:
        assert process.stdout.readline() == b"in\n"
        assert left_in(board)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert gone(board)


def test_a_file_that_is_not_there_is_not_given_back(board, tmp_path):
    with opened(login(board)) as device, refused("did not give back gone"):
        device.pull("gone", tmp_path / "gone")


def test_an_output_that_is_cut_short_on_the_way_is_an_error(board, tmp_path, monkeypatch):
    """What scp left here is shortened before it is looked at."""
    copied = ssh.Board._copied

    def cut(self, words, what):
        copied(self, words, what)
        os.truncate(words[-1], 5)

    with opened(login(board)) as device:
        device.push({"out": Path("/etc/hosts")})
        monkeypatch.setattr(ssh.Board, "_copied", cut)
        with refused("out was cut short on its way from the board .*: 5 bytes came"):
            device.pull("out", tmp_path / "out")


def test_files_that_arrive_otherwise_than_they_were_sent(tmp_path):
    """A board whose checksums say that its storage is bad."""
    lying = tmp_path / "bin"
    lying.mkdir()
    (lying / "sha256sum").write_text('#!/bin/sh\nfor f; do printf "%064d  %s\\n" 0 "$f"; done\n')
    (lying / "sha256sum").chmod(0o755)
    with served(tmp_path / "s", f"SetEnv PATH={lying}:/usr/bin:/bin", "PermitUserEnvironment yes") as board:
        with opened(login(board)) as device:
            path = device.run(["sh", "-c", "command -v sha256sum"], 30).output.strip()
            if path != str(lying / "sha256sum"):
                pytest.fail(f"the stand-in is not on the board's PATH: {path}")
            with refused("hosts did not arrive whole on the board"):
                device.push({"hosts": Path("/etc/hosts")})
        assert left_in(board) == []


def test_a_board_of_another_architecture(board, store, tmp_path):
    runner = Ssh(board.address, str(board.identity), str(board.known_hosts), str(board.folder))
    with refused("is of another architecture: x86_64, and the program is for aarch64"):
        runner.run(tmp_path, *program_and_samples(store))
    assert left_in(board) == []


@pytest.mark.parametrize(("said", "kind", "message"), [
    ("ssh: connect to host x port 22: No route to host", DeviceError, "cannot be reached"),
    ("ssh: connect to host x port 22: Connection timed out", DeviceError, "does not answer"),
    ("Connection closed by 10.0.0.1 port 22", DeviceError, "closed the connection"),
    ("Unable to negotiate with x port 22: no matching host key type", DeviceError, "too old for this"),
    ('Load key "k": invalid format\nx@y: Permission denied.', DeviceError, "ssh cannot read the key"),
    ("/h/.ssh/config: line 3: Bad configuration option: foo", ConfigError, "does not take its own settings"),
    ('unix_listener: path "/x" too long for Unix domain socket', ToolError, "has too long a name for ssh"),
    ("mktemp: No space left on device", DeviceError, "the storage of the board pi@x is full"),
])
def test_what_ssh_says_becomes_an_error_that_helps(said, kind, message):
    error = fault("pi@x", said)
    assert isinstance(error, kind)
    assert message in error.message
    assert error.hint


def test_what_is_no_complaint_of_ssh_is_none():
    assert fault("pi@x", "Welcome") is None


@pytest.mark.parametrize(("said", "why"), [
    ("throttled=0x0\n", ""),
    ("throttled=0x50000\n", ""),  # it has happened since the start, and is over
    ("throttled=0x50005\n", "its voltage is too low, its frequency is held down"),
    ("throttled=0x8\ncooling=2\n", "it is at its soft limit of temperature"),
    ("cooling=0\n", ""), ("cooling=3\n", "a cooling device holds its frequency down"), ("", ""),
])
def test_a_board_that_slows_itself_down_says_why(said, why):
    assert slowed(said) == why


def test_what_happened_between_two_looks_counts():
    assert happened({"throttled_bits": 0x10000}, {"throttled_bits": 0x50000}) == (
        "it was throttled in the run (its frequency is held down)")
    assert happened({"throttled_bits": 0x50000}, {"throttled_bits": 0x50000}) == ""
    assert happened({}, {}) == ""


@pytest.fixture(scope="module")
def launcher(tmp_path_factory) -> tuple[str, ...]:
    """What runs aarch64 programs on the board of the tests: QEMU, with a Raspberry Pi's description."""
    prefix = tmp_path_factory.mktemp("prefix")
    BOARDS["raspberry-pi-4"].describe(prefix)
    (prefix / "lib").symlink_to(system_library("libc.so.6").parent)
    return (shutil.which("qemu-aarch64"), "-cpu", "cortex-a72", "-L", str(prefix))


def program_and_samples(store) -> tuple[Path, Path]:
    program = store.path(store.make(find(ROOT, "rpi4").backend.compile, demo.quantized(store)))
    return program, store.path(demo.samples(store, "evaluation", 50))


def test_the_shipped_model_runs_on_a_board_that_emulates(board, store, launcher, tmp_path):
    program, samples = program_and_samples(store)
    runner = Ssh(board.address, str(board.identity), str(board.known_hosts), str(board.folder), launcher)
    runner.run(tmp_path, program, samples)
    outputs = np.load(tmp_path / "outputs.npy")
    assert np.abs(outputs - run_litert(runnable_in(program), samples_in(samples), "xnnpack")).max() <= 1 / 256
    costs = costs_in(tmp_path)
    assert {value.source for value in costs.values()} == {"unavailable"}
    assert "emulated on the board" in costs["latency_ms"].reason
    assert source_in(tmp_path) == "simulated"
    assert f"under {launcher[0]} there, so that its outputs are simulated" in notes_in(tmp_path)[0]
    told = json.loads((tmp_path / "details/device.json").read_text())
    assert len(told["times_us"]) == 50
    assert told["before"]["machine"] == os.uname().machine
    assert left_in(board) == []


@pytest.mark.parametrize(("facts", "latency"), [
    ({"temperature_c": 51.2, "governor": "ondemand", "frequency_mhz": 1500.0}, "measured"),
    ({"temperature_c": 70.0}, "it was hot before the run"),
    ({"throttling": "its voltage is too low"}, "it was throttled before the run (its voltage is too low)"),
])
def test_a_board_of_its_own_is_measured_and_a_hot_one_is_not(
        board, store, launcher, tmp_path, monkeypatch, facts, latency):
    """The emulator is hidden in the program here: to the runner the board looks like one of 64-bit Arm."""
    program, samples = program_and_samples(store)
    told = {"abi": "aarch64", "model": "Raspberry Pi 4 Model B Rev 1.4", "system": "Debian 12", **facts}
    run = ssh.Board.run
    monkeypatch.setattr(ssh.Board, "facts", lambda self: told)
    monkeypatch.setattr(ssh.Board, "run", lambda self, words, timeout_s: run(
        self, [*launcher, *words] if words[0].startswith("./") else words, timeout_s))
    Ssh(board.address, str(board.identity), str(board.known_hosts), str(board.folder)).run(
        tmp_path, program, samples)
    found = costs_in(tmp_path)["latency_ms"]
    assert source_in(tmp_path) == "measured"
    assert costs_in(tmp_path)["ram_bytes"].source == "measured"
    if latency == "measured":
        assert (found.source, found.n, found.aggregation) == ("measured", 50, "median")
        assert "Raspberry Pi 4 Model B Rev 1.4, Debian 12: loaded in" in notes_in(tmp_path)[0]
        assert "51.2 and 51.2 °C before and after; ondemand at 1500.0 MHz" in notes_in(tmp_path)[0]
    else:
        assert (found.value, found.invalid) == (None, True)
        assert found.reason.startswith(latency)


def test_a_runner_without_an_address_asks_for_one(store, tmp_path):
    with refused("no board is named", ConfigError) as raised:
        Ssh().run(tmp_path, tmp_path, tmp_path)
    assert "--device" in raised.value.hint


@pytest.mark.parametrize("name", ["rpi3", "rpi4", "rpi5", "coral-dev-board"])
def test_a_target_of_a_board_takes_the_address_of_one(name):
    target = on_device(find(ROOT, name), "pi@raspberrypi.local")
    assert target.runner == Ssh("pi@raspberrypi.local")


def test_options_hold_against_the_users_own_settings(board):
    words = login(board).options()
    assert {"BatchMode=yes", "StrictHostKeyChecking=yes", "ForwardAgent=no"} <= {*words}
    assert replace(login(board), known_hosts="").options().count("GlobalKnownHostsFile=/dev/null") == 0


PIPELINE = """\
version: 1
models:
  fashion:
    source: models/fashion/model.keras
    calibration: {data: models/fashion/calibration.npz}
    evaluation: {data: models/fashion/evaluation.npz, metric: top1}
targets: [board]
ladder: [static-int8]
gates:
  - {metric: accuracy_drop, max: 0.1}
"""

TARGET = """\
description: a board that this machine plays, for the tests of edgeq
precisions: [int8]
backend: litert
samples: 50
runner: {{name: host}}
device: {{name: ssh, identity: {0.identity}, known_hosts: {0.known_hosts}, folder: {0.folder}, launcher: {1}}}
"""


def test_a_build_runs_on_the_board_that_is_named(board, launcher, edgeq, project):
    (project / "targets/board").mkdir(parents=True)
    (project / "targets/board/target.yaml").write_text(TARGET.format(board, json.dumps(launcher)))
    (project / "pipeline.yaml").write_text(PIPELINE)
    ran = edgeq("build", "--target", "board", "--device", board.address)
    assert ran.returncode == 0, ran.stderr + ran.stdout
    assert f"the board {board.address}" in " ".join(ran.stdout.split())
    [result] = json.loads((project / "build/report.json").read_text())["results"]
    assert result["metrics"]["accuracy"]["source"] == "simulated"
    assert (project / "build/board/fashion/details/device.json").exists()
    gone_away = edgeq("build", "--target", "board", "--device", "pi@no-such-board.invalid")
    assert gone_away.returncode == 3
    [result] = json.loads((project / "build/report.json").read_text())["results"]
    assert result["error"]["kind"] == "device"
    assert "has a name that nobody knows" in result["error"]["message"]
    assert "Traceback" not in gone_away.stderr
