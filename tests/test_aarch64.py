"""Linux boards under QEMU: exact counts, the kernels of their cores, and programs that misbehave."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from aarch64 import RPI4, status_of
from graphs import operator, tensor, written

from edgeq import measurement
from edgeq.artifact import Origin
from edgeq.emulation import user_mode
from edgeq.emulation.linux_boards import BOARDS
from edgeq.emulation.user_mode import UserMode
from edgeq.errors import ConfigError, Refused, ToolError
from edgeq.graph import read
from edgeq.interpret import litert_outputs, on_grid
from edgeq.linux import kit as kits
from edgeq.linux.compiling import GCC, cross, system_library
from edgeq.program import OUTPUTS
from edgeq.quantization import notes_in
from edgeq.recipes.static_int8 import StaticInt8
from edgeq.runners.likeness import difference
from edgeq.runners.qemu_aarch64 import QemuAarch64
from edgeq.samples import Samples
from edgeq.store import Store

FASHION = Path(__file__).parents[1] / "models/fashion"
# Four instructions a turn, a load and a store among them, between the marks.
LOOP = """
__attribute__((noinline)) void eq_counting_begins(void) { __asm__ volatile("" ::: "memory"); }
__attribute__((noinline)) void eq_counting_ends(void) { __asm__ volatile("" ::: "memory"); }
static long cell[2];
int main(int count, char **words) {
  (void)words;
  for (long round = 0; round < 2; round++) {
    long turns = count > 1 ? 1010 : 10;
    eq_counting_begins();
    __asm__ volatile("1: ldr x9, [%1]\\n str x9, [%1, #8]\\n subs %0, %0, #1\\n b.ne 1b"
                     : "+r"(turns) : "r"(cell) : "x9", "memory", "cc");
    eq_counting_ends();
  }
  return 0;
}
"""
Program = Callable[[str], Path]


@pytest.fixture(scope="module")
def mode() -> UserMode:
    return UserMode(RPI4, system_library("libc.so.6").parent, 20.0)


@pytest.fixture
def program(tmp_path: Path) -> Program:
    def compiled(source: str) -> Path:
        (tmp_path / "it.c").write_text(source, encoding="utf-8")
        subprocess.run([cross(GCC), "-O1", "-no-pie", "it.c", "-o", "it"], cwd=tmp_path, check=True)
        return tmp_path

    return compiled


@pytest.fixture(scope="module")
def samples(store: Store, baseline: Path) -> Path:
    """Forty of the demo's evaluation samples."""
    made = store.make(Samples("evaluation", count=40).load, store.take(Origin(FASHION / "evaluation.npz")),
                      store.take(Origin(baseline)))
    return store.path(made)


@pytest.fixture(scope="module")
def quantized(store: Store, baseline: Path) -> Path:
    calibration = store.make(Samples("calibration", count=50).load,
                             store.take(Origin(FASHION / "calibration.npz")), store.take(Origin(baseline)))
    return store.path(store.make(StaticInt8().quantize, store.take(Origin(baseline)), calibration))


@pytest.fixture
def shipped(tmp_path: Path) -> Callable[[bytes], Path]:
    """A program folder that ships this .tflite."""
    def ship(content: bytes) -> Path:
        folder = tmp_path / "program"
        (folder / "ship").mkdir(parents=True)
        (folder / "ship/model.tflite").write_bytes(content)
        return folder

    return ship


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def counted(folder: Path, mode: UserMode, *words: str) -> tuple[user_mode.Count, ...]:
    how = UserMode(mode.board, mode.libraries, mode.timeout_s, "memory")
    assert user_mode.run(["./it", *words], folder, how).status == 0
    return user_mode.counted(folder)


def test_counts_are_exact_and_the_same_in_every_run(program: Program, mode: UserMode) -> None:
    folder = program(LOOP)
    few, many = counted(folder, mode), counted(folder, mode, "more")
    assert len(few) == len(many) == 2
    for one, other in zip(few, many, strict=True):
        assert (other.loads - one.loads, other.stores - one.stores) == (1000, 1000)
        assert other.instructions - one.instructions == 4000
    assert counted(folder, mode) == few


