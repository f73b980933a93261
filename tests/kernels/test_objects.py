"""The cache of compiled kernels: folders, trust, loading."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import llvmlite.binding as llvm
import pytest

from knock_kernels.cache import folder, objects, store
from knock_kernels.cache.objects import DamagedError
from knock_kernels.cache.store import RefusedError
from knock_kernels.lang import cpu
from knock_kernels.lang.object_code import ObjectCode

ON_POSIX = pytest.mark.skipif(os.name == "nt", reason="needs POSIX owners, modes, links and pipes")
OBJECT = ObjectCode(bytes(range(256)) * 20, ("exp", "log"))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder, which does not exist yet; the temporary folder is elsewhere."""
    monkeypatch.setenv("KNOCK_CACHE_DIR", str(tmp_path / "some" / "cache"))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    return tmp_path / "some" / "cache"


@pytest.fixture
def path(home: Path) -> Path:
    """Path of this machine's object in the user's folder."""
    return objects.place()


def test_find_creates_nothing(home: Path) -> None:
    assert objects.find() is None
    assert not home.parent.exists()


@ON_POSIX
def test_created_folders_are_private(home: Path) -> None:
    before = os.umask(0)
    try:
        path = objects.place()
        objects.write(path, OBJECT)
    finally:
        os.umask(before)
    assert path == home / objects.name()
    assert [stat.S_IMODE(each.stat().st_mode) for each in (home.parent, home, path)] == [0o700, 0o700, 0o644]


@ON_POSIX
@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_folder_writable_by_others_is_refused(path: Path, mode: int) -> None:
    objects.write(path, OBJECT)
    path.parent.chmod(mode)
    assert objects.find() is None
    with pytest.warns(UserWarning, match=r"cached in .*knock-.*writable by other users"):
        temporary = objects.place()
    assert temporary.parent == folder.temporary_folder()
    assert stat.S_IMODE(temporary.parent.stat().st_mode) == 0o700
    objects.write(temporary, OBJECT)
    with pytest.warns(UserWarning, match=r"cached in .*knock-.*writable by other users"):
        assert objects.find() == (temporary, OBJECT)


@ON_POSIX
def test_object_writable_by_others_is_refused(path: Path) -> None:
    objects.write(path, OBJECT)
    path.chmod(0o666)
    with pytest.raises(RefusedError, match="is writable by other users"):
        objects.read(path)
    assert objects.find() is None


@ON_POSIX
def test_files_of_another_user_are_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    objects.write(path, OBJECT)
    owner = path.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    monkeypatch.setattr(folder, "_ADMINISTRATOR", owner)
    assert objects.find() == (path, OBJECT)
    monkeypatch.setattr(folder, "_ADMINISTRATOR", owner + 2)
    with pytest.raises(RefusedError, match="belongs to another user"):
        objects.read(path)
    assert objects.find() is None
    with pytest.raises(RefusedError, match=r"belongs to another user; .* belongs to another user"):
        objects.place()
    monkeypatch.setenv("KNOCK_CACHE_DIR", str(path.parent / "below"))
    with pytest.raises(RefusedError, match="belongs to another user"):  # who may want to create it
        objects.place()
    assert not (path.parent / "below").exists()


