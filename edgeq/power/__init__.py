"""Power: instruments, what they record, and the arithmetic that makes energy an inference of it."""
