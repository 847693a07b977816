"""The stand-in phone: the stock adb client works on it, and nothing gets out of it."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import phones
import pytest
from phones import adb

from edgeq.devices.adb_server import client
from edgeq.devices.standin import busybox, confinement, phone
from edgeq.devices.standin.loader import embedded
from edgeq.devices.standin.phone import Phone
from edgeq.errors import ConfigError, ToolError

TEMPORARY = "/data/local/tmp"


@pytest.fixture(scope="module", autouse=True)
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with phones.server(tmp_path_factory.mktemp("home")):
        yield


@pytest.fixture(scope="module")
def stand_in(server: None) -> Iterator[Phone]:
    with phones.attached() as made:
        yield made


@pytest.fixture
def content(tmp_path: Path) -> Path:
    file = tmp_path / "content"
    file.write_bytes(os.urandom(3_000_001))
    return file


def test_it_says_what_it_is(stand_in: Phone) -> None:
    listed = adb("devices", "-l").stdout
    assert f"{stand_in.address}" in listed
    assert "model:edgeq_stand_in" in listed
    assert not 5555 <= int(stand_in.address.split(":")[1]) <= 5585
    assert adb("shell", "getprop", "ro.product.model").stdout == "edgeq stand-in\n"


def test_a_shell_of_the_stock_client(stand_in: Phone) -> None:
    finished = adb("shell", "uname -m; echo wrong >&2; exit 3")
    assert (finished.stdout, finished.stderr, finished.returncode) == ("aarch64\n", "wrong\n", 3)


def test_what_is_typed_reaches_the_program(stand_in: Phone) -> None:
    finished = subprocess.run(["adb", "shell", "-T", "cat; echo end"], input="a line\n", capture_output=True,
                              text=True, timeout=60, check=False)
    assert finished.stdout == "a line\nend\n"


def test_a_shell_without_words_takes_them_as_they_are_typed(stand_in: Phone) -> None:
    finished = subprocess.run(["adb", "shell"], input="cd /data\npwd\nexit 4\n", capture_output=True,
                              text=True, timeout=60, check=False)
    assert "/data\n" in finished.stdout
    assert finished.returncode == 4


def test_a_shell_at_a_terminal(stand_in: Phone) -> None:
    ours, theirs = os.openpty()
    process = subprocess.Popen(["adb", "shell"], stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    seen = bytearray()

    def shown(text: bytes) -> bool:
        if select.select([ours], [], [], 0)[0]:
            seen.extend(os.read(ours, 1000))
        return text in seen

    try:
        phones.until(lambda: shown(b"/ # "))
        os.write(ours, b"[ -t 0 ] && echo $((6 * 7))\r")
        phones.until(lambda: shown(b"\r\n42\r\n"))
        os.write(ours, b"exit 5\r")
        assert process.wait(20) == 5
    finally:
        process.kill()
        os.close(ours)


def test_a_plain_shell_has_no_status(stand_in: Phone) -> None:
    finished = adb("shell", "-x", "echo out; echo err >&2; exit 3")
    assert (finished.stdout, finished.returncode) == ("out\nerr\n", 0)


def test_much_output_comes_whole(stand_in: Phone) -> None:
    assert len(adb("shell", "head -c 3000000 /dev/zero | tr '\\0' x").stdout) == 3_000_000


def test_files_of_the_stock_client(stand_in: Phone, content: Path, tmp_path: Path) -> None:
    assert "1 file pushed" in adb("push", content, f"{TEMPORARY}/there").stdout
    listed = adb("ls", TEMPORARY).stdout
    assert f"{content.stat().st_size:08x}" in listed
    assert "there" in listed
    assert "1 file pulled" in adb("pull", f"{TEMPORARY}/there", tmp_path / "back").stdout
    assert (tmp_path / "back").read_bytes() == content.read_bytes()


def test_a_folder_of_the_stock_client(stand_in: Phone, tmp_path: Path) -> None:
    (tmp_path / "from/deep").mkdir(parents=True)
    (tmp_path / "from/deep/file").write_text("inside")
    assert "1 file pushed" in adb("push", tmp_path / "from", TEMPORARY).stdout
    assert adb("pull", f"{TEMPORARY}/from", tmp_path / "to").returncode == 0
    assert (tmp_path / "to/deep/file").read_text() == "inside"


def test_files_that_are_not_there(stand_in: Phone, tmp_path: Path) -> None:
    finished = adb("pull", f"{TEMPORARY}/nothing", tmp_path / "back")
    assert finished.returncode == 1
    assert "No such file" in finished.stdout


def test_adbutils_works_on_it(stand_in: Phone, content: Path, tmp_path: Path) -> None:
    device = client().device(stand_in.address)
    assert device.shell2("echo out; exit 5", v2=True).returncode == 5
    device.sync.push(content, f"{TEMPORARY}/pushed", check=True)
    assert device.sync.stat(f"{TEMPORARY}/pushed").size == content.stat().st_size
    device.sync.pull(f"{TEMPORARY}/pushed", tmp_path / "pulled")
    assert (tmp_path / "pulled").read_bytes() == content.read_bytes()
    assert "pushed" in [each.path for each in device.sync.list(TEMPORARY)]
    assert device.prop.get("ro.product.cpu.abi") == "arm64-v8a"


def test_no_shell_reaches_what_is_outside(stand_in: Phone, tmp_path: Path) -> None:
    secret, place = tmp_path / "secret", f"/host-rootfs{tmp_path}"
    secret.write_text("kept")
    told = adb("shell", f"cat {place}/secret; echo x > {place}/new; rm -rf {place}; ls {place}; "
                "rm -rf /host-rootfs")
    assert "kept" not in told.stdout
    assert told.stderr.count("denied") >= 3
    assert secret.read_text() == "kept"
    assert [each.name for each in tmp_path.iterdir()] == ["secret"]


def test_no_shell_reaches_another_process(stand_in: Phone) -> None:
    with subprocess.Popen(["sleep", "60"], env={"TOKEN": "kept"}) as other:
        told = adb("shell", f"cat /host-rootfs/proc/{other.pid}/environ; kill {other.pid}; echo alive")
        assert told.stdout == "alive\n"
        if confinement.version() >= confinement.SCOPED:  # older kernels keep only files apart
            assert "not permitted" in told.stderr
            assert other.poll() is None
        other.kill()


@pytest.mark.parametrize(
    "path", ["/../../escaped", f"{TEMPORARY}/link/escaped", "/host-rootfs/../../escaped"])
def test_no_path_leads_outside(stand_in: Phone, content: Path, tmp_path: Path, path: str) -> None:
    link = stand_in.root / "data/local/tmp/link"
    link.unlink(missing_ok=True)
    link.symlink_to(tmp_path)
    assert adb("push", content, path).returncode == 1
    assert adb("pull", f"{TEMPORARY}/link/content", tmp_path / "back").returncode == 1
    assert not list(tmp_path.glob("escaped")) + list(stand_in.root.parent.glob("escaped"))


def test_nothing_is_left_of_it_when_it_ends() -> None:
    with phone.started() as made:
        assert made.root.exists()
    assert not made.root.exists()


def test_it_ends_with_the_process_that_started_it() -> None:
    code = ("import os, signal; from edgeq.devices.standin import phone\n"
            "with phone.started() as made:\n"
            "    print(made.address, made.root, flush=True)\n"
            "    os.kill(os.getpid(), signal.SIGKILL)\n")
    killed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60,
                            check=False)
    address, root = killed.stdout.split()
    phones.until(lambda: not phones.listens(address))
    phones.until(lambda: not list(Path(root).iterdir()))
    Path(root).rmdir()


def test_one_to_play_with() -> None:
    with subprocess.Popen([sys.executable, "-m", "edgeq.devices.standin", "--board", "raspberry-pi-4"],
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        address = process.stdout.readline().strip()
        assert "connected to" in adb("connect", address).stdout
        assert "0xd08" in adb("-s", address, "shell", "cat /proc/cpuinfo").stdout
        adb("disconnect", address)
        process.stdin.close()
        assert process.wait(20) == 0


def test_a_board_that_nobody_knows() -> None:
    meant = "nothing is known of the board 'android-a75'; did you mean 'android-a76'"
    with pytest.raises(ConfigError, match=meant), phone.started("android-a75"):
        pass


def test_proot_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ToolError, match="proot is not installed") as caught, phone.started():
        pass
    assert "apt-get install proot" in caught.value.hint


def test_its_busybox_was_not_fetched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(ToolError, match=r"busybox-static_.*_arm64\.deb is not here") as caught, \
            phone.started():
        pass
    assert busybox.FETCH in caught.value.hint
    assert str(tmp_path / "edgeq/standin") in caught.value.hint


def test_another_file_in_its_place_is_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    busybox.package().parent.mkdir(parents=True)
    busybox.package().write_bytes(b"!<arch>\nanother")
    with pytest.raises(ToolError, match="not the package that is wanted") as caught:
        busybox.busybox()
    assert busybox.SHA256 in caught.value.hint


def test_it_cannot_be_fetched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script = tmp_path / "apt-get"
    script.write_text("#!/bin/sh\necho 'Temporary failure resolving'\nexit 100\n")
    script.chmod(0o755)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(ToolError, match=r"apt-get did not fetch .* or put busybox-static") as caught:
        busybox.fetch()
    assert "Temporary failure resolving" in caught.value.hint


def test_what_proot_holds_is_a_program_for_this_machine() -> None:
    with Path("/proc/self/exe").open("rb") as file:
        machine = file.read(20)[18:20]
    program = b"\x7fELF\x02\x01\x01".ljust(16, b"\0") + b"\3\0" + machine + bytes(12)
    inner = bytearray(program[:64].ljust(64, b"\0"))
    inner[16:18], inner[40:48], inner[58:62] = b"\2\0", (64).to_bytes(8, "little"), b"\x08\0\x02\0"
    assert embedded(program + b"before" + bytes(inner) + b"sections of it!!" + b"after") \
        == bytes(inner) + b"sections of it!!"
    assert embedded(program) == b""
