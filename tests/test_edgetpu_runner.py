"""The Edge TPU itself, as far as that goes without one: a library that is built here, a sysfs of files."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import demo
import numpy as np
import pytest
from conftest import ROOT
from graphs import operator, tensor, written
from sshd import served

from edgeq.devices.edgetpu import failed
from edgeq.devices.edgetpu_script import FAILED
from edgeq.errors import ConfigError, DeviceError, Refused, ToolError
from edgeq.interpret import run_litert
from edgeq.program import costs_in, source_in
from edgeq.quantization import notes_in
from edgeq.runners.edgetpu import EdgeTpu
from edgeq.samples import samples_in
from edgeq.tool import Finished

SOURCE = ROOT / "tests/standins/edgetpu.c"
SCRIPT = ROOT / "edgeq/devices/edgetpu_script.py"


@pytest.fixture(scope="session")
def library(tmp_path_factory) -> Path:
    """libedgetpu.so.1, built."""
    made = tmp_path_factory.mktemp("library") / "libedgetpu.so.1"
    subprocess.run(["gcc", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", "-o", made, SOURCE], check=True)
    return made


@pytest.fixture
def system(tmp_path) -> Path:
    """A root with /sys and /dev, and no accelerator."""
    for folder in ("sys/bus/usb/devices/usb1", "sys/bus/pci/devices/0000:00:00.0", "dev"):
        (tmp_path / "root" / folder).mkdir(parents=True)
    (tmp_path / "root/sys/bus/usb/devices/usb1/idVendor").write_text("1d6b\n")
    return tmp_path / "root"


def plug_in_usb(root: Path, vendor: str = "18d1", product: str = "9302") -> Path:
    place = root / "sys/bus/usb/devices/2-1"
    place.mkdir()
    for name, text in {"idVendor": vendor, "idProduct": product, "busnum": "2", "devnum": "7"}.items():
        (place / name).write_text(f"{text}\n")
    device = root / "dev/bus/usb/002/007"
    device.parent.mkdir(parents=True)
    device.touch()
    return device


def with_usb(root: Path) -> Path:
    (root / "sys/bus/usb/devices").mkdir(parents=True)
    return root


def plug_in_pcie(root: Path, degrees: str = "51250") -> Path:
    place = root / "sys/class/apex/apex_0"
    place.mkdir(parents=True)
    (place / "temp").write_text(f"{degrees}\n")
    (place / "trip_point0_temp").write_text("84800\n")
    (root / "dev").mkdir(exist_ok=True)
    (root / "dev/apex_0").touch()
    return root / "dev/apex_0"


@pytest.fixture
def program(store, tmp_path) -> Path:
    """A program whose compiled model any interpreter can run."""
    ship = tmp_path / "program/ship"
    ship.mkdir(parents=True)
    shutil.copy(store.path(demo.quantized(store)) / "model.tflite", ship / "model_edgetpu.tflite")
    return tmp_path / "program"


@pytest.fixture
def samples(store) -> Path:
    return store.path(demo.samples(store, "evaluation", 20))


@pytest.fixture
def out(tmp_path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def runner(library: Path | str, system: Path, **fields) -> EdgeTpu:
    return EdgeTpu(library=str(library), root=str(system), **fields)


@pytest.mark.parametrize(("plug_in", "where"), [(plug_in_usb, "usb"), (plug_in_pcie, "pci")])
def test_an_accelerator_is_found_and_run(library, system, program, samples, out, plug_in, where):
    device = plug_in(system)
    runner(library, system).run(out, program, samples)
    model = program / "ship/model_edgetpu.tflite"
    outputs = np.load(out / "outputs.npy")
    assert np.array_equal(outputs, run_litert(model, samples_in(samples), "xnnpack"))
    costs = costs_in(out)
    assert {costs[metric].source for metric in ("latency_ms", "latency_p90_ms")} == {"measured"}
    assert (costs["latency_ms"].n, costs["latency_ms"].aggregation) == (20, "median")
    assert source_in(out) == "measured"
    told = json.loads((out / "details/device.json").read_text())
    assert told["device"] == f"{where} {device}"
    assert told["runtime"] == "BuildLabel(stand-in), RuntimeVersion(14)"
    assert told["interpreter"].startswith("ai_edge_litert, Python 3.")
    assert told["first_us"] > 0
    [sentence] = notes_in(out)
    assert f"the Edge TPU at {where} {device} of this machine, by ai_edge_litert" in sentence
    assert "its parameters sent with the first inference: loaded in" in sentence


def test_a_usb_accelerator_counts_before_its_firmware_is_loaded_too(library, system, program, samples, out):
    plug_in_usb(system, "1a6e", "089a")
    runner(library, system).run(out, program, samples)
    assert (out / "outputs.npy").exists()


def test_the_temperature_is_told_and_a_time_of_a_hot_one_is_invalid(library, system, program, samples, out):
    plug_in_pcie(system, "51250")
    runner(library, system).run(out, program, samples)
    assert "51.25 and 51.25 °C before and after" in notes_in(out)[0]
    shutil.rmtree(out)
    out.mkdir()
    (system / "sys/class/apex/apex_0/temp").write_text("84800\n")
    runner(library, system).run(out, program, samples)
    latency = costs_in(out)["latency_ms"]
    assert (latency.value, latency.invalid) == (None, True)
    assert latency.reason == "it was throttled before the run (85 °C; it slows down at 85 °C)"
    assert source_in(out) == "measured"  # a hot one computes the same


def failing(match: str, kind: type[ToolError] | type[Refused] = DeviceError):
    return pytest.raises(kind, match=match)


def test_no_library_is_told_first(system, program, samples, out, monkeypatch):
    monkeypatch.delenv("EDGETPU_LIBRARY", raising=False)
    with failing("no library for the Edge TPU on this machine: libedgetpu.so.1") as raised:
        runner("", system).run(out, program, samples)
    assert "libedgetpu1-std" in raised.value.hint
    with failing("no library for the Edge TPU on this machine: /gone.so"):
        runner("/gone.so", system).run(out, program, samples)


def test_the_library_is_named_by_the_environment(library, system, program, samples, out, monkeypatch):
    monkeypatch.setenv("EDGETPU_LIBRARY", str(library))
    with failing("no Edge TPU is attached to this machine"):
        runner("", system).run(out, program, samples)


def test_a_library_of_another_kind_is_told(tmp_path, system, program, samples, out):
    other = tmp_path / "libedgetpu.so.1"
    other.write_text("none")
    with failing("the library of the Edge TPU on this machine cannot be loaded: .*file too short"):
        runner(other, system).run(out, program, samples)


def test_no_device(library, system, program, samples, out):
    with failing("no Edge TPU is attached to this machine: none is in") as raised:
        runner(library, system).run(out, program, samples)
    assert "1a6e:089a" in raised.value.hint


def test_one_of_another_kind_is_none(library, system, program, samples, out):
    plug_in_usb(system)
    with failing("no Edge TPU is attached to this machine"):
        runner(library, system, address="pci").run(out, program, samples)
    runner(library, system, address="usb").run(out, program, samples)
    assert "the Edge TPU at usb" in notes_in(out)[0]


def test_a_card_without_a_driver(library, system, program, samples, out):
    place = system / "sys/bus/pci/devices/0000:00:00.0"
    (place / "vendor").write_text("0x1ac1\n")
    (place / "device").write_text("0x089a\n")
    with failing("an Edge TPU is at the PCIe bus of this machine, and has no driver") as raised:
        runner(library, system).run(out, program, samples)
    assert "gasket-dkms" in raised.value.hint


@pytest.fixture
def open_place():
    """A folder that every user may look into: pytest's own are closed."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.parametrize(("plug_in", "hint"), [(plug_in_usb, "plugdev"), (plug_in_pcie, "65-apex.rules")])
