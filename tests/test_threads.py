"""Tests of threads whose first call to knock is concurrent, in new processes: unguarded lazy loading would crash."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from knock import load
from tests.machine import Machine

THREADS = 16
MODELS = ("shakespeare-nano", "shakespeare-hybrid")

# Calls on a model `m`, with JSON serialisable results that must be equal in every thread and in this process.
CALLS = {
    "generate": 'm.generate("ROMEO:", max_new_tokens=40, seed=1).text',
    "stream": '"".join(m.stream("ROMEO:", max_new_tokens=40, seed=1))',
    "score": 'round(m.score("To be, or not to be").nats_per_char, 5)',
    "batch": '[each.text for each in m.generate_batch(["A", "B"], seed=0, max_new_tokens=20, threads=2)]',
    "logits": "m.model.logits([1, 2, 3]).argmax(-1).tolist()",
}

_TOGETHER = """
import faulthandler, json, sys, threading
faulthandler.enable()
import knock

models, calls, count = json.loads(sys.argv[1]), json.loads(sys.argv[2]), int(sys.argv[3])
barrier, results = threading.Barrier(count), [None] * count

def work(i):
    barrier.wait()
    m = loaded[i % len(loaded)] if loaded else knock.load(models[i % len(models)])
    results[i] = eval(calls[i // len(models) % len(calls)])

loaded = [] if sys.argv[4] == "load in threads" else [knock.load(name) for name in models]
threads = [threading.Thread(target=work, args=(i,)) for i in range(count)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(json.dumps(results))
"""


def run_together(
    calls: list[str], *, models: tuple[str, ...] = MODELS, where: str = "", **environment: str
) -> list[object]:
    """Return the results of concurrent threads in a new process."""
    done = subprocess.run(
        [sys.executable, "-c", _TOGETHER, json.dumps(models), json.dumps(calls), str(THREADS), where],
        env=os.environ | environment, capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    results: list[object] = json.loads(done.stdout)
    return results


def expected(calls: list[str], *, models: tuple[str, ...] = MODELS) -> list[object]:
    loaded = [load(name) for name in models]
    return [
        eval(calls[i // len(models) % len(calls)], {"m": loaded[i % len(loaded)]})  # a constant above
        for i in range(THREADS)
    ]


@pytest.mark.parametrize("where", ["load before", "load in threads"])
@pytest.mark.parametrize("models", [MODELS, MODELS[:1]], ids=["two models", "one model"])
def test_first_use_by_threads_with_cached_kernels(models: tuple[str, ...], where: str) -> None:
    calls = list(CALLS.values())
    assert run_together(calls, models=models, where=where) == expected(calls, models=models)


@pytest.mark.parametrize("call", CALLS)
def test_first_use_by_threads_with_equal_calls(call: str) -> None:
    calls = [CALLS[call]]
    assert run_together(calls) == expected(calls)


def test_first_use_by_threads_without_kernels(machine: Machine) -> None:
    """All threads run on NumPy, and one compiler is started."""
    calls = list(CALLS.values())
    assert run_together(calls, **machine.environment, STAND_IN_SECONDS="3") == expected(calls)
    machine.until(1)


def test_waiting_threads_start_one_compiler(machine: Machine) -> None:
    calls = ["len(m.generate('A', max_new_tokens=40_000, seed=1).text)"]
    assert run_together(calls, **machine.environment) == [40_000] * THREADS
    assert machine.compilations == 1


def test_threads_while_compilation_ends(machine: Machine) -> None:
    """Threads switch from NumPy to the kernels while others generate."""
    code = """
import faulthandler, sys, threading
faulthandler.enable()
import knock

models = [knock.load(name) for name in ("shakespeare-nano", "shakespeare-hybrid")]
backends, texts = [set(), set()], set()

def work(i):
    m, calls = models[i % 2], 0
    while m.model.engine.backend != "compiled" or calls < 3:
        texts.add((i % 2, m.generate("ROMEO:", max_new_tokens=5, temperature=0, seed=1).text))
        backends[i % 2].add(m.model.engine.backend)
        calls += m.model.engine.backend == "compiled"

threads = [threading.Thread(target=work, args=(i,)) for i in range(16)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
assert backends == [{"numpy", "compiled"}] * 2, backends
assert len(texts) == 2, texts
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=machine.environment | {"STAND_IN_SECONDS": "2"},
        capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_server_with_concurrent_first_requests(tmp_path: Path) -> None:
    code = """
import faulthandler, sys
faulthandler.enable()
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
import knock

models = {}

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        name = self.path[1:]
        models.setdefault(name, knock.load(name))
        body = models[name].generate("ROMEO:", max_new_tokens=40, seed=1).text.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

class Server(ThreadingHTTPServer):
    request_queue_size = 64

server = Server(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"""
    client = """
import json, sys, threading, urllib.request
models, port, count = json.loads(sys.argv[1]), sys.argv[2], int(sys.argv[3])
barrier, texts = threading.Barrier(count), [None] * count

def ask(i):
    barrier.wait()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    texts[i] = opener.open(f"http://127.0.0.1:{port}/{models[i % len(models)]}", timeout=60).read().decode()

threads = [threading.Thread(target=ask, args=(i,)) for i in range(count)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(json.dumps(texts))
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            port = server.stdout.readline().strip()
            command = [sys.executable, "-c", client, json.dumps(MODELS), port, str(THREADS)]
            texts = json.loads(subprocess.check_output(command, text=True, timeout=60))
            assert server.poll() is None
        finally:
            server.kill()
    assert texts == expected([CALLS["generate"]])


def test_process_exits_while_threads_generate() -> None:
    """The compiled code must stay loaded while threads run it."""
    code = """
import threading, time
import knock
model = knock.load("shakespeare-nano")
model.generate("A", max_new_tokens=1)
for _ in range(4):
    threading.Thread(target=lambda: model.generate("A", max_new_tokens=10**7), daemon=True).start()
time.sleep(0.2)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
