/* Start-up of a Cortex-M: vectors, memory, FPU and MVE, faults, and how much of the stack is used.
 *
 * The stack lies at the bottom of the RAM. What overflows it faults: at the stack's limit (Armv8-M), in a
 * region of the MPU below it (Armv7-M), or because no memory is there (Armv6-M). */
#include "eq_test.h"

#define REGISTER(address) (*(volatile uint32_t *)(address))
#define CCR REGISTER(0xE000ED14u)
#define CFSR REGISTER(0xE000ED28u)
#define HFSR REGISTER(0xE000ED2Cu)
#define MMFAR REGISTER(0xE000ED34u)
#define BFAR REGISTER(0xE000ED38u)
#define CPACR REGISTER(0xE000ED88u)
#define MPU_TYPE REGISTER(0xE000ED90u)
#define MPU_CTRL REGISTER(0xE000ED94u)
#define MPU_RBAR REGISTER(0xE000ED9Cu)
#define MPU_RASR REGISTER(0xE000EDA0u)
#define GUARD_BYTES 0x10000u
#define PAINT 0xA5A5A5A5u

extern uint32_t eq_stack_bottom, eq_stack_top;
extern uint32_t eq_data_load, eq_data_start, eq_data_end, eq_bss_start, eq_bss_end;

int32_t eq_main(void);
void eq_reset(void);
void eq_fault_handler(void);
void eq_fault(uint32_t frame, uint32_t exception_return);

typedef union {
  void (*handler)(void);
  uint32_t *stack;
} eq_vector_t;

__attribute__((section(".vectors"), used)) static const eq_vector_t vectors[16] = {
    {.stack = &eq_stack_top},        {.handler = eq_reset},         {.handler = eq_fault_handler},
    {.handler = eq_fault_handler},   {.handler = eq_fault_handler}, {.handler = eq_fault_handler},
    {.handler = eq_fault_handler},   {.handler = eq_fault_handler}, {.handler = eq_fault_handler},
    {.handler = eq_fault_handler},   {.handler = eq_fault_handler}, {.handler = eq_fault_handler},
    {.handler = eq_fault_handler},   {.handler = eq_fault_handler}, {.handler = eq_fault_handler},
    {.handler = eq_fault_handler},
};

void eq_reset(void) {
#if defined(__ARM_ARCH_8M_MAIN__) || defined(__ARM_ARCH_8_1M_MAIN__)
  __asm__ volatile("msr msplim, %0" : : "r"(&eq_stack_bottom));
#endif
#if defined(__ARM_ARCH_7M__) || defined(__ARM_ARCH_7EM__)
  if (((MPU_TYPE >> 8) & 0xFFu) != 0u) {
    MPU_RBAR = ((uint32_t)&eq_stack_bottom - GUARD_BYTES) | 0x10u; /* VALID, region 0 */
    MPU_RASR = (1u << 28) | (15u << 1) | 1u;                       /* XN, no access, 2^(15 + 1) bytes */
    MPU_CTRL = 5u;                                                 /* all else as without an MPU */
    __asm__ volatile("dsb\n\tisb" : : : "memory");
  }
#endif
#if defined(__ARM_ARCH_6M__)
  CCR |= 1u << 3; /* UNALIGN_TRP: a larger core that runs this faults where an M0 does, which has it fixed */
#endif
#if defined(__ARM_FP) || defined(__ARM_FEATURE_MVE)
  CPACR |= 0xFu << 20;
  __asm__ volatile("dsb\n\tisb" : : : "memory");
#endif
#if defined(__ARM_FEATURE_MVE)
  CCR |= 1u << 19; /* LOB: low-overhead loops may keep their state */
#endif
  const uint32_t *from = &eq_data_load;
  for (uint32_t *to = &eq_data_start; to != &eq_data_end; to++) {
    *to = *from;
    from++;
  }
  for (uint32_t *to = &eq_bss_start; to != &eq_bss_end; to++) {
    *to = 0u;
  }
  eq_exit(eq_main());
  for (;;) {
  }
}

__attribute__((naked)) uint32_t eq_stack_paint(void) {
  __asm__ volatile(
      ".syntax unified\n\t"
      "ldr r0, =eq_stack_bottom\n\t"
      "mov r1, sp\n\t"
      "ldr r2, =0xA5A5A5A5\n"
      "1:\n\t"
      "cmp r0, r1\n\t"
      "bhs 2f\n\t"
      "stmia r0!, {r2}\n\t"
      "b 1b\n"
      "2:\n\t"
      "mov r0, sp\n\t"
      "bx lr\n\t"
      ".ltorg");
}

uint32_t eq_stack_used(uint32_t top) {
  const volatile uint32_t *word = &eq_stack_bottom;
  while ((uint32_t)word < top && *word == PAINT) {
    word++;
  }
  return top - (uint32_t)word;
}

/* Goes on where there is room on the stack, else at its top: it may be the stack that failed. */
__attribute__((naked)) void eq_fault_handler(void) {
  __asm__ volatile(
      ".syntax unified\n\t"
      "mov r1, lr\n\t"
      "mrs r0, msp\n\t"
      "ldr r2, =eq_stack_bottom\n\t"
      "adds r2, #240\n\t"
      "cmp r0, r2\n\t"
      "bhs 1f\n\t"
      "ldr r2, =eq_stack_top\n\t"
      "mov sp, r2\n"
      "1:\n\t"
      "ldr r2, =eq_fault\n\t"
      "bx r2\n\t"
      ".ltorg");
}

__attribute__((used)) void eq_fault(uint32_t frame, uint32_t exception_return) {
  eq_fault_t fault = {{0}};
  const uint32_t bottom = (uint32_t)&eq_stack_bottom;
  const uint32_t top = (uint32_t)&eq_stack_top;
  fault.value[12] = frame;
  fault.value[13] = exception_return;
  if (frame >= bottom && frame + 32u <= top && frame % 4u == 0u) {
    for (uint32_t i = 0; i < 8u; i++) {
      fault.value[i] = ((const uint32_t *)frame)[i];
    }
    fault.value[14] = 1u;
  }
#if !defined(__ARM_ARCH_6M__)
  fault.value[8] = CFSR;
  fault.value[9] = HFSR;
  fault.value[10] = MMFAR;
  fault.value[11] = BFAR;
#endif
  eq_report_fault(&fault);
  eq_exit(EQ_FAULT);
  for (;;) {
  }
}
