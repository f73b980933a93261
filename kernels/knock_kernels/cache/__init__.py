"""Compile the kernels, cache the machine code and load it."""
