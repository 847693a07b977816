/* The test firmware's way to the world in an emulator: files of the folder that it runs in.
 *
 * in.bin holds the samples, one after the other; out.bin gets their outputs, trace.bin each step's
 * (step and size, four bytes each, then the bytes), end.bin the number of samples and the stack used. */
#include "eq_test.h"

enum { SYS_OPEN = 0x01, SYS_WRITE0 = 0x04, SYS_WRITE = 0x05, SYS_READ = 0x06, SYS_EXIT_EXTENDED = 0x20 };
enum { READ_BINARY = 1, WRITE_BINARY = 5 };
#define APPLICATION_EXIT 0x20026u

static int32_t trace_file = -1;

static int32_t call(int32_t operation, const void *argument) {
  register int32_t r0 __asm__("r0") = operation;
  register const void *r1 __asm__("r1") = argument;
  __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
  return r0;
}

static int32_t opened(const char *name, uint32_t mode) {
  uint32_t length = 0;
  while (name[length] != '\0') {
    length++;
  }
  const uint32_t block[3] = {(uint32_t)name, mode, length};
  return call(SYS_OPEN, block);
}

/* How many of `size` bytes could not be read, or written. */
static uint32_t moved(int32_t operation, int32_t file, const void *bytes, uint32_t size) {
  const uint32_t block[3] = {(uint32_t)file, (uint32_t)bytes, size};
  return (uint32_t)call(operation, block);
}

void eq_trace(uint32_t step, const void *bytes, uint32_t size) {
  const uint32_t head[2] = {step, size};
  if (trace_file < 0) {
    trace_file = opened("trace.bin", WRITE_BINARY);
  }
  if (moved(SYS_WRITE, trace_file, head, sizeof head) != 0u ||
      moved(SYS_WRITE, trace_file, bytes, size) != 0u) {
    eq_exit(EQ_NO_OUTPUT);
  }
}

void eq_exit(int32_t status) {
  const uint32_t block[2] = {APPLICATION_EXIT, (uint32_t)status};
  (void)call(SYS_EXIT_EXTENDED, block);
  for (;;) {
  }
}

void eq_report_fault(const eq_fault_t *fault) {
  static const char digits[] = "0123456789abcdef";
  char text[10];
  (void)call(SYS_WRITE0, "\nedgeq-fault");
  for (uint32_t i = 0; i < (uint32_t)EQ_FAULT_REGISTERS; i++) {
    text[0] = ' ';
    for (uint32_t digit = 0; digit < 8u; digit++) {
      text[1u + digit] = digits[(fault->value[i] >> (28u - 4u * digit)) & 15u];
    }
    text[9] = '\0';
    (void)call(SYS_WRITE0, text);
  }
  (void)call(SYS_WRITE0, "\n");
}

int32_t eq_serve(void) {
  const int32_t in = opened("in.bin", READ_BINARY);
  const int32_t out = opened("out.bin", WRITE_BINARY);
  uint32_t end[2] = {0, 0};
  if (in < 0 || out < 0) {
    return in < 0 ? EQ_NO_INPUT : EQ_NO_OUTPUT;
  }
  for (;;) {
    const uint32_t missing = moved(SYS_READ, in, EQ_INPUT, EQ_INPUT_BYTES);
    if (missing != 0u) {
      if (missing != (uint32_t)EQ_INPUT_BYTES) {
        return EQ_PART_OF_INPUT;
      }
      break;
    }
    const uint32_t stack = eq_invoke().stack;
    end[0]++;
    end[1] = stack > end[1] ? stack : end[1];
    if (moved(SYS_WRITE, out, EQ_OUTPUT, EQ_OUTPUT_BYTES) != 0u) {
      return EQ_NO_OUTPUT;
    }
  }
  const int32_t file = opened("end.bin", WRITE_BINARY);
  return file >= 0 && moved(SYS_WRITE, file, end, sizeof end) == 0u ? EQ_ENDED : EQ_NO_OUTPUT;
}
