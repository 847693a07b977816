"""Estimates: what a program does is counted to the instruction, and every figure names who published it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from emulated import INPUT_BYTES, SAMPLES, firmware
from firmware_nets import Net

from benchmarks.boards import CHECKED, MODELS, RELATED, published, without
from edgeq import estimation
from edgeq.backends.firmware import Firmware
from edgeq.emulation import qemu, rp2040js
from edgeq.emulation.boards import BOARDS
from edgeq.emulation.qemu import Emulation
from edgeq.emulation.timing import SHARES, TIMINGS, Events, Flash, Pace, pace_of
from edgeq.errors import ConfigError
from edgeq.measurement import Value
from edgeq.program import costs_in
from edgeq.quantization import notes_in
from edgeq.runners.qemu_aarch64 import QemuAarch64, by_kind
from edgeq.runners.qemu_cortex_m import QemuCortexM
from edgeq.target import all_of

FLASH = {"wait_states": 5, "read_bytes": 8, "line_bytes": 32, "instruction_lines": 32, "data_lines": 8}
# What loops do in a turn, beside their `subs` and their branch, which is taken.
LOOPS: Mapping[str, Mapping[str, int]] = {
    "nop": {"instructions": 3},
    # A load hides the address of the next, but not of one that needs what it loads.
    "ldr r4, [r0]; ldr r5, [r1]": {"instructions": 4, "loads": 2, "delays": 1},
    "ldr r4, [r7]; ldrb r5, [r1, r4]; nop": {"instructions": 5, "loads": 2, "delays": 2},
    # A store takes no longer but where its address is a sum.
    "str r4, [sp]": {"instructions": 3, "stores": 1},
    "strb.w r4, [r1, r3]": {"instructions": 3, "stores": 1, "delays": 1},
    "ldr.w r4, [r0], #0; strh r4, [r1, r3]": {"instructions": 4, "loads": 1, "stores": 1, "delays": 1},
    # An address that is computed right before it is used.
    "adds r4, r1, #4; ldr r5, [r4]": {"instructions": 4, "loads": 1, "delays": 1, "interlocks": 1},
    "add.w r4, r1, #4; nop; ldr r5, [r4]": {"instructions": 5, "loads": 1, "delays": 1},
    "cmp r1, #0; ldr r5, [r1]": {"instructions": 4, "loads": 1, "delays": 1},
    # Several words, the floating-point unit's among them.
    "ldm r0, {r4, r5, r6}; stmdb sp, {r4, r5}": {"instructions": 4, "words": 5},
    "ldrd r4, r5, [r0]; push {r4}; pop {r4}": {"instructions": 5, "words": 4},
    "vldr s0, [r0]; vldm r0, {s0-s3}": {"instructions": 4, "words": 5},
    # Multiplications: those of the DSP extension take one cycle on every core that has them.
    "mul r4, r3, r3; mla r4, r3, r3, r4; smlad r4, r3, r3, r4": {"instructions": 5, "accumulates": 1},
    "smull r4, r5, r3, r3; umlal r4, r5, r3, r3": {"instructions": 4, "longs": 1, "long_accumulates": 1},
    "sdiv r4, r3, r3; udiv r4, r3, r3": {"instructions": 4, "divides": 2},
    "ldr r4, [r0, #2]; ldrh r5, [r0, #1]; ldr r6, [r0, #3]":
        {"instructions": 5, "loads": 3, "delays": 1, "unaligned": 4},
    "b 2f; nop; 2:": {"instructions": 3, "taken": 2},
    "cbnz r3, 2f; 2:": {"instructions": 3},
}
CODE = """
#include <stdint.h>
void demo_invoke(const void *in, void *out);
const uint8_t demo_data[8192] = {1};
"""
# The first word of a sample is how many turns it takes.
STEP = """
__attribute__((naked)) static void demo_step_%d(__attribute__((unused)) const void *in,
                                                __attribute__((unused)) void *out) {
  __asm__ volatile(".syntax unified\\n push {r4-r8}\\n sub sp, #32\\n"
                   "ldr r2, [r0]\\n mov r3, #2\\n ldr r7, =demo_data\\n"
                   ".balign 8\\n1: %s\\n subs r2, #1\\n bne 1b\\n"
                   "add sp, #32\\n pop {r4-r8}\\n bx lr\\n.ltorg");
}
"""
FEW, MANY = 10, 1010


def counted(folder: Path, bodies: Sequence[str], flash: Flash | None = None) -> list[Events]:
    """What 1000 turns of each of the loops are counted as."""
    steps = "".join(STEP % (i, body.replace("; ", "\\n ")) for i, body in enumerate(bodies))
    calls = " ".join(f"demo_step_{i}(in, out);" for i in range(len(bodies)))
    board = BOARDS["mps2-an386"]
    elf = firmware(folder, board, "semihosting",
                   f"{CODE}{steps}void demo_invoke(const void *in, void *out) {{ {calls} }}\n")
    emulation = Emulation(board, INPUT_BYTES, INPUT_BYTES, counting="events", flash=flash)
    few, many = (qemu.run(elf, turns.to_bytes(4, "little") + bytes(INPUT_BYTES - 4), emulation).events.steps
                 for turns in (FEW, MANY))
    return [Events(**{name: vars(long)[name] - vars(short)[name] for name in vars(long)})
            for short, long in zip(few, many, strict=True)]


def test_what_loops_do_is_counted(tmp_path: Path) -> None:
    wanted = [Events(**{name: 1000 * count for name, count in {"taken": 1, **turn}.items()})
              for turn in LOOPS.values()]
    assert dict(zip(LOOPS, counted(tmp_path, [*LOOPS]), strict=True)) == dict(zip(LOOPS, wanted, strict=True))


def test_what_is_kept_of_the_flash_is_read_once_and_what_is_not_in_every_turn(tmp_path: Path) -> None:
    nops = ["nop; " * count + "nop" for count in (400, 800)]
    data = ["ldr r4, [r7], #4; nop", "ldr r4, [r0]; nop"]
    short, long, read, none = counted(tmp_path, [*nops, *data], pace_of("cortex-m4", FLASH).flash)
    assert (short.fetches, none.reads) == (0, 0)  # 804 bytes of the 1024 that are kept; and RAM
    assert long.fetches == pytest.approx(1000 * 1606 / 8, rel=0.01)
    assert read.reads == pytest.approx(1000 / 2, abs=1)  # eight bytes at a time
    assert [each.fetches + each.reads for each in counted(tmp_path, [nops[1], data[0]])] == [0, 0]


def test_cycles_are_those_of_the_manuals() -> None:
    events = Events(instructions=100, loads=10, stores=5, words=6, delays=8, interlocks=2, accumulates=3,
                    longs=1, long_accumulates=2, divides=1, taken=4, unaligned=1, fetches=2, reads=3)
    of_v7m = 100 + 8 + 6 + 2 + 2 * 4 + 1 + 6
    assert Pace(TIMINGS["cortex-m0plus"]).cycles(events) == 100 + 10 + 5 + 6 + 4
    assert Pace(TIMINGS["cortex-m0"]).cycles(events) == 100 + 10 + 5 + 6 + 2 * 4
    assert Pace(TIMINGS["cortex-m3"]).cycles(events) == of_v7m + 3 + 3 + 9
    assert Pace(TIMINGS["cortex-m4"]).cycles(events) == of_v7m
    waiting = pace_of("cortex-m4", FLASH)
    assert waiting.cycles(events) == of_v7m + 5 * (2 + 3)
    assert waiting.shares(events) == {
        "instructions": 100, "loads and stores": 17, "multiplications and divisions": 6, "branches taken": 8,
        "flash, for instructions": 10, "flash, for data": 15}
    assert {name for names in SHARES.values() for name in names} == {*vars(events)}
    assert str(waiting) == ("cycles by the Cortex-M4 Technical Reference Manual (Arm 100166), 3.3, "
                            "and 5 wait states of the flash")


def test_a_cortex_m0_plus_takes_what_a_model_by_others_says(tmp_path: Path) -> None:
    """rp2040js was written from the same manual by somebody else."""
    board = BOARDS["mps2-an385"]
    elf = firmware(tmp_path, board, "semihosting", core="cortex-m0plus")
    wanted = rp2040js.timed(rp2040js.installed(), elf, SAMPLES.tobytes(), 60).cycles
    emulation = Emulation(board, INPUT_BYTES, INPUT_BYTES, counting="events")
    events = qemu.run(elf, SAMPLES.tobytes(), emulation).events
    found = [pace_of("cortex-m0plus", {}).cycles(sample) for sample in events.samples]
    assert found == pytest.approx(wanted, rel=0.005)
    steps = (events.outside, *events.steps)
    assert sum(step.instructions for step in steps) == sum(sample.instructions for sample in events.samples)


@pytest.mark.parametrize(("core", "flash", "message"), [
    ("cortex-m7", {}, "timing: no manual is known that tells the cycles of 'cortex-m7'"),
    ("cortex-m4", {"wait_states": 5}, "flash: 'data_lines' is missing or unknown"),
    ("cortex-m4", {**FLASH, "lines": 5}, "flash: 'lines' is missing or unknown"),
    ("cortex-m4", {**FLASH, "read_bytes": 0}, "flash: none has reads of 0 and lines of 32 bytes"),
    ("cortex-m4", {**FLASH, "line_bytes": 128}, "flash: none has reads of 8 and lines of 128 bytes"),
    ("cortex-m4", {**FLASH, "wait_states": -1}, "or fewer than none of anything"),
])
def test_what_is_no_core_or_no_flash_is_the_users_to_mend(core: str, flash: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        pace_of(core, flash)


def test_time_and_energy_are_estimates_that_name_their_sources() -> None:
    time = estimation.latency(12_000, "120MHz", "a manual")
    assert time == Value(0.1, "ms", "estimated", basis="a manual")
    spent = estimation.energy(time, 50, "a paper")
    assert spent == Value(5.0, "uj", "estimated", basis="a manual; power: a paper")
    counts = {"instruction": 1_000_000, "load": 100_000, "store": 10_000}
    energies = {"instruction": 65, "load": 175, "store": 200.0}
    assert estimation.energy_of(counts, energies, "a thesis") == Value(
        84.5, "uj", "estimated", basis="energies of instructions: a thesis")
    assert by_kind(qemu.Count(1_110_000, 100_000, 10_000)) == counts


TIME = Value(1.0, "ms", "estimated")
ONES = dict.fromkeys(estimation.NEEDED, 1)


@pytest.mark.parametrize(("estimate", "message"), [
    (lambda: estimation.energy(TIME, 50, ""), "power_mw: an estimate needs a figure"),
    (lambda: estimation.energy(TIME, 0, "x"), "power_mw: 0 is no figure"),
    (lambda: estimation.energy_of(ONES, {"instruction": 1, "load": 1}, "x"), "energy_pj: 'store' is missing"),
    (lambda: estimation.energy_of(ONES, ONES, ""), "energy_pj: an estimate needs"),
    (lambda: estimation.energy_of(ONES, {**ONES, "load": -1}, "x"), "energy_pj: -1 is no figure"),
    (lambda: estimation.latency(1, "fast", ""), "clock: 'fast' is not a number"),
    (lambda: estimation.latency(1, 0, ""), "clock: cycles are no time without it"),
])
def test_a_figure_without_a_source_makes_no_estimate(estimate: Callable[[], Value], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        estimate()


def test_every_figure_of_every_target_has_a_published_source() -> None:
    runners = {target.name: vars(target.runner) for target in all_of(ROOT)}
    powered = {name for name, runner in runners.items() if runner.get("power_mw")}
    assert {"nucleo-l4r5zi", "cortex-m4", "cortex-m33", "cortex-m7", "rpi4"} <= powered
    for runner in runners.values():
        assert bool(runner.get("power_mw")) == bool(runner.get("power_source"))
        assert bool(runner.get("energy_pj")) == bool(runner.get("energy_source"))
        if runner.get("cycles_per_instruction"):
            assert runner["basis"]
            assert not runner.get("timing")
        if runner.get("timing"):
            assert pace_of(runner["timing"], runner["flash"]).timing.source


def test_what_the_estimates_are_held_against_is_published_and_left_out_when_it_is_predicted() -> None:
    for board in (CHECKED, RELATED):
        rows = published(board)
        assert [*rows] == [*MODELS]
        assert all(row.source.startswith("github.com/mlcommons/tiny_results_v1.0/") for row in rows.values())
    kws = published(CHECKED)["kws"]
    assert (round(kws.time, 2), kws.energy, round(kws.power_mw, 1)) == (99.81, 5230.273, 52.4)
    assert without("b", {"a": 1.0, "b": 100.0, "c": 3.0}) == 2


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of three operators, compiled, and samples for it."""
    folder = tmp_path_factory.mktemp("estimates")
    net = Net([1, 12, 12, 4], 0)
    value = net.conv("in", 8, (3, 3), options={"padding": "SAME", "activation": "relu"})
    value = net.conv(value, 1, (3, 3), kind="DEPTHWISE_CONV_2D", options={"padding": "SAME"})
    net.dense(value, 10)
    for name in ("quantized", "program", "samples"):
        (folder / name).mkdir()
    (folder / "quantized/model.tflite").write_bytes(net.file())
    backend = Firmware("cortex-m4", "mps2-an386", flash="256KiB", ram="64KiB", model="net")
    backend.compile(folder / "program", folder / "quantized")
    drawn = np.random.default_rng(0).normal(size=(20, 12, 12, 4)).astype(np.float32)
    np.save(folder / "samples/x.npy", drawn)
    return folder


