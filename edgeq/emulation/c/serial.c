/* The test firmware's way to the world on a board: requests over a serial line, each answered once.
 *
 * A frame is COBS-coded and ends with a zero byte; within are the kind, a sequence number, the session
 * (two bytes), what the kind needs, and the CRC-32 of all that. Numbers are little-endian. A request
 * may be repeated without harm; one of another session is answered with `?`, so that the host learns
 * of a reset: the session is forgotten then. Kinds:
 *   H  begins the session       -> version, 3 x 0, digest (8), bytes of input, of output, of a chunk
 *   W  offset, bytes: write     -> nothing
 *   R  run, CRC of the input    -> done (else the input is another), stack, cycles, CRC of the output
 *   G  offset, count: read      -> bytes
 * Unasked: B after a start, F with the registers of a fault. */
#include "eq_test.h"

enum { VERSION = 1, CHUNK = 240, HEAD = 4, TAIL = 4, LARGEST = HEAD + 4 + CHUNK + TAIL };
#ifndef EQ_DIGEST
#define EQ_DIGEST 0, 0, 0, 0, 0, 0, 0, 0
#endif

static const uint8_t digest[8] = {EQ_DIGEST};
static uint8_t got[LARGEST + 2];
static uint8_t answer[LARGEST];
static uint16_t session;
static uint32_t runs;      /* the number of the last run, and what it left: */
static eq_spent_t spent;
static uint32_t output_crc;

static uint32_t crc32(const uint8_t *bytes, uint32_t size) {
  static const uint32_t table[16] = {
      0x00000000u, 0x1db71064u, 0x3b6e20c8u, 0x26d930acu, 0x76dc4190u, 0x6b6b51f4u, 0x4db26158u, 0x5005713cu,
      0xedb88320u, 0xf00f9344u, 0xd6d6a3e8u, 0xcb61b38cu, 0x9b64c2b0u, 0x86d3d2d4u, 0xa00ae278u, 0xbdbdf21cu};
  uint32_t crc = 0xFFFFFFFFu;
  for (uint32_t i = 0; i < size; i++) {
    crc ^= bytes[i];
    crc = (crc >> 4) ^ table[crc & 15u];
    crc = (crc >> 4) ^ table[crc & 15u];
  }
  return ~crc;
}

static uint32_t word_at(const uint8_t *bytes) {
  return (uint32_t)bytes[0] | ((uint32_t)bytes[1] << 8) | ((uint32_t)bytes[2] << 16) | ((uint32_t)bytes[3] << 24);
}

static void put_word(uint8_t *bytes, uint32_t word) {
  for (uint32_t i = 0; i < 4u; i++) {
    bytes[i] = (uint8_t)(word >> (8u * i));
  }
}

/* Sends `answer`, `size` bytes of it behind the head. A frame has fewer than 254 bytes: no code is 255. */
static void send(uint8_t kind, uint8_t sequence, uint32_t size) {
  uint32_t total = (uint32_t)HEAD + size;
  answer[0] = kind;
  answer[1] = sequence;
  answer[2] = (uint8_t)session;
  answer[3] = (uint8_t)(session >> 8);
  put_word(&answer[total], crc32(answer, total));
  total += (uint32_t)TAIL;
  uint32_t start = 0;
  for (uint32_t i = 0; i <= total; i++) {
    if (i == total || answer[i] == 0u) {
      eq_uart_write((uint8_t)(i - start + 1u));
      for (; start < i; start++) {
        eq_uart_write(answer[start]);
      }
      start++;
    }
  }
  eq_uart_write(0u);
}

/* Undoes COBS in place; the bytes left, 0 where that was none. */
static uint32_t decoded(uint8_t *bytes, uint32_t size) {
  uint32_t from = 0;
  uint32_t to = 0;
  while (from < size) {
    const uint32_t code = bytes[from];
    if (from + code > size) {
      return 0u;
    }
    for (uint32_t i = 1; i < code; i++) {
      bytes[to] = bytes[from + i];
      to++;
    }
    from += code;
    if (from < size) {
      bytes[to] = 0u;
      to++;
    }
  }
  return to;
}

