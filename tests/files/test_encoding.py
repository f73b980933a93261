"""Tests of recognising files that are not UTF-8 text."""

from __future__ import annotations

import bz2
import gzip
import lzma
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from knock.errors import TextError
from knock.files import encoding, text
from knock.files.text import decode_utf8, read_text

TEXTS = {
    "English": "The quick brown fox\njumps over the lazy dog.\n" * 3,
    "German": "Größe und Höhe über alles, schön wär's.\n" * 3,
    "Russian": "Широка страна моя родная,\nмного в ней лесов, полей и рек.\n" * 3,
    "Hindi": "नमस्ते दुनिया यह एक परीक्षण है\n" * 3,
    "Thai": "สวัสดีชาวโลก นี่คือการทดสอบ\n" * 3,
    "Chinese": "春眠不覺曉，處處聞啼鳥。\n夜來風雨聲，花落知多少。\n" * 3,
    "emoji": "I 😀 you\n" * 5,
    "short": "ROMEO:\n",
}
WIDE = [f"utf-{bits}{order}" for bits in (16, 32) for order in ("", "-le", "-be")]
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="the commands are those of POSIX")


def message(path: Path) -> str:
    with pytest.raises(TextError) as caught:
        read_text(path)
    return str(caught.value)


def converted(path: Path) -> str:
    """Run the command that the error names, and return the text that it writes."""
    command = message(path).partition("To convert it, run: ")[2]
    arguments = shlex.split(command)
    if shutil.which(arguments[0]) is None:
        pytest.skip(f"{arguments[0]} is not installed")
    subprocess.run(command, shell=True, check=True)
    return read_text(arguments[-1])


@pytest.mark.parametrize("name", WIDE)
@pytest.mark.parametrize("language", TEXTS)
def test_utf16_and_utf32_are_recognised(language: str, name: str) -> None:
    """With and without a byte-order mark. Without one, it is often valid UTF-8."""
    with pytest.raises(TextError, match=f"it is {name.upper().replace('-', '').replace('UTF', 'UTF-')} text") as caught:
        decode_utf8(TEXTS[language].encode(name), "it")
    assert ("without a byte-order mark" in str(caught.value)) == name.endswith("e")


@POSIX
@pytest.mark.parametrize("name", [*WIDE, "latin-1", "cp1252"])
def test_command_converts_text(tmp_path: Path, name: str) -> None:
    path = tmp_path / "it's here.txt"
    path.write_bytes(TEXTS["German"].encode(name))
    assert converted(path) == TEXTS["German"]


@POSIX
@pytest.mark.parametrize("suffix", ["gz", "bz2", "xz", "zip"])
def test_command_unpacks(tmp_path: Path, suffix: str) -> None:
    path, content = tmp_path / f"book.txt.{suffix}", TEXTS["Russian"].encode()
    if suffix == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("book.txt", content)
    else:
        pack = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}[suffix]
        path.write_bytes(pack(content))
    assert converted(path) == TEXTS["Russian"]
    assert (tmp_path / "book.utf8.txt").exists()


@POSIX
@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl"])
def test_command_keeps_the_suffix_of_a_table(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"t.{suffix}"
    path.write_bytes("a,b\nGröße,1\n".encode("latin-1"))
    assert message(path).endswith(f"t.utf8.{suffix}")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\x28\xb5\x2f\xfd\x24\xff", "compressed with zstd. To convert it, run: zstd -dc"),
        (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "a PDF document. Save it as plain text"),
        (b"PK\3\4" + bytes(26) + b"[Content_Types].xml\xff", "an Office document or an e-book. Save it as plain text"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(9), "a Microsoft Office document. Save it as plain text"),
        (rb"{\rtf1\ansi To be}", "a document in Rich Text Format. Save it as plain text"),
        (b"abc\0\xff", "byte 0xff at offset 4; it looks like binary data. Choose a text file"),
        ("Größe und Höhe".encode() + b"\xff", "offset 17; the text around it is UTF-8. To convert it, run: iconv -c"),
        ("Широка страна".encode("koi8-r"), "its encoding is unknown. Convert it with: iconv -f ENCODING"),
        ("Größe und Höhe".encode("latin-1"), "byte 0xf6 at offset 2; it is probably Windows-1252 or Latin-1. To conve"),
    ],
)
@POSIX
def test_other_content_is_named(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "x.txt"
    path.write_bytes(content)
    assert says in message(path)


def test_text_that_is_no_file_gets_a_filter() -> None:
    with pytest.raises(
        TextError, match=r"^standard input is not UTF-8 text: it is UTF-16 text\. Convert it with: iconv"
    ):
        decode_utf8("a\n".encode("utf-16"), "standard input")


@pytest.mark.skipif(sys.platform == "win32", reason="pretends to be Windows")
def test_python_converts_on_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.txt"
    path.write_bytes(TEXTS["German"].encode("utf-16-le"))
    monkeypatch.setattr(encoding.sys, "platform", "win32")
    command = message(path).partition("run: python -c ")[2]
    monkeypatch.undo()
    subprocess.run([sys.executable, "-c", command.strip('"')], check=True)
    assert read_text(tmp_path / "x.utf8.txt") == TEXTS["German"]
    monkeypatch.setattr(encoding.sys, "platform", "win32")
    path.write_bytes(gzip.compress(b"a"))
    assert "Unpack it, for example with 7-Zip" in message(path)


@pytest.mark.parametrize(
    "given", ["a\0b", "\0" * 40, "x" * 50 + "\0" * 50, "a,b\0\n1,2\0\n" * 9, "hello\0world this\n" * 20]
)
@pytest.mark.parametrize("size", [3, 2**20])
def test_nul_in_text_is_kept(monkeypatch: pytest.MonkeyPatch, given: str, size: int) -> None:
    monkeypatch.setattr(text, "_CHUNK", size)
    assert decode_utf8(given.encode(), "it") == given