def test_no_permission(library, open_place, plug_in, hint):
    """Asked as a user who is not root: root may read and write all."""
    device = plug_in(open_place if plug_in is plug_in_pcie else with_usb(open_place))
    device.chmod(0o600 if os.geteuid() == 0 else 0)
    shutil.copy(library, open_place)
    work = open_place / "work"
    work.mkdir()
    request = {"root": str(open_place), "library": str(open_place / library.name), "input_bytes": 1,
               "kind": ""}
    (work / "request.json").write_text(json.dumps(request))
    code = (f"import os, sys; sys.path.append({str(SCRIPT.parent)!r}); import edgetpu_script; "
            "os.geteuid() or os.setuid(65534); sys.exit(edgetpu_script.main())")
    ran = subprocess.run([sys.executable, "-c", code], cwd=work, capture_output=True, text=True, check=False)
    assert ran.returncode == FAILED, ran.stderr
    error = failed("this machine", Finished(ran.returncode, ran.stdout))
    assert isinstance(error, DeviceError)
    assert error.message == (f"no permission for the Edge TPU of this machine: {device} may not be read and "
                             "written")
    assert hint in error.hint


@pytest.mark.parametrize(("does", "found", "hint"), [
    ("refuse", "the Edge TPU of this machine does not start: .*Failed to open device", "no other process"),
    ("be old", "is too old for the model: .*requires runtime version", "newest libedgetpu"),
    ("crash", "the driver of the accelerator was killed by SIGSEGV", ""),
    ("crash while preparing", "the driver of the accelerator was killed by SIGSEGV", ""),
    ("hang", "the driver of the accelerator had not ended after 3 s", ""),
])
def test_a_driver_that_fails_is_an_error_of_the_device(
        library, system, program, samples, out, monkeypatch, does, found, hint):
    plug_in_usb(system)
    monkeypatch.setenv("EDGETPU_DOES", does)
    with failing(f"(?s){found}") as raised:
        runner(library, system, timeout_s=3 if does == "hang" else 60).run(out, program, samples)
    assert hint in raised.value.hint
    assert not (out / "outputs.npy").exists()


