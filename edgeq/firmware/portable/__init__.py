"""Portable kernels: plain C99 that is bit-exact with TensorFlow Lite Micro's reference kernels."""