def test_neither_environment_nor_place_reaches_the_program(
    program: Program, mode: UserMode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = program('#include <stdio.h>\n#include <stdlib.h>\nextern char **environ;\n'
                     'int main(void) { printf("%p %d", (void *)&folder, environ[0] != NULL); return 0; }'
                     .replace("&folder", "main"))
    monkeypatch.setenv("EDGEQ_SECRET", "x" * 1000)
    said = user_mode.run(["./it"], folder, mode).output
    assert said.endswith(" 0")
    other = tmp_path / "another place with a much longer name"
    other.mkdir()
    shutil.copy(folder / "it", other)
    assert user_mode.run(["./it"], other, mode).output == said


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_a_board_is_described_as_the_core_that_is_emulated(
    program: Program, mode: UserMode, board: object
) -> None:
    folder = program("""#include <stdio.h>
int main(void) {
  unsigned long midr;
  char text[4000];
  __asm__("mrs %0, MIDR_EL1" : "=r"(midr));
  FILE *file = fopen("/proc/cpuinfo", "r");
  text[fread(text, 1, sizeof text - 1, file)] = 0;
  printf("%lx\\n%s", midr, text);
  return 0;
}""")
    said = user_mode.run(["./it"], folder, UserMode(board, mode.libraries, 20.0)).output
    emulated, _, text = said.partition("\n")
    midr = int(emulated, 16)
    assert midr >> 24 == 0x41
    assert (midr >> 4 & 0xFFF, midr >> 4 & 0xFFF) == (board.midr >> 4 & 0xFFF, board.core.part)
    assert f"CPU part\t: {board.core.part:#x}" in text
    assert text.count("processor") == 1


def test_a_program_that_crashes_hangs_or_fails_is_told_as_such(program: Program, mode: UserMode) -> None:
    crashing = program("int main(void) { __builtin_trap(); }")
    with pytest.raises(ToolError, match=r"it on raspberry-pi-4 was killed by SIG(TRAP|ILL)"):
        user_mode.run(["./it"], crashing, mode)
    hanging = program("int main(void) { for (;;) { __asm__ volatile(\"\"); } }")
    with pytest.raises(ToolError, match=r"had not ended after 0\.3 s"):
        user_mode.run(["./it"], hanging, UserMode(RPI4, mode.libraries, 0.3))
    failing = program("int main(void) { return 7; }")
    assert user_mode.run(["./it"], failing, mode).status == 7


def test_what_cannot_be_counted_is_an_error(program: Program, mode: UserMode) -> None:
    folder = program("int main(void) { return 0; }")
    with pytest.raises(ToolError, match="it has no marks to count between"):
        user_mode.run(["./it"], folder, UserMode(RPI4, mode.libraries, 9.0, "memory"))
    with pytest.raises(ToolError, match="the emulator counted nothing"):
        user_mode.counted(folder)


def test_a_missing_emulator_is_named_with_its_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolError, match="qemu-aarch64 is not installed") as error:
        QemuAarch64("raspberry-pi-4").tools()
    assert error.value.hint == "apt-get install qemu-user"


def test_the_demo_on_every_core(
    quantized: Path, samples: Path, shipped: Callable[[bytes], Path], tmp_path: Path
) -> None:
    content = (quantized / "model.tflite").read_bytes()
    folder = shipped(content)
    instructions = {}
    for board in ("raspberry-pi-3", "raspberry-pi-4", "raspberry-pi-5"):
        place = tmp_path / board
        place.mkdir()
        QemuAarch64(board, samples=5).run(place, folder, samples)
        costs = measurement.read(place / "costs.json")
        instructions[board] = costs["instructions"].value
        assert (costs["instructions"].source, costs["instructions"].n) == ("simulated", 40)
        assert "no public figure" in (costs["latency_ms"].reason or "")
        assert "not what it takes on the board" in (costs["ram_bytes"].reason or "")
        told = json.loads((place / "details/emulation.json").read_text(encoding="utf-8"))
        assert told["equal_in_all"]
        assert told["inference"]["instructions"] == instructions[board]
        assert told["differences"]["reference"]["differing"] == 0
        assert any("LiteRT's reference kernels give what this machine's give, bit for bit, in all 5" in note
                   for note in notes_in(place))
    assert len(set(instructions.values())) == 3
    assert instructions["raspberry-pi-5"] < 0.7 * instructions["raspberry-pi-3"]  # which has no dot products


def test_counts_hang_on_neither_the_run_nor_the_place_of_temporary_files(
    quantized: Path, samples: Path, shipped: Callable[[bytes], Path], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, counts = shipped((quantized / "model.tflite").read_bytes()), set()
    for name in ("a", "b", "a longer name of a folder"):
        (tmp_path / name / "out").mkdir(parents=True)
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / name))
        QemuAarch64("raspberry-pi-3", samples=1).run(tmp_path / name / "out", folder, samples)
        told = json.loads((tmp_path / name / "out/details/emulation.json").read_text(encoding="utf-8"))
        counts.add((*told["first_inference"].values(), *told["inference"].values()))
    assert len(counts) == 1


def test_outputs_are_those_of_the_board_and_time_is_an_estimate_with_its_basis(
    quantized: Path, samples: Path, shipped: Callable[[bytes], Path], out: Path
) -> None:
    folder = shipped((quantized / "model.tflite").read_bytes())
    runner = QemuAarch64("raspberry-pi-4", "reference", "2GHz", 0.5, basis="a guess", samples=3)
    runner.run(out, folder, samples)
    model, x = folder / "ship/model.tflite", np.load(samples / "x.npy")
    graph = read(model)
    wanted = litert_outputs(model, on_grid(graph, x), "reference")
    grid = graph.tensors[graph.outputs[0]].quantization
    reals = (wanted.astype(np.float32) - grid.zero_points[0]) * grid.scales[0]
    assert np.array_equal(np.load(out / OUTPUTS), reals.astype(np.float32))
    costs = measurement.read(out / "costs.json")
    latency = costs["latency_ms"]
    assert (latency.source, latency.basis) == ("estimated", "a guess")
    assert latency.value == pytest.approx(1000 * costs["instructions"].value * 0.5 / 2e9)


