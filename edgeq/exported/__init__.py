"""Exported programs: PyTorch's graphs as files, which ExecuTorch quantizes, compiles and runs."""
