"""Recognise what a file that is not UTF-8 text holds, and name the command that converts it."""

from __future__ import annotations

import codecs
import re
import shlex
import sys
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from knock.files.text import RICH_TEXT

_FEWEST = 8  # bytes from which UTF-16 or UTF-32 is recognised without a byte-order mark
_MOSTLY = 0.8
_WHITESPACE = "\t\n\f\r"
_NO_TEXT = ("Cc", "Cn", "Co", "Cs")  # control, unassigned, private use, surrogates
_FREQUENT = " \n\u3000\u3001\u3002\uff0c"  # of which every text has some: spaces and CJK punctuation


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What a file holds, if not UTF-8 text.

    Attributes:
        what: description, as in "it is a ZIP archive".
        encoding: encoding of the text, by a name that iconv and Python know; empty if unknown.
        command: program, with its options, that writes the file's text in UTF-8 to standard output; empty if none does.
        advice: what to do where there is nothing to run.
    """

    what: str
    encoding: str = ""
    command: str = ""
    advice: str = "Choose a text file"

    def how_to_convert(self, path: Path | None) -> str:
        """Return a sentence on how to convert the file.

        Args:
            path: the file; None if the text comes from elsewhere, such as standard input.
        """
        command = f"iconv -f {self.encoding} -t UTF-8" if self.encoding else self.command
        if not command:
            return self.advice
        if path is None:
            return f"Convert it with: {command}"
        name = _SUFFIX.sub("", path.name)
        suffix = Path(name).suffix if Path(name).suffix.lower() in _TABLES else ""
        old, new = str(path), str(path.with_name(f"{name.removesuffix(suffix)}.utf8{suffix or '.txt'}"))
        if sys.platform != "win32":
            return f"To convert it, run: {command} {shlex.quote(old)} > {shlex.quote(new)}"
        if not self.encoding:
            return self.advice
        return (
            'To convert it, run: python -c "from pathlib import Path; '
            f"Path({new!r}).write_text(Path({old!r}).read_text('{self.encoding}'), 'utf-8')\""
        )


def _packed(what: str, command: str) -> Finding:
    return Finding(what=what, command=command, advice="Unpack it, for example with 7-Zip")


_TABLES = (".csv", ".tsv", ".jsonl")  # suffixes by which a table is known
_SUFFIX = re.compile(r"(\.txt)?(\.(txt|gz|bz2|xz|zst|zip))?$")
_DOCUMENT = "Save it as plain text in UTF-8"
_SIGNATURES = (
    (codecs.BOM_UTF32_LE, Finding(what="it is UTF-32 text", encoding="UTF-32")),  # begins like that of UTF-16
    (codecs.BOM_UTF32_BE, Finding(what="it is UTF-32 text", encoding="UTF-32")),
    (codecs.BOM_UTF16_LE, Finding(what="it is UTF-16 text", encoding="UTF-16")),
    (codecs.BOM_UTF16_BE, Finding(what="it is UTF-16 text", encoding="UTF-16")),
    (b"\x1f\x8b", _packed("it is compressed with gzip", "gzip -dc")),
    (b"BZh", _packed("it is compressed with bzip2", "bzip2 -dc")),
    (b"\xfd7zXZ\0", _packed("it is compressed with xz", "xz -dc")),
    (b"\x28\xb5\x2f\xfd", _packed("it is compressed with zstd", "zstd -dc")),
    (b"PK\3\4", _packed("it is a ZIP archive", "unzip -p")),
    (RICH_TEXT, Finding(what="it is a document in Rich Text Format", advice=_DOCUMENT)),
    (b"%PDF-", Finding(what="it is a PDF document", advice=_DOCUMENT)),
    (b"\xd0\xcf\x11\xe0", Finding(what="it is a Microsoft Office document", advice=_DOCUMENT)),
)
_FIRST_MEMBERS = (b"mimetype", b"[Content_Types].xml", b"_rels/", b"docProps/", b"word/")  # of documents in archives
_OFFSET_OF_MEMBER = 30  # in a ZIP archive


def recognised(head: bytes, *, is_utf8: bool) -> Finding | None:
    """Return what a file is if its first bytes say so, otherwise None.

    Args:
        head: its first bytes; a few thousand are enough.
        is_utf8: whether they are valid UTF-8. UTF-16 is, as long as it is ASCII: it has a NUL after each character.
    """
    if is_utf8 and b"\0" not in head and not head.startswith(RICH_TEXT):
        return None
    if head.startswith(b"PK\3\4") and head.startswith(_FIRST_MEMBERS, _OFFSET_OF_MEMBER):
        return Finding(what="it is an Office document or an e-book", advice=_DOCUMENT)
    found = next((finding for signature, finding in _SIGNATURES if head.startswith(signature)), None)
    return found or _without_mark(head, is_utf8)


def guessed(sample: bytes) -> Finding:
    """Return what a file that does not identify itself probably is.

    Args:
        sample: bytes of the file around the first one that is not valid UTF-8.
    """
    if b"\0" in sample:
        return Finding(what="it looks like binary data")
    text = sample.decode(errors="replace")
    invalid = text.count("\ufffd")
    high, letters = (len(re.findall(pattern, sample)) for pattern in (rb"[\x80-\xff]", rb"[A-Za-z]"))
    if len(re.findall(r"[^\x00-\x7f]", text)) > 2 * invalid:
        return Finding(
            what="the text around it is UTF-8",
            command="iconv -c -f UTF-8 -t UTF-8",
            advice="Remove or repair that byte",
        )
    if high > letters / 2 or re.search(rb"[\x81\x8d\x8f\x90\x9d]", sample):  # undefined in Windows-1252
        return Finding(what="its encoding is unknown", advice="Convert it with: iconv -f ENCODING -t UTF-8")
    return Finding(what="it is probably Windows-1252 or Latin-1", encoding="WINDOWS-1252")


def _without_mark(head: bytes, is_utf8: bool) -> Finding | None:
    """Recognise UTF-16 and UTF-32 that do not begin with a byte-order mark."""
    if len(head) < _FEWEST or b"\0" not in head:
        return None
    for name in ("UTF-32LE", "UTF-32BE", "UTF-16LE", "UTF-16BE"):
        if is_utf8 and name.startswith("UTF-16"):
            # Valid UTF-8 may hold a NUL. UTF-16 has one, or the number of another script, in nearly every other byte.
            first = int(name.endswith("LE"))
            of_script, others = (_share_of_controls(head[start::2]) for start in (first, 1 - first))
            if of_script < _MOSTLY or others > _MOSTLY / 2:
                continue
        if _is_text(head, name):
            return Finding(what=f"it is {name} text without a byte-order mark", encoding=name)
    return None


def _share_of_controls(units: bytes) -> float:
    return len(re.findall(rb"[\x00-\x1f]", units)) / len(units)


def _is_text(head: bytes, encoding: str) -> bool:
    """Return whether bytes are a text in an encoding: characters that exist, and some of those that every text has."""
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(head)  # may end in the middle of a character
    except UnicodeDecodeError:
        return False
    is_known = all(char in _WHITESPACE or unicodedata.category(char) not in _NO_TEXT for char in text)
    return is_known and (text.isascii() or any(char in _FREQUENT for char in text))
