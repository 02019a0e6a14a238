"""What was measured, where and with what: a JSON file."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.benchmarks.benchmark import Benchmark, Measured, Place, figure
from tests.e2e.fleet import ROOT

FILE = ROOT / "build/benchmarks.json"

VERSIONS = """
. /etc/os-release; echo "system $PRETTY_NAME"
docker version --format 'engine {{.Server.Version}}'
echo "compose $(docker compose version --short)"
"""


def entry(benchmark: Benchmark, pairs: Sequence[Measured], began: datetime, load: float) -> dict[str, Any]:
    """One benchmark's part of the file: its figure, its words, and every run.

    load: the machine's load before the first run; above 0 it was busy with something else.
    """
    result = figure(pairs)
    return {
        "value": round(result.value, 3),
        "least": round(result.least, 3),
        "greatest": round(result.greatest, 3),
        "target": benchmark.target,
        "of": benchmark.of,
        "over": benchmark.over,
        "began": began.isoformat(timespec="seconds"),
        "load": round(load, 2),
        "runs": [{**asdict(pair), "ratio": pair.ratio} for pair in pairs],
    }


def write(path: Path, entries: Mapping[str, Mapping[str, Any]], surroundings: Mapping[str, Any]) -> None:
    """Write figures into the file; those of earlier runs stay when this one did not measure them."""
    earlier = read(path)["benchmarks"] if path.exists() else {}
    measured = {name: {**values, **surroundings} for name, values in entries.items()}
    content = {"benchmarks": dict(sorted({**earlier, **measured}.items()))}
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".new")
    unfinished.write_text(json.dumps(content, indent=1) + "\n")
    unfinished.replace(path)


def read(path: Path) -> dict[str, Any]:
    """Return the file's content: `benchmarks`, by name, as `entry` makes them, each with `machine` and `versions`."""
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def surroundings(place: Place) -> dict[str, Any]:
    """Return `machine` and `versions`: where a benchmark runs, and with what."""
    lines = place.environment.ssh(VERSIONS).splitlines()
    return {"machine": machine(), "versions": {**versions(), "droplet": dict(line.split(" ", 1) for line in lines)}}


def machine() -> dict[str, Any]:
    """Return cores, memory in MiB, processor and kernel."""
    processor = [line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    return {
        "cores": os.cpu_count(),
        "memory_mb": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1024**2,
        "processor": (processor or [platform.machine()])[0],
        "kernel": platform.release(),
    }


def versions() -> dict[str, str]:
    """Return the controller's versions, and the commit, with a + when files differ from it."""
    described = subprocess.run(
        ["git", "describe", "--always", "--abbrev=12", "--dirty=+"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return {
        "flotilla": described.stdout.strip() or "unknown",
        "python": platform.python_version(),
        "ansible-core": version("ansible-core"),
    }


def now() -> datetime:
    """Return the time, in UTC."""
    return datetime.now(UTC)


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()
