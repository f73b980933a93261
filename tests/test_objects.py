"""Where compiled kernels are kept, what is trusted, what is loaded."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path

import llvmlite.binding as llvm
import pytest

from knock_kernels import compiling, cpu, folder, objects, store
from knock_kernels.objects import Damaged, ObjectCode
from knock_kernels.store import Refused

OBJECT = ObjectCode(bytes(range(256)) * 20, ("exp", "log"))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for objects, and another for the temporary one to be in."""
    monkeypatch.setenv("KNOCK_CACHE_DIR", str(tmp_path / "cache"))
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(folder.tempfile, "tempdir", str(temporary))
    return tmp_path / "cache"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
def test_folder_is_made_for_its_user_alone(home: Path) -> None:
    os.umask(os.umask(0) & 0o777)  # read it, whatever it is
    assert objects.find() == (home / objects.name(), None)
    assert stat.S_IMODE(home.stat().st_mode) == 0o700


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_folder_that_others_may_write_to_is_refused(home: Path, mode: int) -> None:
    home.mkdir()
    home.chmod(mode)
    objects.write(home / objects.name(), OBJECT)
    with pytest.warns(UserWarning, match=r"kept in .*knock-.*others may write"):
        where = objects.find()
    assert where.found is None
    assert where.path.parent == folder.temporary_folder()
    assert stat.S_IMODE(where.path.parent.stat().st_mode) == 0o700


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such owners")
def test_folder_of_someone_else_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home.mkdir()
    owner = home.stat().st_uid
    monkeypatch.setattr(folder, "_ADMINISTRATOR", owner)
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    assert folder.trusted(home) == home  # the administrator's
    monkeypatch.setattr(folder, "_ADMINISTRATOR", owner + 2)
    with pytest.raises(Refused, match="belongs to another user"):
        objects.find()  # and so does the temporary one


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege")
def test_temporary_folder_that_is_a_link_is_refused(home: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    folder.temporary_folder().symlink_to(tmp_path / "elsewhere")
    home.write_text("no folder")
    with pytest.raises(Refused, match=r"cache cannot be used.*; .*knock-\S* is not a folder"):
        objects.find()


def test_folder_that_cannot_be_written_to_is_still_read(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home.mkdir(mode=0o700)
    objects.write(home / objects.name(), OBJECT)
    monkeypatch.setattr(os, "access", lambda path, _: path != home)
    assert objects.find() == (home / objects.name(), OBJECT)
    (home / objects.name()).unlink()
    with pytest.warns(UserWarning, match="cannot be written to"):
        assert objects.find().path.parent == folder.temporary_folder()


def test_user_folder_is_the_platforms(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("KNOCK_CACHE_DIR", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))
    for platform, below in (("linux", ".cache/knock"), ("darwin", "Library/Caches/knock"),
                            ("win32", "AppData/Local/knock/Cache")):  # fmt: skip
        monkeypatch.setattr(folder.sys, "platform", platform)
        assert folder.user_folder() == tmp_path / below
    monkeypatch.setattr(folder.sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert folder.user_folder() == tmp_path / "x" / "knock"
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")
    assert folder.user_folder() == tmp_path / ".cache" / "knock"
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path / "nowhere"))
    with pytest.raises(Refused, match="does not exist"):
        folder.user_folder()


def test_what_was_written_is_read(home: Path) -> None:
    path = objects.find().path
    for content in (OBJECT, ObjectCode(b"\n\n", ()), ObjectCode(b"", ("a",))):
        objects.write(path, content)
        assert objects.read(path) == content
    assert list(home.iterdir()) == [path]


def test_every_cut_and_every_flipped_bit_is_found(home: Path) -> None:
    path = objects.find().path
    objects.write(path, ObjectCode(b"machine code", ("exp",)))
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(Damaged):
            objects.read(path)
    for bit in range(8 * len(whole)):
        altered = bytearray(whole)
        altered[bit // 8] ^= 1 << bit % 8
        path.write_bytes(altered)
        with pytest.raises(Damaged):
            objects.read(path)


def test_object_under_another_name_is_not_loaded(home: Path) -> None:
    path = objects.find().path
    objects.write(home / f"other{objects.SUFFIX}", OBJECT)
    (home / f"other{objects.SUFFIX}").rename(path)
    with pytest.warns(UserWarning, match="was cut or altered"):
        assert objects.find().found is None
    assert not path.exists()


@pytest.mark.parametrize("step", ["open", "fsync", "replace"])
def test_object_that_cannot_be_written_leaves_what_was_there(
    home: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = objects.find().path
    objects.write(path, OBJECT)

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(*{"open": (Path, "open"), "fsync": (os, "fsync"), "replace": (Path, "replace")}[step], fail)
        with pytest.raises(OSError, match="No space"):
            objects.write(path, ObjectCode(b"new"))
    assert objects.read(path) == OBJECT
    assert list(home.iterdir()) == [path]


def test_name_tells_sources_versions_and_cpu_apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    names = {objects.current_name()}
    machine = cpu.machine_name()
    for i in range(len(machine)):
        with monkeypatch.context() as patched:
            patched.setattr(objects, "machine_name", lambda i=i: [*machine[:i], "another", *machine[i + 1 :]])
            names.add(objects.current_name())
    with monkeypatch.context() as patched:
        patched.setattr(objects, "_numba_version", lambda: "another")
        names.add(objects.current_name())
    copied = shutil.copytree(Path(objects.__file__).parent, tmp_path / "knock_kernels")
    monkeypatch.setattr(objects, "__file__", str(copied / "objects.py"))
    assert objects.current_name() == objects.name()
    for source in copied.glob("*.py"):
        source.write_bytes(source.read_bytes() + b"\n")
        names.add(objects.current_name())
    assert len(names) == 1 + len(machine) + 1 + len(list(copied.glob("*.py")))


def test_numba_is_known_without_importing_it() -> None:
    code = "import sys; from knock_kernels import objects; print(objects._numba_version(), 'numba' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    import numba

    assert f'"version": "{numba.__version__}"' in said
    assert said.endswith(" False\n")


def test_objects_of_other_cpus_stay_and_are_not_loaded(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other, mine = home / f"pentium-0{objects.SUFFIX}", objects.find().path
    objects.write(other, OBJECT)
    with pytest.raises(store.NotCompiled):
        store.loaded.__wrapped__()
    monkeypatch.setattr(compiling.store, "load", lambda content: None)
    assert compiling.main(background=False, compile_object=lambda: ObjectCode(b"mine")) == 0
    assert objects.read(other) == OBJECT
    assert objects.read(mine) == ObjectCode(b"mine")


def test_what_was_not_used_for_longest_goes_first(home: Path) -> None:
    now = time.time()
    path = objects.find().path
    for age in range(12):
        file = home / f"{age}{objects.SUFFIX}"
        objects.write(file, OBJECT)
        os.utime(file, (now - 100_000 * (age + 1),) * 2)
    for name, age in (("old", 7200), ("new", 60)):
        file = path.with_name(f"{name}{objects.SUFFIX}.tmp")
        file.touch()
        os.utime(file, (now - age,) * 2)
    objects.read(home / f"11{objects.SUFFIX}")  # which notes its use
    objects.prune(home)
    left = {file.name.removesuffix(objects.SUFFIX) for file in home.iterdir()}
    assert left == {*map(str, range(7)), "11", f"new{objects.SUFFIX}.tmp"}


def test_function_that_is_missing_is_named_when_it_is_called() -> None:
    code = """
from knock_kernels import cpu, store
from knock_kernels.objects import ObjectCode
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


def test_kernels_call_nothing_of_numbas() -> None:
    """What they do call is there in any process."""
    content = objects.find().found
    assert content is not None
    assert not [symbol for symbol in content.calls if symbol.startswith(("NRT_", "numba_", "Py", "_Py", "_ZN"))]
    store.loaded()
    assert all(llvm.address_of_symbol(symbol) for symbol in content.calls)
