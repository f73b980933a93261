"""Results of the trial: a line of JSON for each run, and the tables made of them."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from training.reach.arms import ARMS, BASELINE, RATES, Trial

RESULTS = Path(__file__).with_name("results.jsonl")
COLUMNS = ("block_256", "stream", "stream_matched", "stream_others", "stream_copies")


class Results:
    """Measured runs, stored in a JSON Lines file.

    Args:
        path: the file, which need not exist yet.
    """

    def __init__(self, path: Path = RESULTS) -> None:
        self._path = path
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        self._known = {Trial(**result["trial"]).key: result for result in map(json.loads, lines)}

    def __contains__(self, trial: Trial) -> bool:
        return trial.key in self._known

    def add(self, result: dict[str, Any]) -> None:
        """Add a result and append it to the file."""
        self._known[Trial(**result["trial"]).key] = result
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(result) + "\n")

    @property
    def corpora(self) -> list[str]:
        """Names of the corpora, in the order of their first runs."""
        return list(dict.fromkeys(result["trial"]["corpus"] for result in self._known.values()))

    def best_rate(self, corpus: str, arm: str) -> float | None:
        """Return the learning rate with the lowest stream loss of seed 0; None if one has not been run."""
        grid = [Trial(corpus, arm, rate, 0) for rate in RATES]
        if not all(trial in self for trial in grid):
            return None
        return min(grid, key=lambda trial: float(self._known[trial.key]["stream"])).rate

    def wanted(self, corpora: Sequence[str], arms: Sequence[str], seeds: int) -> list[Trial]:
        """Return the trials that still have to be run: every rate with seed 0, the best one with the other seeds."""
        trials = []
        for seed in range(seeds):
            for corpus in corpora:
                for arm in arms:
                    best = self.best_rate(corpus, arm)
                    rates = RATES if not seed else () if best is None else (best,)
                    trials += [Trial(corpus, arm, rate, seed) for rate in rates]
        return [trial for trial in trials if trial not in self]

    def of(self, corpus: str, arm: str) -> list[dict[str, Any]]:
        """Return the runs that an arm is judged by: those with its best learning rate."""
        best = self.best_rate(corpus, arm)
        trials = [Trial(**result["trial"]) for result in self._known.values()]
        return [self._known[t.key] for t in trials if (t.corpus, t.arm, t.rate) == (corpus, arm, best)]


def table(results: Results, corpus: str, times: Mapping[str, Sequence[float]]) -> str:
    """Return the table of a corpus in Markdown: mean losses of each arm and their spread.

    Args:
        results: the runs.
        corpus: name of the corpus.
        times: time for a character of each arm, one text and eight together, as ratios to the baseline.
    """
    lines = [
        "| model | time, one text and eight | block 256 | stream | ± | matched | others | with copies | runs |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, arm in ARMS.items():
        runs = results.of(corpus, name)
        if not runs:
            continue
        means = [f"{statistics.mean(run[column] for run in runs):.4f}" for column in COLUMNS]
        spread = f"{statistics.stdev(run['stream'] for run in runs):.4f}" if len(runs) > 1 else ""
        ratios = " and ".join(f"{ratio:.2f}" for ratio in times.get(name, ()))
        lines.append(f"| {arm.name} | {ratios} | {' | '.join([*means[:2], spread, *means[2:]])} | {len(runs)} |")
    share = statistics.mean(run["stream_share"] for run in results.of(corpus, BASELINE))
    return "\n".join([f"**{corpus}**: {share:.0%} of the positions are matched.", "", *lines])
