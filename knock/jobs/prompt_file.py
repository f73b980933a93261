"""Prompts from a file: a line each, plain or as JSON with controls of its own."""

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
from knock.sampling import Sampling
from knock.validation import shown, whole_number

CONTROLS = tuple(field.name for field in fields(Sampling))
FIELDS = ("prompt", "max_new_tokens", "stop", "sampling", *CONTROLS)

_REMEMBERED = 4096  # controls: the same ones are one object


class PromptFile:
    """The prompts in a file, read as they are asked for, for rows that are numbered through.

    The rows of the prompt in place i are those from n * i on; a bad line has its place too.

    Args:
        lines: of the file, with their ends.
        source: what it is called, for messages.
        is_jsonl: whether each line is a JSON object with fields of `FIELDS`, where blank lines are passed over;
            otherwise each line is a prompt as it is.
        n: rows a prompt.
        sampling: the controls that those of a line change.
        bad: told of a line that cannot be used, which is then passed over; None to raise instead.

    Attributes:
        index: of the row after those of the lines that were read.
        skipped: lines that could not be used, of those that are confirmed.
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
        self._first = 0  # row that is yielded
        self._unconfirmed: deque[tuple[int, bytes, bool]] = deque()  # rows up to, line, whether it can be used
        self._sha = hashlib.sha256()

    def __iter__(self) -> Iterator[Prompt]:
        """A prompt for each row, with the row's index.

        Raises:
            PromptError: at a line that cannot be used.
        """
        for number, line in self._lines:
            first, is_good = max(self.index, self._first), True
            try:
                prompt = self._prompt(line)
            except KnockError as error:
                told = PromptError(f"{self._source}, line {number}: {error}")
                if self._bad is None:
                    raise told from error
                self._bad(told)
                is_good = False
            self._take(line, is_good)
            if is_good:
                for index in range(first, self.index):
                    yield Prompt(
                        prompt.text, sampling=prompt.sampling, stop=prompt.stop,
                        max_new_tokens=prompt.max_new_tokens, index=index,
                    )  # fmt: skip

    def skip(self, index: int) -> None:
        """Pass over the rows before this one."""
        self._first = index
        while self.index + self._n <= index and (line := next(self._lines, None)) is not None:
            self._take(line[1], True)

    def confirm(self, index: int) -> None:
        """Note that the rows before this one are done with."""
        while self._unconfirmed and self._unconfirmed[0][0] <= index:
            _, line, is_good = self._unconfirmed.popleft()
            self._sha.update(line.rstrip(b"\r\n") + b"\n")  # the last line may come to have an end
            self.skipped += not is_good

    @property
    def digest(self) -> str:
        """SHA-256 of the lines that are confirmed, whatever their ends."""
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
    """Makes prompts of JSON objects, or rows of a table; a null is as a field that is not there.

    Args:
        sampling: the controls that those of an object change.
    """

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self._memory: dict[str, Sampling] = {}

    def prompt(self, content: Any) -> Prompt:
        """The prompt.

        Raises:
            PromptError: if it is no object, or has a field that there is none of.
            SamplingError: if a control is out of range.
        """
        if not isinstance(content, Mapping):
            raise PromptError(f"expected a JSON object with a prompt, got {shown(content)}")
        given = _without_nulls(content)
        for name, value in given.items():
            if not _is_text(value):
                raise PromptError(f"{name} has half of a surrogate pair, which is no character: {shown(value)}")
        unknown = [name for name in given if name not in FIELDS]
        if unknown:
            told = ", ".join(shown(name) for name in unknown[:5])
            raise PromptError(f"there is no field named {told}; the fields are {', '.join(FIELDS)}")
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
        if isinstance(bias := given.get("logit_bias"), Mapping):  # a table has a column for each character
            given["logit_bias"] = _without_nulls(bias)
        key = json.dumps(given, sort_keys=True, default=repr)
        if key not in self._memory:
            if len(self._memory) >= _REMEMBERED:
                self._memory.clear()
            self._memory[key] = Sampling.resolve(given.pop("sampling", self._sampling), given)  # type: ignore[arg-type]
        return self._memory[key]


def _whole(value: Any) -> Any:
    """A number that a table with nulls has made a float, as what it was."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _is_text(value: Any) -> bool:
    """Whether all strings in a value, or in what it holds, can be written."""
    if isinstance(value, str):
        return not any("\ud800" <= char <= "\udfff" for char in value)
    return not isinstance(value, (list, tuple, dict)) or all(map(_is_text, value))


def _without_nulls(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
