"""Controlled trials of recipes and shapes: run them and write the tables of `TRIALS.md`.

    python -m training.trials run tinyshakespeare.txt optimizer schedule    # run the missing trials of these groups
    python -m training.trials write                                         # write all tables into TRIALS.md

The first arm of a group is its baseline. Every other arm changes one thing. The learning rate of each arm is tuned on a
grid with seed 0. The best one then runs with four more seeds, unless the arm is so close to the baseline that no claim
would be possible. Results are appended to `training/trials.jsonl`, one line per run. A run uses one CPU thread, so that
it can be reproduced exactly.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import statistics
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from knock.choices import HEAD_TYPES, POSITIONS, HeadType, Position
from knock.config import ModelConfig
from knock.weights import shapes

RESULTS = Path(__file__).parent / "trials.jsonl"
TRIALS = Path(__file__).parent / "TRIALS.md"
SEEDS = range(5)
CLAIM = 0.015  # nats, the smallest difference of means over all seeds that supports a claim
CLOSE = 0.008  # nats with the first seed; more seeds would not turn a smaller difference into a claim

NANO = {"T": 32, "n_emb": 64, "nodes": 96, "n_blocks": 3, "n_heads": 4, "head_type": "hybrid", "position": "relative"}
TINY = {**NANO, "n_emb": 32, "nodes": 64}
BASE: dict[str, Any] = {"steps": 1500, "eval_interval": 500, "precision": "bfloat16"}
COARSE = ({"matrix_learning_rate": 0.02}, {"matrix_learning_rate": 0.04}, {"matrix_learning_rate": 0.08})
MUON = ({"matrix_learning_rate": 0.03}, {"matrix_learning_rate": 0.06})
ADAMW = ({"learning_rate": 0.005}, {"learning_rate": 0.01}, {"learning_rate": 0.02})


@dataclass(frozen=True)
class Arm:
    """One variant in a group of trials.

    Attributes:
        name: description for the table.
        recipe: fields of the recipe that differ from `BASE`.
        shape: fields of the config that differ from `TINY`.
        grid: learning rates to choose from.
        variation: name of a change that neither recipe nor config can express; see `_varied`.
    """

    name: str
    recipe: dict[str, Any] = field(default_factory=dict)
    shape: dict[str, Any] = field(default_factory=dict)
    grid: tuple[dict[str, Any], ...] = MUON
    variation: str = ""


REWEIGHT = {**NANO, "head_type": "reweight"}
NEW_NANO = {**REWEIGHT, "T": [2, 32, 32, 32], "n_blocks": 4, "n_heads": 2}  # its rates are those of the shipped model
CHOSEN = ({"matrix_learning_rate": 0.04, "learning_rate": 0.01},)
DEEPER = {**REWEIGHT, "n_blocks": 4, "n_heads": 2, "nodes": 128}
FLOAT32 = {"precision": "float32"}
BASELINE = Arm("Muon, cosine, EMA 0.998")
GROUPS: dict[str, list[Arm]] = {
    "optimizer": [
        Arm("Muon, AdamW at 0.003", FLOAT32, NANO, COARSE),
        Arm("AdamW alone", {"optimizer": "adamw", **FLOAT32}, NANO, ADAMW),
        Arm("Muon, AdamW at 0.0015", {"learning_rate": 0.0015, **FLOAT32}, NANO, COARSE),
        Arm("Muon, AdamW at 0.01", {"learning_rate": 0.01, **FLOAT32}, NANO, COARSE),
    ],
    "shape": [
        Arm("reweight heads, 3 blocks, 4 heads, nodes 160", shape={**REWEIGHT, "nodes": 160}),
        Arm("4 blocks, 4 heads, nodes 96", shape={**REWEIGHT, "n_blocks": 4}),
        Arm("4 blocks, 2 heads, nodes 128", shape=DEEPER),
        Arm("4 blocks, 2 heads, nodes 128, AdamW at 0.01", {"learning_rate": 0.01}, DEEPER),
    ],
    "distillation": [
        Arm("the text alone", {}, NEW_NANO, CHOSEN),
        Arm("teachers, three quarters of the loss", {"distillation": 0.75}, NEW_NANO, CHOSEN, "taught"),
    ],
    "precision": [Arm("float32", FLOAT32, NANO, COARSE), Arm("bfloat16", {}, NANO)],
    "average": [BASELINE, Arm("no EMA", {"ema": 0.0}), Arm("EMA 0.99", {"ema": 0.99})],
    "schedule": [BASELINE, Arm("warmup-stable-decay, decay over 30%", {"schedule": "wsd"})],
    "windows": [BASELINE, Arm("2 windows", {"windows": 2}), Arm("8 windows", {"windows": 8})],
    "batch": [
        BASELINE,
        Arm("2,048 characters, twice the steps", {"batch_chars": 2048, "steps": 3000}),
        Arm("8,192 characters, half the steps", {"batch_chars": 8192, "steps": 750}),
        Arm("2,048 growing to 6,144 characters", variation="growing batch"),
    ],
    "decay": [
        BASELINE,
        Arm("weight decay 0.02", {"weight_decay": 0.02}),
        Arm("weight decay 0.4", {"weight_decay": 0.4}),
    ],
    "dropout": [BASELINE, Arm("dropout 0.05", {"dropout": 0.05})],
    "smoothing": [BASELINE, Arm("label smoothing 0.05", {"label_smoothing": 0.05})],
    "gates": [
        BASELINE,
        Arm("gates start at 0.2", shape={"alpha": 0.2}),
        Arm("gates start at 0.8", shape={"alpha": 0.8}),
        Arm("gates start spread over the heads, 0.1 to 0.9", variation="spread gates"),
    ],
    "start": [
        BASELINE,
        Arm("reweight matrices start 5 times larger", variation="large wr"),
        Arm("embedding starts 5 times larger", variation="large embed"),
    ],
}  # fmt: skip


def _parameters(shape: dict[str, Any]) -> int:
    return sum(math.prod(each) for each in shapes(ModelConfig(vocab_size=65, **shape)).values())


def _equal_parameters(base: dict[str, Any]) -> list[Arm]:
    """Return an arm for each head type and position mode, with about as many parameters as the relative hybrid.

    The width of the MLP makes up for the difference.
    """
    size = _parameters(base)
    arms = []
    for head_type in HEAD_TYPES:
        for position in POSITIONS:
            shape = {**base, "head_type": head_type, "position": position}
            nodes = min(
                range(1, 1000), key=lambda nodes, shape=shape: abs(_parameters({**shape, "nodes": nodes}) - size)
            )
            arms.append(Arm(f"{head_type}, {position}", shape={**shape, "nodes": nodes}))
    return arms


def _equal_time(base: dict[str, Any], others: dict[tuple[HeadType, Position], dict[str, int]]) -> list[Arm]:
    """Return an arm for each head type and position mode, in shapes that decode as fast as the relative hybrid."""
    kinds = {("hybrid", "relative"): {}, **others}
    return [
        Arm(f"{head_type}, {position}", shape={**base, "head_type": head_type, "position": position, **shape})
        for (head_type, position), shape in kinds.items()
    ]


# Shapes chosen by the measured time per character past the window, for one text with AVX-512. Times are within 3% of
# the relative hybrid's, except for the three tiny absolute models: theirs change in coarse steps and are within 15%.
# `bench/bench_kinds.py` measures them. An absolute model computes its whole window for each character, so it can be as
# fast only with a single block.
COMPARISONS = {
    "parameters-nano": _equal_parameters(NANO),
    "parameters-tiny": _equal_parameters(TINY),
    "time-nano": _equal_time(
        NANO,
        {
            ("hybrid", "absolute"): {"n_blocks": 1, "n_emb": 48, "nodes": 32},
            ("reweight", "relative"): {"nodes": 160},
            ("reweight", "absolute"): {"n_blocks": 1, "nodes": 144},
            ("content", "relative"): {"nodes": 144},
            ("content", "absolute"): {"n_blocks": 1, "n_emb": 48, "nodes": 160},
        },
    ),
    "time-tiny": _equal_time(
        TINY,
        {
            ("hybrid", "absolute"): {"n_blocks": 1, "n_emb": 16, "nodes": 32},
            ("reweight", "relative"): {"nodes": 112},
            ("reweight", "absolute"): {"n_blocks": 1, "n_emb": 32, "nodes": 32},
            ("content", "relative"): {"nodes": 112},
            ("content", "absolute"): {"n_blocks": 1, "n_emb": 16, "nodes": 160},
        },
    ),
}
GROUPS |= COMPARISONS


@dataclass(frozen=True)
class Trial:
    """Everything that determines a run."""

    shape: dict[str, Any]
    recipe: dict[str, Any]
    variation: str = ""

    @property
    def key(self) -> str:
        """Canonical string, equal for equal trials."""
        return json.dumps(asdict(self), sort_keys=True)


def grid_of(arm: Arm) -> list[Trial]:
    """Return the trials of an arm with the first seed, one per learning rate."""
    return [
        Trial({**TINY, **arm.shape}, {**BASE, **arm.recipe, **rates, "seed": SEEDS[0]}, arm.variation)
        for rates in arm.grid
    ]


class Results:
    """Measured trials, stored in a JSON Lines file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, dict[str, Any]] = {}
        if path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                result = json.loads(line)
                self._known[Trial(**result["trial"]).key] = result

    def __contains__(self, trial: Trial) -> bool:
        return trial.key in self._known

    def __getitem__(self, trial: Trial) -> dict[str, Any]:
        return self._known[trial.key]

    def add(self, result: dict[str, Any]) -> None:
        """Add a result and append it to the file."""
        self._known[Trial(**result["trial"]).key] = result
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(result) + "\n")

    def best(self, grid: list[Trial]) -> Trial | None:
        """Return the trial with the lowest loss, or None if one has not been run."""
        if not all(trial in self for trial in grid):
            return None
        return min(grid, key=lambda trial: self[trial]["block_256"])

    def seeds(self, arm: Arm, group: str) -> list[Trial]:
        """Return the trials that an arm is judged by: its best learning rates with each seed.

        An arm that is close to the baseline of its group has only one seed. The list is empty if the grid of the arm
        or of the baseline is incomplete.
        """
        chosen, first = self.best(grid_of(arm)), self.best(grid_of(GROUPS[group][0]))
        if chosen is None or first is None:
            return []
        is_close = 0 < abs(self[chosen]["block_256"] - self[first]["block_256"]) < CLOSE and group not in COMPARISONS
        return [
            Trial(chosen.shape, {**chosen.recipe, "seed": seed}, chosen.variation)
            for seed in (SEEDS[:1] if is_close else SEEDS)
        ]

    def wanted(self, groups: list[str]) -> list[Trial]:
        """Return the trials that still have to be run."""
        arms = [(arm, group) for group in groups for arm in GROUPS[group]]
        trials = {trial.key: trial for arm, group in arms for trial in (*grid_of(arm), *self.seeds(arm, group))}
        return [trial for trial in trials.values() if trial not in self]


