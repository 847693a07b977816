"""Regressions: figures of now beside figures of then, and which of the two may be compared at all."""
