/* The loop over the samples; see edgeq_run.h. C that C++ takes, too: it is compiled with each of the runners. */
#include "edgeq_run.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

__attribute__((noinline)) void eq_counting_begins(void) { __asm__ volatile("" ::: "memory"); }
__attribute__((noinline)) void eq_counting_ends(void) { __asm__ volatile("" ::: "memory"); }

static eq_request_t request;
static double first_us = -1;

int eq_fail(int status, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fputs("edgeq-run: ", stderr);
  vfprintf(stderr, format, arguments);
  fputc('\n', stderr);
  va_end(arguments);
  return status;
}

static double now_us(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static int number(const char *text, size_t *value) {
  char *end;
  const unsigned long long read = strtoull(text, &end, 10);
  *value = (size_t)read;
  return *text >= '0' && *text <= '9' && *end == '\0';
}

static int parse(int count, char **words) {
  size_t warm_up = 0;
  if (count != 7 || !number(words[2], &request.input_bytes) || !number(words[3], &request.output_bytes) ||
      !number(words[5], &warm_up) || request.input_bytes == 0 || request.output_bytes == 0) {
    return eq_fail(EQ_USAGE, "usage: edgeq-run MODEL INPUT_BYTES OUTPUT_BYTES xnnpack|reference WARM_UP "
                             "times|-");
  }
  request.model = words[1];
  request.reference = strcmp(words[4], "reference") == 0;
  request.warm_up = (unsigned)warm_up;
  request.times = strcmp(words[6], "times") == 0;
  return 0;
}

static int infer(const void *sample, void *output, double *us) {
  int status = eq_give(sample);
  if (status == 0) {
    const double begun = now_us();
    eq_counting_begins();
    status = eq_invoke();
    eq_counting_ends();
    *us = now_us() - begun;
    first_us = first_us < 0 ? *us : first_us;
  }
  return status != 0 ? status : eq_take(output);
}

static int warmed(const void *sample, void *output) {
  double us;
  for (unsigned i = 0; i < request.warm_up; i++) {
    const int status = infer(sample, output, &us);
    if (status != 0) {
      return status;
    }
  }
  return 0;
}

static int each(FILE *in, FILE *out, FILE *told) {
  void *sample = malloc(request.input_bytes), *output = malloc(request.output_bytes);
  size_t done = 0, got;
  int status = sample == NULL || output == NULL ? eq_fail(EQ_MEMORY, "no memory for a sample") : 0;
  while (status == 0 && (got = fread(sample, 1, request.input_bytes, in)) > 0) {
    double us = 0;
    if (got != request.input_bytes) {
      return eq_fail(EQ_SAMPLES, "in.bin ends within a sample: %zu bytes of %zu", got, request.input_bytes);
    }
    status = done == 0 ? warmed(sample, output) : 0;
    status = status != 0 ? status : infer(sample, output, &us);
    if (status == 0 && fwrite(output, 1, request.output_bytes, out) != request.output_bytes) {
      status = eq_fail(EQ_DISK, "out.bin cannot be written");
    }
    if (status == 0 && request.times) {
      fprintf(told, "time_us %.3f\n", us);
    }
    done++;
  }
  fprintf(told, "first_us %.3f\ncount %zu\n", first_us, done);
  free(sample);
  free(output);
  return status;
}

static int all(FILE *told) {
  FILE *in = fopen("in.bin", "rb"), *out = fopen("out.bin", "wb");
  if (in == NULL || out == NULL) {
    return in == NULL ? eq_fail(EQ_SAMPLES, "in.bin cannot be read")
                      : eq_fail(EQ_DISK, "out.bin cannot be written");
  }
  const int status = each(in, out, told);
  const int lost = ferror(out) | fclose(out);
  fclose(in);
  return status == 0 && lost ? eq_fail(EQ_DISK, "out.bin cannot be written") : status;
}

int main(int count, char **words) {
  int status = parse(count, words);
  if (status != 0) {
    return status;
  }
  FILE *told = fopen("told.txt", "w");
  if (told == NULL) {
    return eq_fail(EQ_DISK, "told.txt cannot be written");
  }
  const double begun = now_us();
  status = eq_load(&request);
  fprintf(told, "load_us %.3f\n", now_us() - begun);
  status = status != 0 ? status : all(told);
  struct rusage used;
  getrusage(RUSAGE_SELF, &used);
  fprintf(told, "peak_rss_bytes %lld\nend %d\n", (long long)used.ru_maxrss * 1024, status);
  const int lost = ferror(told) | fclose(told);
  return status == 0 && lost ? eq_fail(EQ_DISK, "told.txt cannot be written") : status;
}
