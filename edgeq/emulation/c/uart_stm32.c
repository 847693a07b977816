/* The USART of the STM32F1, F2 and F4 (ST RM0090, chapter 30).
 *
 * The emulated board needs no more. A real one has its clocks and pins set up by what is the
 * board's own: write an eq_uart_open that does, and give it as the `uart` of the target. */
#include "eq_test.h"

#define REGISTER(offset) (*(volatile uint32_t *)((EQ_UART) + (offset)))
#define SR REGISTER(0x0u) /* bit 5: a byte has come, bit 7: room to send */
#define DR REGISTER(0x4u)
#define BRR REGISTER(0x8u)
#define CR1 REGISTER(0xCu)

#ifndef EQ_UART_DIVIDER
#define EQ_UART_DIVIDER 139u /* 115200 baud at the 16 MHz that the chip starts with */
#endif

void eq_uart_open(void) {
  BRR = EQ_UART_DIVIDER;
  CR1 = (1u << 13) | (1u << 3) | (1u << 2); /* UE, TE, RE */
}

int32_t eq_uart_read(void) { return (SR & (1u << 5)) != 0u ? (int32_t)(DR & 0xFFu) : -1; }

void eq_uart_write(uint8_t byte) {
  while ((SR & (1u << 7)) == 0u) {
  }
  DR = byte;
}