/* Waits for a whole frame in `got`; its bytes without the CRC. What is damaged is passed over. */
static uint32_t received(void) {
  uint32_t size = 0;
  for (;;) {
    const int32_t byte = eq_uart_read();
    if (byte > 0) {
      if (size < sizeof got) {
        got[size] = (uint8_t)byte;
      }
      size++;
    } else if (byte == 0) {
      const uint32_t length = size <= sizeof got ? decoded(got, size) : 0u;
      if (length >= (uint32_t)(HEAD + TAIL) &&
          crc32(got, length - (uint32_t)TAIL) == word_at(&got[length - (uint32_t)TAIL])) {
        return length - (uint32_t)TAIL;
      }
      size = 0;
    } else {
      /* nothing has come */
    }
  }
}

static void greet(void) {
  session = (uint16_t)(got[2] | ((uint32_t)got[3] << 8));
  runs = 0;
  put_word(&answer[HEAD], VERSION);
  for (uint32_t i = 0; i < 8u; i++) {
    answer[HEAD + 4 + (int32_t)i] = digest[i];
  }
  put_word(&answer[HEAD + 12], EQ_INPUT_BYTES);
  put_word(&answer[HEAD + 16], EQ_OUTPUT_BYTES);
  put_word(&answer[HEAD + 20], CHUNK);
  send('H', got[1], 24u);
}

static void take(uint32_t offset, uint32_t size) {
  uint8_t *input = (uint8_t *)EQ_INPUT;
  if (offset <= (uint32_t)EQ_INPUT_BYTES && size <= (uint32_t)EQ_INPUT_BYTES - offset) {
    for (uint32_t i = 0; i < size; i++) {
      input[offset + i] = got[HEAD + 4 + (int32_t)i];
    }
    send('W', got[1], 0u);
  }
}

static void run(uint32_t number, uint32_t crc) {
  uint32_t done = 1;
  if (number != runs) {
    done = crc32((const uint8_t *)EQ_INPUT, EQ_INPUT_BYTES) == crc ? 1u : 0u;
    if (done != 0u) {
      spent = eq_invoke();
      runs = number;
      output_crc = crc32((const uint8_t *)EQ_OUTPUT, EQ_OUTPUT_BYTES);
    }
  }
  put_word(&answer[HEAD], done);
  put_word(&answer[HEAD + 4], spent.stack);
  put_word(&answer[HEAD + 8], spent.cycles);
  put_word(&answer[HEAD + 12], output_crc);
  send('R', got[1], 16u);
}

static void give(uint32_t offset, uint32_t size) {
  const uint8_t *output = (const uint8_t *)EQ_OUTPUT;
  if (offset <= (uint32_t)EQ_OUTPUT_BYTES && size <= (uint32_t)EQ_OUTPUT_BYTES - offset &&
      size <= (uint32_t)CHUNK) {
    for (uint32_t i = 0; i < size; i++) {
      answer[HEAD + (int32_t)i] = output[offset + i];
    }
    send('G', got[1], size);
  }
}

static void serve(uint32_t size) {
  const uint32_t first = size >= 8u ? word_at(&got[HEAD]) : 0u;
  const uint32_t second = size >= 12u ? word_at(&got[HEAD + 4]) : 0u;
  if (got[0] == (uint8_t)'H') {
    greet();
  } else if (session == 0u || (uint32_t)session != (got[2] | ((uint32_t)got[3] << 8))) {
    send('?', got[1], 0u);
  } else if (got[0] == (uint8_t)'W' && size >= 8u) {
    take(first, size - 8u);
  } else if (got[0] == (uint8_t)'R' && size == 12u) {
    run(first, second);
  } else if (got[0] == (uint8_t)'G' && size == 12u) {
    give(first, second);
  } else {
    /* of another version: not answered */
  }
}

int32_t eq_serve(void) {
  eq_uart_open();
  eq_uart_write(0u);
  send('B', 0u, 0u);
  for (;;) {
    serve(received());
  }
}

/* Over and over, as often as the host asks for anything. */
void eq_report_fault(const eq_fault_t *fault) {
  for (;;) {
    for (uint32_t i = 0; i < (uint32_t)EQ_FAULT_REGISTERS; i++) {
      put_word(&answer[HEAD + 4 * (int32_t)i], fault->value[i]);
    }
    eq_uart_write(0u);
    send('F', 0u, 4u * (uint32_t)EQ_FAULT_REGISTERS);
    (void)received();
  }
}

void eq_exit(int32_t status) {
  (void)status;
  for (;;) {
  }
}

void eq_trace(uint32_t step, const void *bytes, uint32_t size) {
  (void)step;
  (void)bytes;
  (void)size;
}