@ON_POSIX
def test_symlink_as_temporary_folder_is_refused(home: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    folder.temporary_folder().symlink_to(tmp_path / "elsewhere")
    home.parent.mkdir()
    home.write_text("no folder")
    with pytest.raises(RefusedError, match=r"cache is not a folder; .*knock-\S* is a symbolic link"):
        objects.place()
    assert objects.find() is None


@ON_POSIX
def test_pipe_as_object_is_refused_without_blocking(path: Path) -> None:
    os.mkfifo(path)
    assert objects.find() is None


def test_cached_object_is_found_without_a_temporary_folder(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    objects.write(path, OBJECT)
    monkeypatch.setattr(tempfile, "gettempdir", none)
    assert objects.find() == (path, OBJECT)
    path.unlink()
    assert objects.find() is None
    path.parent.rmdir()
    path.parent.write_text("no folder")
    with pytest.raises(RefusedError, match="no folder for temporary files: no usable"):
        objects.place()


def test_read_only_folder_is_still_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    objects.write(path, OBJECT)
    monkeypatch.setattr(os, "access", lambda each, _: each != path.parent)
    assert objects.find() == (path, OBJECT)
    with pytest.warns(UserWarning, match="cannot be written to"):
        assert objects.place().parent == folder.temporary_folder()


def test_user_folder_follows_platform_conventions(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("KNOCK_CACHE_DIR", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))
    for platform, below in (("linux", ".cache/knock"), ("darwin", "Library/Caches/knock"),
                            ("win32", "AppData/Local/knock/Cache")):  # fmt: skip
        monkeypatch.setattr(sys, "platform", platform)
        assert folder.user_folder() == tmp_path / below
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert folder.user_folder() == tmp_path / "x" / "knock"
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")
    assert folder.user_folder() == tmp_path / ".cache" / "knock"
    for home, says in ((str(tmp_path / "nowhere"), "the home folder .*nowhere does not exist"),
                       ("", "the user has no home folder")):  # fmt: skip
        for name in ("HOME", "USERPROFILE"):
            monkeypatch.setenv(name, home)
        with pytest.raises(RefusedError, match=says):
            folder.user_folder()


def test_write_read_round_trip(path: Path) -> None:
    for content in (OBJECT, ObjectCode(b"\n\n", ()), ObjectCode(b"", ("a",))):
        objects.write(path, content)
        assert objects.read(path) == content
    assert list(path.parent.iterdir()) == [path]


def test_every_truncation_and_bit_flip_is_detected(path: Path) -> None:
    objects.write(path, ObjectCode(b"machine code", ("exp",)))
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(DamagedError):
            objects.read(path)
    for bit in range(8 * len(whole)):
        altered = bytearray(whole)
        altered[bit // 8] ^= 1 << bit % 8
        path.write_bytes(altered)
        with pytest.raises(DamagedError):
            objects.read(path)


def test_renamed_object_is_not_loaded(path: Path) -> None:
    other = path.with_name(f"other-{path.name}")
    objects.write(other, OBJECT)
    other.rename(path)
    with pytest.warns(UserWarning, match="is truncated or altered; ignoring it"):
        assert objects.find() is None


@pytest.mark.parametrize("step", ["open", "fsync", "replace"])
def test_failed_write_keeps_the_old_object(path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    objects.write(path, OBJECT)

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(*{"open": (Path, "open"), "fsync": (os, "fsync"), "replace": (Path, "replace")}[step], fail)
        with pytest.raises(OSError, match="No space"):
            objects.write(path, ObjectCode(b"new"))
    assert objects.read(path) == OBJECT
    assert list(path.parent.iterdir()) == [path]


def test_name_depends_on_sources_versions_and_cpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    names = {objects.current_name()}
    machine = cpu.machine_name()
    for i in range(len(machine)):
        with monkeypatch.context() as patched:
            patched.setattr(objects, "machine_name", lambda i=i: [*machine[:i], "another", *machine[i + 1 :]])
            names.add(objects.current_name())
    with monkeypatch.context() as patched:
        patched.setattr(objects, "_numba_version", lambda: "another")
        names.add(objects.current_name())
    copied = shutil.copytree(Path(objects.__file__).parents[1], tmp_path / "knock_kernels")
    monkeypatch.setattr(objects, "__file__", str(copied / "cache" / "objects.py"))
    assert objects.current_name() == objects.name()
    (copied / "cache" / "store.py").write_bytes(b"")  # does not affect what is compiled
    assert objects.current_name() == objects.name()
    sources = [path for folder in ("lang", "ops", "loops") for path in (copied / folder).glob("*.py")]
    for source in sources:
        source.write_bytes(source.read_bytes() + b"\n")
        names.add(objects.current_name())
    assert len(names) == 1 + len(machine) + 1 + len(sources)
    assert len(sources) > 10


def test_numba_version_is_found_without_importing_numba() -> None:
    code = (
        "import sys; from knock_kernels.cache import objects; print(objects._numba_version(), 'numba' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    import numba

    assert f'"version": "{numba.__version__}"' in said
    assert said.endswith(" False\n")


def test_kernels_without_sources_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without sources, objects of different versions would be mistaken for each other."""
    monkeypatch.setattr(objects, "__file__", str(tmp_path / "cache" / "objects.pyc"))
    with pytest.raises(RefusedError, match="kernel sources are missing"):
        objects.current_name()


def test_objects_of_other_cpus_are_kept_and_not_loaded(path: Path) -> None:
    other = path.with_name(f"pentium-{'0' * 32}{objects.SUFFIX}")
    objects.write(other, OBJECT)
    assert objects.find() is None
    with pytest.raises(store.NotCompiledError):
        store.loaded.__wrapped__()
    objects.write(path, OBJECT)
    objects.prune(path.parent)
    assert objects.read(other) == objects.read(path) == OBJECT


def test_prune_deletes_the_least_recently_used_objects(path: Path) -> None:
    day, now = 86400, time.time()

    def made(name: str, days: float) -> Path:
        file = path.with_name(name)
        objects.write(file, OBJECT)
        os.utime(file, (now - days * day,) * 2)
        return file

    own = [made(f"cpu-{i:032}{objects.SUFFIX}", 5 * (i + 1)) for i in range(12)]  # 5 to 60 days
    left = made(f"cpu-{0:032}{objects.SUFFIX}.tmp", 0.1), made(f"cpu-{0:032}{objects.SUFFIX}.log", 0.01)
    others = [made(name, 100) for name in (f"thesis{objects.SUFFIX}", f"linux{objects.SUFFIX}.tar.gz", "lock")]
    objects.read(own[11])  # updates its time of last use
    objects.prune(path.parent)
    # The eight most recently used objects stay, and so does any that was used within 30 days.
    assert set(path.parent.iterdir()) == {*own[:7], own[11], left[1], *others}


def test_missing_function_is_named_when_called() -> None:
    code = """
from knock_kernels.lang import cpu
from knock_kernels.cache import store
from knock_kernels.lang.object_code import ObjectCode
import llvmlite.binding as llvm
machine = cpu.target_machine()
module = llvm.parse_assembly('''
declare void @numba_is_not_here()
define i32 @knock_calls(ptr %r, ptr %e) { call void @numba_is_not_here() ret i32 0 }
define i32 @knock_does_not(ptr %r, ptr %e) { store i64 7, ptr %r ret i32 0 }
''')
engine = store.load(ObjectCode(machine.emit_object(module), ("numba_is_not_here",)))
print(store.function(engine, "does_not")(), flush=True)
store.function(engine, "calls")()
print("not reached")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "7\n"
    assert "compiled code called numba_is_not_here" in done.stderr
    assert done.returncode != 0


def test_kernels_call_no_numba_functions() -> None:
    """The functions that they do call exist in any process."""
    kept = objects.find()
    assert kept is not None
    assert not [symbol for symbol in kept.content.calls if symbol.startswith(("NRT_", "numba_", "Py", "_Py", "_ZN"))]
    store.loaded()
    assert all(llvm.address_of_symbol(symbol) for symbol in kept.content.calls)
