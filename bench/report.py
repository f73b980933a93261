"""Write a benchmark run, and the shipped models' own records, into the README's tables.

    pytest bench --benchmark-json=run.json
    python -m bench.report run.json

Everything between `<!-- NAME -->` and `<!-- end NAME -->` in README.md is written here and nowhere else.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

from knock.checkpoint import read_checkpoint
from knock.model import load
from knock.models import DEFAULT, shipped

README = Path(__file__).parent.parent / "README.md"
SAMPLE_SEED = 7

# Rows of the README's table: benchmark, what it is.
ROWS = {
    "bench_generate[numpy-relative]": "generate on NumPy, relative positions",
    "bench_generate[numpy-absolute]": "generate on NumPy, absolute positions, window sliding",
    "bench_generate[compiled-relative]": "generate compiled, relative positions",
    "bench_generate[compiled-absolute]": "generate compiled, absolute positions, window sliding",
    "bench_lanes": "generate compiled, relative positions, eight sequences together",
    "bench_logits[numpy]": "logits of 1,024 positions on NumPy",
    "bench_logits[compiled]": "logits of 1,024 positions compiled",
    "bench_sample[temperature-65]": "one draw on NumPy, temperature alone, 65 characters",
    "bench_sample[exact entropy-65]": "one draw on NumPy, exact entropy rule, 65 characters",
    "bench_read": "read and check the shipped model file",
    "bench_train[relative]": "train, relative positions, one thread",
    "bench_train[absolute]": "train, absolute positions, one thread",
}


def speed_table(run: dict[str, Any]) -> str:
    """Medians of one run, with the machine they were measured on."""
    results = {result["name"]: result for result in run["benchmarks"]}
    lines = ["| what | median time each | rate |", "|---|---:|---:|"]
    for name, what in ROWS.items():
        median, info = results[name]["stats"]["median"], results[name]["extra_info"]
        each = median / info["count"]
        lines.append(f"| {what} | {_time(each)} | {1 / each:,.0f} {info['unit']}/s |")
    machine = run["machine_info"]
    cpu = machine["cpu"].get("brand_raw", machine["machine"])
    lines += ["", f"Measured on {cpu}, {machine['cpu']['count']} cores, Python {machine['python_version']}."]
    return "\n".join(lines)


def model_table() -> str:
    """The shipped models with the losses in their files."""
    lines = ["| model | parameters | sees back | block 256 | stream |", "|---|---:|---:|---:|---:|"]
    for name, path in shipped().items():
        checkpoint = read_checkpoint(path)
        losses = checkpoint.training["evaluation"]
        block, stream = (f"{losses[key]['nats_per_char']:.4f}" for key in ("block_256", "stream"))
        weights = checkpoint.weights
        lines.append(
            f"| `{name}` | {weights.n_parameters:,} | {weights.config.receptive_field:,} characters "
            f"| {block} | {stream} |"
        )
    return "\n".join(lines)


def sample() -> str:
    """What the README's first command prints."""
    text = load(DEFAULT).generate("ROMEO:", seed=SAMPLE_SEED).text
    return f"```text\nROMEO:{text}\n```"


def fill(readme: str, name: str, content: str) -> str:
    """The README with one of its generated parts replaced."""
    pattern = rf"(<!-- {name} -->\n).*?(<!-- end {name} -->)"
    filled, count = re.subn(pattern, lambda match: f"{match[1]}{content}\n{match[2]}", readme, flags=re.DOTALL)
    if count != 1:
        raise SystemExit(f"README.md must have one part between <!-- {name} --> and <!-- end {name} -->, has {count}")
    return filled


def _time(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


def main() -> None:
    """Fill in the README."""
    parser = argparse.ArgumentParser(prog="python -m bench.report", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("run", type=Path, help="the JSON file of pytest bench --benchmark-json=FILE")
    run = json.loads(parser.parse_args().run.read_text(encoding="utf-8"))
    readme = README.read_text(encoding="utf-8")
    for name, content in (("sample", sample()), ("models", model_table()), ("speed", speed_table(run))):
        readme = fill(readme, name, content)
    README.write_text(readme, encoding="utf-8")


if __name__ == "__main__":
    main()
