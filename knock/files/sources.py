"""What a corpus is made of, one text or items: how each is counted, encoded and split."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from knock.errors import TextError
from knock.files.corpus_files import CorpusFile, joined
from knock.files.items import batches
from knock.files.split import COUNTED, ItemSplit, Split, held_out_blocks, kept_parts
from knock.files.tokenizing import Encoder, Survey, Tokens, TokenStore, gathered, item_tokens


class Side(NamedTuple):
    """One side of a split.

    Attributes:
        tokens: its tokens, [N].
        items: number of its items; 0 if the corpus is one text.
        longest: number of characters of the longest item.
        different: number of different items on both sides, counted up to `COUNTED`.
    """

    tokens: Tokens
    items: int = 0
    longest: int = 0
    different: int = 0


class OneText:
    """Files that are joined into one text.

    Args:
        files: the files.
    """

    def __init__(self, files: Sequence[CorpusFile]) -> None:
        self._files = files

    def count(self, survey: Survey) -> None:
        """Count its characters."""
        for part in joined(self._files):
            survey.add(part.text)

    def whole(self, encoder: Encoder, length: int) -> Side:
        """Encode the text, which has `length` characters."""
        return Side(gathered(encoder.encode(self._files), encoder.vocab, length))

    def divided(self, name: str, encoder: Encoder, length: int, split: Split) -> tuple[Side, Side]:
        """Encode and split the text.

        Args:
            name: name of the corpus in messages.
            encoder: encodes it.
            length: number of its characters, roughly.
            split: what is held out.
        """
        tokens = self.whole(encoder, length).tokens
        if split.how == "end":
            cut = len(tokens) - split.held_out_length(len(tokens))
            return Side(tokens[:cut]), Side(tokens[cut:])
        blocks = held_out_blocks(len(tokens), split.seed)
        parts = (kept_parts(len(tokens), blocks), blocks)
        train, held_out = (gathered((tokens[a:b] for a, b in part), encoder.vocab, length) for part in parts)
        return Side(train), Side(held_out)


class ManyItems:
    """Items.

    Args:
        read: returns them, from the first one on.
    """

    def __init__(self, read: Callable[[], Iterable[str]]) -> None:
        self._read = read

    def count(self, survey: Survey) -> None:
        """Count their characters."""
        for batch in batches(self._read()):
            survey.add_items(batch)

    def whole(self, encoder: Encoder, length: int) -> Side:
        """Encode the items, which have `length` characters."""
        with contextlib.ExitStack() as opened:
            stream = _Stream(encoder, length, opened)
            for batch in batches(self._read()):
                stream.add(encoder.known(batch))
            return stream.side()

    def divided(self, name: str, encoder: Encoder, length: int, split: Split) -> tuple[Side, Side]:
        """Encode and split the items, as `OneText.divided`.

        Raises:
            TextError: if there are no two different items, one of which can be held out.
        """
        with contextlib.ExitStack() as opened:
            choice = ItemSplit(split.seed)
            train, held_out = self._divided(choice, encoder, length, opened)
            if choice.different < 2:
                raise _too_few(name, train.count + held_out.count)
            corrected = choice.corrected()
            if corrected is not choice:  # all of a few items are on one side
                encoder.reset()
                train, held_out = self._divided(corrected, encoder, length, opened)
            return train.side(choice.different), held_out.side(choice.different)

    def _divided(
        self, choice: ItemSplit, encoder: Encoder, length: int, opened: contextlib.ExitStack
    ) -> tuple[_Stream, _Stream]:
        train, held_out = _Stream(encoder, length, opened), _Stream(encoder, length, opened)
        for batch in batches(self._read()):
            sides: tuple[list[str], list[str]] = [], []
            for item in encoder.known(batch):
                sides[choice.holds_out(item)].append(item)
            train.add(sides[False])
            held_out.add(sides[True])
        return train, held_out


class _Stream:
    """The tokens of items on one side of a split, with a boundary before each item and one at the end."""

    def __init__(self, encoder: Encoder, length: int, opened: contextlib.ExitStack) -> None:
        self._encoder = encoder
        self._store = TokenStore(encoder.vocab, length, opened)
        self.count = self.longest = 0

    def add(self, items: Sequence[str]) -> None:
        """Append items of known characters."""
        if items:
            self._store.add(item_tokens(items, self._encoder.vocab, is_first=not self.count))
            self.count += len(items)
            self.longest = max(self.longest, *map(len, items))

    def side(self, different: int = COUNTED) -> Side:
        """Return the tokens so far."""
        return Side(self._store.array(), self.count, self.longest, different)


def _too_few(name: str, count: int) -> TextError:
    """Return the error for items of which none can be held out."""
    if not count:
        return TextError(f"no item of corpus {name!r} has a character that the model knows; choose another corpus")
    which = f"the {count:,} items of corpus {name!r} are all equal" if count > 1 else f"corpus {name!r} has 1 item"
    return TextError(f"{which}; training needs at least 2 different ones, one of which is held out")
