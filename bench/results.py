"""The results of a benchmark run."""

from __future__ import annotations

from typing import Any


class Run:
    """The results of one benchmark run, by name."""

    def __init__(self, run: dict[str, Any]) -> None:
        self.results = {result["name"]: result for result in run["benchmarks"]}
        machine = run["machine_info"]
        cpu = machine["cpu"].get("brand_raw", machine["machine"])
        self.machine = f"{cpu}, {machine['cpu']['count']} cores, Python {machine['python_version']}"

    def __contains__(self, name: str) -> bool:
        return name in self.results

    def rate(self, name: str) -> float:
        """Units per second in the median round."""
        return float(self.results[name]["extra_info"]["count"] / self.results[name]["stats"]["median"])

    def medians(self, name: str) -> dict[str, float]:
        """Median seconds of each part of a benchmark that takes turns between several."""
        return dict(self.results[name]["extra_info"]["medians"])

    def bests(self, name: str) -> dict[str, float]:
        """Seconds of each part in its fastest round."""
        return dict(self.results[name]["extra_info"]["bests"])

    def rates(self, name: str) -> dict[str, float]:
        """Tokens per second of each part, from the medians."""
        return {part: 1 / seconds for part, seconds in self.medians(name).items()}

    def every_median(self) -> dict[str, dict[str, float]]:
        """`medians` of every benchmark that has them."""
        return {name: self.medians(name) for name, result in self.results.items() if "medians" in result["extra_info"]}

    def unit(self, name: str) -> str:
        """The unit of `rate`, in the plural."""
        return str(self.results[name]["extra_info"]["unit"])


def measured(run: Run) -> str:
    """Return the line below a table that names the machine."""
    return f"Measured on {run.machine}."


def shown_time(seconds: float) -> str:
    """Return a time in a unit that suits it."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"
