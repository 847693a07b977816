"""What is put on a Linux board: fetched, compiled, called, and what it leaves."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from edgeq.artifact import digest_of_file
from edgeq.emulation import elf
from edgeq.errors import ConfigError, DeviceError, Refused, ToolError
from edgeq.linux import kit as kits
from edgeq.linux import wheels
from edgeq.linux.compiling import GCC, GXX, cross, system_library
from edgeq.linux.kit import Request

REQUEST = Request("model.tflite", 4, 2, "xnnpack", times=True)
TOLD = "load_us 10.5\ntime_us 3.5\ntime_us 4.5\nfirst_us 9.0\ncount 2\npeak_rss_bytes 4096\nend 0\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "out.bin").write_bytes(b"abcd")
    (tmp_path / "told.txt").write_text(TOLD, encoding="ascii")
    return tmp_path


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with nothing in it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/edgeq/linux"


def test_the_command_line_is_what_the_program_reads() -> None:
    assert kits.words(REQUEST) == ["./edgeq-run", "model.tflite", "4", "2", "xnnpack", "0", "times"]
    other = Request("m.pte", 9, 8, "reference", warm_up=3)
    assert kits.words(other) == ["./edgeq-run", "m.pte", "9", "8", "reference", "3", "-"]


def test_what_a_run_leaves_is_read_back(folder: Path) -> None:
    left = kits.left(folder, REQUEST, 2)
    assert left == kits.Left(b"abcd", 10.5, 9.0, (3.5, 4.5), 4096)


@pytest.mark.parametrize(("file", "content", "found"), [
    ("out.bin", b"abc", "left 3 bytes of outputs of 2 samples, not 4 of 2"),
    ("out.bin", None, "left 0 bytes of outputs"),
    ("told.txt", TOLD[:-1].encode(), "told.txt of the run is cut short"),
    ("told.txt", TOLD.replace("count 2", "count 1").encode(), "of 1 samples, not 4 of 2"),
    ("told.txt", TOLD.replace("time_us 4.5\n", "").encode(), "told 1 times of 2"),
    ("told.txt", TOLD.replace("end 0", "end 69").encode(), "cut short"),
    ("told.txt", None, "cut short"),
])
def test_what_is_cut_short_is_not_believed(
    folder: Path, file: str, content: bytes | None, found: str
) -> None:
    (folder / file).unlink()
    if content is not None:
        (folder / file).write_bytes(content)
    with pytest.raises(ToolError, match=found):
        kits.left(folder, REQUEST, 2)


@pytest.mark.parametrize(("status", "output", "kind", "message"), [
    (65, "edgeq-run: model.tflite is no .tflite, or is damaged: status 501", ConfigError,
     "model.tflite cannot be read: is no .tflite, or is damaged: status 501"),
    (66, "edgeq-run: model.tflite is a .pte of version ET11", ConfigError, "made for another version"),
    (68, "ERROR: Encountered unresolved custom op: Nix.\nedgeq-run: model.tflite cannot be prepared",
     Refused, "unresolved custom op: Nix"),
    (67, "", ToolError, "other sizes than its graph says: it printed nothing"),
    (71, "edgeq-run: out.bin cannot be written", DeviceError, "cannot be written there"),
    (73, "edgeq-run: model.tflite has no method forward", ConfigError, "has no method `forward`"),
    (127, "./edgeq-run: /lib/libc.so.6: version `GLIBC_2.34' not found", DeviceError, "does not start there"),
    (139, "", ToolError, "edgeq-run was killed by SIGSEGV with model.tflite"),
    (3, "what?", ToolError, "edgeq-run ended with status 3"),
])
def test_every_status_means_something(status: int, output: str, kind: type, message: str) -> None:
    error = kits.failed(status, output, REQUEST)
    assert type(error) is kind
    assert message in error.message
    assert error.hint


def test_statuses_are_those_of_the_program() -> None:
    source = (Path(kits.__file__).parent / "c/edgeq_run.h").read_text(encoding="utf-8")
    told = {int(line.split("=")[1].split(",")[0].split("/")[0]) for line in source.splitlines()
            if line.strip().startswith("EQ_") and "=" in line}
    assert told == kits._STATUSES.keys()


def test_a_kit_for_every_kind_of_model_has_the_marks_that_are_counted_between() -> None:
    for model in ("model.tflite", "model.pte"):
        kit = kits.glibc(Path(model))
        assert {"eq_counting_begins", "eq_counting_ends"} <= elf.functions(kit.program).keys()
        assert all(library.exists() for library in kit.libraries)
        assert kits.glibc(Path(model)) == kit
    with pytest.raises(ConfigError, match=r"neither a \.tflite nor a \.pte"):
        kits.glibc(Path("model.onnx"))


def test_a_kit_with_its_own_c_library_names_it_relative_to_where_it_runs() -> None:
    kit = kits.bundled(Path("model.tflite"))
    assert {"ld-linux-aarch64.so.1", "libc.so.6", "libstdc++.so.6", "libLiteRt.so"} <= kit.files.keys()
    assert b"\0./ld-linux-aarch64.so.1\0" in b"\0" + kit.program.read_bytes()


def test_a_wheel_that_is_not_there_is_named_with_what_to_do(cache: Path) -> None:
    with pytest.raises(ToolError, match=r"ai-edge-litert 2\.3\.0 for aarch64 is not here") as error:
        kits.glibc(Path("model.tflite"))
    assert "python -m edgeq.linux" in error.value.hint
    assert str(cache / "wheels") in error.value.hint
    assert wheels.LITERT.file in error.value.hint


def test_a_wheel_with_another_checksum_is_not_used(cache: Path) -> None:
    wheels.LITERT.by_hand.parent.mkdir(parents=True)
    wheels.LITERT.by_hand.write_bytes(b"PK of another")
    with pytest.raises(ToolError, match="another file than the one that edgeq was tried with") as error:
        kits.glibc(Path("model.tflite"))
    assert wheels.LITERT.sha256 in error.value.message
    assert [each.name for each in cache.iterdir()] == ["wheels"]


def test_a_wheel_that_was_put_there_by_hand_is_unpacked_as_far_as_it_is_wanted(
    cache: Path, tmp_path: Path
) -> None:
    file = tmp_path / "some.whl"
    with zipfile.ZipFile(file, "w") as archive:
        for name in ("a/lib.so", "a/other.py", "b/include/x.h", "b/include/../../../escape.h"):
            archive.writestr(name, name)
    wheel = wheels.Wheel("some", "1.0", "linux", digest_of_file(file), ("a/lib.so", "b/include/"))
    wheel.by_hand.parent.mkdir(parents=True)
    shutil.copy(file, wheel.by_hand)
    place = wheels.unpacked(wheel)
    found = {path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()}
    assert found == {"a/lib.so", "b/include/x.h"}
    wheel.by_hand.unlink()
    assert wheels.unpacked(wheel) == place
    assert wheels.unpacked(dataclasses.replace(wheel)) == place


def test_set_up_without_a_network_says_what_is_missing_and_how_to_put_it_there(cache: Path) -> None:
    variables = {**os.environ, "PIP_NO_INDEX": "1", "XDG_CACHE_HOME": str(cache.parents[1])}
    ended = subprocess.run([sys.executable, "-m", "edgeq.linux"], env=variables, capture_output=True,
                           text=True, check=False)
    assert ended.returncode == 1
    for wheel in wheels.WHEELS.values():
        assert f"{wheel.file} could not be fetched" in ended.stderr
    assert str(cache / "wheels") in ended.stderr
    assert (cache / "wheels").is_dir()
    assert "Traceback" not in ended.stderr


def test_a_missing_compiler_is_named_with_its_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in (GCC, GXX):
        with pytest.raises(ToolError, match=f"{name.replace('+', '.')} is not installed") as error:
            cross(name)
        assert "apt-get install gcc-aarch64-linux-gnu" in error.value.hint


def test_a_library_that_the_compiler_lacks_is_named() -> None:
    with pytest.raises(ToolError, match=r"has no libnothing\.so\.9"):
        system_library("libnothing.so.9")


def test_the_ndk_compiles_against_the_library_that_the_user_has(tmp_path: Path, cache: Path) -> None:
    ndk, library = tmp_path / "ndk", cache / kits.ANDROID_LITERT
    with pytest.raises(ToolError, match="has no compiler for Android API level 26"):
        kits.android(Path("model.tflite"), ndk)
    compiler = ndk / "toolchains/llvm/prebuilt/linux-x86_64/bin/aarch64-linux-android26-clang"
    compiler.parent.mkdir(parents=True)
    compiler.symlink_to(cross(GCC))
    with pytest.raises(ToolError, match="LiteRT for Android is not at") as error:
        kits.android(Path("model.tflite"), ndk)
    assert "maven.google.com" in error.value.hint
    library.parent.mkdir(parents=True)
    subprocess.run([cross(GCC), "-shared", "-x", "c", "/dev/null", "-o", library], check=True)
    with pytest.raises(ToolError, match="could not be compiled"):  # what it asks for is not in that library
        kits.android(Path("model.tflite"), ndk)
    with pytest.raises(ConfigError, match=r"takes a \.tflite alone"):
        kits.android(Path("model.pte"), ndk)
