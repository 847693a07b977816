"""Phones over adb, on stand-ins: what each fault is called, and that nothing stays on the phone."""

from __future__ import annotations

import os
import shutil
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import phones
import pytest
from makers import wait_until_gone
from phones import left_on

from edgeq.devices import adb, adb_server
from edgeq.devices.session import see_architecture
from edgeq.devices.standin import phone, state
from edgeq.devices.standin.phone import Phone
from edgeq.devices.standin.state import State
from edgeq.errors import DeviceError, ToolError

GONE = "/data/local/tmp/edgeq-"


@pytest.fixture(scope="module", autouse=True)
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with phones.server(tmp_path_factory.mktemp("home")):
        yield


@pytest.fixture(scope="module")
def running() -> Iterator[Phone]:
    with phone.started() as made:
        yield made


@pytest.fixture
def stand_in(running: Phone) -> Iterator[Phone]:
    """A phone in good health, at the network: nobody has connected it."""
    state.write(running.root, State())
    yield running
    state.write(running.root, State())
    phones.adb("disconnect")
    for name in left_on(running):
        shutil.rmtree(running.root / "data/local/tmp" / name)


@pytest.fixture
def cable(stand_in: Phone) -> Phone:
    """A phone that passes for a real one, attached before any build."""
    state.change(stand_in.root, model="Pixel 8")
    phones.adb("connect", stand_in.address)
    return stand_in


@pytest.fixture
def content(tmp_path: Path) -> Path:
    file = tmp_path / "content"
    file.write_bytes(bytes(range(256)) * 1200)
    return file


