"""A model of three steps for the emulated boards, and the firmware that runs it.

A sample that begins with one of the words in HARM makes its last step do what it should not.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from linking import Program, link

from edgeq.emulation.boards import KIB, Board, harness, linker_script
from edgeq.emulation.cores import CORES

INPUT_BYTES = 600
SAMPLES = np.random.default_rng(0).integers(-128, 128, (20, INPUT_BYTES)).astype(np.int8)
WANTED = ((SAMPLES + np.int8(1)) * np.int8(3)) ^ np.int8(1)
HARM = ("HANG", "FALT", "DEEP", "ROOM")
MODEL = """
#include <stdint.h>
#include <string.h>
void demo_invoke(const void *in, void *out);
#ifdef EQ_TRACE
void eq_traced(uint32_t step, const void *bytes, uint32_t size);
#endif
static int8_t arena[600];
static const int8_t *from;
static int8_t *to;
#define FILLS(size) \\
  __attribute__((noinline)) static void demo_fills_##size(void) { \\
    volatile int deep[size / 4]; \\
    for (int i = 0; i < size / 4; i++) { deep[i] = i + deep[size / 4 - 1 - i]; } \\
  }
FILLS(2000)
FILLS(700)
static void demo_step_0(void) {
  for (int i = 0; i < 600; i++) { arena[i] = (int8_t)(from[i] + 1); }
}
static void demo_step_1(void) {
  for (int i = 0; i < 600; i++) { arena[i] = (int8_t)(arena[i] * 3); }
}
static void demo_step_2(void) {
  for (int i = 0; i < 600; i++) { to[i] = (int8_t)(arena[i] ^ 1); }
  if (memcmp(from, "HANG", 4) == 0) {
    for (volatile int i = 0;; i++) {}
  } else if (memcmp(from, "FALT", 4) == 0) {
    *(volatile int *)0x2F000000u = 1;
  } else if (memcmp(from, "DEEP", 4) == 0) {
    demo_fills_2000();
  } else if (memcmp(from, "ROOM", 4) == 0) {
    demo_fills_700();
  } else {
  }
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


def harmful(word: str) -> bytes:
    """A sample that makes the model do what `word` of HARM says."""
    return word.encode() + SAMPLES[0].tobytes()[4:]


def firmware(folder: Path, board: Board, transport: str | Path, model: str = MODEL, core: str = "",
             **defines: str) -> Path:
    """The test firmware of `model` for `board` in `folder`: 64 KiB of flash, 8 KiB of RAM, 1 KiB of stack."""
    file = folder / "model.c"
    file.write_text(model, encoding="utf-8")
    macros = {"EQ_INVOKE": "demo_invoke", "EQ_INPUT_BYTES": str(INPUT_BYTES),
              "EQ_OUTPUT_BYTES": str(INPUT_BYTES), **defines}
    script = linker_script(board.limited(64 * KIB, 8 * KIB), KIB)
    return link(folder, Program((file, *harness(transport)), CORES[core or board.core], script, macros))
