/* The UART of Arm's Cortex-M System Design Kit, as the MPS2 and MPS3 boards have it (Arm DDI 0479). */
#include "eq_test.h"

#define REGISTER(offset) (*(volatile uint32_t *)((EQ_UART) + (offset)))
#define DATA REGISTER(0x0u)
#define STATE REGISTER(0x4u) /* bit 0: no room to send, bit 1: a byte has come */
#define CTRL REGISTER(0x8u)
#define BAUDDIV REGISTER(0x10u)

#ifndef EQ_UART_DIVIDER
#define EQ_UART_DIVIDER 217u /* 115200 baud at 25 MHz */
#endif

void eq_uart_open(void) {
  BAUDDIV = EQ_UART_DIVIDER;
  CTRL = 3u;
}

int32_t eq_uart_read(void) { return (STATE & 2u) != 0u ? (int32_t)(DATA & 0xFFu) : -1; }

void eq_uart_write(uint8_t byte) {
  while ((STATE & 1u) != 0u) {
  }
  DATA = byte;
}
