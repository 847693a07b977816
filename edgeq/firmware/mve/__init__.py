"""Kernels for cores with Helium (Cortex-M55): VMLADAV on vectors of 16 bytes."""
