/* Exact counts of what an emulated program executes: a plugin of QEMU (API version 1, QEMU 4.2 to 8).
 * SPDX-License-Identifier: GPL-2.0-or-later
 * The declarations are written from the documented interface, as distributions ship no header of it.
 *
 *   -plugin count.so,begin=ADDRESS,end=ADDRESS,out=FILE[,steps=FILE][,memory=on]
 *
 * Counted is what runs between the instruction at `begin` and that at `end`, both left out: a sample.
 * `steps` holds an address a line: a step begins when the instruction there is executed, and lasts
 * until the next one, or the end. FILE gets a line `sample INSTRUCTIONS LOADS STORES` for each sample
 * and `step NUMBER INSTRUCTIONS LOADS STORES` for each step, summed over the samples; what runs before
 * the first one is step -1. Loads and stores are 0 without `memory`, which calls back for each: slow. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t qemu_plugin_id_t;
typedef uint32_t qemu_plugin_meminfo_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
enum { INLINE_ADD_U64 = 0, CB_NO_REGS = 0, MEM_RW = 3 };
typedef void (*translated_t)(qemu_plugin_id_t, struct qemu_plugin_tb *);
typedef void (*executed_t)(unsigned int, void *);
typedef void (*accessed_t)(unsigned int, qemu_plugin_meminfo_t, uint64_t, void *);
typedef void (*ended_t)(qemu_plugin_id_t, void *);
extern void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, translated_t);
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
extern struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
extern uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *);
extern void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *, int, void *, uint64_t);
extern void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *, executed_t, int, void *);
extern void qemu_plugin_register_vcpu_insn_exec_inline(struct qemu_plugin_insn *, int, void *, uint64_t);
extern void qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn *, accessed_t, int, int, void *);
extern _Bool qemu_plugin_mem_is_store(qemu_plugin_meminfo_t);
extern void qemu_plugin_register_atexit_cb(qemu_plugin_id_t, ended_t, void *);
#define EXPORT __attribute__((visibility("default")))
EXPORT int qemu_plugin_version = 1;

#define LARGEST 65536
typedef struct {
  uint64_t instructions, loads, stores;
} counts_t;
typedef struct {
  uint64_t address;
  int number;
} step_t;

static step_t steps[LARGEST]; /* by address */
static counts_t of_step[LARGEST + 1];
static int known;
static uint64_t begin, end;
static int counting, with_memory;
static counts_t now, since, sample; /* of all time; when the step began; of the sample up to then */
static int current = -1;
static FILE *out;

static void close_step(void) {
  counts_t *of = &of_step[current + 1];
  const counts_t spent = {now.instructions - since.instructions, now.loads - since.loads,
                          now.stores - since.stores};
  of->instructions += spent.instructions, sample.instructions += spent.instructions;
  of->loads += spent.loads, sample.loads += spent.loads;
  of->stores += spent.stores, sample.stores += spent.stores;
  since = now;
}
static void at_begin(unsigned int cpu, void *data) {
  (void)cpu, (void)data;
  since = now, current = -1, counting = 1;
  memset(&sample, 0, sizeof sample);
}
static void at_step(unsigned int cpu, void *data) {
  (void)cpu;
  if (counting) {
    close_step();
    current = (int)(intptr_t)data;
  }
}
static void at_end(unsigned int cpu, void *data) {
  (void)cpu, (void)data;
  if (counting) {
    close_step();
    counting = 0;
    fprintf(out, "sample %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", sample.instructions, sample.loads,
            sample.stores);
  }
}
static void at_access(unsigned int cpu, qemu_plugin_meminfo_t info, uint64_t address, void *data) {
  (void)cpu, (void)address, (void)data;
  if (qemu_plugin_mem_is_store(info)) {
    now.stores++;
  } else {
    now.loads++;
  }
}
static int by_address(const void *one, const void *other) {
  const uint64_t a = ((const step_t *)one)->address, b = ((const step_t *)other)->address;
  return a < b ? -1 : a > b;
}
static const step_t *step_at(uint64_t address) {
  const step_t wanted = {address, 0};
  return bsearch(&wanted, steps, (size_t)known, sizeof *steps, by_address);
}
static int is_mark(uint64_t address) { return address == begin || address == end; }

/* A block without a mark counts as one, when it is entered: only a fault leaves it before its end. */
static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *block) {
  (void)id;
  const size_t size = qemu_plugin_tb_n_insns(block);
  int marked = 0;
  for (size_t i = 0; i < size; i++) {
    const uint64_t address = qemu_plugin_insn_vaddr(qemu_plugin_tb_get_insn(block, i));
    marked |= is_mark(address) || step_at(address) != NULL;
  }
  if (!marked) {
    qemu_plugin_register_vcpu_tb_exec_inline(block, INLINE_ADD_U64, &now.instructions, size);
  }
  for (size_t i = 0; (marked || with_memory) && i < size; i++) {
    struct qemu_plugin_insn *instruction = qemu_plugin_tb_get_insn(block, i);
    const uint64_t address = qemu_plugin_insn_vaddr(instruction);
    const step_t *step = step_at(address);
    if (is_mark(address)) {
      qemu_plugin_register_vcpu_insn_exec_cb(instruction, address == begin ? at_begin : at_end, CB_NO_REGS,
                                             NULL);
      continue;
    }
    if (step != NULL) {
      qemu_plugin_register_vcpu_insn_exec_cb(instruction, at_step, CB_NO_REGS, (void *)(intptr_t)step->number);
    }
    if (marked) {
      qemu_plugin_register_vcpu_insn_exec_inline(instruction, INLINE_ADD_U64, &now.instructions, 1);
    }
    if (with_memory) {
      qemu_plugin_register_vcpu_mem_cb(instruction, at_access, CB_NO_REGS, MEM_RW, NULL);
    }
  }
}
static void ended(qemu_plugin_id_t id, void *data) {
  (void)id, (void)data;
  for (int i = 0; i <= known; i++) {
    fprintf(out, "step %d %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", i - 1, of_step[i].instructions,
            of_step[i].loads, of_step[i].stores);
  }
  fclose(out);
}
static int read_steps(const char *path) {
  FILE *file = fopen(path, "r");
  unsigned long long address;
  if (file == NULL) {
    return -1;
  }
  while (known < LARGEST && fscanf(file, "%llx", &address) == 1) {
    steps[known].address = address & ~1ull;
    steps[known].number = known;
    known++;
  }
  fclose(file);
  qsort(steps, (size_t)known, sizeof *steps, by_address);
  return 0;
}
EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int count, char **arguments) {
  (void)info;
  for (int i = 0; i < count; i++) {
    char *value = strchr(arguments[i], '=');
    if (value == NULL) {
      continue;
    }
    *value++ = '\0';
    if (strcmp(arguments[i], "begin") == 0) {
      begin = strtoull(value, NULL, 0) & ~1ull;
    } else if (strcmp(arguments[i], "end") == 0) {
      end = strtoull(value, NULL, 0) & ~1ull;
    } else if (strcmp(arguments[i], "memory") == 0) {
      with_memory = strcmp(value, "on") == 0;
    } else if (strcmp(arguments[i], "out") == 0) {
      out = fopen(value, "w");
    } else if (strcmp(arguments[i], "steps") == 0 && read_steps(value) != 0) {
      fprintf(stderr, "count: cannot read %s\n", value);
      return -1;
    }
  }
  if (out == NULL) {
    fprintf(stderr, "count: no file for the counts, or it cannot be written\n");
    return -1;
  }
  qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
  qemu_plugin_register_atexit_cb(id, ended, NULL);
  return 0;
}
