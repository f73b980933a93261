"""Read prompts from a file: one per line, as plain text or as JSON with its own controls."""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields
from typing import Any

from knock.errors import KnockError, PromptError, SamplingError
from knock.files.text import decode_utf8
from knock.generation.results import Prompt
from knock.generation.stopping import StopStrings
from knock.memo import Memo
from knock.sampling import Sampling
from knock.validation import shown, whole_number

CONTROLS = tuple(field.name for field in fields(Sampling))
FIELDS = ("prompt", "max_new_tokens", "stop", "sampling", *CONTROLS)


class PromptFile:
    """The prompts of a file, read lazily, each repeated for its rows.

    Line i (from 0) has the rows n * i to n * (i + 1) - 1. An invalid line keeps its row indices, so that skipping it
    changes no other row.

    Args:
        lines: the file's lines, with line endings.
        source: the file's name in error messages.
        is_jsonl: if True, each line is a JSON object with the fields `FIELDS`, and blank lines are ignored. Otherwise
            each line is a prompt.
        n: rows per prompt.
        sampling: default controls; a line's own controls override them.
        bad: called with the error of an invalid line, which is then skipped. If None, the error is raised.

    Attributes:
        index: index of the first row after the lines read so far.
        skipped: number of invalid lines among the confirmed ones.
    """

    def __init__(
        self,
        lines: Iterable[bytes],
        source: str,
        *,
        is_jsonl: bool,
        n: int = 1,
        sampling: Sampling | None = None,
        bad: Callable[[PromptError], None] | None = None,
    ) -> None:
        self.index = self.skipped = 0
        self._lines = ((number, line) for number, line in enumerate(lines, 1) if not is_jsonl or line.strip())
        self._source = source
        self._is_jsonl = is_jsonl
        self._n = n
        self._maker = PromptMaker(sampling or Sampling())
        self._bad = bad
        self._first = 0  # first row to yield
        self._unconfirmed: deque[tuple[int, bytes, bool]] = deque()  # index after its rows, line, is valid
        self._sha = hashlib.sha256()

    def __iter__(self) -> Iterator[Prompt]:
        """Yield a prompt for each row, with the row's index.

        Raises:
            PromptError: at an invalid line, unless `bad` is given.
        """
        for number, line in self._lines:
            first, is_good = max(self.index, self._first), True
            try:
                prompt = self._prompt(line)
            except KnockError as error:
                located = PromptError(f"{self._source}, line {number}: {error}")
                if self._bad is None:
                    raise located from error
                self._bad(located)
                is_good = False
            self._take(line, is_good)
            if is_good:
                for index in range(first, self.index):
                    yield Prompt(
                        prompt.text, sampling=prompt.sampling, stop=prompt.stop,
                        max_new_tokens=prompt.max_new_tokens, index=index,
                    )  # fmt: skip

    def skip(self, index: int) -> None:
        """Skip the rows before `index`."""
        self._first = index
        while self.index + self._n <= index and (line := next(self._lines, None)) is not None:
            self._take(line[1], True)

    def confirm(self, index: int) -> None:
        """Mark the rows before `index` as written: their lines count towards `digest` and `skipped`."""
        while self._unconfirmed and self._unconfirmed[0][0] <= index:
            _, line, is_good = self._unconfirmed.popleft()
            self._sha.update(line.rstrip(b"\r\n") + b"\n")  # the last line may gain a line ending later
            self.skipped += not is_good

    @property
    def digest(self) -> str:
        """SHA-256 of the confirmed lines, independent of their line endings."""
        return self._sha.hexdigest()

    def _take(self, line: bytes, is_good: bool) -> None:
        self.index += self._n
        self._unconfirmed.append((self.index, line, is_good))

    def _prompt(self, line: bytes) -> Prompt:
        text = decode_utf8(line, "the line").removesuffix("\n")
        if not self._is_jsonl:
            return Prompt(text)
        try:
            content = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise PromptError(f'not JSON: {error}; write an object, such as {{"prompt": "..."}}') from error
        return self._maker.prompt(content)


class PromptMaker:
    """Builds prompts from JSON objects or table rows. A null counts as a missing field.

    Args:
        sampling: default controls; an object's own controls override them.
    """

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self._memo = Memo()

    def prompt(self, content: Any) -> Prompt:
        """Build a prompt.

        Raises:
            PromptError: if `content` is not a JSON object, has an unknown field, or a field has the wrong type.
            SamplingError: if a control is out of range.
        """
        if not isinstance(content, Mapping):
            raise PromptError(f"expected a JSON object with a prompt, got {shown(content)}")
        given = _without_nulls(content)
        for name, value in given.items():
            if not _is_text(value):
                raise PromptError(f"{name} has a lone surrogate, which is not a character: {shown(value)}")
        unknown = [name for name in given if name not in FIELDS]
        if unknown:
            names = ", ".join(shown(name) for name in unknown[:5])
            raise PromptError(f"unknown field {names}; the fields are {', '.join(FIELDS)}")
        text, stop, limit = (given.pop(name, None) for name in ("prompt", "stop", "max_new_tokens"))
        given |= {name: _whole(given[name]) for name in ("top_k",) if name in given}
        if text is not None and not isinstance(text, str):
            raise PromptError(f"prompt must be a string, got {shown(text)}")
        return Prompt(
            text or "",
            sampling=self._controls(given) if given else None,
            stop=None if stop is None else StopStrings(stop).strings,
            max_new_tokens=None
            if limit is None
            else whole_number("max_new_tokens", _whole(limit), 0, error=SamplingError),
        )

    def _controls(self, given: dict[str, Any]) -> Sampling:
        if isinstance(bias := given.get("logit_bias"), Mapping):  # in a table, each row has the characters of all rows
            given["logit_bias"] = _without_nulls(bias)
        key = json.dumps(given, sort_keys=True, default=repr)

        def resolve() -> Sampling:
            return Sampling.resolve(given.pop("sampling", self._sampling), given)  # type: ignore[arg-type]

        controls: Sampling = self._memo.get(key, resolve)  # lines with equal controls share one object
        return controls


def _whole(value: Any) -> Any:
    """Return a whole float as an int: pandas stores integer columns with nulls as floats."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _is_text(value: Any) -> bool:
    """Return whether all strings in a value, nested ones too, can be encoded as UTF-8."""
    if isinstance(value, str):
        return not any("\ud800" <= char <= "\udfff" for char in value)
    return not isinstance(value, (list, tuple, dict)) or all(map(_is_text, value))


def _without_nulls(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
