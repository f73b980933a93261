"""How kernels are compiled."""

from __future__ import annotations

from numba import njit

# Division as IEEE 754 has it: an error path for a zero divisor would keep loops from becoming vector code.
kernel = njit(error_model="numpy", fastmath={"contract"}, nogil=True)

# Sums may be split over the lanes of a vector: the split depends on a kernel's own sizes, never on the batch. Nothing
# that relies on the order of two additions, such as exp's rounding, may be in such a kernel.
reducing_kernel = njit(error_model="numpy", fastmath={"contract", "reassoc", "nsz"}, nogil=True)

inlined = njit(error_model="numpy", fastmath={"contract"}, inline="always")
