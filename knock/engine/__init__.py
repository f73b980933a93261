"""Runs a model: requests in, tokens and statistics out, on compiled kernels or on NumPy."""
