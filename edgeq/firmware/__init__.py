"""Ahead-of-time C for Cortex-M: from a full-integer .tflite to sources without interpreter or heap."""
