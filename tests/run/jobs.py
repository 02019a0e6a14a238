"""Commands that run beside each other, each with its output kept until it ends, and all of them stopped at once."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from configparser import ConfigParser
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.run.times import write

ROOT = Path(__file__).resolve().parents[2]
POLL_SECONDS = 0.1
# What pytest ends with when nothing was to run.
NO_TESTS = 5
TERM_SECONDS = 10.0
SECOND_TRIES = "second tries"


def _enabled() -> str:
    """The callbacks that the project's own configuration switches on."""
    settings = ConfigParser()
    settings.read(ROOT / "ansible.cfg")
    return settings["defaults"]["callbacks_enabled"]


# Ansible's plugins are named by their full paths: some tests run it from another checkout.
CALLBACKS = {
    "ANSIBLE_CALLBACK_PLUGINS": f"{ROOT / 'plugins/callback'}:{ROOT / 'tests/run/callback'}",
    "ANSIBLE_CALLBACKS_ENABLED": f"{_enabled()},flotilla_times",
}


class StoppedError(Exception):
    """The run ends before its end; the text says why."""


@dataclass(frozen=True)
class Job:
    """A command of a stage.

    pytest: it is a pytest that writes its results down.
    lab: the name of the lab that it makes; no other command with it runs meanwhile, and what fails is tried once more.
    share: how many of its stage's places it takes.
    timed: what Ansible does in it is rows of the table; otherwise the whole command is one.
    """

    name: str
    stage: str
    command: tuple[str, ...]
    directory: Path = ROOT
    pytest: bool = False
    lab: str = ""
    share: int = 1
    timed: bool = False

    @property
    def slug(self) -> str:
        """Its name as a file's."""
        return slug(self.name)

    def again(self) -> Job:
        """Its second try."""
        return replace(self, name=f"{self.name} again", stage=SECOND_TRIES)


@dataclass(frozen=True)
class Stage:
    """Commands that run beside each other while there are places. needed: when one fails, no later stage begins."""

    name: str
    jobs: Sequence[Job]
    places: int = 1
    needed: bool = False


@dataclass(frozen=True)
class Outcome:
    """A command that ended; `rc` is None when it was stopped."""

    job: Job
    rc: int | None
    seconds: float
    output: Path


def slug(name: str) -> str:
    """A name of a file for a name of anything."""
    return re.sub(r"[^\w.-]+", "_", name).strip("_")[:150]


@dataclass
class Pool:
    """Runs commands, and knows which of them run. times: where it and they write; deadline: on the monotonic clock."""

    times: Path
    deadline: float
    running: dict[Job, _Process] = field(default_factory=dict)
    outcomes: list[Outcome] = field(default_factory=list)
    mark: str = field(default_factory=lambda: f"{os.environ.get('FLOTILLA_RUN', '')}/{os.getpid()}-{time.time_ns()}")

    def run(self, stage: Stage) -> list[Outcome]:
        """Run a stage's commands, and show the output of each as it ends."""
        waiting = list(stage.jobs)
        before = len(self.outcomes)
        while waiting or self.running:
            if time.monotonic() >= self.deadline:
                raise StoppedError("the time that this run gives itself is over")
            while job := self._next(waiting, stage.places):
                waiting.remove(job)
                print(f"== {job.name}: begins", flush=True)
                self.running[job] = _Process(job, self.times, self.mark)
            for job, process in list(self.running.items()):
                if process.ended():
                    self._close(job, process, process.rc)
            time.sleep(POLL_SECONDS)
        return self.outcomes[before:]

    def _next(self, waiting: Sequence[Job], places: int) -> Job | None:
        """The first one that has a place, or all of them to itself, and whose lab nobody has."""
        taken = {job.lab for job in self.running if job.lab}
        free = places - sum(job.share for job in self.running)
        fits = [job for job in waiting if (job.share <= free or not self.running) and job.lab not in taken]
        return fits[0] if fits else None

    def stop(self) -> None:
        """End what runs, and what that started in sessions of its own, and nothing else."""
        for number, seconds in ((signal.SIGTERM, TERM_SECONDS), (signal.SIGKILL, TERM_SECONDS)):
            until = time.monotonic() + seconds
            for pid in self._marked():
                with suppress(ProcessLookupError):
                    os.kill(pid, number)
            while time.monotonic() < until and (
                any(not process.ended() for process in self.running.values()) or any(self._marked())
            ):
                time.sleep(POLL_SECONDS)
        for job, process in list(self.running.items()):
            self._close(job, process, None)

    def _marked(self) -> Iterator[int]:
        """The processes of this run: they inherited its mark."""
        for path in Path("/proc").glob("[0-9]*/environ"):
            try:
                if self.mark.encode() in path.read_bytes():
                    yield int(path.parent.name)
            except OSError:
                continue

    def _close(self, job: Job, process: _Process, rc: int | None) -> None:
        del self.running[job]
        seconds = time.time() - process.start
        self.outcomes.append(Outcome(job, rc, seconds, process.output))
        write(self.times, process.span())
        verdict = {0: "PASS", None: "STOPPED"}.get(rc, "NO TESTS" if job.pytest and rc == NO_TESTS else "FAIL")
        print(f"== {job.name}: all that it said\n{process.output.read_text(errors='replace')}", end="")
        print(f"== {verdict} {job.name} ({seconds:.1f} s)", flush=True)


class _Process:
    """A command that runs, in a process group of its own."""

    def __init__(self, job: Job, times: Path, mark: str) -> None:
        self.job = job
        self.output = times / f"{job.slug}.log"
        self.start = time.time()
        self.cpu = 0.0
        self.rc: int | None = None
        environment = {"FLOTILLA_TIMES": str(times), "FLOTILLA_JOB": job.name, "FLOTILLA_RUN": mark}
        environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        with self.output.open("wb") as output:
            self._popen = subprocess.Popen(
                job.command,
                cwd=job.directory,
                env=os.environ | environment | (CALLBACKS if job.timed else {}),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def ended(self) -> bool:
        """Whether it has ended; its seconds of processor, and of all that it waited for, are known from then on."""
        if self.rc is None:
            pid, status, usage = os.wait4(self._popen.pid, os.WNOHANG)
            if pid:
                self.rc = self._popen.returncode = os.waitstatus_to_exitcode(status)
                self.cpu = usage.ru_utime + usage.ru_stime
        return self.rc is not None

    def span(self) -> dict[str, object]:
        """Its line in the records."""
        known = {"kind": "job", "job": self.job.name, "stage": self.job.stage, "timed": self.job.timed}
        return {**known, "start": self.start, "end": time.time(), "cpu": self.cpu}
