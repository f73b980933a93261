"""Compiles the kernels, keeps the machine code, and loads it."""
