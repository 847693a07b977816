"""What is put on a device to run a model there, the command line, and what the run leaves.

    kit = glibc(model)                             # program and libraries, for one folder of the device
    request = Request("model.tflite", 784, 10, "xnnpack")
    words(request)                                 # run in that folder, beside model.tflite and in.bin
    left(folder, request, count)                   # of out.bin and told.txt, brought back

The one rule: what came back is believed only where it is whole: all samples, all bytes, to the last line.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgeq import tool
from edgeq.errors import ConfigError, DeviceError, EdgeqError, Refused, ToolError
from edgeq.linux.compiling import GCC, GXX, PROGRAM, Recipe, compiled, cross, system_library
from edgeq.linux.wheels import EXECUTORCH, LITERT, WHEELS, folder, unpacked

IN, OUT, TOLD = "in.bin", "out.bin", "told.txt"
ANDROID_API = 26  # Android 8.0, the first with the C library that the runner needs
ANDROID_LITERT = "android/libLiteRt.so"
WARNINGS = ("-Wall", "-Wextra", "-Werror")
C_FLAGS = ("-O2", *WARNINGS, "-no-pie")  # addresses that are the same in every run can be counted at
CXX_FLAGS = ("-O2", "-std=c++17", "-no-pie", "-w", "-DC10_USING_CUSTOM_GENERATED_MACROS",
             "-DET_EVENT_TRACER_ENABLED", "-DET_USE_THREADPOOL", "-Wl,--no-as-needed")
OWN_LOADER = "-Wl,--dynamic-linker=./ld-linux-aarch64.so.1"
OWN_LIBRARIES = ("ld-linux-aarch64.so.1", "libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0",
                 "libgcc_s.so.1", "libstdc++.so.6")
EXECUTORCH_LIBRARIES = ("libexecutorch.so", "libexecutorch_threadpool.so", "libexecutorch_backend_xnnpack.so",
                        "libexecutorch_kernels_optimized.so", "libexecutorch_kernels_quantized.so")


@dataclass(frozen=True)
class Kit:
    """All that must lie in ONE folder of the device, under their own names."""

    program: Path
    libraries: tuple[Path, ...]

    @property
    def files(self) -> Mapping[str, Path]:
        """Names in that folder -> the files."""
        return {each.name: each for each in (self.program, *self.libraries)}


@dataclass(frozen=True)
class Request:
    """What to run: the `model` by its name in the folder, bytes a sample, inferences to warm up with.

    `kernels` choose LiteRT's; a .pte brings its own. `times` asks for the time of each inference.
    """

    model: str
    input_bytes: int
    output_bytes: int
    kernels: Literal["xnnpack", "reference"] = "xnnpack"
    warm_up: int = 0
    times: bool = False


@dataclass(frozen=True)
class Left:
    """What a run left: the outputs one after the other, microseconds, bytes of memory at most.

    `first_us` is the first inference of all, `times_us` those of the samples where they were asked for.
    """

    outputs: bytes
    load_us: float
    first_us: float
    times_us: tuple[float, ...]
    peak_rss_bytes: int


def glibc(model: Path) -> Kit:
    """The kit for `model` (.tflite or .pte) on Linux with glibc 2.34 or later (2.28 for a .pte).

    Raises ToolError with what to install, or to put where.
    """
    return _kit(model, ())


def bundled(model: Path) -> Kit:
    """The same kit with a C library of its own: for Linux with an older one, with another, or for Android.

    Its loader must be executable there, as the program.
    """
    kit = _kit(model, (OWN_LOADER,))
    return Kit(kit.program, (*kit.libraries, *(system_library(name) for name in OWN_LIBRARIES)))


def android(model: Path, ndk: Path) -> Kit:
    """The kit for a .tflite on Android, by the compiler of the NDK at `ndk`.

    LiteRT for Android is in no wheel: it is taken from where the user put it.
    """
    compiler = next(iter(sorted(ndk.glob(
        f"toolchains/llvm/prebuilt/*/bin/aarch64-linux-android{ANDROID_API}-clang"))), None)
    library = folder() / ANDROID_LITERT
    if model.suffix != ".tflite":
        raise ConfigError(f"{model.name}: the NDK's runner takes a .tflite alone", "leave out `ndk:`")
    if compiler is None:
        raise ToolError(f"{ndk} has no compiler for Android API level {ANDROID_API}",
                        "set `ndk:` to the folder of an Android NDK (r21 or later)")
    if not library.exists():
        raise ToolError(
            f"LiteRT for Android is not at {library}",
            "unpack jni/arm64-v8a/libLiteRt.so of com.google.ai.edge.litert:litert (maven.google.com) to it, "
            "or leave out `ndk:`")
    recipe = Recipe(compiler, ("run.c", "run_tflite.c"), ("-O2", *WARNINGS), (library,))
    return Kit(compiled(recipe), (library,))


def words(request: Request) -> list[str]:
    """The command line for `request`, to be run in the folder: in.bin -> out.bin, told.txt."""
    return [f"./{PROGRAM}", request.model, str(request.input_bytes), str(request.output_bytes),
            request.kernels, str(request.warm_up), "times" if request.times else "-"]


def left(place: Path, request: Request, count: int) -> Left:
    """What a run of `count` samples left in the folder `place`.

    Raises ToolError where it is cut short, or of another number of samples.
    """
    outputs = _bytes(place / OUT)
    told = _told(place / TOLD)
    if told.get("end") != ["0"]:
        raise ToolError(f"{TOLD} of the run is cut short", "it was stopped, or its output was cut on the way")
    wanted = count * request.output_bytes
    done = int(told["count"][0])
    if done != count or len(outputs) != wanted:
        raise ToolError(
            f"the run left {len(outputs)} bytes of outputs of {done} samples, not {wanted} of {count}",
            "its input or output was cut on the way; run it again")
    times = tuple(map(float, told.get("time_us", ())))
    if len(times) != (count if request.times else 0):
        raise ToolError(f"the run told {len(times)} times of {count}", "run it again")
    return Left(outputs, float(told["load_us"][0]), float(told["first_us"][0]), times,
                int(told["peak_rss_bytes"][0]))


def failed(status: int, output: str, request: Request) -> EdgeqError:
    """What it means that the program ended with `status`, not 0, having printed `output`."""
    said = _said(output).removeprefix(f"{request.model} ") or tool.tail(output)
    if told := _STATUSES.get(status):
        kind, message, hint = told
        return kind(f"{message.format(request.model)}: {said}", hint)
    if status in (126, 127):
        return DeviceError(f"{PROGRAM} does not start there: {said}",
                           "it is no Linux for 64-bit Arm, or its C library is older than glibc 2.34")
    ended = tool.died_of(status - 128) if 128 < status < 160 else f"ended with status {status}"
    return ToolError(f"{PROGRAM} {ended} with {request.model}", tool.tail(output))


_STATUSES: Mapping[int, tuple[type[EdgeqError], str, str]] = {  # of edgeq_run.h
    64: (ToolError, f"{PROGRAM} of another version got {{}}", "set up edgeq again: python -m edgeq.linux"),
    65: (ConfigError, "{} cannot be read", "it is damaged, or no model: make it again"),
    66: (ConfigError, "{} was made for another version of its runtime",
         f"export it with ExecuTorch {EXECUTORCH.version} (or convert it for LiteRT {LITERT.version})"),
    67: (ToolError, "{} has other sizes than its graph says", "make it again"),
    68: (Refused, "{} cannot be prepared", "another recipe may avoid the operator that is named"),
    69: (ToolError, "an inference of {} failed", "see the log"),
    70: (ToolError, "the samples for {} are cut short", "they were cut on the way; run it again"),
    71: (DeviceError, "what {} computes cannot be written there", "free some space on the device"),
    72: (DeviceError, "there is no memory for {}", "the device is too small for it, or busy"),
    73: (ConfigError, "{} has no method `forward`", "export the module's forward"),
}


def _kit(model: Path, flags: tuple[str, ...]) -> Kit:
    wheel = WHEELS.get(model.suffix)
    if wheel is None:
        raise ConfigError(f"{model.name} is neither a .tflite nor a .pte", "build one of them for Linux")
    place = unpacked(wheel)
    if wheel is LITERT:
        libraries: tuple[Path, ...] = (place / "ai_edge_litert/libLiteRt.so",)
        recipe = Recipe(cross(GCC), ("run.c", "run_tflite.c"), (*C_FLAGS, *flags), libraries)
    else:
        headers = place / "executorch/include"
        libraries = tuple(place / "executorch/lib" / name for name in EXECUTORCH_LIBRARIES)
        recipe = Recipe(cross(GXX), ("run.c", "run_pte.cpp"), (*CXX_FLAGS, *flags), libraries,
                        (headers, headers / "executorch/runtime/core/portable_type/c10"))
    return Kit(compiled(recipe), libraries)


def _bytes(file: Path) -> bytes:
    return file.read_bytes() if file.exists() else b""


def _told(file: Path) -> dict[str, list[str]]:
    """The lines of told.txt by their first words; a last line without an end is none."""
    told: dict[str, list[str]] = {}
    for line in _bytes(file).decode("ascii", "replace").split("\n")[:-1]:
        name, _, value = line.partition(" ")
        told.setdefault(name, []).append(value)
    return told


def _said(output: str) -> str:
    """What the program and its runtime say is wrong, of all that they print."""
    lines = [line.strip() for line in output.splitlines()]
    ours = [line.removeprefix(f"{PROGRAM}: ") for line in lines if line.startswith(f"{PROGRAM}: ")]
    theirs = [line for line in lines if line.startswith(("ERROR", "E "))]
    return "; ".join(dict.fromkeys([*ours, *theirs[:3]]))
