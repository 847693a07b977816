/* A libedgetpu that is none: a delegate that takes no operator, and what the real one can go wrong in,
 * as EDGETPU_DOES says. The types are those of TensorFlow Lite's C API (c/common.h). */
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct Delegate Delegate;
struct Delegate {
  void *data;
  int (*prepare)(void *context, Delegate *delegate);
  void *from_handle, *to_handle, *free_handle;
  int64_t flags;
  void *builder;
};

static int does(const char *what) {
  const char *set = getenv("EDGETPU_DOES");
  return set && strcmp(set, what) == 0;
}

static int prepare(void *context, Delegate *delegate) {
  (void)context;
  (void)delegate;
  if (does("crash while preparing")) raise(SIGSEGV);
  return does("take nothing") ? 1 : 0;
}

Delegate *tflite_plugin_create_delegate(char **keys, char **values, size_t count,
                                        void (*report_error)(const char *)) {
  (void)keys;
  (void)values;
  (void)count;
  if (does("crash")) raise(SIGSEGV);
  if (does("hang")) pause();
  if (does("refuse")) {
    report_error("Failed to open device");
    return NULL;
  }
  if (does("be old")) {
    report_error("Package requires runtime version (14), which is newer than this runtime version (13).");
    return NULL;
  }
  Delegate *made = calloc(1, sizeof *made);
  made->prepare = prepare;
  return made;
}

void tflite_plugin_destroy_delegate(Delegate *delegate) { free(delegate); }

const char *edgetpu_version(void) { return "BuildLabel(stand-in), RuntimeVersion(14)"; }
