"""Stop strings: where a generated text ends, and how much of a growing text is certain."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from knock.errors import SamplingError, warn
from knock.validation import shown
from knock.vocab import Vocab


class StopStrings:
    """Looks for stop strings in a growing text.

    The text ends where a stop string is first completed, and that string is cut off; of several that are completed at
    the same character, the longest is cut off. The result does not depend on how the text is cut into pieces.

    Args:
        stop: one string, several, or none.
        normalize: returns a string as the model writes it.

    Attributes:
        strings: the strings, as given.
        found: the string that ended the text, as given; None before.
        written: the same as the model wrote it; empty before.

    Raises:
        SamplingError: if one is not a string, or is empty, which would end every text before it began.
    """

    def __init__(self, stop: str | Iterable[str] | None, normalize: Callable[[str], str] = str) -> None:
        if stop is not None and (not isinstance(stop, Iterable) or isinstance(stop, Mapping)):
            raise SamplingError(f"stop must be a string or several, got {stop!r}")
        self.strings = (stop,) if isinstance(stop, str) else tuple(stop or ())
        for string in self.strings:
            if not isinstance(string, str) or not string:
                raise SamplingError(f"a stop string needs at least one character, got {string!r}")
        self.found: str | None = None
        self.written = ""
        self._looked_for = [(normalize(string), string) for string in self.strings]
        self._held = ""

    def feed(self, piece: str) -> str:
        """Add a piece of text and return what can no longer belong to a stop string.

        Once a stop string was found, nothing more is returned.
        """
        if self.found is not None:
            return ""
        text = self._held + piece
        matches = [(at + len(s), at, given) for s, given in self._looked_for if (at := text.find(s)) >= 0]
        if matches:
            end, at, self.found = min(matches, key=lambda match: match[:2])
            self.written = text[at:end]
            self._held = ""
            return text[:at]
        hold = max((_overlap(text, s) for s, _ in self._looked_for), default=0)
        self._held = text[len(text) - hold :]
        return text[: len(text) - hold]

    def flush(self) -> str:
        """Return the text held back so far, after the last piece."""
        held, self._held = self._held, ""
        return held


def as_written(string: str, vocab: Vocab) -> str:
    """Return a string in the case and the Unicode normal form in which the model writes it."""
    text = vocab.normalize(string)
    if all(char in vocab for char in text) or not (changes := vocab.respellings(text)):
        return text
    from knock.normal_forms import respelled

    return respelled(text, changes)


def warn_of_impossible(strings: Iterable[str], max_new_tokens: int, vocab: Vocab) -> None:
    """Warn of each stop string that cannot end a text: it is too long, or has a character the model never writes."""
    for string in strings:
        written = as_written(string, vocab)
        unknown = next((char for char in written if char not in vocab), None)
        if unknown is not None:
            warn(f"the stop string {shown(string)} can never end a text: the model does not know {shown(unknown)}")
        elif 0 < max_new_tokens < len(written):
            warn(
                f"the stop string {shown(string)} can never end a text: it has {len(written)} characters, and a text "
                f"at most {max_new_tokens}"
            )


def automaton(stop: Iterable[Sequence[int]], vocab_size: int) -> npt.NDArray[np.int64]:
    """Return `StopStrings` as an automaton over tokens (Aho and Corasick 1975, "Efficient string matching").

    Args:
        stop: stop strings as tokens in [0, V), none of them empty.
        vocab_size: V.

    Returns:
        A table [states, V + 1]; state 0 is that of an empty text. `table[state, token]` is the next state, and
        `table[state, V]` the number of tokens to cut from a text that ends in this state: 0 unless a stop string is
        complete.
    """
    V = vocab_size
    children: list[dict[int, int]] = [{}]
    cut = [0]
    for tokens in stop:
        state = 0
        for token in tokens:
            if token not in children[state]:
                children[state][token] = len(children)
                children.append({})
                cut.append(0)
            state = children[state][token]
        cut[state] = len(tokens)
    table = np.zeros((len(children), V + 1), np.int64)
    shorter = [0] * len(children)  # the state of the longest proper suffix that begins a stop string
    queue = deque([0])
    while queue:
        state = queue.popleft()
        if state:
            table[state, :V] = table[shorter[state], :V]
        for token, child in children[state].items():
            shorter[child] = int(table[state, token])
            table[state, token] = child
            cut[child] = cut[child] or cut[shorter[child]]
            queue.append(child)
    table[:, V] = cut
    return table


def _overlap(text: str, stop: str) -> int:
    """Return the length of the longest suffix of `text` that is a proper prefix of `stop`."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)