def ran(runner: QemuCortexM, program: Path, out: Path) -> dict[str, Value]:
    out.mkdir()
    runner.run(out, program / "program", program / "samples")
    return costs_in(out)


def test_the_runner_says_what_the_cycles_go_to(program: Path, tmp_path: Path) -> None:
    runner = QemuCortexM("mps2-an386", "120MHz", timing="cortex-m4", flash={**FLASH, "instruction_lines": 2},
                         basis="checked on a board", power_mw=52, power_source="a benchmark", samples=3)
    costs = ran(runner, program, tmp_path / "out")
    told = json.loads((tmp_path / "out/details/emulation.json").read_text(encoding="utf-8"))
    sources = {name: cost.source for name, cost in costs.items()}
    assert sources == {"instructions": "simulated",
                       **dict.fromkeys(("cycles", "latency_ms", "energy_uj"), "estimated")}
    assert told["timing"]["events"]["instructions"] == costs["instructions"].value
    assert sum(told["timing"]["cycles"].values()) == pytest.approx(costs["cycles"].value, abs=6)
    assert sum(step["cycles"] for step in told["steps"]) == pytest.approx(costs["cycles"].value, rel=0.01)
    assert costs["latency_ms"].value == pytest.approx(costs["cycles"].value / 120e3, rel=1e-4)
    assert costs["latency_ms"].basis.endswith("5 wait states of the flash; checked on a board")
    assert costs["energy_uj"].value == pytest.approx(52 * costs["latency_ms"].value)
    assert costs["energy_uj"].basis.endswith("; power: a benchmark")
    assert sum(told["energy"]["uj"].values()) == pytest.approx(costs["energy_uj"].value, rel=1e-6)
    share = told["timing"]["cycles"]["flash, for instructions"] / costs["cycles"].value
    assert notes_in(tmp_path / "out")[1] == (
        f"{share:.0%} of the estimated cycles are waits for instructions: there are loops longer than the 64 "
        "bytes of code that are kept of the flash")


