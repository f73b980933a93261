"""Benchmarks. Run `pytest bench --benchmark-json=run.json`, then `python -m bench.report run.json`."""
