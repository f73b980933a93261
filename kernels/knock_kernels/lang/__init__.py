"""The language that kernels are written in: vectors, memory layout, units, code generation."""
