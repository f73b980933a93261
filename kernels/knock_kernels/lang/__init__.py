"""The language that kernels are written in: vectors, layout, units, code generation."""
