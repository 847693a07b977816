"""Post-training quantization: ranges, edits of the float graph, layers learnt, and what stays precise."""