def test_files_go_there_and_come_back_whole(stand_in: Phone, content: Path, tmp_path: Path) -> None:
    with adb.opened(stand_in.address) as device:
        device.push({"a b": content, "c": content})
        assert (stand_in.root / device.folder.strip("/") / "a b").read_bytes() == content.read_bytes()
        device.pull("c", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == content.read_bytes()
    assert left_on(stand_in) == []


def test_a_command_runs_in_the_folder_and_its_status_comes_back(stand_in: Phone) -> None:
    with adb.opened(stand_in.address) as device:
        finished = device.run(["sh", "-c", "pwd; echo 'to error' >&2; exit 7"], 30)
        assert (finished.status, finished.output) == (7, f"{device.folder}\nto error\n")
        assert device.run(["echo", "$HOME;", "it's"], 30).output == "$HOME; it's\n"


def test_a_phone_says_what_it_is(stand_in: Phone) -> None:
    state.change(stand_in.root, celsius="41.5", thermal_status="3", battery="55")
    with adb.opened(stand_in.address) as device:
        facts = device.facts()
    assert facts["model"] == "edgeq stand-in"
    assert (facts["abi"], facts["system"], facts["api_level"]) == ("aarch64", "14", "34")
    assert (facts["temperature_c"], facts["throttling"]) == (41.5, "thermal status severe")
    assert (facts["battery_percent"], facts["battery_c"]) == (55, 30.0)
    assert facts["frequency_max_mhz"] == 2250.0


def test_a_phone_of_the_network_is_let_go_of_again(stand_in: Phone) -> None:
    with adb.opened(stand_in.address):
        assert stand_in.address in phones.adb("devices").stdout
    assert stand_in.address not in phones.adb("devices").stdout


def test_the_only_phone_need_not_be_named(cable: Phone) -> None:
    with adb.opened() as device:
        assert device.serial == cable.address


def test_a_stand_in_is_taken_only_where_it_is_named(stand_in: Phone) -> None:
    phones.adb("connect", stand_in.address)
    with pytest.raises(DeviceError, match="no phone is attached"), adb.opened():
        pass
    with adb.opened(stand_in.address) as device:
        assert device.serial == stand_in.address
    assert stand_in.address in phones.adb("devices").stdout  # as it was before


def test_the_phone_that_the_environment_names_is_taken(
        cable: Phone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANDROID_SERIAL", "R58M")
    with pytest.raises(DeviceError, match="no phone 'R58M' is attached"), adb.opened():
        pass


def test_no_phone() -> None:
    with pytest.raises(DeviceError, match="no phone is attached"), adb.opened():
        pass


def test_a_serial_number_that_is_not_there_is_told_with_what_was_meant(cable: Phone) -> None:
    named = cable.address.replace(":", "")
    with pytest.raises(DeviceError, match=rf"no phone '{named}'.*did you mean '{cable.address}'"), \
            adb.opened(named):
        pass


def test_several_phones_and_none_is_named(cable: Phone) -> None:
    with phones.attached(State(model="Pixel 9")) as other, \
            pytest.raises(DeviceError, match="2 phones are attached") as caught, adb.opened():
        pass
    assert cable.address in str(caught.value)
    assert other.address in str(caught.value)
    assert "--device" in caught.value.hint


def test_an_unauthorized_phone() -> None:
    with phone.started(condition=State(authorized=False)) as made:
        phones.adb("connect", made.address)
        assert "unauthorized" in phones.adb("devices").stdout
        with pytest.raises(DeviceError, match="does not trust this computer") as caught, \
                adb.opened(made.address):
            pass
        assert "confirm" in caught.value.hint
        phones.adb("disconnect")


def test_an_offline_phone(stand_in: Phone) -> None:
    phones.adb("connect", stand_in.address)
    state.change(stand_in.root, gone=True)
    phones.until(lambda: "offline" in phones.adb("devices").stdout)
    with pytest.raises(DeviceError, match="attached but does not answer"), adb.opened(stand_in.address):
        pass


def test_nobody_listens_at_the_address() -> None:
    with pytest.raises(DeviceError, match=r"cannot be reached.*refused"), adb.opened("127.0.0.1:9"):
        pass


def test_full_storage(stand_in: Phone, content: Path) -> None:
    state.change(stand_in.root, free_bytes=1000)
    with pytest.raises(DeviceError, match=r"the storage of the phone .* is full"), \
            adb.opened(stand_in.address) as device:
        device.push({"content": content})
    assert left_on(stand_in) == []


def test_a_file_that_is_cut_short_on_its_way_back(stand_in: Phone, content: Path, tmp_path: Path) -> None:
    state.change(stand_in.root, cut_after=1000)
    with adb.opened(stand_in.address) as device:
        device.push({"content": content})
        with pytest.raises(DeviceError, match=r"content was cut short on its way.*1000 bytes came"):
            device.pull("content", tmp_path / "back")
    assert left_on(stand_in) == []


def test_a_file_that_is_not_there(stand_in: Phone, tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="No such file"), adb.opened(stand_in.address) as device:
        device.pull("nothing", tmp_path / "back")
    assert left_on(stand_in) == []


def test_a_phone_that_vanishes_while_files_go_there(stand_in: Phone, content: Path) -> None:
    state.change(stand_in.root, gone_after=100_000)
    with pytest.raises(DeviceError, match="vanished in mid-run"), adb.opened(stand_in.address) as device:
        device.push({"content": content})


def test_what_a_phone_kept_when_it_vanished_is_swept_away_a_day_later(stand_in: Phone, content: Path) -> None:
    state.change(stand_in.root, gone_after=100_000)
    with pytest.raises(DeviceError, match="vanished in mid-run"), adb.opened(stand_in.address) as device:
        device.push({"content": content})
    assert left_on(stand_in) == [device.folder.removeprefix("/data/local/tmp/")]
    state.write(stand_in.root, State())
    with adb.opened(stand_in.address):
        assert len(left_on(stand_in)) == 2  # another computer's may be at work in the first
    _make_older(stand_in, days=2)
    with adb.opened(stand_in.address):
        assert len(left_on(stand_in)) == 1
    assert left_on(stand_in) == []


def test_a_phone_that_vanishes_in_mid_run(stand_in: Phone) -> None:
    with adb.opened(stand_in.address) as device:
        threading.Timer(0.5, state.change, [stand_in.root], {"gone": True}).start()
        with pytest.raises(DeviceError, match="vanished in mid-run") as caught:
            device.run(["sleep", "20"], 30)
    assert GONE in caught.value.hint


def test_a_program_that_does_not_end_is_left_and_killed(stand_in: Phone) -> None:
    begun = time.monotonic()
    with pytest.raises(DeviceError, match="had not answered after 8 s"), \
            adb.opened(stand_in.address) as device:
        device.run(["sh", "-c", "echo $$ > /data/pid; exec sleep 600"], 8)
    assert time.monotonic() - begun < 300
    wait_until_gone(int((stand_in.root / "data/pid").read_text()))
    assert left_on(stand_in) == []


@pytest.mark.parametrize(("abis", "told"), [("armeabi-v7a,armeabi", "armeabi-v7a"), ("x86_64,x86", "x86_64")])
def test_a_phone_of_another_architecture(stand_in: Phone, abis: str, told: str) -> None:
    state.change(stand_in.root, abis=abis)
    with pytest.raises(DeviceError, match=f"another architecture: {told}"), \
            adb.opened(stand_in.address) as device:
        see_architecture(device)
    assert left_on(stand_in) == []


def test_two_builds_take_turns_at_one_phone(stand_in: Phone) -> None:
    phones.adb("connect", stand_in.address)
    seen: list[str] = []

    def second() -> None:
        with adb.opened(stand_in.address):
            seen.append("second")

    with adb.opened(stand_in.address):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.8)
        seen.append("first")
    thread.join()
    assert seen == ["first", "second"]


def test_adb_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(phones.free_port()))
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ToolError, match="adb is not installed") as caught:
        adb_server.client()
    assert "apt-get install adb" in caught.value.hint


@pytest.mark.parametrize(("answer", "told"), [
    (b"OKAY0004001f", "too old: version 31"), (b"FAIL0004nope", "does not answer: nope"),
    (b"", "does not answer")])
def test_an_adb_server_that_is_too_old_or_none(
        monkeypatch: pytest.MonkeyPatch, answer: bytes, told: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(listening.getsockname()[1]))
        thread = threading.Thread(target=_answer, args=(listening, answer))
        thread.start()
        with pytest.raises(ToolError, match=told):
            adb_server.client()
        thread.join()


def test_a_phone_of_which_the_line_is_garbage(stand_in: Phone) -> None:
    host, port = stand_in.address.split(":")
    with socket.create_connection((host, int(port))) as line:
        line.sendall(struct.pack("<6I", 1, 2, 3, 4, 5, 6) + b"four")
        assert line.recv(100) == b""
    with adb.opened(stand_in.address) as device:
        assert device.shell("echo alive").output == "alive\n"


def _answer(listening: socket.socket, answer: bytes) -> None:
    for _ in range(2):  # the first only looks whether anybody is there
        line, _ = listening.accept()
        with line:
            if line.recv(100):
                line.sendall(answer)


def _make_older(made: Phone, days: int) -> None:
    then = time.time() - days * 86400
    for folder in (made.root / "data/local/tmp").iterdir():
        for each in (*folder.iterdir(), folder):
            os.utime(each, (then, then))
