/* A .tflite by LiteRT, one thread.
 * The declarations are written from LiteRT's documented C API, of which the wheel brings the library alone. */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "edgeq_run.h"

typedef int status_t; /* 0 is well; others are named below where they matter */
typedef struct environment *environment_t;
typedef struct model *model_t;
typedef struct signature *signature_t;
typedef struct tensor *tensor_t;
typedef struct options *options_t;
typedef struct opaque *opaque_t;
typedef struct compiled *compiled_t;
typedef struct requirements *requirements_t;
typedef struct buffer *buffer_t;
typedef struct {
  uint64_t words[32]; /* the library's own has 9 */
} tensor_type_t;
typedef struct {
  uint64_t words[32];
} layout_t;
enum { CPU = 1, READ = 0, WRITE = 1, UNSUPPORTED = 5, FILE_IO = 500 };

extern status_t LiteRtCreateEnvironment(int, const void *, environment_t *);
extern status_t LiteRtCreateModelFromFile(environment_t, const char *, model_t *);
extern status_t LiteRtGetModelSignature(model_t, size_t, signature_t *);
extern status_t LiteRtGetNumSignatureInputs(signature_t, size_t *);
extern status_t LiteRtGetNumSignatureOutputs(signature_t, size_t *);
extern status_t LiteRtGetSignatureInputTensorByIndex(signature_t, size_t, tensor_t *);
extern status_t LiteRtGetSignatureOutputTensorByIndex(signature_t, size_t, tensor_t *);
extern status_t LiteRtGetRankedTensorType(tensor_t, tensor_type_t *);
extern status_t LiteRtCreateOptions(options_t *);
extern status_t LiteRtSetOptionsHardwareAccelerators(options_t, int);
extern status_t LiteRtCreateOpaqueOptions(const char *, void *, void (*)(void *), opaque_t *);
extern status_t LiteRtAddOpaqueOptions(options_t, opaque_t);
extern status_t LiteRtCreateCompiledModel(environment_t, model_t, options_t, compiled_t *);
extern status_t LiteRtGetCompiledModelInputBufferRequirements(compiled_t, size_t, size_t, requirements_t *);
extern status_t LiteRtGetCompiledModelOutputBufferRequirements(compiled_t, size_t, size_t, requirements_t *);
extern status_t LiteRtCreateManagedTensorBufferFromRequirements(environment_t, const tensor_type_t *,
                                                               requirements_t, buffer_t *);
extern status_t LiteRtGetTensorBufferPackedSize(buffer_t, size_t *);
extern status_t LiteRtLockTensorBuffer(buffer_t, void **, int);
extern status_t LiteRtUnlockTensorBuffer(buffer_t);
extern status_t LiteRtGetCompiledModelOutputTensorLayouts(compiled_t, size_t, size_t, layout_t *, bool);
extern status_t LiteRtRunCompiledModel(compiled_t, size_t, size_t, buffer_t *, size_t, buffer_t *);

static environment_t environment;
static model_t model;
static options_t options;
static compiled_t compiled;
static buffer_t input, output;
static size_t input_bytes, output_bytes;

static void kept(void *settings) { (void)settings; }

/* The interpreter looks for the options of the CPU under one name, the delegate under another. */
static status_t set_up(int reference) {
  static const char *const names[] = {"cpu_delegate", "xnnpack"};
  static char by_xnnpack[] = "num_threads = 1\n";
  static char by_reference[] = "num_threads = 1\nkernel_mode = \"reference\"\n";
  status_t status = LiteRtCreateOptions(&options);
  if (status == 0) {
    status = LiteRtSetOptionsHardwareAccelerators(options, CPU);
  }
  for (int i = 0; status == 0 && i < 2; i++) {
    opaque_t opaque;
    status = LiteRtCreateOpaqueOptions(names[i], reference ? by_reference : by_xnnpack, kept, &opaque);
    if (status == 0) {
      status = LiteRtAddOpaqueOptions(options, opaque);
    }
  }
  return status;
}

