"""The engine's arithmetic in NumPy, to the same bits as the compiled kernels: see README.md."""
