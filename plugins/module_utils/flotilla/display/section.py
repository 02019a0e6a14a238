"""Tasks, and the section that condenses them: what one role, or a play by itself, has done on each host."""

from __future__ import annotations

from dataclasses import dataclass, field

from .lines import State, listed

# Actions of the controller that are about the play and not about a host: no line of their own when all is well.
QUIET = frozenset(
    {
        "add_host",
        "assert",
        "debug",
        "fail",
        "flotilla_outcome",
        "group_by",
        "import_role",
        "import_tasks",
        "include_role",
        "include_tasks",
        "include_vars",
        "meta",
        "pause",
        "set_fact",
        "set_stats",
        "validate_argument_spec",
    }
)
STEPS = "flotilla_"
# They may wait for somebody's answer, and nothing must be drawn over the question.
ASKING = frozenset({"flotilla_validate", "pause"})
# From nothing to the worst; what is ignored does not count.
ORDER = (State.OK, State.CHANGED, State.WOULD_CHANGE, State.FAILED, State.UNREACHABLE)


@dataclass(frozen=True)
class Task:
    """A task as far as it is shown.

    role: empty for a play's own.  group: the round of a loop over task files that it belongs to.
    doing: what takes long in it, in words.
    """

    key: str
    name: str
    action: str
    role: str = ""
    path: str = ""
    doing: str = ""
    group: str = ""
    run_once: bool = False

    @property
    def step(self) -> bool:
        """Whether it has a line of its own on each host."""
        return self.action.startswith(STEPS) and self.action not in QUIET

    @property
    def full_name(self) -> str:
        return f"{self.role}: {self.name}" if self.role else self.name


@dataclass
class Tally:
    """What a host has done in a section."""

    ran: int = 0
    changed: int = 0
    state: State = State.OK
    seconds: float = 0.0

    @property
    def note(self) -> str:
        return f"{self.changed} of {self.ran} tasks" if self.changed and self.ran > 1 else ""


@dataclass
class Section:
    """A role in a play, or a play's own tasks, in one round of a loop."""

    role: str = ""
    group: str = ""
    tallies: dict[str, Tally] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)

    def holds(self, task: Task) -> bool:
        """Whether the task belongs here."""
        return (task.role, task.group) == (self.role, self.group)

    @property
    def label(self) -> str:
        """The role; for a play's own tasks the only one's name, if there is only one."""
        return self.role or (next(iter(self.names)) if len(self.names) == 1 else "tasks")

    def count(self, task: Task, host: str, state: State, seconds: float) -> None:
        """Add a task's end on a host."""
        tally = self.tallies.setdefault(host, Tally())
        tally.seconds += seconds
        if state in ORDER:
            tally.state = max(tally.state, state, key=ORDER.index)
        changed = state in (State.CHANGED, State.WOULD_CHANGE)
        # A failure has been told in full; a line for a task that does nothing but fail would add nothing.
        if state is State.SKIPPED or (task.action in QUIET and not changed):
            return
        tally.ran += 1
        tally.changed += changed
        self.names.add(task.name)

    def take(self) -> dict[str, Tally]:
        """The hosts that have done anything since the last call."""
        done = {host: tally for host, tally in self.tallies.items() if tally.ran}
        self.tallies = {}
        return done


@dataclass(frozen=True)
class Running:
    """The task in hand, for the status line: where it runs still, for how long, and how many hosts are done."""

    task: Task
    hosts: tuple[str, ...]
    seconds: float
    done: int
    note: str

    def __str__(self) -> str:
        """`Prepare (pulling and booting): app-1, app-2 for 12 s, 1 done`."""
        doing = self.task.doing or self.task.role
        about = f" ({doing})" if doing else ""
        done = f", {self.done} done" if self.done else ""
        note = f", {self.note}" if self.note else ""
        return f"{self.task.name}{about}: {listed(self.hosts)} for {self.seconds:.0f} s{done}{note}"
