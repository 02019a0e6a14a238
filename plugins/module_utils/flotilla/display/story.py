"""A run as it is told: events in, lines out.

Tasks are condensed to a line a role and host; a task that calls a module of Flotilla is a step of its own, with a
line a host. What fails, what is said to people and what would change is shown as it happens. Nothing here reads a
clock or writes: `now` is handed in, and the lines are handed back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from . import lines as shapes
from .lines import HostTotals, Line, State, Style
from .readable import dump, failure, note, said, shown
from .section import ASKING, Running, Section, Task

# A plain log says that a long task still runs after so many seconds, and then every so many.
STILL = (15.0, 30.0, 60.0)
# How long a message waits to see whether it is the last of the run, which comes below the table.
HOLD_SECONDS = 3.0


@dataclass
class Story:
    """One run.

    verbosity: the number of -v.  adhoc: a run of `ansible`, not of `ansible-playbook`.
    hidden: states that get no line.  outcomes: what modules said of the whole run, to be said last.
    """

    verbosity: int = 0
    adhoc: bool = False
    hidden: frozenset[State] = frozenset()
    outcomes: dict[str, Style] = field(default_factory=dict)
    _title: str = ""
    _shown_group: str = ""
    _section: Section = field(default_factory=Section)
    _totals: dict[str, float] = field(default_factory=dict)
    _task: Task | None = None
    _tasks: dict[str, Task] = field(default_factory=dict)
    _began: float = 0.0
    _starts: dict[tuple[str, str], float] = field(default_factory=dict)
    _done: int = 0
    _note: str = ""
    _still: float = 0.0
    _failures: dict[tuple[str, tuple[str, ...]], str] = field(default_factory=dict)
    _first_failure: str = ""
    _held: list[Line] = field(default_factory=list)
    _held_for: str = ""
    _held_since: float = 0.0
    _failed_items: set[tuple[str, str]] = field(default_factory=set)
    _diffed: set[tuple[str, str]] = field(default_factory=set)
    _width: int = 9
    _started: float | None = None

    # -- what runs ------------------------------------------------------------------------------

    def play(self, name: str, now: float, *, check: bool = False) -> list[Line]:
        """A play begins; its heading waits for something to stand below it."""
        if self._started is None:
            self._started = now
        told = self._flush()
        self._section, self._shown_group = Section(), ""
        self._starts.clear()
        self._title = f"{name} (check: nothing is changed)" if check else name
        return told

    def task(self, task: Task, now: float) -> list[Line]:
        """A task begins."""
        told: list[Line] = []
        if not self._section.holds(task):
            told += self._flush()
            self._section = Section(task.role, task.group)
        self._tasks[task.key] = task
        self._task, self._began, self._done, self._note, self._still = task, now, 0, "", 0.0
        if self.verbosity > 0 and not self.adhoc:
            where = f"  {task.path}" if self.verbosity > 1 and task.path else ""
            told += self._told([shapes.line(f"{shapes.INDENT}- {task.full_name}{where}", Style.FAINT)])
        return told

    def knows(self, key: str) -> bool:
        """Whether the task has been told of."""
        return key in self._tasks

    def start(self, key: str, host: str, now: float) -> list[Line]:
        """A task begins on a host: the play has one, so it gets its heading."""
        self._starts[key, host] = now
        self._width = max(self._width, len(host))
        return self._told([]) + self._headings() if self._title else []

    def tick(self, now: float) -> list[Line]:
        """Time passes: what is held back waits for a while only, in case it is not the last word."""
        return self._told([]) if now - self._held_since >= HOLD_SECONDS else []

    def running(self, now: float) -> Running | None:
        """The task in hand, where there is one that can be watched."""
        task = self._task
        if task is None or task.action in ASKING:
            return None
        hosts = tuple(host for key, host in self._starts if key == task.key)
        if not hosts:
            return None
        return Running(task, hosts, now - self._began, self._done, self._note)

    def still(self, now: float) -> list[Line]:
        """For a plain log: that a long task still runs, when it is time to say so again."""
        running = self.running(now)
        if running is None:
            return []
        if running.seconds < _next_mark(self._still):
            return []
        while (mark := _next_mark(self._still)) <= running.seconds:
            self._still = mark
        return self._told([shapes.line(f"{shapes.INDENT}... {running}", Style.FAINT)])

    # -- results --------------------------------------------------------------------------------

    def result(
        self, key: str, host: str, state: State, data: Mapping[str, Any], now: float, *, label: str = ""
    ) -> list[Line]:
        """A task has ended on a host. `label` is the host as it is shown (with whom it delegated to)."""
        task = self._tasks[key]
        seconds = max(0.0, now - self._starts.pop((key, host), now))
        self._totals[host] = self._totals.get(host, 0.0) + seconds
        self._done += 1
        who = label or host
        told: list[Line] = []
        self._note_outcome(data)
        if state in (State.FAILED, State.UNREACHABLE, State.IGNORED):
            # What a loop has to say was said item by item.
            told += [] if (key, who) in self._failed_items else self._failed(task, who, state, data)
        elif task.action == "debug" and state is not State.SKIPPED:
            told += self._said(task, who, data, now)
        elif task.step and data.get("ok") is False:
            state = State.FAILED  # a phase says so as a value, so that all hosts can be judged together
        told += self._verbose(task, who, state, data, seconds)
        if task.step and not self.verbosity and not self.adhoc and state is not State.SKIPPED:
            told += self._step(task, who, state, data, seconds)
        else:
            if state is State.WOULD_CHANGE and not self.verbosity and (key, host) not in self._diffed:
                told += self._told([self._host(task.full_name, who, state, seconds)])
            if not self.verbosity and not self.adhoc:
                self._section.count(task, host, state, seconds)
        return told

    def item(self, key: str, host: str, state: State, data: Mapping[str, Any], item: str, now: float) -> list[Line]:
        """A task has ended for one item of its loop."""
        task = self._tasks[key]
        self._note_outcome(data)
        if state in (State.FAILED, State.UNREACHABLE):
            self._failed_items.add((key, host))
            return self._failed(task, f"{host} ({item})", state, data)
        if task.action == "debug" and state is not State.SKIPPED:
            return self._said(task, host, data, now)
        return self._verbose(task, f"{host} ({item})", state, data, None)

    def retry(self, attempts: int, total: int) -> None:
        """A task waits and tries again: for the status line."""
        self._note = f"attempt {attempts + 1} of {total}"

    def diff(self, key: str, host: str, state: State, text: str) -> list[Line]:
        """What a task has changed on a host, or would."""
        if not text.strip():
            return []
        self._diffed.add((key, host))
        title = shapes.Span(f"{shapes.INDENT}{self._tasks[key].full_name} on {host}: ")
        return self._told([(title, shapes.Span(state.value, shapes.STYLES[state])), *shapes.diff_lines(text)])

    def included(self, file: str, hosts: Sequence[str]) -> list[Line]:
        """A task file was included: worth a line with -v only."""
        if self.verbosity == 0:
            return []
        return self._told([shapes.line(f"{shapes.INDENT}- {file} for {shapes.listed(hosts)}", Style.FAINT)])

    def notice(self, text: str) -> list[Line]:
        """Something that Ansible says."""
        return self._flush() + self._told([shapes.line(shapes.INDENT + text, Style.FAINT)])

    # -- the end --------------------------------------------------------------------------------

    def finish(
        self, totals: Mapping[str, Mapping[str, int]], now: float, *, check: bool = False, told_elsewhere: bool = False
    ) -> list[Line]:
        """The closing table, and the outcome as the very last line.

        totals: Ansible's counts by host.  told_elsewhere: another plugin tells the outcome, after this.
        """
        held, self._held = self._held, []
        told = self._flush()
        self._starts.clear()
        if self.adhoc:
            return told + held
        rows = [
            HostTotals(host, at["changed"], at["failures"], at["unreachable"], self._totals.get(host, 0.0))
            for host, at in sorted(totals.items())
        ]
        told += shapes.table(rows, changed="would change" if check else "changed")
        bad = [row for row in rows if row.failed or row.unreachable]
        if told_elsewhere and not self.outcomes:
            last = held
        elif self.outcomes:
            last = [shapes.line(text, style) for text, style in self.outcomes.items()]
        elif held and not bad:
            last = held
        else:
            last = [*held, self._summary(rows, bad, now, check)]
        return [*told, shapes.line(), *last] if last or told_elsewhere else told

    def _summary(self, rows: Sequence[HostTotals], bad: Sequence[HostTotals], now: float, check: bool) -> Line:
        took = shapes.in_seconds(now - (now if self._started is None else self._started))
        if bad:
            hosts = shapes.listed([row.host for row in bad])
            return shapes.line(f"failed after {took} on {hosts}: {self._first_failure or 'see above'}", Style.FAILED)
        changed = [row for row in rows if row.changed]
        if not rows:
            return shapes.line(f"{'checked' if check else 'done'} in {took}: no host was asked", Style.WARNING)
        if not changed:
            return shapes.line(f"{'checked' if check else 'done'} in {took}: nothing to change", Style.OK)
        total = shapes.count(sum(row.changed for row in changed), "change")
        verb = f"{total} would be made" if check else total
        hosts = shapes.listed([row.host for row in changed])
        return shapes.line(f"{'checked' if check else 'done'} in {took}: {verb} on {hosts}", Style.CHANGED)

    # -- parts ----------------------------------------------------------------------------------

    def _told(self, new: list[Line]) -> list[Line]:
        """Lines below their headings, after what was held back."""
        told, self._held = self._held, []
        return told + self._headings() + new if new else told

    def _headings(self) -> list[Line]:
        """The headings that nothing stands below yet."""
        told: list[Line] = []
        if self._title and not self.adhoc:
            told += shapes.heading(self._title)
            self._title = ""
        if self._section.group != self._shown_group:
            self._shown_group = self._section.group
            told += [shapes.subheading(self._shown_group)] if self._shown_group else []
        return told

    def _host(self, label: str, host: str, state: State, seconds: float, note: str = "") -> Line:
        return shapes.host_line(label, host, state, seconds, width=self._width, note=note)

    def _flush(self) -> list[Line]:
        """The section that ends: a line a host."""
        label = self._section.label
        new = [
            self._host(label, host, tally.state, tally.seconds, tally.note)
            for host, tally in self._section.take().items()
            if tally.state not in self.hidden
        ]
        return self._told(new) if new else []

    def _step(self, task: Task, host: str, state: State, data: Mapping[str, Any], seconds: float) -> list[Line]:
        """A line of its own. A phase that answers `ok: false` has failed, whatever Ansible counts."""
        told = self._flush()
        if state in self.hidden:
            return told
        return told + self._told([self._host(task.name, host, state, seconds, note(data))])

    def _verbose(
        self, task: Task, host: str, state: State, data: Mapping[str, Any], seconds: float | None
    ) -> list[Line]:
        """With -v, and in an ad-hoc run: each task on each host, with all it returned."""
        told_already = "msg" in data and state in (State.FAILED, State.UNREACHABLE, State.IGNORED)
        unwanted = told_already or state in self.hidden or task.action == "debug"
        if not (self.verbosity or self.adhoc) or unwanted:
            return []
        left = shown(data, everything=self.verbosity > 2)
        body = [shapes.line(f"{shapes.INDENT * 3}{row}") for row in dump(left)] if left else []
        return self._told([self._host("" if seconds is None else task.name, host, state, seconds or 0.0), *body])

    def _failed(self, task: Task, who: str, state: State, data: Mapping[str, Any]) -> list[Line]:
        """A failure in full; once, where several hosts say the same."""
        body = tuple(failure(data, verbosity=self.verbosity))
        if state is not State.IGNORED and not self._first_failure:
            self._first_failure = task.full_name
        before = self._failures.setdefault((task.key, body), who)
        if before != who:
            same = shapes.line(f"{shapes.INDENT}{state}: {who}: the same as {before}", shapes.STYLES[state])
            return self._told([same])
        title = f"{who}: {task.full_name}"
        return self._told(shapes.block(state, title, task.path, body))

    def _said(self, task: Task, host: str, data: Mapping[str, Any], now: float) -> list[Line]:
        """A message; held back until something follows, because the last one of a run comes after the table."""
        rows = shapes.message(said(data), "" if task.run_once or host == "localhost" else host)
        if not rows:
            return []
        kept, self._held = (self._held, []) if self._held_for == task.key else ([], self._held)
        told = self._told([]) + self._flush() + self._headings()
        self._held, self._held_for, self._held_since = kept + rows, task.key, now
        return told

    def _note_outcome(self, data: Mapping[str, Any]) -> None:
        """A module of Flotilla may say the outcome of the run: `flotilla_outcome: {line: …, outcome: …}`."""
        outcome = data.get("flotilla_outcome")
        if isinstance(outcome, Mapping) and isinstance(outcome.get("line"), str):
            good = outcome.get("outcome") in ("deployed", "unchanged", "ok")
            self.outcomes[outcome["line"]] = Style.OK if good else Style.FAILED


def _next_mark(last: float) -> float:
    """When a plain log speaks again, in seconds of the task."""
    return next((mark for mark in STILL if mark > last), last + STILL[-1])
