"""First runs and their failures, in real processes; only the compiler is a stand-in."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from knock import load
from knock.models import DEFAULT
from knock_kernels.cache import objects
from tests.machine import PATHS, STAND_IN, Machine

GENERATE = ("generate", "ROMEO:", "--sampling", "basic", "--seed", "7", "--length", "60")
LONG = ("generate", "ROMEO:", "--seed", "7", "--length", "40000")  # long enough to compile first
ON_POSIX = pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals, modes and limits")


@pytest.fixture(scope="session")
def text() -> str:
    return "ROMEO:" + load(DEFAULT, backend="numpy").generate("ROMEO:", max_new_tokens=60, seed=7).text


def test_first_run_does_not_wait_and_next_run_uses_kernels(machine: Machine, text: str) -> None:
    assert machine.run(*GENERATE, STAND_IN_SECONDS=3) == (0, text, "")
    assert not machine.objects()  # the compiler is still running
    machine.until(1)
    assert os.name == "nt" or (machine.notes / "detached").read_text() == "True"  # Ctrl-C does not reach it
    assert len(machine.objects()) == 1
    assert {path.name for path in machine.cache.iterdir()} == {"lock", machine.objects()[0].name}
    assert machine.run(*GENERATE) == (0, text, "")
    assert machine.backend() == "compiled"
    assert machine.compilations == 1


def test_eight_processes_at_once_compile_once(machine: Machine, text: str) -> None:
    processes = [machine.start(*GENERATE, STAND_IN_SECONDS=1) for _ in range(8)]
    results = [(*process.communicate(timeout=60), process.returncode) for process in processes]
    assert results == [(text, "", 0)] * 8
    machine.until(1)
    assert len(machine.objects()) == 1


def test_eight_waiting_processes_compile_once(machine: Machine) -> None:
    processes = [machine.start("warmup", STAND_IN_SECONDS=2) for _ in range(8)]
    results = [(*process.communicate(timeout=60), process.returncode) for process in processes]
    (path,) = machine.objects()
    assert {(out, code) for out, _, code in results} == {(f"{path}\n", 0)}
    assert machine.compilations == 1


@ON_POSIX
def test_killed_compiler_is_started_again(machine: Machine) -> None:
    processes = [machine.start("warmup", STAND_IN_KILLED_AT="compile", STAND_IN_KILLS=1) for _ in range(4)]
    results = [(*process.communicate(timeout=60), process.returncode) for process in processes]
    (path,) = machine.objects()
    assert {(out, code) for out, _, code in results} == {(f"{path}\n", 0)}
    assert machine.compilations == 2
    assert {path.name for path in machine.cache.iterdir()} == {"lock", path.name}


@ON_POSIX
def test_compiler_killed_again_is_an_error(machine: Machine) -> None:
    code, out, err = machine.run("warmup", STAND_IN_KILLED_AT="compile")
    assert (code, out, machine.compilations) == (1, "", 2)
    assert err.endswith(
        "knock: error: the kernels cannot be compiled: the compiler was killed by signal 9, "
        "perhaps because memory ran out\n"
    )


@ON_POSIX
def test_crashed_compiler_is_not_started_again(machine: Machine) -> None:
    code, out, err = machine.run("warmup", STAND_IN_KILLED_AT="crash")
    assert (code, out, machine.compilations) == (1, "", 1)
    assert "the kernels cannot be compiled: LLVM ERROR: the stand-in crashes on request" in err


def test_long_work_compiles_first_with_a_notice(machine: Machine) -> None:
    code, out, err = machine.run(*LONG, STAND_IN_SECONDS=1.5)
    assert (code, len(out)) == (0, 40_006)
    assert re.fullmatch(r"compiling knock's kernels, once for this machine \.\.\.\nit took [12] s\n", err)
    assert machine.run(*LONG)[1:] == (out, "")


def test_bad_arguments_are_rejected_before_compiling(machine: Machine) -> None:
    code, _, err = machine.run("generate", "naïve", "--length", "100000")
    assert (code, machine.compilations) == (1, 0)
    assert "unknown character" in err


def test_warmup_compiles_and_prints_the_path(machine: Machine) -> None:
    code, out, err = machine.run("warmup", "--check")
    assert (code, out) == (1, "")
    assert "have not been compiled" in err
    code, out, _ = machine.run("warmup", NUMBA_DISABLE_JIT="1")
    assert (code, out) == (0, f"{machine.objects()[0]}\n")
    assert machine.run("warmup", "--check") == (0, out, "")
    assert machine.run("warmup") == (0, out, "")
    assert machine.compilations == 1


@ON_POSIX
def test_warmup_copies_kernels_into_the_folder_asked_for(machine: Machine, text: str) -> None:
    machine.cache.mkdir()
    machine.cache.chmod(0o777)
    machine.run(*GENERATE)
    machine.until(1)
    (private,) = machine.temporary.iterdir()
    (other,) = machine.objects(private)
    machine.cache.chmod(0o755)
    code, out, err = machine.run("warmup", "--check")
    assert (code, out) == (1, "")
    assert "have not been compiled for this machine into KNOCK_CACHE_DIR" in err
    code, out, err = machine.run("warmup")
    (path,) = machine.objects()
    assert (code, out, err) == (0, f"{path}\n", "")
    assert path.name == other.name
    assert machine.run("warmup", "--check") == (0, out, "")
    other.unlink()
    assert machine.run(*GENERATE) == (0, text, "")
    assert machine.compilations == 1


@ON_POSIX
def test_warmup_fails_if_the_folder_asked_for_cannot_be_used(machine: Machine) -> None:
    machine.cache.mkdir()
    machine.cache.chmod(0o777)
    machine.run(*GENERATE)
    machine.until(1)  # the kernels are among the temporary files
    for options in ((), ("--check",)):
        code, out, err = machine.run("warmup", *options)
        assert (code, out) == (1, "")
        assert "KNOCK_CACHE_DIR" in err
        assert err.count("\n") == 1
    file = machine.notes / "file"
    file.touch()
    code, out, err = machine.run("warmup", KNOCK_CACHE_DIR=file)
    assert (code, out) == (1, "")
    assert err == (
        f"knock: error: the kernels cannot be cached: KNOCK_CACHE_DIR is set, and {file} is not a folder; "
        "choose a folder that only you can write to\n"
    )
    assert machine.compilations == 1


@ON_POSIX
def test_warmup_prefers_the_user_folder_to_the_temporary_one(machine: Machine) -> None:
    for name in ("KNOCK_CACHE_DIR", "XDG_CACHE_HOME"):
        machine.environment.pop(name, None)
    machine.environment["HOME"] = str(machine.notes / "home")
    code, out, err = machine.run("warmup")
    assert (code, Path(out.strip()).parent) == (0, next(machine.temporary.iterdir()))
    assert f"the home folder {machine.notes / 'home'} does not exist; set KNOCK_CACHE_DIR to choose a folder" in err
    (machine.notes / "home").mkdir()
    code, out, err = machine.run("warmup")
    assert (code, err) == (0, "")
    assert Path(out.strip()).is_relative_to(machine.notes / "home")
    assert machine.compilations == 1


def test_backend_can_be_pinned(machine: Machine, text: str) -> None:
    assert machine.run(*GENERATE, "--backend", "numpy") == (0, text, "")
    assert machine.run(*GENERATE, KNOCK_BACKEND="numpy") == (0, text, "")
    assert machine.compilations == 0
    code, out, err = machine.run(*GENERATE, KNOCK_BACKEND="compiled")
    assert (code, out, machine.compilations) == (0, text, 1)
    assert "compiling" in err
    code, _, err = machine.run(*GENERATE, KNOCK_BACKEND="gpu")
    assert code == 1
    assert "KNOCK_BACKEND must be one of auto, numpy, compiled, got 'gpu'" in err


@ON_POSIX
@pytest.mark.parametrize(
    "moment", ["compile", "load", "loaded", "sync", "synced", "replace", "replaced", "prune", "pruned"]
)
def test_compiler_killed_at_any_moment(machine: Machine, text: str, moment: str) -> None:
    assert machine.compile(STAND_IN_KILLED_AT=moment, STAND_IN_SECONDS=0) == -signal.SIGKILL
    kept = len(machine.objects())
    assert kept == (moment in ("replaced", "prune", "pruned"))
    code, out, err = machine.run(*GENERATE, STAND_IN_SECONDS=0)
    assert (code, out) == (0, text)
    if kept:
        assert err == ""
        return
    assert re.fullmatch("knock: compiling the kernels in the background failed: the compiler was stopped .*\n", err)
    if moment in ("load", "loaded"):  # looks like an object that cannot be loaded
        assert machine.run(*GENERATE)[1:] == (text, "")
        machine.settle()
        assert machine.compilations == 1
        assert machine.run("warmup")[0] == 0  # tries again regardless
        assert machine.backend() == "compiled"
        return
    machine.until(2)
    assert machine.run(*GENERATE)[1:] == (text, "")
    assert machine.backend() == "compiled"


@ON_POSIX
@pytest.mark.parametrize(
    ("moment", "says"),
    [
        ("error", "RuntimeError: the stand-in"),
        ("crash", "LLVM ERROR: the stand-in"),
        ("edited", "RuntimeError: the kernel sources changed during compilation"),
    ],
)
def test_failure_is_reported_once_and_not_retried_for_ever(machine: Machine, text: str, moment: str, says: str) -> None:
    errors = []
    for expected in (1, 2, 2, 2):
        code, out, err = machine.run(*GENERATE, STAND_IN_KILLED_AT=moment)
        assert (code, out) == (0, text)
        machine.until(expected)
        errors.append(err)
    assert errors[0] == errors[3] == ""
    for err in errors[1:3]:
        assert says in err
        assert err.count("\n") == 1
    code, _, err = machine.run("warmup", STAND_IN_KILLED_AT=moment)
    assert code == 1
    assert f"knock: error: the kernels cannot be compiled: {says}" in err
    assert machine.run("warmup")[0] == 0
    assert machine.run(*GENERATE) == (0, text, "")
    assert {path.name for path in machine.cache.iterdir()} == {"lock", machine.objects()[0].name}


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty"])
def test_damaged_object_is_reported_and_recompiled(machine: Machine, text: str, damage: str) -> None:
    machine.run("warmup")
    (path,) = machine.objects()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes({"flipped": content, "cut": content[:-1], "empty": b""}[damage])
    code, out, err = machine.run(*GENERATE)
    assert (code, out) == (0, text)
    assert re.fullmatch(r"knock: .* is truncated or altered; ignoring it\n", err)
    machine.until(2)
    assert len(machine.objects()) == 1
    assert machine.run(*GENERATE) == (0, text, "")


@ON_POSIX
def test_unsafe_folder_falls_back_to_a_private_one(machine: Machine, text: str) -> None:
    machine.cache.mkdir()
    machine.cache.chmod(0o777)
    code, out, err = machine.run(*GENERATE)
    assert (code, out) == (0, text)
    machine.until(1)
    (private,) = machine.temporary.iterdir()
    notice = (
        f"knock: compiled kernels are cached in {private}, not in KNOCK_CACHE_DIR: "
        f"{machine.cache} is writable by other users\n"
    )
    assert err == notice
    assert len(machine.objects(private)) == 1
    assert not machine.objects()
    code, out, err = machine.run(*GENERATE)
    assert (code, out) == (0, text)
    assert err == notice


@ON_POSIX
def test_no_home(machine: Machine, text: str) -> None:
    for name in ("KNOCK_CACHE_DIR", "XDG_CACHE_HOME"):
        machine.environment.pop(name, None)
    code, out, err = machine.run(*GENERATE, HOME=machine.notes / "nowhere")
    assert (code, out) == (0, text)
    assert f"the home folder {machine.notes / 'nowhere'} does not exist; set KNOCK_CACHE_DIR" in err
    machine.until(1)
    assert len(machine.objects(next(machine.temporary.iterdir()))) == 1


@ON_POSIX
def test_no_usable_folder(machine: Machine, text: str) -> None:
    machine.cache.write_text("no folder")
    (machine.temporary / f"knock-{os.getuid()}").write_text("no folder")
    code, out, err = machine.run(*GENERATE)
    assert (code, out) == (0, text)
    assert err.startswith("knock: running on NumPy, which is slower: ")
    code, out, err = machine.run("warmup")
    assert (code, out) == (1, "")
    assert "the kernels cannot be cached: KNOCK_CACHE_DIR is set, and " in err


@ON_POSIX
def test_full_disk(machine: Machine, text: str, tmp_path: Path) -> None:
    """Simulated by a limit on file size, beyond which writes fail."""
    (tmp_path / "limited").mkdir()
    (tmp_path / "limited" / "sitecustomize.py").write_text(
        (STAND_IN / "sitecustomize.py").read_text(encoding="utf-8")
        + "\nimport resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n",
        encoding="utf-8",
    )
    limited = {"PYTHONPATH": os.pathsep.join([str(tmp_path / "limited"), *PATHS]), "STAND_IN_SECONDS": 0}
    assert machine.run(*GENERATE, **limited) == (0, text, "")
    machine.settle()
    code, out, err = machine.run(*GENERATE, **limited)
    assert (code, out) == (0, text)
    assert "cannot be written to: file too large" in err
    machine.settle()
    code, out, err = machine.run("warmup", **limited)
    assert (code, out) == (1, "")
    assert "cannot be written to: file too large" in err
    assert machine.compilations == 0  # the result could not be stored
    assert not machine.objects()
    assert not list(machine.cache.glob("*.tmp"))
    assert machine.run("warmup")[0] == 0


def test_numba_is_missing(machine: Machine, text: str) -> None:
    code, out, err = machine.run(*GENERATE, STAND_IN_NUMBA="none")
    assert (code, out) == (0, text)
    assert err == "knock: running on NumPy, which is slower: Numba is not installed; pip install numba\n"
    code, _, err = machine.run(*GENERATE, "--backend", "compiled", STAND_IN_NUMBA="none")
    assert code == 1
    assert "knock: error: the compiled kernels cannot be run: Numba is not installed" in err


def test_llvmlite_is_too_old(machine: Machine, text: str) -> None:
    code, out, err = machine.run(*GENERATE, STAND_IN_LLVMLITE="0.43.0")
    assert (code, out) == (0, text)
    assert err.startswith("knock: running on NumPy, which is slower: llvmlite 0.43.0 is too old, need 0.45 or newer")
    assert machine.run("warmup", STAND_IN_LLVMLITE="0.43.0")[0] == 1


@ON_POSIX
def test_pipe_closed_early(machine: Machine) -> None:
    with machine.start("generate", "ROMEO:", "--length", "3000") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(5) == "ROMEO"
        process.stdout.close()
        assert process.stderr.read() == ""  # the compiler does not keep it open
        assert process.wait(timeout=60) == 0
    machine.until(1)
    assert len(machine.objects()) == 1


def test_two_environments_share_a_folder(machine: Machine, text: str) -> None:
    for numba in ("0.1", "0.2", "0.1", "0.2"):
        machine.run("warmup", STAND_IN_NUMBA=numba)
        assert machine.run(*GENERATE, STAND_IN_NUMBA=numba) == (0, text, "")
    assert len(machine.objects()) == 2
    assert machine.compilations == 2


@ON_POSIX
def test_interrupted_while_compiling(machine: Machine) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # in a background job it may be ignored
    process = machine.start("warmup", STAND_IN_SECONDS=30)
    signal.signal(signal.SIGINT, before)
    deadline = time.monotonic() + 20
    while not machine.compilations and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=20)[0] == ""
    assert process.returncode == 130
    assert machine.run("generate", "A", "--length", "5")[2] == ""  # an interrupt is not a failure
    machine.until(2)  # so the kernels are compiled again
    assert len(machine.objects()) == 1


@ON_POSIX
def test_deleted_working_folder(machine: Machine) -> None:
    code = (
        "import os, tempfile; folder = tempfile.mkdtemp(); os.chdir(folder); os.rmdir(folder);"
        "from knock import load; print(len(load('shakespeare-hybrid').generate('A', max_new_tokens=5).text))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], env=machine.environment, text=True) == "5\n"
    machine.until(1)
    assert len(machine.objects()) == 1
    command = (
        code.split(";from", maxsplit=1)[0]
        + "; from knock.cli.main import main; main(['generate', 'A', '--length', '5'])"
    )
    environment = machine.environment | {"KNOCK_CACHE_DIR": "relative"}
    done = subprocess.run([sys.executable, "-c", command], env=environment, text=True, capture_output=True, check=True)
    assert len(done.stdout) == 6
    assert "relative is relative to a folder that no longer exists" in done.stderr


def test_notices_are_never_errors(machine: Machine, text: str) -> None:
    code, out, err = machine.run(*GENERATE, STAND_IN_NUMBA="none", PYTHONWARNINGS="error::UserWarning")
    assert (code, out) == (0, text)
    assert err == "knock: running on NumPy, which is slower: Numba is not installed; pip install numba\n"


def test_unloadable_kernels_are_compiled_in_process(machine: Machine, text: str) -> None:
    """Slow: this test runs the real compiler."""
    machine.cache.mkdir(mode=0o700)
    (machine.cache / f"{objects.name()}.unloadable").touch()
    machine.environment["PYTHONPATH"] = os.pathsep.join(PATHS)
    code, out, err = machine.run(*GENERATE, "--backend", "compiled")
    assert (code, out) == (0, text)
    assert err.startswith("knock: the kernels are compiled for this process alone: cached kernels cannot be loaded")
    assert err.count("\n") == 1
