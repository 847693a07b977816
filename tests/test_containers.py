"""Tools in containers: what the engine is told, by a stand-in for it; what holds within, by podman itself."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from dataclasses import replace
from pathlib import Path

import pytest
from graphs import noise, operator, tensor, written

from edgeq import containers, program, tool
from edgeq.backends.edgetpu import EdgeTpu
from edgeq.backends.firmware import Firmware
from edgeq.backends.vela import Vela
from edgeq.containers import image
from edgeq.doctor import findings
from edgeq.errors import ConfigError, ToolError
from edgeq.identity import versions
from edgeq.lint import read_rules
from edgeq.store import task_of
from edgeq.target import find

ROOT = Path(__file__).parents[1]
STANDIN = Path(__file__).parent / "standins/podman.py"
DIGEST = "sha256:" + "a" * 64
FIRMWARE = Firmware(core="cortex-m4", board="mps2-an386", flash="1MiB", ram="256KiB", container="arm-gcc:12")
VELA = Vela("ethos-u55-128", "Ethos_U55_High_End_Embedded", "Shared_Sram", container="vela:5")
WITHIN = r"""
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
static int written(const char *path) {
    FILE *file = fopen(path, "w");
    return file ? fclose(file) : errno;
}
int main(int count, char **words) {
    if (count > 1 && !strcmp(words[1], "crash")) { volatile int none = 0; return 7 / none; }
    if (count > 1 && !strcmp(words[1], "wait")) { written("at work"); sleep(600); }
    char folder[256], line[256];
    printf("folder %s\n", getcwd(folder, sizeof folder));
    printf("user %d\n", getuid());
    printf("own %d\n", written("made by the tool"));
    printf("tmp %d\n", written("/tmp/draft"));
    printf("elsewhere %d\n", written("/etc/left") != 0);
    struct sockaddr_in far = {.sin_family = AF_INET, .sin_port = htons(9)};
    inet_pton(AF_INET, "192.0.2.1", &far.sin_addr);
    printf("network %d\n", connect(socket(AF_INET, SOCK_DGRAM, 0), (struct sockaddr *)&far, sizeof far) == 0);
    FILE *status = fopen("/proc/self/status", "r");
    while (fgets(line, sizeof line, status))
        if (!strncmp(line, "CapEff", 6) || !strncmp(line, "NoNewPrivs", 10)) printf("%s", line);
    return 3;
}
"""


@pytest.fixture(autouse=True)
def forgotten():
    """No image is known from an earlier test."""
    image.cache_clear()


@pytest.fixture
def engines(tmp_path, monkeypatch):
    """A PATH with stand-ins for the engines of these names, and with the programs that are named beside."""
    def set_up(*names: str, plays: str = "", programs: dict[str, Path] | None = None) -> Path:
        folder = tmp_path / "bin"
        folder.mkdir()
        for name in names:
            shutil.copy(STANDIN, folder / name)
        for name, target in {"python3": Path(sys.executable), **(programs or {})}.items():
            (folder / name).symlink_to(target)
        monkeypatch.setenv("PATH", str(folder))
        monkeypatch.setenv("ENGINE_STANDIN", plays)
        monkeypatch.setenv("ENGINE_STANDIN_LOG", str(tmp_path / "calls.jsonl"))
        return tmp_path / "calls.jsonl"

    return set_up


@pytest.fixture
def quantized(tmp_path):
    """The folder of an int8 convolution."""
    weights, bias = noise("int8", (8, 3, 3, 4)), noise("int32", (8,)) // 2**20
    folder = tmp_path / "quantized"
    folder.mkdir()
    (folder / "model.tflite").write_bytes(written(
        [tensor("in", (1, 8, 8, 4), "INT8", scale=0.05), tensor("out", (1, 8, 8, 8), "INT8", scale=0.9),
         tensor("weights", weights.shape, "INT8", scale=0.01, data=weights),
         tensor("bias", bias.shape, "INT32", scale=0.0005, data=bias)],
        [operator("CONV_2D", "in weights bias", "out", strideH=1, strideW=1)]))
    return folder


@pytest.fixture
def contained(tmp_path, monkeypatch):
    """Programs that only the stand-in's container has, by name."""
    folder = tmp_path / "in the image"
    folder.mkdir()
    monkeypatch.setenv("ENGINE_STANDIN_BIN", str(folder))
    return folder


