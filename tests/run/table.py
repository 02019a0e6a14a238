"""The table of seconds: what the records of a run say, row by row.

A second is counted once: what Ansible does in a span that a test wrote is the span's, and a command's own time is what
is left of it beside Ansible and spans. What runs beside something else adds up: shares are of busy time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.run.jobs import ROOT
from tests.run.times import Record

BUILDS, PULLS = "image builds", "image pulls and pushes"
BOOT, TEARDOWN = "boot of hosts (lab up)", "teardown of labs"
PROVISIONING, DEPLOYS = "provisioning", "deploys and other playbooks"
START = "start and end of Ansible processes"
OWN = "fixed waits and load: the tests' own time"
PREPARE, CHECK, CONVERGE = "molecule: prepare", "molecule: check", "molecule: converge and idempotence"
VERIFY = "molecule: verify, and Molecule itself"
FIRST = ("virtual environment", "lint", "types", "units", BUILDS, PULLS, BOOT)
LAST = (PROVISIONING, DEPLOYS, START, OWN, PREPARE, CHECK, CONVERGE, VERIFY, TEARDOWN)
# How the tasks of the role lab begin that make an image, or move one; the others boot hosts.
BUILDING = (
    *("Find out which images are missing", "Make each missing image", "Make with mmdebstrap", "Make the build context"),
    *("Put the Dockerfile there", "Make the root file system", "Build ", "Name the base"),
)
MOVING = ("Pull ", "Fill the registries")
LAB_PLAYS = ("The lab", "The lab's droplets")


@dataclass(frozen=True)
class Piece:
    """Seconds that belong to a row. cpu: None where it is not known."""

    row: str
    seconds: float
    cpu: float | None


def pieces(records: Sequence[Record]) -> Iterator[Piece]:
    """All that is known of where the seconds went."""
    jobs = {line["job"]: line for line in records if line["kind"] == "job"}
    spans = [line for line in records if line["kind"] == "span"]
    runs = [line for line in records if line["kind"] == "ansible" and jobs.get(line["job"], {}).get("timed")]
    runs = [run for run in runs if not any(_within(run, span) for span in spans)]
    for span in spans:
        yield Piece(span["name"], span["end"] - span["start"], None)
    for name, job in jobs.items():
        inside = [run for run in runs if run["job"] == name]
        if name.startswith("molecule "):
            # What its tests run is part of its verification.
            inside = [run for run in inside if not run["test"]]
        seconds = job["end"] - job["start"]
        cpu = None if job["cpu"] is None else max(0.0, job["cpu"] - sum(run["cpu"] for run in inside))
        if not job["timed"]:
            yield Piece(name, seconds, cpu)
        else:
            rest = seconds - _covered(inside + [span for span in spans if span["job"] == name])
            yield Piece(BUILDS if name == "images" else VERIFY if name.startswith("molecule ") else OWN, rest, cpu)
        for run in inside:
            yield from _pieces_of_run(run)


def rows(records: Sequence[Record]) -> list[tuple[str, int, float, float | None]]:
    """Name, count, seconds and, where known, seconds of processor; in the order of a run."""
    found: dict[str, list[Piece]] = {}
    for piece in pieces(records):
        found.setdefault(piece.row, []).append(piece)
    between = sorted(set(found) - {*FIRST, *LAST})
    return [(name, *_sums(found[name])) for name in (*FIRST, *between, *LAST) if name in found]


def walls(records: Iterable[Record]) -> dict[str, float]:
    """Stage → seconds from the begin of its first command to the end of its last one."""
    ends: dict[str, tuple[float, float]] = {}
    for job in sorted((line for line in records if line["kind"] == "job"), key=lambda line: float(line["start"])):
        start, end = ends.get(job["stage"], (job["start"], job["end"]))
        ends[job["stage"]] = (start, max(end, job["end"]))
    return {stage: end - start for stage, (start, end) in ends.items()}


def render(records: Sequence[Record]) -> str:
    """The table, and a line of how long each stage took on the clock."""
    lines = rows(records)
    busy = sum(seconds for _, _, seconds, _ in lines) or 1.0
    width = max([len(name) for name, *_ in lines], default=5)
    text = [f"{'stage':{width}}  count  seconds   share   CPU s"]
    for name, count, seconds, cpu in lines:
        known = "-" if cpu is None else f"{cpu:.1f}"
        text.append(f"{name:{width}}  {count:5}  {seconds:7.1f}  {seconds / busy:6.1%}  {known:>6}")
    text.append(f"{'busy':{width}}  {'':5}  {sum(line[2] for line in lines):7.1f}  100.0%")
    stages = walls(records)
    jobs = [line for line in records if line["kind"] == "job"]
    whole = max((job["end"] for job in jobs), default=0) - min((job["start"] for job in jobs), default=0)
    clock = ", ".join(f"{name} {_minutes(seconds)}" for name, seconds in stages.items())
    shares = [
        f", processors {line['worked'] / line['passed']:.0%} busy" for line in records if line["kind"] == "processors"
    ]
    return "\n".join([*text, f"on the clock: {clock}; together {_minutes(whole)}{''.join(shares)}"])


def _pieces_of_run(run: Record) -> Iterator[Piece]:
    """An Ansible process: its start and end, and its tasks, those of one row together."""
    tasks = run["tasks"]
    seconds: dict[str, float] = {}
    cpu: dict[str, float] = {}
    for task in tasks:
        row = _row(run, task)
        seconds[row] = seconds.get(row, 0.0) + task["end"] - task["start"]
        cpu[row] = cpu.get(row, 0.0) + task.get("cpu", 0.0)
    whole = run["end"] - run["start"]
    yield Piece(START, whole - sum(seconds.values()), run["cpu"] - sum(cpu.values()))
    for row, took in seconds.items():
        yield Piece(row, took, cpu[row])


def _row(run: Record, task: Record) -> str:
    if task["play"] in LAB_PLAYS:
        if any(word.endswith(("lab_state=absent", "destroy.yml")) for word in run["argv"]):
            return TEARDOWN
        name = task["task"].removeprefix("lab : ")
        return BUILDS if name.startswith(BUILDING) else PULLS if name.startswith(MOVING) else BOOT
    if run["job"].startswith("molecule "):
        if any(Path(word).name.startswith(("prepare", "authorities")) for word in run["argv"]):
            return PREPARE
        return CHECK if "--check" in run["argv"] else CONVERGE
    return PROVISIONING if task["play"] in _provisioning() and task["role"] != "preflight" else DEPLOYS


@cache
def _provisioning() -> frozenset[str]:
    """The plays that make a bare host one that takes a release."""
    return frozenset(re.findall(r"^- name: (.+)$", (ROOT / "playbooks/provision.yml").read_text(), re.MULTILINE))


def _within(run: Record, span: Record) -> bool:
    return bool(run["job"] == span["job"] and span["start"] <= run["start"] <= span["end"])


def _covered(parts: Iterable[Record]) -> float:
    """How many seconds at least one of them runs."""
    total, until = 0.0, 0.0
    for part in sorted(parts, key=lambda part: float(part["start"])):
        total += max(0.0, part["end"] - max(part["start"], until))
        until = max(until, part["end"])
    return total


def _sums(found: Sequence[Piece]) -> tuple[int, float, float | None]:
    known = [piece.cpu for piece in found if piece.cpu is not None]
    return len(found), sum(piece.seconds for piece in found), sum(known) if known else None


def _minutes(seconds: float) -> str:
    return f"{seconds // 60:.0f}:{seconds % 60:04.1f}"
