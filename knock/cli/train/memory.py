"""Recognise PyTorch's out-of-memory errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

# PyTorch has a class for a full GPU only. On the CPU, and on Apple's GPUs, the message is all there is.
_MESSAGES = ("DefaultCPUAllocator: ", "MPS backend out of memory")


@contextmanager
def memory_errors() -> Iterator[None]:
    """Raise PyTorch's out-of-memory errors as `MemoryError`."""
    import torch

    try:
        yield
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError) or any(message in str(error) for message in _MESSAGES):
            raise MemoryError("PyTorch could not allocate the memory of a training step") from error
        raise
