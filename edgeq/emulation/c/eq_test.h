/* What the parts of the test firmware have of each other. */
#ifndef EQ_TEST_H
#define EQ_TEST_H

#include <stdint.h>

#ifdef EQ_HEADER
#include EQ_HEADER
#else
void EQ_INVOKE(const void *in, void *out);
#endif

/* Where a sample is put and its output is found, EQ_INPUT_BYTES and EQ_OUTPUT_BYTES long. */
#ifdef EQ_INPUT
#define EQ_OWN_BUFFERS 0
#else
#define EQ_OWN_BUFFERS 1
#define EQ_INPUT eq_input
#define EQ_OUTPUT eq_output
#endif

/* How the test firmware ends, where it ends at all. */
enum {
  EQ_ENDED = 0,
  EQ_NO_INPUT = 64,     /* the file of samples cannot be opened */
  EQ_PART_OF_INPUT = 65, /* it ends within a sample */
  EQ_NO_OUTPUT = 66,    /* the outputs cannot be written */
  EQ_FAULT = 70         /* the core took a fault, and its registers were reported */
};

/* r0 to r3, r12, lr, pc, psr; cfsr, hfsr, mmfar, bfar; sp, exc_return; 0 where the first eight are lost. */
enum { EQ_FAULT_REGISTERS = 15 };
typedef struct {
  uint32_t value[EQ_FAULT_REGISTERS];
} eq_fault_t;

/* Of start.c. */
uint32_t eq_stack_paint(void);          /* paints what is free of the stack; where it begins now */
uint32_t eq_stack_used(uint32_t top);   /* the bytes used below `top` since it was painted */

/* Of test_main.c. */
typedef struct {
  uint32_t stack;  /* bytes */
  uint32_t cycles; /* 0 where the core does not count them */
} eq_spent_t;
eq_spent_t eq_invoke(void); /* runs the model once */
void eq_traced(uint32_t step, const void *bytes, uint32_t size); /* with EQ_TRACE, after each step */
#if EQ_OWN_BUFFERS
extern uint32_t eq_input[(EQ_INPUT_BYTES + 7) / 8 * 2];
extern uint32_t eq_output[(EQ_OUTPUT_BYTES + 7) / 8 * 2];
#endif

#ifdef EQ_TRIGGER
/* Of the user: sets the pin that a power meter watches, 1 before and 0 after each inference. The first call,
   with 0, comes before all else, to set the pin up. */
void eq_trigger(uint32_t on);
#endif

/* Of the transport: semihosting.c or serial.c. */
int32_t eq_serve(void);                                         /* all samples; how it ended */
void eq_trace(uint32_t step, const void *bytes, uint32_t size); /* one step's output */
void eq_report_fault(const eq_fault_t *fault);
void eq_exit(int32_t status);

/* Of the board, with serial.c: uart_cmsdk.c, uart_stm32.c, uart_nrf51.c, or the user's own. */
void eq_uart_open(void);
int32_t eq_uart_read(void); /* the next byte, or -1 where none has come */
void eq_uart_write(uint8_t byte);

#endif
