"""The emulated boards: start-up, exact counts, faults, and firmware that does what it should not."""

from __future__ import annotations

import functools
import shutil
import struct
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from emulated import INPUT_BYTES, MODEL, SAMPLES, WANTED, firmware, harmful

from edgeq.emulation import elf, plugin
from edgeq.emulation.boards import BOARDS, KIB, MIB, Memory, linker_script
from edgeq.emulation.cores import CORES
from edgeq.emulation.faults import found, told
from edgeq.emulation.qemu import Emulated, Emulation, run
from edgeq.errors import ConfigError, ToolError

# Beside the call and what is around the loop: four instructions a turn, a load and a store among them.
LOOP = """
void demo_invoke(const void *in, void *out);
#define UNUSED __attribute__((unused))
__attribute__((naked)) void demo_invoke(UNUSED const void *in, UNUSED void *out) {
  __asm__ volatile(".syntax unified\\n ldr r2, =%d\\n"
                   "1: ldr r3, [r0]\\n str r3, [r1]\\n subs r2, #1\\n bne 1b\\n bx lr\\n.ltorg");
}
"""
Ran = Callable[..., Emulated]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    @functools.cache
    def build(machine: str, model: str = MODEL, core: str = "", **defines: str) -> Path:
        folder = tmp_path_factory.mktemp("firmware")
        return firmware(folder, BOARDS[machine], "semihosting", model, core, **defines)

    return build


@pytest.fixture
def ran(built: Callable[..., Path]) -> Ran:
    def run_it(machine: str = "mps2-an386", count: int = 3, **how: object) -> Emulated:
        given = {name: how.pop(name) for name in ("timeout_s", "counting", "trace_bytes") if name in how}
        emulation = Emulation(BOARDS[machine], INPUT_BYTES, INPUT_BYTES, **given)
        samples = harmful(how.pop("harm")) if "harm" in how else SAMPLES[:count].tobytes()
        return run(built(machine, **how), samples, emulation)

    return run_it


@pytest.mark.parametrize("machine", BOARDS)
def test_every_board_runs_and_its_stack_is_seen(ran: Ran, machine: str) -> None:
    emulated = ran(machine)
    assert np.array_equal(np.frombuffer(emulated.outputs, np.int8).reshape(3, -1), WANTED[:3])
    assert 0 < emulated.stack_bytes < 100
    assert (emulated.counts, emulated.trace) == (None, b"")


def test_a_smaller_core_runs_on_a_larger_board(ran: Ran) -> None:
    given = {"counting": "memory", "core": "cortex-m0plus"}
    assert ran("mps2-an385", **given).counts == ran("microbit", counting="memory").counts


@pytest.mark.parametrize("machine", ["microbit", "mps2-an386", "mps3-an547"])
def test_counts_are_exact(ran: Ran, machine: str) -> None:
    few, many = (ran(machine, 2, model=LOOP % turns, counting="memory").counts for turns in (10, 1010))
    for one, other in zip(few.samples, many.samples, strict=True):
        spent = (other.instructions - one.instructions, other.loads - one.loads, other.stores - one.stores)
        assert spent == (4000, 1000, 1000)


def test_counts_are_the_same_with_and_without_memory_and_in_every_run(ran: Ran) -> None:
    counts = [ran(counting=counting).counts for counting in ("memory", "instructions", "instructions")]
    totals = [[sample.instructions for sample in each.samples] for each in counts]
    assert totals[0] == totals[1] == totals[2]
    assert counts[1] == counts[2]
    assert counts[1].samples[0].loads == 0 < counts[0].samples[0].loads


def test_counts_of_the_steps_add_up_to_those_of_the_samples(ran: Ran) -> None:
    counts = ran(counting="memory").counts
    assert len(counts.steps) == 3
    assert all(600 < step.instructions < 600 * 30 for step in counts.steps)
    for field in ("instructions", "loads", "stores"):
        of_steps = sum(getattr(each, field) for each in (counts.outside, *counts.steps))
        assert of_steps == sum(getattr(sample, field) for sample in counts.samples)


