"""Write a made-up table of customers with 12 columns of all kinds: the same rows for the same seed.

    python -m bench.jobs.table customers.csv --rows 20000

The suffix decides the format: .csv, .tsv or .jsonl. Names, cities and remarks are put together from short lists, so
that a small model can learn what belongs together: a country has its cities and its phone numbers.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HEADER = ("id", "name", "email", "country", "city", "born", "updated", "orders", "spent", "active", "phone", "note")

_GIVEN = ("Anna", "Ben", "Clara", "David", "Elena", "Felix", "Greta", "Hugo", "Ines", "Jonas", "Karin", "Leo", "Maria",
          "Nils", "Olga", "Paul", "Rosa", "Simon", "Tilda", "Viktor")  # fmt: skip
_STEMS = ("Berg", "Feld", "Stein", "Linden", "Wald", "Brook", "Hart", "Mont", "Vill", "Castel", "Nord", "Sund", "Kirk",
          "Ash", "Rose", "Stan")  # fmt: skip
_ENDS = ("er", "mann", "son", "ley", "ini", "eau", "qvist", "ford", "o", "a")
_PLACES = {
    "DE": ("+49 30", ("Berlin", "Hamburg", "Köln", "München")),
    "FR": ("+33 14", ("Paris", "Lyon", "Nantes")),
    "IT": ("+39 06", ("Roma", "Milano", "Torino")),
    "SE": ("+46 08", ("Stockholm", "Malmö")),
    "US": ("+1 555", ("New York", "Boston", "Chicago", "Austin")),
    "JP": ("+81 03", ("Tokyo", "Osaka")),
}
_OPENINGS = ("Prefers e-mail", "Called twice", "Paid late", "Asked for a refund", "Moved house", "Wants a quote")
_DETAILS = ('said "not before noon"', "sizes 38, 40 and 42", "new address; see letter", 'likes the "blue" one, not red',
            "thanks\nand goodbye", "invoice 50% paid", "call back on Monday", "no reply, again")  # fmt: skip


def customers(count: int, seed: int = 1) -> Iterator[dict[str, Any]]:
    """Yield rows; a missing value is None.

    Args:
        count: number of rows.
        seed: decides the rows.
    """
    draw = random.Random(seed)
    first, start = datetime.date(1940, 1, 1), datetime.datetime(2021, 1, 1)
    for number in range(count):
        given, family = draw.choice(_GIVEN), draw.choice(_STEMS) + draw.choice(_ENDS)
        country = draw.choices(tuple(_PLACES), (30, 20, 15, 10, 20, 5))[0]
        prefix, cities = _PLACES[country]
        orders = min(int(draw.expovariate(0.1)), 250)
        note = f"{draw.choice(_OPENINGS)} ({draw.randrange(1, 29)}/{draw.randrange(1, 13)}), {draw.choice(_DETAILS)}"
        yield {
            "id": f"C-{100_000 + 7 * number % 900_000:06}",
            "name": f"{given} {family}",
            "email": f"{given}.{family}@{draw.choice(('example.com', 'mail.test', 'post.example'))}".lower(),
            "country": country,
            "city": draw.choice(cities),
            "born": (first + datetime.timedelta(days=draw.randrange(24_000))).strftime("%d.%m.%Y"),
            "updated": (start + datetime.timedelta(seconds=draw.randrange(10**8))).isoformat() + "Z",
            "orders": orders,
            "spent": f"{orders * draw.uniform(5, 90) - 20 * (draw.random() < 0.05):.2f}" if orders else None,
            "active": draw.random() < 0.8,
            "phone": f"{prefix} {draw.randrange(10**3):03} {draw.randrange(10**4):04}" if draw.random() < 0.9 else None,
            "note": note if draw.random() < 0.6 else None,
        }


def write_table(path: Path, count: int, seed: int = 1) -> None:
    """Write rows to a .csv, .tsv or .jsonl file; in JSON, money is a number."""
    with path.open("w", encoding="utf-8", newline="") as file:
        if path.suffix == ".jsonl":
            for row in customers(count, seed):
                spent = None if row["spent"] is None else float(row["spent"])
                file.write(json.dumps({**row, "spent": spent}, ensure_ascii=False, separators=(",", ":")) + "\n")
            return
        table = csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",", lineterminator="\n")
        table.writerow(HEADER)
        for row in customers(count, seed):
            cells = row | {"active": str(row["active"]).lower()}
            table.writerow("" if cells[name] is None else cells[name] for name in HEADER)


def main() -> None:
    """Write the table that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", type=Path)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    write_table(options.path, options.rows, options.seed)


if __name__ == "__main__":
    main()
