"""Read prompts from a file: one per line, as plain text or as JSON with its own controls and other fields."""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from knock.errors import KnockError, PromptError, SamplingError
from knock.escapes import unescape
from knock.files.text import decode_utf8
from knock.generation.results import Prompt
from knock.generation.stopping import StopStrings
from knock.jobs.field_names import FIELDS, check_extra
from knock.memo import Memo
from knock.sampling import WHOLE_CONTROLS, Sampling
from knock.validation import LONGEST, shown, whole_number

_DEEPEST = 100  # levels of nesting of a field


@dataclass(frozen=True, slots=True)
class Record:
    """A row of a table of prompts.

    Attributes:
        line: identifies the row in the digest of a `PromptFile`.
        content: its fields.
    """

    line: bytes
    content: Mapping[str, Any]


class PromptFile:
    """The prompts of a file, read lazily, each repeated for its rows.

    Line i (from 0) has the rows n * i to n * (i + 1) - 1. An invalid line keeps its row indices, so that skipping it
    changes no other row.

    Args:
        lines: the file's lines, with line endings, or the rows of a table.
        source: the file's name in error messages.
        is_jsonl: if True, each line is a JSON object for `PromptMaker`, and blank lines are ignored. Otherwise each
            line is a prompt as `escape` writes it.
        n: rows per prompt.
        sampling: default controls; a line's own controls override them.
        bad: called with the error of an invalid line, which is then skipped. If None, the error is raised.

    Attributes:
        index: index of the first row after the lines read so far.
        skipped: number of invalid lines among the confirmed ones.
    """

    def __init__(
        self,
        lines: Iterable[bytes | Record],
        source: str,
        *,
        is_jsonl: bool,
        n: int = 1,
        sampling: Sampling | None = None,
        bad: Callable[[PromptError], None] | None = None,
    ) -> None:
        self.index = self.skipped = 0
        self._lines = (
            (number, line)
            for number, line in enumerate(lines, 1)
            if not is_jsonl or isinstance(line, Record) or line.strip()
        )
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
                        max_new_tokens=prompt.max_new_tokens, index=index, extra=prompt.extra,
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

    def _take(self, line: bytes | Record, is_good: bool) -> None:
        self.index += self._n
        self._unconfirmed.append((self.index, line.line if isinstance(line, Record) else line, is_good))

    def _prompt(self, line: bytes | Record) -> Prompt:
        if isinstance(line, Record):
            return self._maker.prompt(line.content)
        text = decode_utf8(line, "the line").removesuffix("\n")
        if not self._is_jsonl:
            return Prompt(unescape(text))
        try:
            content = json.loads(text)
        except (ValueError, RecursionError) as error:
            # A JSONDecodeError counts lines, too, of which a prompt is one
            problem = f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)
            raise PromptError(f'not JSON: {problem}; write an object, such as {{"prompt": "..."}}') from error
        return self._maker.prompt(content)


class PromptMaker:
    """Builds prompts from JSON objects or table rows.

    A null counts as missing in the fields `FIELDS`. All other fields become the prompt's `extra`, unchanged.

    Args:
        sampling: default controls; an object's own controls override them.
    """

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self._memo = Memo()

    def prompt(self, content: Any) -> Prompt:
        """Build a prompt.

        Raises:
            PromptError: if `content` is not a JSON object, a field has the wrong type, or its name is rejected by
                `check_extra`.
            SamplingError: if a control is out of range.
        """
        if not isinstance(content, Mapping):
            raise PromptError(f"expected a JSON object with a prompt, got {shown(content)}")
        for name, value in content.items():
            if _is_deeper(value, _DEEPEST):
                raise PromptError(f"{shown(name)} has values nested more than {_DEEPEST} deep; flatten it")
            if not _is_text(name) or not _is_text(value):
                raise PromptError(
                    f"{name if _is_text(name) else 'a name'} has a lone surrogate, which is not a character: "
                    f"{shown({name: value})}"
                )
        given = {name: value for name, value in content.items() if name in FIELDS and value is not None}
        extra = {name: value for name, value in content.items() if name not in FIELDS}
        if extra:
            self._memo.get(("names", *extra), lambda: check_extra(extra))
        text, stop, limit = (given.pop(name, None) for name in ("prompt", "stop", "max_new_tokens"))
        given |= {name: _whole(given[name]) for name in WHOLE_CONTROLS if name in given}
        if text is not None and not isinstance(text, str):
            raise PromptError(f"prompt must be a string, got {shown(text)}")
        return Prompt(
            text or "",
            sampling=self._controls(given) if given else None,
            stop=None if stop is None else StopStrings(stop).strings,
            max_new_tokens=None
            if limit is None
            else whole_number("max_new_tokens", _whole(limit), 0, LONGEST, error=SamplingError),
            extra=extra or None,
        )

    def _controls(self, given: dict[str, Any]) -> Sampling:
        if isinstance(bias := given.get("logit_bias"), Mapping):  # in a table, each row has the characters of all rows
            given["logit_bias"] = _without_nulls(bias)
        key = json.dumps(given, sort_keys=True, default=repr)

        def resolve() -> Sampling:
            if "sampling" in given:
                return Sampling.preset(given.pop("sampling"), given)  # type: ignore[arg-type]
            return self._sampling.override(given)

        controls: Sampling = self._memo.get(key, resolve)  # lines with equal controls share one object
        return controls


def _whole(value: Any) -> Any:
    """Return a whole float as an int: pandas stores integer columns with nulls as floats."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _is_deeper(value: Any, levels: int) -> bool:
    if not isinstance(value, (list, tuple, dict)):
        return False
    return levels == 0 or any(_is_deeper(each, levels - 1) for each in _values(value))


def _values(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value


def _is_text(value: Any) -> bool:
    """Return whether all strings in a value, nested ones too, can be encoded as UTF-8."""
    if isinstance(value, str):
        return not any("\ud800" <= char <= "\udfff" for char in value)
    if isinstance(value, dict) and not all(map(_is_text, value)):
        return False
    return not isinstance(value, (list, tuple, dict)) or all(map(_is_text, _values(value)))


def _without_nulls(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
