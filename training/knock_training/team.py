"""Several processes that train one model together, as torchrun starts them; or one alone."""

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
_PATIENCE = timedelta(hours=2)  # with a process that evaluates while the others wait


@dataclass(frozen=True)
class Team(AbstractContextManager["Team"]):
    """The processes. Use it in a `with`.

    Attributes:
        rank: which of them this is; the first speaks and writes.
        size: how many there are.
        device: where this one computes.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = torch.device("cpu")  # noqa: RUF009  # immutable

    @classmethod
    def here(cls, device: str | None = None) -> Team:
        """The team that this process belongs to, by the variables that torchrun sets.

        Args:
            device: where to compute; None for a GPU if there is one.

        Raises:
            TrainingError: if there is no such device, or the variables are not what torchrun sets.
        """
        chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
        try:
            rank, size = (int(os.environ.get(name, usual)) for name, usual in (("RANK", "0"), ("WORLD_SIZE", "1")))
        except ValueError as error:
            raise TrainingError(f"RANK and WORLD_SIZE must be whole numbers: {error}; let torchrun set them") from error
        missing = [name for name in _SET_BY_TORCHRUN if size > 1 and name not in os.environ]
        if missing:
            raise TrainingError(f"WORLD_SIZE is {size}, but {missing[0]} is not set; start with torchrun, or unset it")
        if chosen == "cuda" and size > 1:
            chosen = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        try:
            made = torch.device(chosen)
            torch.zeros(1, device=made).item()  # "meta" has no numbers
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            first = str(error).strip().splitlines()[0]
            raise TrainingError(f"cannot compute on {chosen!r}: {first}; leave --device out") from error
        if size > 1:
            if made.type == "cuda":
                torch.cuda.set_device(made)
            dist.init_process_group("nccl" if made.type == "cuda" else "gloo", timeout=_PATIENCE)
        return cls(rank, size, made)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self.size > 1 and dist.is_initialized():
            dist.destroy_process_group()

    @property
    def leads(self) -> bool:
        """Whether this is the process that speaks and writes."""
        return self.rank == 0

    def wrapped(self, twin: nn.Module) -> nn.Module:
        """The twin, so that gradients are those of all processes' sequences."""
        if self.size == 1:
            return twin
        return nn.parallel.DistributedDataParallel(twin)

    def share(self, rows: Tensor) -> Tensor:
        """This process' part of a batch that all of them have drawn."""
        return rows[self.rank :: self.size].to(self.device)

    def mean(self, value: Tensor) -> float:
        """The mean of a number that each process has."""
        if self.size > 1:
            dist.all_reduce(value)
            value = value / self.size
        return float(value.item())

    def any(self, is_so: bool) -> bool:
        """Whether it is so for one of them, so that all do the same."""
        if self.size == 1:
            return is_so
        flag = torch.tensor(float(is_so), device=self.device)
        dist.all_reduce(flag)
        return bool(flag.item() > 0)
