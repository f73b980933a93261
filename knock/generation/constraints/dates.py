"""Formats of dates and times: recognised from examples, and as regular expressions of valid dates.

A format is written with the codes of `strftime`. `%-d`, `%-m`, `%-H` and `%-I` are numbers without a leading zero, and
`%3f` stands for three decimals of a second.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from knock.generation.constraints.numbers import of_width

Years = tuple[int, int]

_CODE = re.compile(r"%(-?[a-zA-Z]|\d+f|%)")
_CLOCK = {
    "H": "(?:[01][0-9]|2[0-3])", "-H": "(?:1[0-9]|2[0-3]|[0-9])", "I": "(?:0[1-9]|1[0-2])", "-I": "(?:1[0-2]|[1-9])",
    "M": "[0-5][0-9]", "S": "[0-5][0-9]", "f": "[0-9]{1,9}", "p": "(?:AM|PM)",
    "z": "(?:Z|[-+](?:0[0-9]|1[0-4]):?[0-5][0-9])", "%": "%",
}  # fmt: skip
_DATE = ("Y", "y", "m", "-m", "d", "-d")

_LONG, _SHORT = (1, 3, 5, 7, 8, 10, 12), (4, 6, 9, 11)  # months of 31 and of 30 days
_DIGITS = re.compile("[0-9]+")
_MOST_SHAPES = 8  # of the values of a column

_LIKE = re.compile(
    r"(?P<date>(?P<a>[0-9]+)(?P<by>[-/.])(?P<b>[0-9]+)(?P=by)(?P<c>[0-9]+)|(?P<solid>[0-9]{8}))?"
    r"(?P<join>[T ]|, )?"
    r"(?P<time>(?P<hour>[0-9]{1,2}):[0-9]{2}(?P<second>:[0-9]{2}(?:(?P<mark>[.,])(?P<fraction>[0-9]{1,9}))?)?)?"
    r"(?P<noon> ?[AP]M)?(?P<zone> ?(?:Z|UTC|GMT|[-+][0-9]{2}:?[0-9]{2}))?"
)
# In a date that can be read in several ways, the first one counts.
_ORDERS = {
    "-": ("Y m d", "d m Y", "m d Y", "y m d"), "/": ("m d Y", "d m Y", "Y m d", "m d y", "d m y"),
    ".": ("d m Y", "m d Y", "Y m d", "d m y"),
}  # fmt: skip


def codes_of(form: str) -> list[str]:
    """Return the codes of a format.

    Raises:
        ValueError: if one is unknown, or there is none.
    """
    codes = [code for code in _CODE.findall(form) if code != "%"]
    for code in codes:
        if code not in _CLOCK and code not in _DATE and not re.fullmatch(r"[1-9]f", code):
            known = ", ".join(f"%{each}" for each in (*_DATE, *_CLOCK))
            raise ValueError(f"%{code} is not one of {known}")
    if not codes:
        raise ValueError("it has no code, such as %Y")
    return codes


@functools.lru_cache(maxsize=256)
def expression(form: str, years: Years = (1, 9999)) -> str:
    """Return a regular expression of the valid dates or times in a format.

    Args:
        form: the format.
        years: first and last year.

    Raises:
        ValueError: if a code is unknown.
    """
    codes = codes_of(form)
    pieces = _CODE.split(form)  # literal, code, literal, code, ..., literal
    dated = [i for i in range(1, len(pieces), 2) if pieces[i] in _DATE]
    if not dated:
        return _joined(pieces, {})
    first, last = dated[0], dated[-1] + 1
    alternatives = [_joined(["", *pieces[first:last], ""], each) for each in _days(codes, years)]
    whole = alternatives[0] if len(alternatives) == 1 else f"(?:{'|'.join(alternatives)})"
    return _joined([*pieces[:first], ""], {}) + whole + _joined(["", "", *pieces[last:]], {})


def _joined(pieces: Sequence[str], date: dict[str, str]) -> str:
    """Return the expression for literals and codes, in turns; an empty code is none."""
    codes = {**_CLOCK, **date, "": ""}

    def of(code: str) -> str:
        return codes[code] if code in codes else f"[0-9]{{{code[:-1]}}}"

    return "".join(of(piece) if i % 2 else re.escape(piece) for i, piece in enumerate(pieces))


def _days(codes: Sequence[str], years: Years) -> Iterator[dict[str, str]]:
    """Yield expressions of the codes of a date, such that all together stand for valid dates only."""
    first, last = years
    year = {"Y": of_width(f"{first:04}", f"{last:04}"), "y": "[0-9]{2}"}
    if not ({"m", "-m"} & set(codes) and {"d", "-d"} & set(codes)):
        yield {**year, **_months((*_LONG, *_SHORT, 2)), **_day_numbers(31)}
        return
    yield {**year, **_months(_LONG), **_day_numbers(31)}
    yield {**year, **_months(_SHORT), **_day_numbers(30)}
    yield {**year, **_months((2,)), **_day_numbers(28)}
    leap = [each for each in range(first, last + 1) if each % 4 == 0 and (each % 100 or each % 400 == 0)]
    if leap or "Y" not in codes:
        years_of = {"Y": _leap_years(leap), "y": _numbers(f"{each:02}" for each in range(0, 100, 4))}
        yield {**years_of, **_months((2,)), "d": "29", "-d": "29"}


def _leap_years(years: Sequence[int]) -> str:
    centuries: dict[str, list[str]] = {}  # that have the same leap years
    for century, group in itertools.groupby(years, lambda year: year // 100):
        centuries.setdefault(_numbers(f"{year % 100:02}" for year in group), []).append(f"{century:02}")
    return _one_of([_numbers(heads) + tails for tails, heads in centuries.items()])


def _months(months: Iterable[int]) -> dict[str, str]:
    return {"m": _numbers(f"{month:02}" for month in months), "-m": _numbers(map(str, months))}


def _day_numbers(most: int) -> dict[str, str]:
    days = range(1, most + 1)
    return {"d": _numbers(f"{day:02}" for day in days), "-d": _numbers(map(str, days))}


def _numbers(numbers: Iterable[str]) -> str:
    """Return an expression of one of some numbers, with those that differ in the last digit alone as a class."""
    by_head: dict[str, str] = {}
    for number in numbers:
        by_head[number[:-1]] = by_head.get(number[:-1], "") + number[-1]
    return _one_of([head + (f"[{ends}]" if len(ends) > 1 else ends) for head, ends in by_head.items()])


def _one_of(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"(?:{'|'.join(parts)})"


class DateFormats:
    """The formats that fit all values so far, by the shape of the values: the same but for the digits.

    Attributes:
        is_possible: whether each value has a format.
    """

    def __init__(self) -> None:
        self.is_possible = True
        self._by_shape: dict[str, list[_Candidate]] = {}

    def update(self, values: Iterable[str]) -> None:
        """Drop the formats that do not fit further values."""
        by_shape: dict[str, list[str]] = {}
        for value in values:
            by_shape.setdefault(_DIGITS.sub("9", value).replace("AM", "PM"), []).append(value)
            if len(by_shape.keys() | self._by_shape.keys()) > _MOST_SHAPES:
                self.is_possible = False
                return
        for shape, group in by_shape.items():
            candidates = self._by_shape.get(shape) or [_Candidate(form) for form in _formats(group[0])]
            self._by_shape[shape] = [each for each in candidates if each.fits(group)]
        self.is_possible = all(self._by_shape.values())

    def spec(self) -> dict[str, Any]:
        """Return the fields of a column in a schema: a format for each shape, and the years if there are any."""
        best = [candidates[0] for candidates in self._by_shape.values()]
        spec = {"kind": "date", "formats": list(dict.fromkeys(each.form for each in best))}
        years = [year for each in best for year in each.years]
        return spec | {"years": [min(years), max(years)]} if years else spec


class _Candidate:
    """A format, and the first and the last year of the values that it fits."""

    def __init__(self, form: str) -> None:
        self.form = form
        self.years: set[int] = set()
        self._match = re.compile(expression(form)).fullmatch
        self._year = _year_finder(form)

    def fits(self, values: Iterable[str]) -> bool:
        """Return whether a format fits values, and note their years."""
        for value in values:
            if not self._match(value):
                return False
            if self._year and (found := self._year.match(value)):
                self.years.add(int(found[1]))
        self.years = {min(self.years), max(self.years)} if self.years else set()
        return True


def _year_finder(form: str) -> re.Pattern[str] | None:
    """Return an expression whose group is the year of a date; None if the format has none of four digits."""
    before, is_there, _ = form.partition("%Y")
    pieces = _CODE.split(before)
    start = "".join("[0-9]{1,2}" if i % 2 else re.escape(piece) for i, piece in enumerate(pieces))
    return re.compile(f"{start}([0-9]{{4}})") if is_there else None


def _formats(value: str) -> Iterator[str]:
    """Yield the formats that a value may have, the likeliest first."""
    like = _LIKE.fullmatch(value)
    if like is None or not (like["date"] or like["time"]) or bool(like["join"]) != bool(like["date"] and like["time"]):
        return
    if (like["noon"] or like["zone"]) and not like["time"]:
        return
    dates = [""]
    if like["solid"]:
        dates = ["%Y%m%d", "%d%m%Y", "%m%d%Y"]
    elif like["date"]:
        orders = [[f"%{code}" for code in order.split()] for order in _ORDERS[like["by"]]]
        dates = [like["by"].join(order) for order in orders]
        dates += [date.replace("%d", "%-d").replace("%m", "%-m") for date in dates]
    times = [""]
    if like["time"]:
        hour, rest = ("I" if like["noon"] else "H"), ":%M" + (":%S" if like["second"] else "")
        if like["noon"]:
            rest = rest + (" %p" if like["noon"].startswith(" ") else "%p")
        decimals = [f"{like['mark']}%{len(like['fraction'])}f", f"{like['mark']}%f"] if like["fraction"] else [""]
        times = [f"%{pad}{hour}{rest}".replace("%S", f"%S{decimal}") for pad in ("", "-") for decimal in decimals]
    zone = like["zone"] or ""
    zones = [zone] if zone.strip() in ("", "Z", "UTC", "GMT") else [zone, f"{zone[: -len(zone.strip())]}%z"]
    for date, time, end in itertools.product(dates, times, zones):
        yield f"{date}{like['join'] or ''}{time}{end}"
