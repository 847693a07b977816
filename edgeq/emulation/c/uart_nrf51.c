/* The UART of the nRF51, on the pins of the BBC micro:bit (nRF51 Series Reference Manual, chapter 29). */
#include "eq_test.h"

#define REGISTER(offset) (*(volatile uint32_t *)((EQ_UART) + (offset)))
#define STARTRX REGISTER(0x000u)
#define STARTTX REGISTER(0x008u)
#define RXDRDY REGISTER(0x108u)
#define TXDRDY REGISTER(0x11Cu)
#define ENABLE REGISTER(0x500u)
#define PSELTXD REGISTER(0x50Cu)
#define PSELRXD REGISTER(0x514u)
#define RXD REGISTER(0x518u)
#define TXD REGISTER(0x51Cu)
#define BAUDRATE REGISTER(0x524u)

void eq_uart_open(void) {
  PSELTXD = 24u;
  PSELRXD = 25u;
  BAUDRATE = 0x01D7E000u; /* 115200 */
  ENABLE = 4u;
  STARTRX = 1u;
  STARTTX = 1u;
}

int32_t eq_uart_read(void) {
  if (RXDRDY == 0u) {
    return -1;
  }
  RXDRDY = 0u;
  return (int32_t)(RXD & 0xFFu);
}

void eq_uart_write(uint8_t byte) {
  TXDRDY = 0u;
  TXD = byte;
  while (TXDRDY == 0u) {
  }
}