def test_a_trace_holds_what_every_step_leaves(ran: Ran) -> None:
    trace = ran(count=2, EQ_TRACE="1", trace_bytes=3 * (8 + INPUT_BYTES)).trace
    steps = [struct.unpack_from("<II600b", trace, i * 608) for i in range(6)]
    assert len(trace) == 6 * 608
    assert [step[:2] for step in steps] == [(0, 600), (1, 600), (2, 600)] * 2
    assert np.array_equal(steps[3][2:], SAMPLES[1] + np.int8(1))
    assert np.array_equal(steps[5][2:], WANTED[1])


def test_no_samples_give_no_outputs(ran: Ran) -> None:
    assert ran(count=0).outputs == b""


@pytest.mark.parametrize("machine", BOARDS)
def test_a_fault_names_the_function_and_the_registers(ran: Ran, machine: str) -> None:
    cause = "a fault" if machine == "microbit" else "an access to memory that is not there"
    with pytest.raises(ToolError, match=f"faulted on {machine}: {cause} in demo_step_2") as error:
        ran(machine, harm="FALT")
    assert "2f000000" in error.value.hint
    assert " psr=" in error.value.hint


@pytest.mark.parametrize("machine", BOARDS)
def test_a_stack_that_overflows_faults(ran: Ran, machine: str) -> None:
    with pytest.raises(ToolError, match=f"the firmware faulted on {machine}: the stack overflowed"):
        ran(machine, harm="DEEP")


def test_a_stack_that_is_nearly_full_does_not(ran: Ran) -> None:
    assert 700 <= ran(harm="ROOM").stack_bytes < 800


@pytest.mark.parametrize(("code", "cause"), [
    ('__asm__ volatile("udf #0");', "an instruction that the core does not have"),
    ("((void (*)(void))0x20000000u)();", "a jump to an address that is not Thumb code"),
    ("((void (*)(void))0xE0000001u)();", "instructions fetched where none may run"),
    ('__asm__ volatile("ldrd r0, r1, [%0]" : : "r"(0x20000001u) : "r0", "r1");', "an unaligned access"),
])
def test_a_fault_is_told_by_its_cause(ran: Ran, code: str, cause: str) -> None:
    with pytest.raises(ToolError, match=cause):
        ran(model=MODEL.replace("from = in;", f"from = in;\n  {code}"))


def test_an_unaligned_access_faults_for_a_small_core_on_a_larger_board(ran: Ran) -> None:
    model = MODEL.replace("to = out;", "to = out;\n  (void)*(volatile const uint32_t *)(from + 1);")
    with pytest.raises(ToolError, match="faulted on mps2-an385"):
        ran("mps2-an385", model=model, core="cortex-m0plus")
    ran("mps2-an385", model=model)


@pytest.mark.parametrize("machine", ["mps2-an386", "microbit"])
def test_a_firmware_that_hangs_is_stopped(ran: Ran, machine: str) -> None:
    begun = time.monotonic()
    with pytest.raises(ToolError, match=rf"the firmware on {machine} had not ended after 0\.4 s"):
        ran(machine, harm="HANG", timeout_s=0.4)
    assert time.monotonic() - begun < 60


ENDLESS = """for (;;) {
    register int r0 __asm__("r0") = 4;
    register const void *r1 __asm__("r1") = "garbage\\n";
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
  }"""


