/* What a Cortex-M spends cycles on, counted as QEMU executes a program (API version 1, QEMU 4.2 to 8).
 * SPDX-License-Identifier: GPL-2.0-or-later
 * The declarations are written from the documented interface, as distributions ship no header of it.
 *
 *   -plugin events.so,begin=ADDRESS,end=ADDRESS,out=FILE[,steps=FILE][,flash=FIRST-END]
 *           [,read=BYTES,line=BYTES,fetched=LINES,held=LINES]
 *
 * Begin, end and steps are those of count.c. FILE gets a line `sample N...` for each sample and
 * `step NUMBER N...` for each step, summed over the samples; the counters are those of the enum below, in its
 * order. Which instructions wait for which is told by those that follow each other in a block: Arm's manuals
 * (timing.py) say when. Of the flash `read` bytes come at a time, into `fetched` lines of `line` bytes for
 * instructions and `held` lines for data, the least recently used going first; one that is not there is a read. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t qemu_plugin_id_t;
typedef uint32_t qemu_plugin_meminfo_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
enum { CB_NO_REGS = 0, MEM_RW = 3 };
typedef void (*translated_t)(qemu_plugin_id_t, struct qemu_plugin_tb *);
typedef void (*executed_t)(unsigned int, void *);
typedef void (*accessed_t)(unsigned int, qemu_plugin_meminfo_t, uint64_t, void *);
typedef void (*ended_t)(qemu_plugin_id_t, void *);
extern void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, translated_t);
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
extern struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
extern uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *);
extern const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *);
extern size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *);
extern void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *, executed_t, int, void *);
extern void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *, executed_t, int, void *);
extern void qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn *, accessed_t, int, int, void *);
extern unsigned int qemu_plugin_mem_size_shift(qemu_plugin_meminfo_t);
extern _Bool qemu_plugin_mem_is_store(qemu_plugin_meminfo_t);
extern void qemu_plugin_register_atexit_cb(qemu_plugin_id_t, ended_t, void *);
#define EXPORT __attribute__((visibility("default")))
EXPORT int qemu_plugin_version = 1;

/* Known when a block is translated: instructions; loads and stores of one word or less; words of those of
 * several; waits for the address of a load that none before it hides; waits of an address for a result;
 * MLA and MLS; SMULL and UMULL; SMLAL and UMLAL; divisions. Then what is known when it runs: branches taken,
 * accesses beyond one that an unaligned address takes, and reads of the flash for instructions and for data. */
enum { INSTRUCTIONS, LOADS, STORES, WORDS, DELAYS, INTERLOCKS, ACCUMULATES, LONGS, LONG_ACCUMULATES, DIVIDES,
       STATIC, TAKEN = STATIC, UNALIGNED, FETCHES, READS, EVENTS };
typedef enum { OTHER, RESULT, LOAD, STORE, SEVERAL } kind_t;
typedef struct {
  kind_t kind;
  int to, base, index; /* registers, -1 for none */
  int words, counter; /* of several; what else it counts as, or INSTRUCTIONS */
} decoded_t;
typedef struct {
  uint64_t first, next;
  uint32_t events[STATIC];
} block_t;

#define LARGEST 65536
#define MOST_LINES 1024
typedef struct { uint64_t tag, used, there; } line_t; /* tag 0: empty; a bit of `there` for each read */
typedef struct { int lines; uint64_t clock; line_t line[MOST_LINES]; } cache_t;

static uint64_t steps[LARGEST];
static uint64_t of_step[LARGEST + 1][EVENTS], sample[EVENTS], now[EVENTS];
static int known, counting, current = -1;
static uint64_t begin, end, expected, last_read, flash_first, flash_end;
static unsigned long read_bytes = 4, line_bytes = 4;
static cache_t fetched, held;
static FILE *out;

