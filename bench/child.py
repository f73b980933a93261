"""Work in a process of its own, with other environment variables, in turns with the work of other processes."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from multiprocessing.connection import Connection
from typing import Any

from bench.turns import seconds

Work = Mapping[str, Callable[[], object]]


class Child(AbstractContextManager["Child"]):
    """A context manager that runs a process, which waits whenever it is not asked for work.

    Args:
        prepare: a function of a module, called in the process; returns its work by name.
        arguments: of that function.
        environment: variables of the process; None unsets one.
    """

    def __init__(
        self, prepare: Callable[..., Work], arguments: tuple[Any, ...] = (),
        environment: Mapping[str, str | None] | None = None,
    ) -> None:  # fmt: skip
        context = multiprocessing.get_context("spawn")
        self._end, there = context.Pipe()
        self._process = context.Process(target=_work, args=(there, prepare, arguments), daemon=True)
        with _changed(environment or {}):
            self._process.start()
        there.close()
        self.names: tuple[str, ...] = self._receive()

    def __exit__(self, *exception: object) -> None:
        self._end.close()
        self._process.join()

    def seconds(self, name: str) -> float:
        """Do a piece of work; return the seconds that it takes."""
        self.start(name)
        return self.wait()

    def start(self, name: str) -> None:
        """Begin a piece of work."""
        self._end.send(name)

    def wait(self) -> float:
        """Wait for the piece of work that was begun; return the seconds that it took."""
        taken: float = self._receive()
        return taken

    def _receive(self) -> Any:
        try:
            return self._end.recv()
        except EOFError:
            raise RuntimeError("the process has ended; see its output above") from None


@contextlib.contextmanager
def _changed(environment: Mapping[str, str | None]) -> Iterator[None]:
    """Change the environment, which processes that are started inherit."""
    before = {name: os.environ.get(name) for name in environment}
    try:
        _set(environment)
        yield
    finally:
        _set(before)


def _set(environment: Mapping[str, str | None]) -> None:
    for name, value in environment.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _work(end: Connection[Any, Any], prepare: Callable[..., Work], arguments: tuple[Any, ...]) -> None:
    work = prepare(*arguments)
    end.send(tuple(work))
    while True:
        try:
            name = end.recv()
        except EOFError:  # the parent has closed the pipe
            return
        end.send(seconds(work[name]))