def test_a_float_model_takes_the_factor_of_reals_and_its_difference_is_told(
    baseline: Path, samples: Path, shipped: Callable[[bytes], Path], out: Path
) -> None:
    folder = shipped((baseline / "baseline.tflite").read_bytes())
    runner = QemuAarch64("raspberry-pi-4", clock=1e9, cycles_per_instruction=1.0,
                         float_cycles_per_instruction=3.0, samples=3)
    runner.run(out, folder, samples)
    costs = measurement.read(out / "costs.json")
    assert costs["latency_ms"].value == pytest.approx(3e-6 * costs["instructions"].value)
    told = json.loads((out / "details/emulation.json").read_text(encoding="utf-8"))["differences"]
    assert told["XNNPACK"]["most"] < 1e-5


@pytest.mark.parametrize(("fields", "message"), [
    ({"board": "raspberry-pi-44"}, "nothing is known of 'raspberry-pi-44'; did you mean 'raspberry-pi-4'"),
    ({"board": "max"}, "board: nothing is known of 'max'"),
    ({"clock": "fast", "cycles_per_instruction": 1.0}, "clock: "),
    ({"cycles_per_instruction": 1.0}, "clock: cycles are no time without it"),
])
def test_a_wrong_field_is_the_users_to_mend(
    quantized: Path, samples: Path, shipped: Callable[[bytes], Path], out: Path, fields: dict, message: str
) -> None:
    folder = shipped((quantized / "model.tflite").read_bytes())
    with pytest.raises(ConfigError, match=message):
        QemuAarch64(**{"board": "raspberry-pi-4", "samples": 1, **fields}).run(out, folder, samples)


def graph_of(name: str, *, variable: bool = False) -> bytes:
    ends = [tensor("in", (1, 8)), tensor("out", (1, 8))]
    kept = [tensor("kept", (1, 8), variable=True)] if variable else []
    return written([*ends, *kept], [operator(name, "in kept" if variable else "in", "out")])


@pytest.mark.parametrize(("content", "kind", "message"), [
    (graph_of("CUSTOM:Nix"), Refused, "unresolved custom op: Nix"),
    (graph_of("ADD", variable=True), Refused, "Variable tensors not yet supported"),
])
def test_what_the_board_has_no_kernel_for_is_refused(
    shipped: Callable[[bytes], Path], out: Path, content: bytes, kind: type, message: str
) -> None:
    folder = shipped(content)
    given = out.parent / "given"
    given.mkdir()
    np.save(given / "x.npy", np.ones((2, 8), np.float32))
    with pytest.raises(kind, match=message):
        QemuAarch64("raspberry-pi-4").run(out, folder, given)


def test_inputs_of_wrong_sizes_are_told_apart(quantized: Path, mode: UserMode, tmp_path: Path) -> None:
    shutil.copy(quantized / "model.tflite", tmp_path)
    right = kits.Request("model.tflite", 784, 10)
    assert status_of(tmp_path, mode, right, bytes(785))[0] == 70
    assert status_of(tmp_path, mode, kits.Request("model.tflite", 392, 10), bytes(784))[0] == 67
    assert status_of(tmp_path, mode, kits.Request("model.tflite", 784, 9), bytes(784))[0] == 67
    (tmp_path / "model.tflite").write_bytes(b"not a model at all, but long enough")
    assert status_of(tmp_path, mode, right, bytes(784))[0] == 65


def test_a_kit_with_its_own_c_library_needs_none_there(quantized: Path, tmp_path: Path) -> None:
    bare, folder = tmp_path / "bare", tmp_path / "folder"
    bare.mkdir()
    folder.mkdir()
    shutil.copy(quantized / "model.tflite", folder)
    for file in kits.bundled(Path("model.tflite")).files.values():
        shutil.copy(file, folder)
    (folder / kits.IN).write_bytes(bytes(2 * 784))
    request = kits.Request("model.tflite", 784, 10, warm_up=1, times=True)
    ended = user_mode.run(kits.words(request), folder, UserMode(RPI4, bare, 20.0))
    assert ended.status == 0, ended.output
    left = kits.left(folder, request, 2)
    assert len(left.outputs) == 20
    assert len(left.times_us) == 2
    assert left.peak_rss_bytes > 1 << 20


def test_integers_are_compared_by_steps_and_reals_by_the_largest() -> None:
    integers = difference(np.array([[1, 2], [3, 5]], np.int8), np.array([[1, 2], [3, 4]], np.int8))
    assert (integers.differing, integers.most, str(integers)) == (
        1, 1.0, "differ from this machine's by at most 1 LSB, in 1 of 2 samples")
    extremes = difference(np.array([[-128]], np.int8), np.array([[127]], np.int8))
    assert extremes.most == 255
    reals = difference(np.array([[1.0], [2.0]], np.float32), np.array([[1.0], [4.0]], np.float32))
    assert (reals.differing, reals.most) == (1, 0.5)
    assert "bit for bit" in str(difference(np.ones((3, 1)), np.ones((3, 1))))
