"""The choice of CPU threads for a training step, with a simulated clock."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch

from knock_training import threads as threads_module
from knock_training.threads import Threads


class Machine:
    """A simulated machine that runs steps.

    Attributes:
        takes: seconds of a step as a function of the number of threads.
        steps: number of threads of each step so far.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.takes: Callable[[int], float] = lambda count: 1 / count
        self.steps: list[int] = []
        monkeypatch.setattr(threads_module.time, "perf_counter", lambda: self.now)
        monkeypatch.setattr(torch, "set_num_threads", self._set)

    def _set(self, count: int) -> None:
        self._count = count

    def run(self, threads: Threads, steps: int) -> list[int]:
        before = len(self.steps)
        for _ in range(steps):
            with threads.step():
                self.now += self.takes(self._count)
                self.steps.append(self._count)
        return self.steps[before:]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


def test_one_thread_is_not_timed(machine: Machine) -> None:
    threads = Threads(1)
    assert threads.is_settled
    assert machine.run(threads, 100) == [1] * 100


@pytest.mark.parametrize(("most", "tried"), [(2, {1, 2}), (4, {1, 2, 4}), (6, {1, 2, 4, 6}), (16, {1, 2, 4, 8, 16})])
def test_tries_powers_of_two_and_keeps_the_fastest(machine: Machine, most: int, tried: set[int]) -> None:
    threads = Threads(most)
    assert not threads.is_settled
    assert set(machine.run(threads, 4 * len(tried))) == tried
    assert threads.is_settled
    assert machine.run(threads, 5) == [most] * 5


@pytest.mark.parametrize("gain", [0.97, 1.0, 1.4])
def test_small_gains_do_not_justify_more_threads(machine: Machine, gain: float) -> None:
    """Each thread takes a core from other programs."""
    machine.takes = lambda count: 1.0 if count == 1 else gain
    threads = Threads(2)
    machine.run(threads, 8)
    assert machine.run(threads, 5) == [1] * 5


def test_first_step_with_each_count_is_ignored(machine: Machine) -> None:
    machine.takes = lambda count: 100.0 if len(machine.steps) < 2 else 1 / count
    threads = Threads(2)
    machine.run(threads, 8)
    assert threads.count == 2


def test_adapts_within_seconds_when_a_core_becomes_busy(machine: Machine) -> None:
    machine.takes = lambda count: 0.1 / count
    threads = Threads(2)
    machine.run(threads, 100)
    assert threads.count == 2
    machine.takes = lambda count: 0.1 if count == 1 else 0.5
    since = machine.now
    while machine.run(threads, 1) != [1] or not threads.is_settled:
        assert machine.now - since < 5
    shared = machine.run(threads, 100)
    assert shared.count(2) <= 4
    machine.takes = lambda count: 0.1 / count  # the core is free again
    since = machine.now
    while threads.count != 2 or not threads.is_settled:
        machine.run(threads, 1)
        assert machine.now - since < 20


def test_trials_take_few_steps(machine: Machine) -> None:
    machine.takes = lambda count: 0.05 if count == 1 else 0.1
    steps = machine.run(Threads(2), 4000)
    assert steps.count(2) < 0.03 * len(steps)


@pytest.mark.parametrize(
    ("given", "expected"),
    [({}, "5000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "None")],
)
def test_waiting_threads_spin_for_a_bounded_time(given: dict[str, str], expected: str) -> None:
    """The variable must be set before PyTorch is imported, also when torchrun starts the process."""
    code = (
        "import sys, os; sys.argv = ['knock', 'train', '--help']\n"
        "import knock_training\n"
        "assert 'torch' not in sys.modules\n"
        "print(os.environ.get('GOMP_SPINCOUNT'))"
    )
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    output = subprocess.check_output([sys.executable, "-c", code], env=clean | given, text=True)
    assert output.strip() == expected
