"""Picks the texts that pass the filters, until there are enough."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

from knock.errors import TooFewError
from knock.generation.results import Generation, Interrupted

if TYPE_CHECKING:
    from knock.generation.filters import Filters


def first_kept(
    texts: Iterable[Generation], filters: Filters, count: int, *, prefix: str = "", prompt: str | None = None
) -> list[str]:
    """Return the first texts that pass the filters.

    Args:
        texts: the texts, in order.
        filters: what they must pass.
        count: how many to return.
        prefix: what each begins with.
        prompt: if not None, a text that is known together with this prompt is no new one either.

    Raises:
        TooFewError: if fewer pass; it has them.
        Interrupted: on Ctrl-C; it has those that passed by then.
    """
    from knock.generation.filters import describe

    found: list[str] = []
    following = 0  # index of the text after those that were judged

    def judge(text: Generation) -> None:
        nonlocal following
        item = prefix + text.text
        if filters.keep(item, text.finish_reason, None if prompt is None else prompt + text.text):
            found.append(item)
        following = text.index + 1

    if not count:
        return found
    try:
        for text in texts:
            judge(text)
            if len(found) == count:
                return found
    except KeyboardInterrupt as interrupt:
        if isinstance(interrupt, Interrupted):
            with contextlib.suppress(KeyboardInterrupt):  # a second one does not wait for the rest
                for text in interrupt.finished:
                    if len(found) < count and text.index < interrupt.first_missing:
                        judge(text)
        raise Interrupted([], following, found) from None
    raise TooFewError(found, count, describe(filters))
