"""Quantize, compile and prove models for edge targets, as pipeline.yaml declares."""

__version__ = "0.1.0"
