"""Data-parallel training: the processes that torchrun starts, or a single process."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from typing import Self

import torch
import torch.distributed as dist
from torch import Tensor, nn

from knock.errors import TrainingError

_SET_BY_TORCHRUN = ("RANK", "MASTER_ADDR", "MASTER_PORT")
_TIMEOUT = timedelta(hours=2)  # the others wait while the first process evaluates


@dataclass(frozen=True)
class Team(AbstractContextManager["Team"]):
    """The processes that train one model together. Use it as a context manager.

    Attributes:
        rank: rank of this process. Rank 0 reports progress and writes files.
        size: number of processes.
        device: device on which this process computes.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = torch.device("cpu")  # noqa: RUF009  # immutable

    @classmethod
    def here(cls, device: str | None = None) -> Team:
        """Return the team of this process, read from the environment variables that torchrun sets.

        Args:
            device: device to compute on; a GPU if None and one is available.

        Raises:
            TrainingError: if the device is not usable, or the environment variables are missing or invalid.
        """
        chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
        try:
            rank, size = (int(os.environ.get(name, usual)) for name, usual in (("RANK", "0"), ("WORLD_SIZE", "1")))
        except ValueError as error:
            raise TrainingError(
                f"RANK and WORLD_SIZE must be whole numbers: {error}; start with torchrun, which sets them"
            ) from error
        missing = [name for name in _SET_BY_TORCHRUN if size > 1 and name not in os.environ]
        if missing:
            raise TrainingError(
                f"WORLD_SIZE is {size}, but {missing[0]} is not set; start with torchrun, or unset WORLD_SIZE"
            )
        if chosen == "cuda" and size > 1:
            chosen = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        try:
            made = torch.device(chosen)
            torch.zeros(1, device=made).item()  # raises for "meta", which holds no data
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            first = str(error).strip().splitlines()[0]
            raise TrainingError(f"cannot compute on {chosen!r}: {first}; choose another device") from error
        if size > 1:
            if made.type == "cuda":
                torch.cuda.set_device(made)
            dist.init_process_group("nccl" if made.type == "cuda" else "gloo", timeout=_TIMEOUT)
        return cls(rank, size, made)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self.size > 1 and dist.is_initialized():
            dist.destroy_process_group()

    @property
    def leads(self) -> bool:
        """Whether this process reports progress and writes files."""
        return self.rank == 0

    def wrapped(self, twin: nn.Module) -> nn.Module:
        """Wrap the twin so that gradients are averaged over all processes."""
        if self.size == 1:
            return twin
        return nn.parallel.DistributedDataParallel(twin)

    def share(self, rows: Tensor) -> Tensor:
        """Return the rows of a batch for this process. All processes draw the same batch."""
        return rows[self.rank :: self.size].to(self.device)

    def mean(self, value: Tensor) -> float:
        """Return the mean of a number over all processes."""
        if self.size > 1:
            dist.all_reduce(value)
            value = value / self.size
        return float(value.item())

    def any(self, condition: bool) -> bool:
        """Return whether the condition holds in any process, so that all take the same branch."""
        if self.size == 1:
            return condition
        flag = torch.tensor(float(condition), device=self.device)
        dist.all_reduce(flag)
        return bool(flag.item() > 0)
