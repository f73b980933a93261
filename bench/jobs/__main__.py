"""Measure a job from the command to the file, and print its report as Markdown.

python -m bench.jobs names
python -m bench.jobs molecules nano.safetensors small.safetensors --molsets molsets-0.3.1-py3-none-any.whl
python -m bench.jobs rows customers.safetensors customers.csv
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bench.extras import needed

with needed(__name__):
    from bench.jobs import molecules, names, rows
    from bench.jobs.command import machine


def main() -> None:
    """Run the job that the command line asks for."""
    description = (__doc__ or "").split("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m bench.jobs", description=description)
    jobs = parser.add_subparsers(dest="job", required=True)

    job = jobs.add_parser("names", help="new names")
    job.add_argument("--model", default="names", help="model of items (default: %(default)s)")
    job.add_argument("--corpus", type=Path, default=names.NAMES, help="file that it was trained on")
    job.add_argument("--count", type=int, default=names.COUNT)

    job = jobs.add_parser("molecules", help="molecules as SMILES")
    job.add_argument("models", nargs="+", type=Path, help="model files, trained as the module says")
    job.add_argument("--molsets", type=Path, required=True, help="file of the package molsets")
    job.add_argument("--count", type=int, default=molecules.COUNT)

    job = jobs.add_parser("rows", help="rows of a table")
    job.add_argument("model", type=Path, help="model file, trained on TABLE with --rows")
    job.add_argument("table", type=Path, help="the table, written by bench.jobs.table")
    job.add_argument("--count", type=int, default=rows.COUNT)

    options = parser.parse_args()
    if options.job == "names":
        text = names.report(options.model, options.corpus, options.count)
    elif options.job == "molecules":
        text = molecules.report(options.models, options.molsets, options.count)
    else:
        text = rows.report(options.model, options.table, options.count)
    sys.stdout.write(f"{text}\n{machine()}\n")


if __name__ == "__main__":
    main()
