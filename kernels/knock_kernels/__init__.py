"""Numba kernels for knock. They work on arrays and sizes, and know nothing of files, text or users."""
