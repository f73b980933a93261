"""Run the trial of far attention, or write its tables.

    python -m training.reach run --shakespeare tinyshakespeare.txt --molecules moses_train.txt
    python -m training.reach table

A run on the CPU uses one thread, so that it can be reproduced exactly. Results are appended to `results.jsonl`.
"""

from __future__ import annotations

import argparse
import os
import sys
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing import get_context
from typing import Any

from training.reach.arms import ARMS, SEEDS, Trial
from training.reach.corpora import corpora
from training.reach.results import Results, table


def run_all(options: argparse.Namespace, results: Results) -> None:
    """Run all missing trials, including those that earlier results call for."""
    from training.reach.running import run

    chosen = options.corpus or list(corpora(options.shakespeare, options.molecules))
    with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as pool:
        running: dict[Future[dict[str, Any]], Trial] = {}
        while True:
            wanted = results.wanted(chosen, options.arm or list(ARMS), options.seeds)
            missing = [trial for trial in wanted if trial not in running.values()]
            for trial in missing[: options.jobs - len(running)]:
                running[pool.submit(run, trial, options.shakespeare, options.molecules, options.device)] = trial
            if not running:
                return
            for done in wait(running, return_when=FIRST_COMPLETED).done:
                running.pop(done)
                result = done.result()
                results.add(result)
                print(f"{result['block_256']:.4f} {result['stream']:.4f} {result['seconds']:.0f} s {result['trial']}")
                sys.stdout.flush()


def main() -> None:
    """Run trials or print their tables."""
    parser = argparse.ArgumentParser(prog="python -m training.reach", description=(__doc__ or "").split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    runs = commands.add_parser("run", help="run the missing trials")
    runs.add_argument("--shakespeare", metavar="PATH", help="tinyshakespeare.txt")
    runs.add_argument("--molecules", metavar="PATH", help="training molecules of MOSES, one in a line")
    runs.add_argument("--corpus", action="append", metavar="NAME", help="run on this corpus only; repeatable")
    runs.add_argument("--arm", action="append", choices=ARMS, help="run this model only; repeatable")
    runs.add_argument("--seeds", type=int, default=SEEDS, help=f"runs of each model (default: {SEEDS})")
    runs.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="runs at a time (default: one per CPU)")
    runs.add_argument("--device", default="cpu", metavar="NAME", help="cpu or cuda (default: %(default)s)")
    commands.add_parser("table", help="print the tables")
    options = parser.parse_args()
    results = Results()
    if options.command == "run":
        run_all(options, results)
        return
    for corpus in results.corpora:
        print(table(results, corpus, {}), end="\n\n")


if __name__ == "__main__":
    main()