/* Whether what lies at `address` of the flash has to be read. */
static int is_read(cache_t *cache, uint64_t address) {
  const uint64_t tag = address / line_bytes + 1, bit = 1ull << (address % line_bytes / read_bytes);
  line_t *oldest = cache->line;
  if (cache->lines == 0) {
    return 1;
  }
  cache->clock++;
  for (line_t *line = cache->line; line < cache->line + cache->lines; line++) {
    if (line->tag == tag) {
      const int there = (line->there & bit) != 0;
      line->used = cache->clock;
      line->there |= bit;
      return !there;
    }
    oldest = line->used < oldest->used ? line : oldest;
  }
  *oldest = (line_t){tag, cache->clock, bit};
  return 1;
}
static int in_flash(uint64_t address) { return flash_first <= address && address < flash_end; }
static void close_step(void) {
  for (int i = 0; i < EVENTS; i++) {
    of_step[current + 1][i] += now[i];
    sample[i] += now[i];
  }
  memset(now, 0, sizeof now);
}
static void write_row(const uint64_t *events) {
  for (int i = 0; i < EVENTS; i++) {
    fprintf(out, " %" PRIu64, events[i]);
  }
  fputc('\n', out);
}
static void at_begin(unsigned int cpu, void *data) {
  (void)cpu, (void)data;
  current = -1, counting = 1, expected = 0;
  memset(now, 0, sizeof now);
  memset(sample, 0, sizeof sample);
}
static void at_end(unsigned int cpu, void *data) {
  (void)cpu, (void)data;
  if (counting) {
    close_step();
    counting = 0;
    fputs("sample", out);
    write_row(sample);
  }
}
static void at_step(unsigned int cpu, void *data) {
  (void)cpu;
  if (counting) {
    close_step();
    current = (int)(intptr_t)data;
  }
}
static void at_block(unsigned int cpu, void *data) {
  const block_t *block = data;
  (void)cpu;
  if (!counting) {
    return;
  }
  for (int i = 0; i < STATIC; i++) {
    now[i] += block->events[i];
  }
  now[TAKEN] += expected != 0 && block->first != expected;
  expected = block->next;
  for (uint64_t at = block->first / read_bytes * read_bytes; at < block->next; at += read_bytes) {
    if (at != last_read && in_flash(at)) {
      now[FETCHES] += (uint64_t)is_read(&fetched, at);
    }
    last_read = at;
  }
}
static void at_access(unsigned int cpu, qemu_plugin_meminfo_t info, uint64_t address, void *data) {
  const unsigned int size = 1u << qemu_plugin_mem_size_shift(info);
  (void)cpu, (void)data;
  if (!counting) {
    return;
  }
  now[UNALIGNED] += size == 1 ? 0 : address & 1 ? (size == 2 ? 1 : 2) : size > 2 && address & 2 ? 1 : 0;
  if (!qemu_plugin_mem_is_store(info) && in_flash(address)) {
    now[READS] += (uint64_t)is_read(&held, address);
  }
}

