"""Cortex-M boards, emulated or attached: cores, memory, the test firmware, and how it is run.

The one rule: nothing here knows a model; a firmware is a function from the bytes of a sample to those
of its output.
"""
