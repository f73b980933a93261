"""Regular expressions of numbers in a range."""

from __future__ import annotations


def between(least: int, most: int) -> str:
    """Return an expression of the whole numbers from `least` to `most`, without leading zeros."""
    parts = []
    if least < 0:
        parts.append("-" + magnitudes(max(1, -most), -least))
    if most >= 0:
        parts.append(magnitudes(max(0, least), most))
    return _any(parts)


def magnitudes(least: int, most: int) -> str:
    """Return an expression of the whole numbers from `least` to `most`, neither of which is negative."""
    parts = []
    for width in range(len(str(least)), len(str(most)) + 1):
        low = max(least, 10 ** (width - 1) if width > 1 else 0)
        parts.append(of_width(str(low), str(min(most, 10**width - 1))))
    return _any(parts)


def of_width(least: str, most: str) -> str:
    """Return an expression for the numbers from one to another with as many digits."""
    if least == most:
        return least
    width = len(least) - 1
    if least[0] == most[0]:
        return least[0] + of_width(least[1:], most[1:])
    first, last, parts = int(least[0]), int(most[0]), []
    if width and least[1:] != "0" * width:
        parts.append(least[0] + of_width(least[1:], "9" * width))
        first += 1
    above = ""
    if width and most[1:] != "9" * width:
        above = most[0] + of_width("0" * width, most[1:])
        last -= 1
    if first <= last:
        digit = str(first) if first == last else f"[{first}-{last}]"
        parts.append(digit + (f"[0-9]{{{width}}}" if width > 1 else "[0-9]" * width))
    return _any([*parts, above] if above else parts)


def decimals(least: float, most: float, digits: tuple[int, int], separator: str) -> str:
    """Return an expression of the numbers from `least` to `most` whose decimals are cut off.

    Args:
        least: the smallest number; the part before the separator is not below its own.
        most: the largest number.
        digits: fewest and most decimals; there is no separator without decimals.
        separator: what stands before them.
    """
    wholes = []
    if least < 0:
        wholes.append("-" + magnitudes(int(max(0.0, -most)), int(-least)))
    if most >= 0:
        wholes.append(magnitudes(int(max(0.0, least)), int(most)))
    fewest, longest = digits
    if longest == 0:
        return _any(wholes)
    mark = rf"\{separator}[0-9]{{{max(1, fewest)},{longest}}}"
    return _any(wholes) + (mark if fewest else f"(?:{mark})?")


def _any(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"(?:{'|'.join(parts)})"
