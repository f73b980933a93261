"""The items of a corpus: its lines, paragraphs or files, or the cells or rows of its tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from knock.errors import TextError
from knock.files.corpus_files import CorpusFile
from knock.validation import shown

if TYPE_CHECKING:
    from knock.files.tables import Table

Kind = Literal["lines", "paragraphs", "files", "column", "rows", "texts"]

TABLES = (".csv", ".tsv", ".jsonl", ".parquet")  # suffixes of tables

_BATCH = 2**20  # characters of a batch of items


@dataclass(frozen=True, kw_only=True)
class Items:
    """What an item of a corpus is.

    Attributes:
        kind: a line, a paragraph (between blank lines), a file, a cell of a table's column, a row of a table, or a text
            that was given from Python.
        column: name of the column.
    """

    kind: Kind
    column: str | None = None

    def to_record(self) -> dict[str, Any]:
        """Return this as a JSON-serialisable dict, for the training record."""
        return {"kind": self.kind} | ({} if self.column is None else {"column": self.column})

    @classmethod
    def from_record(cls, record: object) -> Items | None:
        """Return what an item is according to a training record; None if there is none, as for plain text.

        Raises:
            ValueError: if it is not one that `to_record` returns.
        """
        if record is None:
            return None
        column = record.get("column") if isinstance(record, Mapping) else None
        if not isinstance(record, Mapping) or record.get("kind") not in get_args(Kind):
            raise ValueError(f"unknown kind of items {shown(record)}")
        if isinstance(column, str) != (record["kind"] == "column"):
            raise ValueError(f"unknown kind of items {shown(record)}")
        return cls(kind=record["kind"], column=column)

    def read(self, files: Sequence[CorpusFile]) -> Iterator[str]:
        """Yield the items of files, blank ones included, without what separates them.

        Raises:
            TextError: if a file cannot be read, is not UTF-8, or is not the table that it should be.
        """
        if self.kind == "texts":
            raise TextError("the items were given from Python; say what an item of a file is")
        if self.kind in ("column", "rows"):
            yield from self._read_tables(files)
            return
        cut: dict[str, Callable[[Iterable[str]], Iterator[str]]]
        cut = {"lines": _lines, "paragraphs": _paragraphs, "files": _whole}
        for file in files:
            yield from cut[self.kind](file.chunks())

    def _read_tables(self, files: Sequence[CorpusFile]) -> Iterator[str]:
        for file in files:
            if file.path is None:
                raise TextError(f"{file.name} is a stream, but a table must be a file; save it as one first")
        for table in self.tables([file.path for file in files if file.path is not None]):
            yield from table.items() if self.column is None else table.column(self.column)

    def tables(self, paths: Sequence[Path]) -> list[Table]:
        """Open the tables that the items come from.

        Raises:
            TextError: if one cannot be opened or lacks the column, or their rows have different columns.
        """
        from knock.files.tables import read_table

        tables = [read_table(path) for path in paths]
        first, *_ = tables
        for table in tables:
            if self.column is not None:
                table.place(self.column)
            elif (table.form == "jsonl", table.header) != (first.form == "jsonl", first.header):
                raise TextError(f"{first.name} and {table.name} have different columns; use tables of the same columns")
        return tables


def batches(items: Iterable[str], size: int = _BATCH) -> Iterator[list[str]]:
    """Yield items in lists of about `size` characters, so that they can be handled together."""
    batch: list[str] = []
    length = 0
    for item in items:
        batch.append(item)
        length += len(item) + 1
        if length >= size:
            yield batch
            batch, length = [], 0
    if batch:
        yield batch


def is_blank(item: str) -> bool:
    """Return whether an item has nothing but white space."""
    return not item or item.isspace()


def _lines(chunks: Iterable[str]) -> Iterator[str]:
    r"""Yield the lines of a text without `\n`, which is the only line break of a decoded text."""
    begun: list[str] = []  # a line may be longer than many chunks
    for chunk in chunks:
        first, *others = chunk.split("\n")
        begun.append(first)
        if others:
            yield "".join(begun)
            yield from others[:-1]
            begun = [others[-1]]
    if last := "".join(begun):
        yield last


def _paragraphs(chunks: Iterable[str]) -> Iterator[str]:
    """Yield groups of lines that are not blank, joined again."""
    paragraph: list[str] = []
    for line in _lines(chunks):
        if not is_blank(line):
            paragraph.append(line)
        elif paragraph:
            yield "\n".join(paragraph)
            paragraph = []
    if paragraph:
        yield "\n".join(paragraph)


def _whole(chunks: Iterable[str]) -> Iterator[str]:
    """Yield a whole text without the line break at its end."""
    yield "".join(chunks).removesuffix("\n")
