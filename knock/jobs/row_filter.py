"""RowFilter: which rows of a run to keep, and when there are enough."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from knock.generation.filters import Filters, Verdict

_SOME = 256  # rows to draw at once where nothing is wanted but a comparison with earlier rows


class RowFilter:
    """Judges the rows of a run.

    Args:
        filters: what a text must be like.
        of_items: whether a text is an item that begins with its prompt; otherwise it is what follows the prompt.
        count: number of rows to keep, which end the run; None if every prompt has its row, and those that are dropped
            are not replaced.
    """

    def __init__(self, filters: Filters, *, of_items: bool, count: int | None = None) -> None:
        self.filters = filters
        self.count = count
        self._of_items = of_items

    @property
    def is_enough(self) -> bool:
        """Whether there are as many rows as wanted."""
        return self.count is not None and self.filters.kept >= self.count

    def keep(self, row: Mapping[str, Any], identity: str) -> bool:
        """Judge the next row; return whether to keep it.

        Args:
            row: a row without an error.
            identity: what must not repeat.
        """
        return self.filters.keep(self._text(row), row["finish_reason"], identity)

    def verdict(self, row: Mapping[str, Any], identity: str) -> Verdict | None:
        """Return why `keep` would drop a row, None if it would not, without counting it."""
        return self.filters.verdict(self._text(row), row["finish_reason"], identity)

    def resume(self, kept: int, dropped: Mapping[Verdict, int], identities: Iterable[str] = ()) -> None:
        """Continue an earlier run, as in `Filters.resume`."""
        self.filters.resume(kept, dropped, identities)

    def at_once(self) -> int:
        """Return how many rows to draw before the next look at how many are still missing."""
        return _SOME if self.count is None or self.is_enough else self.filters.ahead(self.count)

    def _text(self, row: Mapping[str, Any]) -> str:
        text: str = row["prompt"] + row["text"] if self._of_items else row["text"]
        return text