static status_t buffer_of(int is_input, signature_t signature, buffer_t *made, size_t *size) {
  tensor_t tensor;
  tensor_type_t type;
  requirements_t requirements;
  status_t status = is_input ? LiteRtGetSignatureInputTensorByIndex(signature, 0, &tensor)
                             : LiteRtGetSignatureOutputTensorByIndex(signature, 0, &tensor);
  if (status != 0 || (status = LiteRtGetRankedTensorType(tensor, &type)) != 0) {
    return status;
  }
  status = is_input ? LiteRtGetCompiledModelInputBufferRequirements(compiled, 0, 0, &requirements)
                    : LiteRtGetCompiledModelOutputBufferRequirements(compiled, 0, 0, &requirements);
  if (status != 0 ||
      (status = LiteRtCreateManagedTensorBufferFromRequirements(environment, &type, requirements, made)) != 0) {
    return status;
  }
  return LiteRtGetTensorBufferPackedSize(*made, size);
}

static int buffers(const eq_request_t *request, signature_t signature) {
  if (buffer_of(1, signature, &input, &input_bytes) != 0 ||
      buffer_of(0, signature, &output, &output_bytes) != 0) {
    return eq_fail(EQ_NO_KERNEL, "%s: no room for its input or output", request->model);
  }
  if (input_bytes != request->input_bytes || output_bytes != request->output_bytes) {
    return eq_fail(EQ_SIZES, "%s takes %zu bytes and gives %zu, not %zu and %zu", request->model, input_bytes,
                   output_bytes, request->input_bytes, request->output_bytes);
  }
  return 0;
}

int eq_load(const eq_request_t *request) {
  signature_t signature;
  size_t inputs = 0, outputs = 0;
  layout_t layout;
  status_t status = LiteRtCreateEnvironment(0, NULL, &environment);
  if (status != 0 || (status = set_up(request->reference)) != 0) {
    return eq_fail(EQ_NO_KERNEL, "LiteRT could not be set up: status %d", status);
  }
  status = LiteRtCreateModelFromFile(environment, request->model, &model);
  if (status == UNSUPPORTED) {
    return eq_fail(EQ_NO_KERNEL, "%s has what LiteRT's compiled models do not take", request->model);
  }
  if (status != 0) {
    return eq_fail(EQ_UNREADABLE, "%s %s: status %d", request->model,
                   status == FILE_IO ? "cannot be read" : "is no .tflite, or is damaged", status);
  }
  if (LiteRtGetModelSignature(model, 0, &signature) != 0 ||
      LiteRtGetNumSignatureInputs(signature, &inputs) != 0 ||
      LiteRtGetNumSignatureOutputs(signature, &outputs) != 0 || inputs != 1 || outputs != 1) {
    return eq_fail(EQ_SIZES, "%s has %zu inputs and %zu outputs, not one of each", request->model, inputs,
                   outputs);
  }
  status = LiteRtCreateCompiledModel(environment, model, options, &compiled);
  if (status == 0) { /* which prepares its operators now, and not in the first inference */
    status = LiteRtGetCompiledModelOutputTensorLayouts(compiled, 0, outputs, &layout, true);
  }
  if (status != 0) {
    return eq_fail(EQ_NO_KERNEL, "%s cannot be prepared: status %d", request->model, status);
  }
  return buffers(request, signature);
}

int eq_give(const void *sample) {
  void *place;
  if (LiteRtLockTensorBuffer(input, &place, WRITE) != 0) {
    return eq_fail(EQ_FAILED, "the input cannot be written");
  }
  memcpy(place, sample, input_bytes);
  LiteRtUnlockTensorBuffer(input);
  return 0;
}

int eq_invoke(void) {
  const status_t status = LiteRtRunCompiledModel(compiled, 0, 1, &input, 1, &output);
  return status == 0 ? 0 : eq_fail(EQ_FAILED, "an inference failed: status %d", status);
}

int eq_take(void *taken) {
  void *place;
  if (LiteRtLockTensorBuffer(output, &place, READ) != 0) {
    return eq_fail(EQ_FAILED, "the output cannot be read");
  }
  memcpy(taken, place, output_bytes);
  LiteRtUnlockTensorBuffer(output);
  return 0;
}