def test_a_firmware_that_prints_without_end_fills_no_disk(ran: Ran, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeq.emulation.qemu.SPARE", 50_000)
    taken = shutil.disk_usage("/tmp").used
    with pytest.raises(ToolError, match="had not ended after 1 s") as error:
        ran(model=MODEL.replace("to = out;", f"to = out;\n{ENDLESS}"), timeout_s=1)
    assert "garbage" in error.value.hint
    assert shutil.disk_usage("/tmp").used - taken < 100 << 20


def test_a_firmware_that_ends_early_is_an_error(ran: Ran) -> None:
    leaves = MODEL.replace("void demo_invoke", "void eq_exit(int32_t status);\nvoid demo_invoke", 1)
    with pytest.raises(ToolError, match="wrote 0 bytes of outputs; 3 samples have 1800"):
        ran(model=leaves.replace("from = in;", "eq_exit(0);\n  from = in;"))
    with pytest.raises(ToolError, match="ended with status 7"):
        ran(model=leaves.replace("from = in;", "eq_exit(7);\n  from = in;"))


def test_a_firmware_of_another_model_is_an_error(built: Callable[..., Path]) -> None:
    emulation = Emulation(BOARDS["mps2-an386"], 300, 300)
    with pytest.raises(ToolError, match="found a part of a sample at their end"):
        run(built("mps2-an386"), bytes(900), emulation)
    with pytest.raises(ToolError, match="ran 1 samples of 2"):
        run(built("mps2-an386"), bytes(600), emulation)


def test_samples_are_whole(built: Callable[..., Path]) -> None:
    with pytest.raises(ValueError, match="7 bytes are no whole number"):
        run(built("mps2-an386"), bytes(7), Emulation(BOARDS["mps2-an386"], 600, 600))


def test_a_missing_emulator_or_compiler_is_named_with_its_package(
    built: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    program = built("mps2-an386")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(ToolError, match="qemu-system-arm is not installed") as error:
        run(program, b"", Emulation(BOARDS["mps2-an386"], 600, 600))
    assert error.value.hint == "apt-get install qemu-system-arm"
    with pytest.raises(ToolError, match="gcc is not installed, and instructions are counted") as error:
        plugin.built()
    assert "apt-get install gcc" in error.value.hint


def test_the_plugin_is_compiled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    made = plugin.built()
    written = made.stat().st_mtime_ns
    assert plugin.built() == made
    assert made.stat().st_mtime_ns == written
    assert [each.name for each in (tmp_path / "edgeq").iterdir()] == [made.name]


def test_a_program_has_no_more_than_the_device() -> None:
    memory = BOARDS["mps2-an386"].limited(MIB, 320 * KIB)
    assert memory == Memory(0, MIB, 0x20000000, 320 * KIB)
    with pytest.raises(ConfigError, match=r"ram: 20480 bytes are more than the 16384 of board microbit"):
        BOARDS["microbit"].limited(128 * KIB, 20 * KIB)


def test_the_linker_script_says_where_everything_is() -> None:
    device = linker_script(Memory(0x08000000, 2 * MIB, 0x20000000, 640 * KIB), 4096, "a Nucleo-L4R5ZI")
    assert "FLASH (rx) : ORIGIN = 0x8000000, LENGTH = 2097152" in device
    assert "RAM (rwx) : ORIGIN = 0x20000000, LENGTH = 655360" in device
    assert ". += 4096;" in device
    assert "@" not in device
    assert "VECTORS (rx) : ORIGIN = 0x0" in linker_script(BOARDS["mps3-an547"].memory)


def test_every_board_has_a_core_that_is_known() -> None:
    assert {board.core for board in BOARDS.values()} <= CORES.keys()


def test_symbols_and_sections_are_those_of_the_file(built: Callable[..., Path]) -> None:
    functions = elf.functions(built("mps2-an386"))
    step = functions["demo_step_1"]
    assert step.size > 10
    assert step.address % 2 == 0
    assert elf.function_at(built("mps2-an386"), step.address + 2) == "demo_step_1+0x2"
    assert elf.function_at(built("mps2-an386"), 0x20000000) == ""
    sections = {section.name: section for section in elf.sections(built("mps2-an386"))}
    assert (sections[".stack"].size, sections[".stack"].loaded) == (KIB, False)
    assert sections[".vectors"].size == 64


@pytest.mark.parametrize("damaged", [b"", b"\x7fELF", b"MZ" * 100, b"\x7fELF\x02\x01" + bytes(90), b"cut"])
def test_what_is_no_elf_file_is_said(built: Callable[..., Path], tmp_path: Path, damaged: bytes) -> None:
    file = tmp_path / "bad.elf"
    file.write_bytes(built("mps2-an386").read_bytes()[:2000] if damaged == b"cut" else damaged)
    with pytest.raises(ToolError, match=r"bad\.elf is no ELF file"):
        elf.symbols(file)
    with pytest.raises(ToolError, match=r"bad\.elf is no ELF file"):
        elf.sections(file)


def test_a_fault_is_read_from_among_garbage() -> None:
    words = " ".join(f"{i:08x}" for i in range(15))
    assert found(f"\xff\x00edgeq-fault 12\nedgeq-fault {words}\n") == tuple(range(15))
    assert found("edgeq-fault 00000000") is None
    message, hint = told([0] * 6 + [0x1234, 0, 1 << 25, 0, 0, 0, 0, 0, 1], None)
    assert message == "a division by zero in 0x00001234"
    assert "pc=00001234" in hint
