"""Benchmarks: ratios measured in one run, so that a noisy or slow machine does not change them."""
