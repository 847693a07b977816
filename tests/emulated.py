"""A model of three steps for the emulated boards, and the firmware that runs it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgeq.emulation.boards import KIB, Board, linker_script
from edgeq.emulation.cores import CORES
from edgeq.emulation.toolchain import test_sources as harness
from edgeq.firmware import toolchain

INPUT_BYTES = 600
SAMPLES = np.random.default_rng(0).integers(-128, 128, (20, INPUT_BYTES)).astype(np.int8)
WANTED = ((SAMPLES + np.int8(1)) * np.int8(3)) ^ np.int8(1)
MODEL = """
#include <stdint.h>
void demo_invoke(const void *in, void *out);
#ifdef EQ_TRACE
void eq_traced(uint32_t step, const void *bytes, uint32_t size);
#endif
static int8_t arena[600];
static const int8_t *from;
static int8_t *to;
static void demo_step_0(void) {
  for (int i = 0; i < 600; i++) { arena[i] = (int8_t)(from[i] + 1); }
}
static void demo_step_1(void) {
  for (int i = 0; i < 600; i++) { arena[i] = (int8_t)(arena[i] * 3); }
}
static void demo_step_2(void) {
  for (int i = 0; i < 600; i++) { to[i] = (int8_t)(arena[i] ^ 1); }
#ifdef HANG
  for (volatile int j = 0;; j++) {}
#endif
#ifdef FAULT
  *(volatile int *)0xF0000000u = 1;
#endif
#ifdef DEEP
  volatile char deep[DEEP];
  for (int i = 0; i < DEEP; i++) { deep[i] = deep[DEEP - 1 - i]; }
#endif
}
static void (*const steps[3])(void) = {demo_step_0, demo_step_1, demo_step_2};
void demo_invoke(const void *in, void *out) {
  from = in;
  to = out;
  for (uint32_t i = 0; i < 3u; i++) {
    steps[i]();
#ifdef EQ_TRACE
    eq_traced(i, i == 2u ? to : arena, sizeof arena);
#endif
  }
}
"""


def firmware(folder: Path, board: Board, transport: object, model: str = MODEL, core: str = "",
             **defines: str) -> Path:
    """The test firmware of `model` for `board` in `folder`: 64 KiB of flash, 8 KiB of RAM, 1 KiB of stack."""
    for source in harness(transport):
        (folder / source.name).write_bytes(source.read_bytes())
        (folder / "eq_test.h").write_bytes((source.parent / "eq_test.h").read_bytes())
    (folder / "model.c").write_text(model, encoding="utf-8")
    (folder / "flash.ld").write_text(linker_script(board.limited(64 * KIB, 8 * KIB), KIB), encoding="utf-8")
    chain = toolchain.found((*CORES[core or board.core].flags, "-O2"))
    macros = {"EQ_INVOKE": "demo_invoke", "EQ_INPUT_BYTES": str(INPUT_BYTES),
              "EQ_OUTPUT_BYTES": str(INPUT_BYTES), **defines}
    words = [*toolchain.WARNINGS, *(f"-D{name}={value}" for name, value in macros.items())]
    objects = chain.objects(folder, ["model.c", *(source.name for source in harness(transport))], words)
    return chain.linked(folder, [*(each.name for each in objects), "-T", "flash.ld"], "firmware.elf")
