"""Numba kernels for knock. They know arrays and sizes; they know nothing of files, text or users."""