#define PLAIN(kind, to, base, index) ((decoded_t){kind, (int)(to), (int)(base), (int)(index), 0, INSTRUCTIONS})
static decoded_t result(unsigned int to) { return PLAIN(RESULT, to == 15 ? -1 : (int)to, -1, -1); }
/* Of two registers, the first of which is also the result: TST, CMP and CMN have none. */
static decoded_t computed(unsigned int code) {
  const unsigned int operation = code >> 6 & 15;
  if (code & 1u << 10) {
    const unsigned int high = code >> 8 & 3;
    return high == 3 ? PLAIN(OTHER, -1, -1, -1) : result(high == 1 ? 15 : (code & 7) | (code >> 4 & 8));
  }
  return result(operation == 8 || operation == 10 || operation == 11 ? 15 : code & 7);
}
/* ARMv7-M Architecture Reference Manual (DDI 0403E), A5.2: 16-bit instructions. */
static decoded_t decoded_16(unsigned int code) {
  const unsigned int low = code & 7, next = code >> 3 & 7, third = code >> 6 & 7, high = code >> 8 & 7;
  const kind_t access = code & 1u << 11 ? LOAD : STORE;
  switch (code >> 12) {
    case 0x0: case 0x1: return result(low);
    case 0x2: case 0x3: return result(code >> 11 == 5 ? 15 : high);
    case 0x4: return code >> 11 == 9 ? PLAIN(LOAD, high, 15, -1) : computed(code);
    case 0x5: return PLAIN((code >> 9 & 7) < 3 ? STORE : LOAD, low, next, third);
    case 0x6: case 0x7: case 0x8: return PLAIN(access, low, next, -1);
    case 0x9: return PLAIN(access, high, 13, -1);
    case 0xA: return result(high);
    case 0xB:
      if ((code & 0x0600) == 0x0400) {
        return (decoded_t){SEVERAL, -1, 13, -1, __builtin_popcount(code & 0x1FF), INSTRUCTIONS};
      }
      return PLAIN((code & 0x0D00) == 0 || (code & 0x0F00) == 0x0A00 ? RESULT : OTHER, low, -1, -1);
    case 0xC: return (decoded_t){SEVERAL, -1, (int)high, -1, __builtin_popcount(code & 0xFF), INSTRUCTIONS};
    default: return PLAIN(OTHER, -1, -1, -1);
  }
}
static decoded_t multiplied(unsigned int first, unsigned int second) {
  static const int long_counters[8] = {LONGS, DIVIDES, LONGS, DIVIDES, LONG_ACCUMULATES, INSTRUCTIONS,
                                       LONG_ACCUMULATES, INSTRUCTIONS};
  decoded_t made = result(second >> 8 & 15);
  if (first & 0x80) {
    made.counter = (second & 0xC0) == 0x80 ? INSTRUCTIONS : long_counters[first >> 4 & 7];
  } else if ((first & 0x70) == 0 && second >> 12 != 15) {
    made.counter = ACCUMULATES;
  }
  return made;
}
/* The same, A5.3: 32-bit instructions. */
static decoded_t decoded_32(unsigned int first, unsigned int second) {
  const int base = (int)(first & 15);
  if ((first & 0xFE40) == 0xE800) { /* LDM and STM */
    return (decoded_t){SEVERAL, -1, base, -1, __builtin_popcount(second), INSTRUCTIONS};
  }
  if ((first & 0xFE40) == 0xE840) { /* LDRD and STRD; exclusive and table branches */
    return first & 0x120 ? (decoded_t){SEVERAL, -1, base, -1, 2, INSTRUCTIONS} : PLAIN(LOAD, -1, base, -1);
  }
  if ((first & 0xFE00) == 0xEC00 || (first & 0xFF20) == 0xED00) { /* of the floating-point unit */
    const int words = (first & 0xFF20) == 0xED00 ? 1 : (int)(second & 0xFF);
    return (decoded_t){SEVERAL, -1, base, -1, words, INSTRUCTIONS};
  }
  if ((first & 0xFE00) == 0xF800) {
    const int by_register = base != 15 && (first & 0x80) == 0 && (second & 0xFC0) == 0;
    return PLAIN(first & 0x10 ? LOAD : STORE, second >> 12, base, by_register ? (int)(second & 15) : -1);
  }
  if ((first & 0xFF00) == 0xFB00) {
    return multiplied(first, second);
  }
  if ((first & 0xFE00) == 0xEA00 || (first & 0xFF00) == 0xFA00 || ((first & 0xF800) == 0xF000 && second < 0x8000)) {
    return result(second >> 8 & 15);
  }
  return PLAIN(OTHER, -1, -1, -1);
}
static decoded_t decoded(const struct qemu_plugin_insn *instruction) {
  const uint8_t *bytes = qemu_plugin_insn_data(instruction);
  const unsigned int first = bytes[0] | (unsigned int)bytes[1] << 8;
  return qemu_plugin_insn_size(instruction) == 2 ? decoded_16(first)
                                                 : decoded_32(first, bytes[2] | (unsigned int)bytes[3] << 8);
}