def test_what_nobody_published_is_unavailable_and_a_power_of_nobody_is_refused(
    program: Path, tmp_path: Path
) -> None:
    runner = QemuCortexM("mps2-an386", "120MHz", samples=1)
    timed = replace(runner, timing="cortex-m4")
    bare = ran(runner, program, tmp_path / "bare")
    assert bare["latency_ms"].source == bare["energy_uj"].source == "unavailable"
    costs = ran(timed, program, tmp_path / "timed")
    assert (costs["latency_ms"].source, costs["energy_uj"].source) == ("estimated", "unavailable")
    assert costs["energy_uj"].reason.startswith("there is no published figure")
    assert len(notes_in(tmp_path / "timed")) == 1
    with pytest.raises(ConfigError, match="nobody is named"):
        ran(replace(timed, power_mw=30), program, tmp_path / "guessed")


def test_a_core_alone_or_a_whole_board_takes_energy(tmp_path: Path) -> None:
    counts = [qemu.Count(9_999, 0, 0), qemu.Count(1_110_000, 100_000, 10_000)]
    core = QemuAarch64("raspberry-pi-3", energy_pj={"instruction": 65, "load": 175, "store": 200},
                       energy_source="a thesis")
    board = QemuAarch64("raspberry-pi-4", clock="1GHz", cycles_per_instruction=2, power_mw=3000,
                        basis="a list", power_source="a journal")
    assert core.costs(counts, None)["energy_uj"].value == 84.5
    spent = board.costs(counts, None)["energy_uj"]
    assert (spent.value, spent.basis) == (6660.0, "a list; power: a journal")
    assert QemuAarch64("raspberry-pi-5").costs(counts, None)["energy_uj"].source == "unavailable"
