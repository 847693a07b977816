/* The test firmware's main program: the model between two marks, its stack and its cycles.
 *
 * EQ_INVOKE is the model's function, EQ_HEADER its header, if any; EQ_INPUT and EQ_OUTPUT may name
 * buffers of the model's own. With EQ_TRIGGER a pin of the user's tells a power meter of each run.
 * With EQ_TRACE the model calls eq_traced after each of its steps. */
#include "eq_test.h"

int32_t eq_main(void);
void eq_counting_begins(void);
void eq_counting_ends(void);

#if EQ_OWN_BUFFERS
uint32_t eq_input[(EQ_INPUT_BYTES + 7) / 8 * 2];
uint32_t eq_output[(EQ_OUTPUT_BYTES + 7) / 8 * 2];
#endif

/* Empty: a counter of instructions knows them by their addresses, and leaves their own out. */
__attribute__((noinline, noclone, used)) void eq_counting_begins(void) { __asm__ volatile(""); }
__attribute__((noinline, noclone, used)) void eq_counting_ends(void) { __asm__ volatile("nop"); }

#if defined(__ARM_ARCH_6M__)
static void start_cycles(void) {}
static uint32_t cycles(void) { return 0u; }
#else
#define DEMCR (*(volatile uint32_t *)0xE000EDFCu)
#define DWT_CTRL (*(volatile uint32_t *)0xE0001000u)
#define DWT_CYCCNT (*(volatile uint32_t *)0xE0001004u)
static void start_cycles(void) {
  DEMCR |= 1u << 24; /* TRCENA */
  DWT_CTRL |= 1u;
  DWT_CYCCNT = 0u;
}
static uint32_t cycles(void) { return DWT_CYCCNT; }
#endif

#ifdef EQ_TRIGGER
#define TRIGGER(on) eq_trigger(on)
#else
#define TRIGGER(on) ((void)0)
#endif

eq_spent_t eq_invoke(void) {
  eq_spent_t spent;
  const uint32_t top = eq_stack_paint();
  TRIGGER(1u);
  start_cycles();
  eq_counting_begins();
  EQ_INVOKE((void *)EQ_INPUT, (void *)EQ_OUTPUT);
  eq_counting_ends();
  spent.cycles = cycles();
  TRIGGER(0u);
  spent.stack = eq_stack_used(top);
  return spent;
}

#ifdef EQ_TRACE
void eq_traced(uint32_t step, const void *bytes, uint32_t size) { eq_trace(step, bytes, size); }
#endif

int32_t eq_main(void) {
  TRIGGER(0u);
  return eq_serve();
}