/* Add `one`, which follows `before`, to the block. */
static void add(block_t *block, decoded_t before, decoded_t one) {
  const int needs = before.to >= 0 && (before.to == one.base || before.to == one.index);
  block->events[INSTRUCTIONS]++;
  if (one.counter != INSTRUCTIONS) {
    block->events[one.counter]++;
  }
  block->events[LOADS] += one.kind == LOAD;
  block->events[STORES] += one.kind == STORE;
  block->events[WORDS] += (uint32_t)one.words;
  if (one.kind == LOAD || (one.kind == STORE && one.index >= 0)) {
    block->events[DELAYS] += before.kind != LOAD || needs;
  }
  block->events[INTERLOCKS] += one.kind >= LOAD && before.kind == RESULT && needs;
}
static int step_at(uint64_t address) {
  for (int i = 0; i < known; i++) {
    if (steps[i] == address) {
      return i;
    }
  }
  return -1;
}
/* A block in which something begins or ends is taken apart into its instructions. */
static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb) {
  const size_t size = qemu_plugin_tb_n_insns(tb);
  decoded_t before = PLAIN(OTHER, -1, -1, -1);
  block_t *block = NULL;
  int apart = 0;
  (void)id;
  for (size_t i = 0; i < size; i++) {
    const uint64_t address = qemu_plugin_insn_vaddr(qemu_plugin_tb_get_insn(tb, i));
    apart |= address == begin || address == end || step_at(address) >= 0;
  }
  for (size_t i = 0; i < size; i++) {
    struct qemu_plugin_insn *instruction = qemu_plugin_tb_get_insn(tb, i);
    const uint64_t address = qemu_plugin_insn_vaddr(instruction);
    const int step = step_at(address);
    if (address == begin || address == end) {
      qemu_plugin_register_vcpu_insn_exec_cb(instruction, address == begin ? at_begin : at_end, CB_NO_REGS, NULL);
      continue;
    }
    if (step >= 0) {
      qemu_plugin_register_vcpu_insn_exec_cb(instruction, at_step, CB_NO_REGS, (void *)(intptr_t)step);
    }
    if (block == NULL || apart) {
      block = calloc(1, sizeof *block); /* for as long as QEMU may run it */
      block->first = address;
      if (apart) {
        qemu_plugin_register_vcpu_insn_exec_cb(instruction, at_block, CB_NO_REGS, block);
      } else {
        qemu_plugin_register_vcpu_tb_exec_cb(tb, at_block, CB_NO_REGS, block);
      }
    }
    block->next = address + qemu_plugin_insn_size(instruction);
    add(block, before, decoded(instruction));
    before = decoded(instruction);
    qemu_plugin_register_vcpu_mem_cb(instruction, at_access, CB_NO_REGS, MEM_RW, NULL);
  }
}
static void ended(qemu_plugin_id_t id, void *data) {
  (void)id, (void)data;
  for (int i = 0; i <= known; i++) {
    fprintf(out, "step %d", i - 1);
    write_row(of_step[i]);
  }
  fclose(out);
}
static void read_steps(const char *path) {
  FILE *file = fopen(path, "r");
  unsigned long long address;
  while (file != NULL && known < LARGEST && fscanf(file, "%llx", &address) == 1) {
    steps[known++] = address & ~1ull;
  }
  if (file != NULL) {
    fclose(file);
  }
}
static void set(const char *name, const char *value) {
  char *rest = NULL;
  const unsigned long long number = strtoull(value, &rest, 0);
  if (strcmp(name, "begin") == 0) {
    begin = number & ~1ull;
  } else if (strcmp(name, "end") == 0) {
    end = number & ~1ull;
  } else if (strcmp(name, "flash") == 0) {
    flash_first = number, flash_end = strtoull(rest + 1, NULL, 0);
  } else if (strcmp(name, "read") == 0) {
    read_bytes = (unsigned long)number;
  } else if (strcmp(name, "line") == 0) {
    line_bytes = (unsigned long)number;
  } else if (strcmp(name, "fetched") == 0) {
    fetched.lines = number < MOST_LINES ? (int)number : MOST_LINES;
  } else if (strcmp(name, "held") == 0) {
    held.lines = number < MOST_LINES ? (int)number : MOST_LINES;
  } else if (strcmp(name, "out") == 0) {
    out = fopen(value, "w");
  } else if (strcmp(name, "steps") == 0) {
    read_steps(value);
  }
}
EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int count, char **arguments) {
  (void)info;
  for (int i = 0; i < count; i++) {
    char *value = strchr(arguments[i], '=');
    if (value != NULL) {
      *value = '\0';
      set(arguments[i], value + 1);
    }
  }
  if (out == NULL) {
    fprintf(stderr, "events: no file for the counts, or it cannot be written\n");
    return -1;
  }
  qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
  qemu_plugin_register_atexit_cb(id, ended, NULL);
  return 0;
}