@cache
def _taught(corpus_path: str, folder: Path) -> Any:
    """Return what the teachers of the shipped models, in a folder, expect of the training text."""
    import torch

    from knock_training.data import Corpus
    from training.shipped import MODELS, taught

    return taught(MODELS["shakespeare-small"], Corpus.read(corpus_path), folder, torch.device("cpu"))


def run(trial: Trial, corpus_path: str, teachers: Path) -> dict[str, Any]:
    """Train and evaluate a model, and return the result to store."""
    import torch

    from knock_training.data import Corpus
    from knock_training.evaluate import evaluate
    from knock_training.recipe import Recipe
    from knock_training.trainer import train

    torch.set_num_threads(1)
    corpus = Corpus.read(corpus_path)
    config = ModelConfig(vocab_size=corpus.vocab.vocab_size, **trial.shape)
    recipe_type, start = _varied(trial.variation, Recipe)
    result = train(
        config, corpus, recipe_type(**trial.recipe), start=start(config, trial.recipe["seed"]),
        teachers=_taught(corpus_path, teachers) if trial.variation == "taught" else None,
    )  # fmt: skip
    losses = evaluate(result.weights, corpus.validation)
    gates = [[round(float(gate), 3) for gate in result.weights[name]] for name in result.weights if "gate" in name]
    return {
        "trial": asdict(trial),
        **{name: round(loss.nats, 5) for name, loss in losses.items()},
        "parameters": result.weights.n_parameters,
        "best_step": result.record["best_step"],
        "ended": result.ended,
        "seconds": result.record["seconds"],
        "gates": gates,
    }


