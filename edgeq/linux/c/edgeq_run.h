/* What the runners share: samples from in.bin through a model to out.bin, what it took to told.txt.
 *
 *   edgeq-run MODEL INPUT_BYTES OUTPUT_BYTES xnnpack|reference WARM_UP times|-
 *
 * A runner defines eq_load … eq_take; run.c has main. All sizes are in bytes, all times in microseconds.
 * Errors are a line on stderr and an exit status of those below (kit.py knows them, too). */
#ifndef EDGEQ_RUN_H
#define EDGEQ_RUN_H
#include <stddef.h>
#ifdef __cplusplus
extern "C" {
#endif

enum {
  EQ_USAGE = 64,      /* the command line is no request */
  EQ_UNREADABLE = 65, /* the model is not there, damaged, or no model */
  EQ_VERSION = 66,    /* it was made for another version of the library */
  EQ_SIZES = 67,      /* its input or output has other sizes */
  EQ_NO_KERNEL = 68,  /* it cannot be prepared: an operator has no kernel here, most often */
  EQ_FAILED = 69,     /* an inference failed */
  EQ_SAMPLES = 70,    /* in.bin is not there, or ends within a sample */
  EQ_DISK = 71,       /* what was computed cannot be written */
  EQ_MEMORY = 72,     /* there is no memory */
  EQ_NO_METHOD = 73   /* it has no method `forward` */
};

typedef struct {
  const char *model;
  size_t input_bytes, output_bytes;
  int reference;    /* LiteRT's reference kernels instead of XNNPACK's */
  unsigned warm_up; /* inferences of the first sample that leave no outputs */
  int times;        /* tell the time of each inference */
} eq_request_t;

/* An emulator counts what runs between these two: an inference. */
void eq_counting_begins(void);
void eq_counting_ends(void);

int eq_load(const eq_request_t *request); /* 0, or a status from above */
int eq_give(const void *sample); /* the input of the next inference */
int eq_invoke(void);
int eq_take(void *output); /* what the last one left */

/* Says why on stderr, and returns `status`. */
int eq_fail(int status, const char *format, ...) __attribute__((format(printf, 2, 3)));

#ifdef __cplusplus
}
#endif
#endif