def calls(log: Path) -> list[list[str]]:
    return [json.loads(line) for line in log.read_text().splitlines()]


# What the engine is told

def test_the_tool_gets_one_folder_and_nothing_else(engines, contained, tmp_path):
    log = engines("podman")
    (contained / "tool").symlink_to("/bin/ls")
    (tmp_path / "seen").touch()
    finished = containers.run(image("img:1", "tool"), ["tool", "-a"], timeout_s=30, cwd=tmp_path)
    assert finished.status == 0
    assert "seen" in finished.output
    asked, ran = calls(log)
    assert asked == ["podman", "image", "inspect", "--format", "{{.Id}}", "img:1"]
    assert ran[1:3] == ["run", "--rm"]
    assert {"--pull=never", "--network=none", "--read-only", "--cap-drop=all", "--workdir=/work",
            "--security-opt=no-new-privileges", f"--user={os.getuid()}:{os.getgid()}"} <= {*ran}
    assert [word for word in ran if "src=" in word] == [f"--mount=type=bind,src={tmp_path},dst=/work"]
    assert ran[-3:] == ["--entrypoint=tool", DIGEST, "-a"]  # the content that was asked for, not its name


def test_users_are_mapped_as_the_engine_maps_them(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    told = {engine: containers.argv(containers.Image(Path(f"/usr/bin/{engine}"), "img", DIGEST), tmp_path,
                                    "name", "tool") for engine in ("podman", "docker")}
    assert "--userns=keep-id" in told["podman"]
    assert "--userns=keep-id" not in told["docker"]
    assert all(f"--user=1000:{os.getgid()}" in words for words in told.values())


def test_no_engine_is_told_with_what_to_install(engines):
    engines()
    with pytest.raises(ToolError, match="vela was not found, nor podman or docker") as raised:
        image("img", "vela")
    assert raised.value.hint == "apt-get install podman, or install vela"


def test_no_image_is_told_with_what_each_engine_said_and_nothing_is_pulled(engines):
    log = engines("podman", "docker", plays="none")
    with pytest.raises(ToolError, match=r"podman: no such image: img; docker: no such image: img") as raised:
        image("img", "vela")
    assert "pull it, or build it" in raised.value.hint
    assert not [call for call in calls(log) if "pull" in call]


def test_an_engine_without_its_daemon_is_told(engines):
    engines("docker", plays="down")
    with pytest.raises(ToolError, match="docker: Cannot connect to the daemon"):
        image("img", "vela")


def test_the_next_engine_is_asked_where_the_first_has_no_such_image(engines, tmp_path):
    engines("podman", "docker")
    (tmp_path / "bin/podman").write_text("#!/bin/sh\necho no such image; exit 125\n")
    assert image("img", "vela").engine.name == "docker"


@pytest.mark.parametrize(("status", "told"), [
    ("125", "podman could not run img"), ("126", "img has no program tool that can be run"),
    ("127", "img has no program tool"), ("136", "tool in img was killed by SIGFPE")])
def test_what_is_not_the_tools_own_status_is_an_error(engines, tmp_path, status, told):
    engines("podman", plays=status)
    with pytest.raises(ToolError, match=told) as raised:
        containers.run(image("img", "tool"), ["tool"], timeout_s=30, cwd=tmp_path)
    assert "stand-in" in raised.value.hint


def test_a_status_of_the_tool_is_its_own(engines, tmp_path):
    engines("podman", plays="1")
    assert containers.run(image("img", "tool"), ["tool"], timeout_s=30, cwd=tmp_path).status == 1


def test_a_container_whose_time_is_up_is_removed(engines, tmp_path):
    log = engines("podman", plays="hang")
    with pytest.raises(ToolError, match="tool in img had not ended after 4 s"):
        containers.run(image("img", "tool"), ["tool"], timeout_s=4, cwd=tmp_path)
    _, ran, removed = calls(log)
    name = next(word for word in ran if word.startswith("--name=")).removeprefix("--name=")
    assert removed == ["podman", "rm", "--force", name]


def test_a_folder_that_cannot_be_told_is_refused(engines, tmp_path):
    engines("podman")
    (folder := tmp_path / "a, b").mkdir()
    with pytest.raises(ToolError, match="has a comma in it"):
        containers.run(image("img", "tool"), ["tool"], timeout_s=30, cwd=folder)


@pytest.mark.parametrize("name", ["--privileged", "-v/:/x", "a b", "$(touch x)", "A", "<b>", "img;rm"])
def test_a_name_that_is_none_of_an_image_is_refused_with_its_line(tmp_path, name):
    file = tmp_path / "targets/npu/target.yaml"
    file.parent.mkdir(parents=True)
    text = (ROOT / "targets/ethos-u55-128/target.yaml").read_text()
    file.write_text(text.replace("backend:\n", f"backend:\n  container: {json.dumps(name)}\n"))
    with pytest.raises(ConfigError, match=r":5: backend.container: .*"):
        find(tmp_path, "npu")


# Where the tool is missing

def test_a_tool_that_is_here_needs_no_container(engines):
    engines("podman", programs={"arm-none-eabi-gcc": Path(shutil.which("arm-none-eabi-gcc"))})
    assert FIRMWARE.images() == {}
    assert [each.name for each in FIRMWARE.tools()] == ["arm-none-eabi-gcc"]
    assert VELA.images() == {}
    assert "ethos-u-vela" in VELA.packages


@pytest.fixture
def no_vela(monkeypatch):
    monkeypatch.setitem(sys.modules, "ethosu", None)


def test_the_digest_of_the_image_is_in_the_key_and_among_the_tools(engines, monkeypatch, no_vela):
    engines("podman")
    keys = set()
    for digit in "ab":
        monkeypatch.setenv("ENGINE_STANDIN_DIGEST", digit * 64)
        image.cache_clear()
        keys |= {task_of(each.compile, ()).key for each in (FIRMWARE, VELA)}
        assert versions([FIRMWARE])["arm-none-eabi-gcc"] == f"arm-gcc:12@sha256:{digit * 64}"
        assert versions([VELA])["vela"] == f"vela:5@sha256:{digit * 64}"
    assert len(keys) == 4
    assert VELA.packages == ("ai-edge-litert",)


def test_a_missing_image_is_said_by_the_doctor_and_by_the_step(engines, tmp_path, no_vela):
    engines("podman", plays="none")
    file = tmp_path / "targets/npu/target.yaml"
    file.parent.mkdir(parents=True)
    text = (ROOT / "targets/ethos-u55-128/target.yaml").read_text()
    file.write_text(text.replace("backend:\n", "backend:\n  container: vela:5\n"))
    found = next(each for each in findings(tmp_path) if each.target == "npu")
    assert not found.sound
    assert "nor the image vela:5 to run it in" in found.notes[0]
    with pytest.raises(ToolError, match="nor the image vela:5"):
        task_of(VELA.compile, ())
    assert versions([VELA]) == {"ai-edge-litert": versions([VELA])["ai-edge-litert"]}


def test_vela_in_a_container_makes_what_vela_here_makes(engines, contained, quantized, tmp_path, monkeypatch):
    folders = [tmp_path / "here", tmp_path / "there"]
    for folder in folders:
        folder.mkdir()
    replace(VELA, container="").compile(folders[0], quantized)
    engines("podman")
    (contained / "vela").write_text(f"#!/bin/sh\nexec {sys.executable} -m ethosu.vela \"$@\"\n")
    (contained / "vela").chmod(0o755)
    monkeypatch.setitem(sys.modules, "ethosu", None)
    VELA.compile(folders[1], quantized)
    here, there = ({file.relative_to(folder): file.read_bytes()
                    for file in folder.rglob("*") if file.is_file()} for folder in folders)
    assert here == there


def test_edgetpu_compiler_in_a_container(engines, contained, quantized, tmp_path, monkeypatch):
    rules, _ = read_rules(ROOT / "targets/edgetpu/operators.yaml")
    engines("docker", programs={})
    (contained / "edgetpu_compiler").symlink_to(STANDIN.parent / "edgetpu_compiler.py")
    monkeypatch.setenv("EDGETPU_STANDIN", "full_v16")
    monkeypatch.setenv("EDGETPU_STANDIN_COMPILED", str(quantized / "model.tflite"))
    (out := tmp_path / "out").mkdir()
    EdgeTpu(operators=rules, container="coral:16").compile(out, quantized)
    assert program.costs_in(out)["cached_bytes"].source == "simulated"


# What holds within a container, for real

needs_podman = pytest.mark.skipif(not shutil.which("podman"), reason="script/test installs podman")


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """An image of one static program, in storage of the tests' own, and the settings that it takes here."""
    folder = tmp_path_factory.mktemp("podman")
    (folder / "within.c").write_text(WITHIN)
    subprocess.run(["gcc", "-static", "-O1", "within.c", "-o", "within"], cwd=folder, check=True, timeout=60)
    with tarfile.open(folder / "image.tar", "w") as archive:
        archive.add(folder / "within", "usr/bin/within")
        for name in ("etc", "tmp", "proc", "sys", "dev", "work"):
            (folder / name).mkdir()
            archive.add(folder / name, name)
    # A machine without systemd, or that lets nobody raise a limit, is no reason to fail.
    (folder / "containers.conf").write_text(
        '[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]\n'
        '[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n'
        f'runtime = "{"runc" if shutil.which("runc") else "crun"}"\n')
    (folder / "storage.conf").write_text(
        f'[storage]\ndriver = "vfs"\ngraphroot = "{folder}/images"\nrunroot = "{folder}/run"\n')
    settings = {"CONTAINERS_CONF": str(folder / "containers.conf"),
                "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf")}
    subprocess.run(["podman", "import", "image.tar", "edgeq-tests:1"], cwd=folder, check=True, timeout=120,
                   env=os.environ | settings, capture_output=True)
    return settings