def _varied(variation: str, recipe_type: Any) -> tuple[Any, Callable[..., Any]]:
    """Return the recipe class of a variation and a function that creates its initial weights."""
    import numpy as np

    from knock.weights import Weights

    def start(config: Any, seed: int) -> Weights:
        weights = Weights.random(config, seed)
        arrays = dict(weights)
        for name, array in weights.items():
            if variation == "spread gates" and name.endswith(".gate"):
                arrays[name] = np.linspace(0.1, 0.9, len(array), dtype=np.float32)
            if (variation == "large wr" and name.endswith(".wr")) or (variation == "large embed" and name == "embed"):
                arrays[name] = 5 * array
        return Weights(config, arrays)

    class Growing(recipe_type):  # type: ignore[misc]
        def batch_chars_at(self, step: int) -> int:
            return int(self.batch_chars * (0.5 + step / self.steps))

    return (Growing if variation == "growing batch" else recipe_type), start


def run_all(groups: list[str], corpus: str, teachers: Path, jobs: int, results: Results) -> None:
    """Run all missing trials of some groups, including those that earlier results call for."""
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        running: dict[Any, Trial] = {}
        while True:
            wanted = [trial for trial in results.wanted(groups) if trial not in running.values()]
            for trial in wanted[: jobs - len(running)]:
                running[pool.submit(run, trial, corpus, teachers)] = trial
            if not running:
                return
            done = next(as_completed(running))
            running.pop(done)
            result = done.result()
            results.add(result)
            print(
                f"{result['block_256']:.4f} {result['stream']:.4f} {result['seconds']:.0f}s {result['trial']}",
                flush=True,
            )


