"""Quantization while training: Keras models made to feel it, by TF-MOT."""
