// A .pte by ExecuTorch, one thread: its XNNPACK delegate, and the kernels of the wheel for the rest.
#include <executorch/extension/module/module.h>
#include <executorch/extension/tensor/tensor.h>
#include <executorch/runtime/executor/program.h>

#include <cstdio>
#include <cstring>
#include <memory>
#include <vector>

#include "edgeq_run.h"

namespace executorch::extension::threadpool {  // the wheel has no header of it
class ThreadPool {
 public:
  bool _unsafe_reset_threadpool(uint32_t threads);
};
ThreadPool *get_threadpool();
}  // namespace executorch::extension::threadpool

using executorch::aten::SizesType;
using executorch::extension::Module;
using executorch::extension::TensorPtr;
using executorch::runtime::Error;
using executorch::runtime::EValue;
using executorch::runtime::Program;

static std::unique_ptr<Module> module;
static TensorPtr input;
static std::vector<char> given;
static size_t output_bytes;
static Error last = Error::Ok;

static int meant(Error error, const char *model) {
  switch (error) {
    case Error::NotFound:
      return eq_fail(EQ_NO_KERNEL, "%s needs a backend, or a part of the file, that is not here", model);
    case Error::OperatorMissing:
      return eq_fail(EQ_NO_KERNEL, "%s has an operator without a kernel here", model);
    case Error::DelegateInvalidCompatibility:
      return eq_fail(EQ_VERSION, "what %s hands to a backend was made for another version of it", model);
    case Error::MemoryAllocationFailed:
    case Error::DelegateMemoryAllocationFailed:
      return eq_fail(EQ_MEMORY, "no memory for %s", model);
    case Error::InvalidProgram:
    case Error::InvalidExternalData:
      return eq_fail(EQ_UNREADABLE, "%s is damaged", model);
    default:
      return eq_fail(EQ_NO_KERNEL, "%s cannot be prepared: error %#x", model, static_cast<unsigned>(error));
  }
}

// Whether the file begins as a program of this version does: a damaged one cannot be told otherwise.
static int headed(const char *model) {
  char head[Program::kMinHeadBytes];
  FILE *file = std::fopen(model, "rb");
  const size_t got = file == nullptr ? 0 : std::fread(head, 1, sizeof head, file);
  if (file == nullptr) {
    return eq_fail(EQ_UNREADABLE, "%s cannot be read", model);
  }
  std::fclose(file);
  if (got < sizeof head) {
    return eq_fail(EQ_UNREADABLE, "%s is too short for a .pte", model);
  }
  switch (Program::check_header(head, sizeof head)) {
    case Program::HeaderStatus::CompatibleVersion:
      return 0;
    case Program::HeaderStatus::IncompatibleVersion:
      return eq_fail(EQ_VERSION, "%s is a .pte of version %.4s", model, head + 4);
    default:
      return eq_fail(EQ_UNREADABLE, "%s is no .pte", model);
  }
}

static int fitted(const eq_request_t *request) {
  const auto meta = module->method_meta("forward");
  if (!meta.ok() || meta->num_inputs() != 1 || meta->num_outputs() != 1) {
    return eq_fail(EQ_SIZES, "%s has not one input and one output", request->model);
  }
  const auto source = meta->input_tensor_meta(0), sink = meta->output_tensor_meta(0);
  if (!source.ok() || !sink.ok() || source->nbytes() != request->input_bytes ||
      sink->nbytes() != request->output_bytes) {
    return eq_fail(EQ_SIZES, "%s takes %zu bytes and gives %zu, not %zu and %zu", request->model,
                   source.ok() ? source->nbytes() : 0, sink.ok() ? sink->nbytes() : 0, request->input_bytes,
                   request->output_bytes);
  }
  given.resize(request->input_bytes);
  const auto sizes = source->sizes();
  input = executorch::extension::make_tensor_ptr(std::vector<SizesType>(sizes.begin(), sizes.end()), given.data(),
                                                 source->scalar_type());
  output_bytes = request->output_bytes;
  return 0;
}

int eq_load(const eq_request_t *request) {
  if (const int status = headed(request->model)) {
    return status;
  }
  if (auto *pool = executorch::extension::threadpool::get_threadpool()) {
    pool->_unsafe_reset_threadpool(1);
  }
  module = std::make_unique<Module>(request->model);
  if (const Error error = module->load(Program::Verification::InternalConsistency); error != Error::Ok) {
    return meant(error == Error::NotFound ? Error::InvalidProgram : error, request->model);
  }
  const auto names = module->method_names();
  if (!names.ok() || names->count("forward") == 0) {
    return eq_fail(EQ_NO_METHOD, "%s has no method forward", request->model);
  }
  if (const int status = fitted(request)) {
    return status;
  }
  const Error error = module->load_forward();
  return error == Error::Ok ? 0 : meant(error, request->model);
}

int eq_give(const void *sample) {
  std::memcpy(given.data(), sample, given.size());
  last = module->set_input(EValue(input), 0);
  return last == Error::Ok ? 0 : eq_fail(EQ_FAILED, "the input cannot be set: error %#x", static_cast<unsigned>(last));
}

int eq_invoke(void) {
  last = module->forward().error();
  return last == Error::Ok ? 0 : eq_fail(EQ_FAILED, "an inference failed: error %#x", static_cast<unsigned>(last));
}

int eq_take(void *output) {
  const auto found = module->get_output(0);
  if (!found.ok() || !found->isTensor() || found->toTensor().nbytes() != output_bytes) {
    return eq_fail(EQ_SIZES, "the output is no tensor of %zu bytes", output_bytes);
  }
  std::memcpy(output, found->toTensor().const_data_ptr(), output_bytes);
  return 0;
}
