// Stands in for TensorFlow Lite Micro's header of this name, whose methods and their names are all that is
// here of it (github.com/tensorflow/tflite-micro, 2025): that what is generated calls only what there is.
#pragma once
#include <cstddef>
#include <cstdint>

enum TfLiteStatus { kTfLiteOk = 0, kTfLiteError = 1 };

namespace tflite {
class MicroOpResolver {};

template <unsigned int tOpCount>
class MicroMutableOpResolver : public MicroOpResolver {
 public:
#define METHOD(name) \
  TfLiteStatus Add##name() { return ++count_ <= tOpCount ? kTfLiteOk : kTfLiteError; }
#include "methods.inc"
#undef METHOD
  unsigned int GetRegistrationLength() const { return count_; }

 private:
  unsigned int count_ = 0;
};
}  // namespace tflite
