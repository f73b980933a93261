"""Filters: which generated texts to keep. Texts that are not kept are counted by the reason."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Literal, get_args

from knock.errors import SamplingError
from knock.generation.known_texts import KnownRuns, KnownTexts, Source
from knock.generation.text_hashes import text_hash
from knock.validation import shown
from knock.vocab import Vocab

__all__ = ["VERDICTS", "Accept", "Filters", "KnownRuns", "KnownTexts", "Source", "Verdict", "describe"]

Verdict = Literal["repeats", "copies", "overlaps", "cut", "not accepted", "not matching", "errors", "in an earlier run"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
_ALWAYS: tuple[Verdict, ...] = ("repeats", "copies", "cut", "not accepted")  # in every description

Accept = str | re.Pattern[str] | Callable[[str], bool]


class Filters:
    """Decides, text after text, which to keep.

    Args:
        unique: drop a text that equals an earlier one; needs about 100 bytes of memory per kept text.
        novel: texts that are not new, as `KnownTexts`; neither a text nor its identity may be one of them.
        overlap: texts of which no long run may be copied.
        accept: a regular expression that a text must match as a whole, in all of Python's syntax, or a function that
            returns whether to keep a text.
        keep_cut: keep texts that ended at the limit of their length.

    Attributes:
        drawn: number of texts judged.
        kept: number of texts kept.
        dropped: number of texts dropped, by reason.

    Raises:
        SamplingError: if `accept` is neither a valid regular expression nor a function.
    """

    def __init__(
        self,
        *,
        unique: bool = False,
        novel: KnownTexts | None = None,
        overlap: KnownRuns | None = None,
        accept: Accept | None = None,
        keep_cut: bool = True,
    ) -> None:
        self.drawn = self.kept = 0
        self.dropped: Counter[Verdict] = Counter()
        self._seen: set[int] | None = set() if unique else None
        self._novel = novel
        self._overlap = overlap
        self._accept = _checked_accept(accept)
        self._keep_cut = keep_cut

    def keep(self, text: str, finish_reason: str, identity: str | None = None) -> bool:
        """Judge the next text; return whether to keep it.

        Args:
            text: the text.
            finish_reason: why it ended.
            identity: what makes it a repeat of an earlier text, or a copy, if that is more or less than the text.
        """
        self.drawn += 1
        verdict, digest = self._judge(text, finish_reason, identity)
        if verdict is not None:
            self.dropped[verdict] += 1
            return False
        if self._seen is not None:
            self._seen.add(digest)
        self.kept += 1
        return True

    def verdict(self, text: str, finish_reason: str, identity: str | None = None) -> Verdict | None:
        """Return why `keep` would drop a text, None if it would not, without counting it."""
        return self._judge(text, finish_reason, identity)[0]

    def resume(self, kept: int, dropped: Mapping[Verdict, int], identities: Iterable[str] = ()) -> None:
        """Continue an earlier run.

        Args:
            kept: number of texts that it kept.
            dropped: number of texts that it dropped, by reason.
            identities: the texts that it kept, or what identifies them; needed if `unique` is set.
        """
        self.kept, self.dropped = kept, Counter(dropped)
        self.drawn = kept + self.dropped.total()
        if self._seen is not None:
            self._seen.update(map(text_hash, identities))

    def ahead(self, count: int) -> int:
        """Return how many texts to draw for about `count` to be kept in all, by the share that was kept so far."""
        expected = max(0, count - self.kept) * (self.drawn + 1) / (self.kept + 1)
        return math.ceil(expected + 2 * math.sqrt(expected)) + 1

    def _judge(self, text: str, finish_reason: str, identity: str | None) -> tuple[Verdict | None, int]:
        """Return the verdict on a text and, if that is to keep it, the hash of its identity."""
        if finish_reason == "error":
            return "errors", 0
        if finish_reason == "rejected":
            return "not matching", 0
        if finish_reason == "length" and not self._keep_cut:
            return "cut", 0
        digest = whole = 0
        if self._seen is not None or self._novel is not None:
            digest = text_hash(text)
            whole = digest if identity is None or identity == text else text_hash(identity)
        if self._novel is not None and (
            self._novel.has_hash(digest) or (whole != digest and self._novel.has_hash(whole))
        ):
            return "copies", 0
        if self._overlap is not None and self._overlap.has_run_of(text):
            return "overlaps", 0
        if self._accept is not None and not self._accept(text):
            return "not accepted", 0
        if self._seen is not None and whole in self._seen:
            return "repeats", 0
        return None, whole


def default_tries(count: int) -> int:
    """Return how many texts to draw at most for `count` to be kept, if the caller does not say."""
    return max(10_000, 100 * count)


def is_open_ended(vocab: Vocab, stop: Iterable[str]) -> bool:
    """Return whether nothing but the limit of its length ends a text, which is then not cut but whole."""
    return not (vocab.has_boundary or tuple(stop))


def _checked_accept(accept: Accept | None) -> Callable[[str], object] | None:
    if accept is None or (callable(accept) and not isinstance(accept, str)):
        return accept
    if not isinstance(accept, (str, re.Pattern)):
        raise SamplingError(f"accept must be a regular expression or a function, got {shown(accept)}")
    try:
        return re.compile(accept).fullmatch
    except re.error as error:
        raise SamplingError(f"accept={shown(accept)} is not a regular expression: {error}") from error


def describe(filters: Filters) -> str:
    """Return a line with what was drawn and kept, and why the rest was not.

    It is like `drawn 12, kept 10; dropped: 2 repeats, 0 copies, 0 cut, 0 not accepted`.
    """
    reasons = [verdict for verdict in VERDICTS if verdict in _ALWAYS or filters.dropped[verdict]]
    dropped = ", ".join(f"{filters.dropped[verdict]:,} {verdict}" for verdict in reasons)
    return f"drawn {filters.drawn:,}, kept {filters.kept:,}; dropped: {dropped}"