@needs_podman
def test_within_there_is_no_network_no_right_and_no_other_folder(real, tmp_path, monkeypatch):
    for name, value in real.items():
        monkeypatch.setenv(name, value)
    finished = containers.run(image("edgeq-tests:1", "within"), ["within"], timeout_s=60, cwd=tmp_path)
    said = dict(line.split(None, 1) for line in finished.output.splitlines())
    assert finished.status == 3
    assert said == {"folder": "/work", "user": str(os.getuid()), "own": "0", "tmp": "0", "elsewhere": "1",
                    "network": "0", "CapEff:": "0000000000000000", "NoNewPrivs:": "1"}
    assert (tmp_path / "made by the tool").stat().st_uid == os.getuid()


@needs_podman
def test_a_crash_a_hang_and_a_missing_program_are_told_apart(real, tmp_path, monkeypatch):
    for name, value in real.items():
        monkeypatch.setenv(name, value)
    within = image("edgeq-tests:1", "within")
    with pytest.raises(ToolError, match="within in edgeq-tests:1 was killed by SIGFPE"):
        containers.run(within, ["within", "crash"], timeout_s=60, cwd=tmp_path)
    with pytest.raises(ToolError, match="edgeq-tests:1 has no program gcc that can be run"):
        containers.run(within, ["gcc"], timeout_s=60, cwd=tmp_path)
    with pytest.raises(ToolError, match="had not ended after 3 s"):
        containers.run(within, ["within", "wait"], timeout_s=3, cwd=tmp_path)
    left = tool.run(["podman", "ps", "--all", "--quiet"], timeout_s=60, cwd=tmp_path)
    assert not left.output.strip()
    with pytest.raises(ToolError, match="nor the image edgeq-tests:2"):
        image("edgeq-tests:2", "within")


@needs_podman
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_no_container_outlives_the_process_that_started_it(real, tmp_path, number):
    code = ("from pathlib import Path; from edgeq import containers\n"
            "within = containers.image('edgeq-tests:1', 'within')\n"
            "containers.run(within, ['within', 'wait'], timeout_s=600, cwd=Path())")
    started = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stderr=subprocess.DEVNULL,
                               env=os.environ | real | {"PYTHONPATH": str(ROOT)})
    see((tmp_path / "at work").exists)
    started.send_signal(number)
    assert started.wait(60) == -number
    see(lambda: not subprocess.run(["podman", "ps", "--all", "--quiet"], env=os.environ | real, check=True,
                                   capture_output=True).stdout)


def see(event) -> None:
    """Wait for `event`, at most a minute."""
    end = time.monotonic() + 60
    while not event():
        assert time.monotonic() < end
        time.sleep(0.05)
