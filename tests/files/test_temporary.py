"""Tests of temporary files."""

from __future__ import annotations

import errno
import io
import tempfile
from pathlib import Path

import pytest

from knock.errors import OutputError
from knock.files.temporary import spooled, temporary_errors, temporary_file


def test_copy_of_a_stream_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with spooled(io.BytesIO(b"abc" * 1000)) as copy:
        assert copy.read() == b"abc" * 1000
        copy.seek(0)
        assert copy.read(3) == b"abc"
    assert copy.closed
    assert list(tmp_path.iterdir()) == []


def test_full_or_missing_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    full = r"temporary folder '.*': no space left on device; set TMPDIR"
    with pytest.raises(OutputError, match=full), temporary_errors():
        raise OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    missing = r"temporary folder '.*none': no such file or directory"
    with pytest.raises(OutputError, match=missing), temporary_file():
        pass


def test_no_temporary_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> str:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", none)
    nowhere = "there is no temporary folder to write to; set TMPDIR"
    with pytest.raises(OutputError, match=nowhere), temporary_errors():
        none()


def test_errors_of_the_source_are_not_those_of_the_folder() -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(OSError, match="Input/output error"), spooled(Broken()):
        pass