def table(group: str, results: Results) -> str:
    """Return the table of a group: means over the seeds, standard deviation and difference from the baseline."""
    lines = [
        f"| {group} | learning rate | block 256 | ± | stream | vs. baseline | |",
        "|---|---|---:|---:|---:|---:|---|",
    ]
    first: list[float] = []
    gates: list[str] = []
    for arm in GROUPS[group]:
        trials = results.seeds(arm, group)
        if not trials or not all(trial in results for trial in trials):
            continue
        block, stream = ([results[trial][name] for trial in trials] for name in ("block_256", "stream"))
        first = first or block
        mean, against = statistics.mean(block), statistics.mean(block) - statistics.mean(first[: len(block)])
        spread = f"{statistics.stdev(block):.4f}" if len(block) > 1 else "one seed"
        verdict = "no claim" if abs(against) < CLAIM else "worse" if against > 0 else "better"
        rates = ", ".join(f"{trials[0].recipe[name]:g}" for name in arm.grid[0])
        lines.append(
            f"| {arm.name} | {rates} | {mean:.4f} | {spread} | {statistics.mean(stream):.4f} | {against:+.4f} "
            f"| {verdict if arm is not GROUPS[group][0] else ''} |"
        )
        if group in COMPARISONS and arm.shape["head_type"] == "hybrid":
            gates.append(f"{arm.name} {learned_gates([results[trial]['gates'] for trial in trials])}")
    if gates:
        lines += ["", f"Gates after training, by block, averaged over heads and seeds: {'; '.join(gates)}."]
    return "\n".join(lines)


def learned_gates(runs: list[list[list[float]]]) -> str:
    """Format the gates of several runs, [seeds, L, H], as the mean of each block and the overall range."""
    every = [gate for run in runs for block in run for gate in block]
    blocks = [statistics.mean(gate for run in runs for gate in run[b]) for b in range(len(runs[0]))]
    return f"{', '.join(f'{mean:.2f}' for mean in blocks)} (from {min(every):.2f} to {max(every):.2f})"


def main() -> None:
    """Run trials or write their tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    runs = commands.add_parser("run", help="run the missing trials of some groups")
    runs.add_argument("corpus", help="path of tinyshakespeare.txt")
    runs.add_argument("groups", nargs="+", choices=GROUPS, help="groups to run")
    runs.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="runs at a time (default: one per CPU)")
    runs.add_argument("--teachers", type=Path, default=Path(), help="folder with the teachers of the shipped models")
    commands.add_parser("write", help="write the tables into TRIALS.md")
    options = parser.parse_args()
    results = Results(RESULTS)
    if options.command == "run":
        run_all(options.groups, options.corpus, options.teachers, options.jobs, results)
        return
    text = TRIALS.read_text(encoding="utf-8")
    for group in GROUPS:
        pattern = rf"(<!-- {group} -->\n).*?(<!-- end {group} -->)"
        text = re.sub(
            pattern, lambda match, group=group: f"{match[1]}{table(group, results)}\n{match[2]}", text, flags=re.DOTALL
        )
    TRIALS.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