def test_a_compiled_operator_that_the_delegate_leaves_is_refused(library, system, program, samples, out):
    plug_in_usb(system)
    ends = [tensor("in", (1, 28, 28, 1), "INT8", scale=0.1), tensor("out", (1, 10), "INT8", scale=0.1)]
    content = written(ends, [operator("CUSTOM:edgetpu-custom-op", "in", "out")])
    (program / "ship/model_edgetpu.tflite").write_bytes(content)
    with failing("does not take the model: the delegate did not take the compiled operator", Refused):
        runner(library, system).run(out, program, samples)


def test_a_program_that_is_not_compiled_is_not_run(library, system, program, samples, out):
    (program / "notice.txt").write_text("not compiled: edgetpu_compiler was not found.")
    plug_in_usb(system)
    with failing("the program is not compiled: nothing of it would run on the Edge TPU", ToolError) as raised:
        runner(library, system).run(out, program, samples)
    assert "edgetpu_compiler was not found" in raised.value.hint


def test_what_is_missing_at_the_device_is_told_before_that(library, system, program, samples, out):
    (program / "notice.txt").write_text("not compiled: edgetpu_compiler was not found.")
    with failing("no Edge TPU is attached to this machine"):
        runner(library, system).run(out, program, samples)


def package(folder: Path, name: str, text: str = "") -> None:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    for parent in file.relative_to(folder).parents[:-1]:
        (folder / parent / "__init__.py").touch()


def test_the_pycoral_of_pypi_is_told_from_googles(
        library, system, program, samples, out, monkeypatch, tmp_path):
    plug_in_usb(system)
    package(tmp_path / "site", "pycoral/pycoral.py", "ATLAS = 'of corals'")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    runner(library, system).run(out, program, samples)
    assert "is not Google's but a client of an atlas of corals" in notes_in(out)[1]
    assert "by ai_edge_litert" in notes_in(out)[0]


def test_googles_pycoral_goes_with_its_own_runtime(
        library, system, program, samples, out, monkeypatch, tmp_path):
    plug_in_usb(system)
    package(tmp_path / "site", "pycoral/utils/edgetpu.py", "")
    package(tmp_path / "site", "tflite_runtime/interpreter.py",
            "from ai_edge_litert.interpreter import Interpreter, load_delegate")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    runner(library, system).run(out, program, samples)
    [sentence] = notes_in(out)
    assert "by pycoral with tflite_runtime" in sentence


@pytest.mark.parametrize(("site", "found", "hint"), [
    ({"ai_edge_litert/none.py": ""}, "has no interpreter of TensorFlow Lite", "pip install ai-edge-litert"),
    ({"ai_edge_litert/none.py": "", "pycoral/pycoral.py": ""}, "has no interpreter", "an atlas of corals"),
    ({"ai_edge_litert/interpreter.py": "raise ImportError('numpy is too new')"},
     "the interpreter of this machine does not load: ai_edge_litert: numpy is too new", "tflite-runtime"),
])
def test_no_interpreter_is_told(
        library, system, program, samples, out, monkeypatch, tmp_path, site, found, hint):
    plug_in_usb(system)
    for name, text in site.items():
        package(tmp_path / "site", name, text)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    with failing(found) as raised:
        runner(library, system).run(out, program, samples)
    assert hint in raised.value.hint


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    with served(tmp_path_factory.mktemp("b") / "s") as made:
        yield made


def test_an_accelerator_of_a_board_is_run_over_ssh(library, system, program, samples, out, board):
    plug_in_pcie(system)
    there = runner(library, system, address=board.address, identity=str(board.identity),
                   known_hosts=str(board.known_hosts), folder=str(board.folder), python=sys.executable)
    there.run(out, program, samples)
    model = program / "ship/model_edgetpu.tflite"
    assert np.array_equal(np.load(out / "outputs.npy"), run_litert(model, samples_in(samples), "xnnpack"))
    assert f"of the board {board.address}, by ai_edge_litert" in notes_in(out)[0]
    assert list(board.folder.iterdir()) == []
    shutil.rmtree(system / "sys/class")
    with failing(f"no Edge TPU is attached to the board {board.address}"):
        there.run(out, program, samples)
    with failing(f"the board {board.address} has no such Python"):
        replace(there, python="python3.99").run(out, program, samples)
    assert list(board.folder.iterdir()) == []


def test_the_script_is_one_that_old_pythons_read():
    """It goes to boards as it is: no syntax, and no module, that Python 3.7 does not have."""
    tree = ast.parse(SCRIPT.read_text(), feature_version=(3, 7))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert modules == {"__future__", "collections.abc", "pathlib", "typing"}
    assert names <= {"ctypes", "importlib", "importlib.util", "json", "os", "sys", "time", "numpy"}


def test_an_address_that_is_none_is_a_mistake_of_the_call(library, system, program, samples, out):
    with pytest.raises(ConfigError, match="is no address of a board"):
        runner(library, system, address="-oProxyCommand=true").run(out, program, samples)
