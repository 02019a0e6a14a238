"""What an environment has, and how all that two of them have is found and told. Pure: values in, problems out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from .agreed import SHARED, Agreed
from .problem import Problem

HOW_TO = "docs/how-to/keep-environments-apart.md"


@dataclass(frozen=True)
class Thing:
    """Something that an environment has. Two things with the same identity are one.

    label: what messages and `environment_shared` call it; never a secret.  place: `file:line` where `variable` says so.
    note: what helps a person to recognise it.
    """

    identity: str
    label: str
    place: str
    variable: str
    note: str = ""


@dataclass(frozen=True)
class OpenedVault:
    """A vault of an environment. id: of its encryption.  digests: of the passwords that may open it.

    opened_by: the other environments whose password opens it too, which was tried.
    """

    id: str
    file: str
    password_file: str
    digests: frozenset[str]
    rekey: str
    opened_by: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Environment:
    """What one environment says of itself, read without any other.

    hosts: host → the variables that are compared, their templates worked out.
    key_files: private key file as the inventory has it → its real path and, where it can be read, its digest.
    secrets: every value of its vaults, by digest.  agreed: its `environment_shared`.
    place: variable, value → `file:line`.  command: completes its secrets.
    """

    name: str
    hosts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    apps: Sequence[Mapping[str, Any]] = ()
    key_files: Mapping[str, Sequence[str]] = field(default_factory=dict)
    vaults: Sequence[OpenedVault] = ()
    secrets: Sequence[Thing] = ()
    agreed: Sequence[Agreed] = ()
    place: Callable[[str, str], str] = lambda variable, value: "inventory"
    command: str = ""

    def of_hosts(self, variable: str) -> Iterator[tuple[str, Any]]:
        """Host and value, of the hosts that have this variable."""
        for host, variables in self.hosts.items():
            if variables.get(variable):
                yield host, variables[variable]


@dataclass(frozen=True)
class Finding:
    """What came of a comparison. line: for a person, when nothing is wrong.  used: entries that allowed something."""

    line: str
    problems: tuple[Problem, ...] = ()
    used: frozenset[Agreed] = frozenset()


Comparison = Callable[[Environment, Environment], Finding]


@dataclass(frozen=True)
class Words:
    """How a comparison speaks. equal, alike: of two things with one label, and with two.

    fix: what to do next.  agreeable: whether `environment_shared` may allow it.
    """

    title: str
    fix: str
    equal: str = "is in {other} too"
    alike: str = "is the same as `{label}` in {other}"
    agreeable: bool = True


def compared(
    words: Words,
    one: Environment,
    other: Environment,
    things: Callable[[Environment], Iterable[Thing]],
    same: Callable[[Thing, Thing], bool] = lambda mine, theirs: mine.identity == theirs.identity,
) -> Finding:
    """Hold every thing of one environment against every one of the other."""
    left, right = (list(dict.fromkeys(things(environment))) for environment in (one, other))
    problems: list[Problem] = []
    allowed: dict[str, str] = {}
    used: set[Agreed] = set()
    for mine in left:
        for theirs in right:
            if not same(mine, theirs):
                continue
            here = _agreed(one, other, mine) if words.agreeable else None
            there = _agreed(other, one, theirs) if words.agreeable else None
            used.update(entry for entry in (here, there) if entry)
            if here and there:
                allowed[mine.label] = here.reason
                continue
            problem = _shared(words, one, other, mine, theirs)
            if here:
                problem = _one_sided(problem, theirs, one, other)
            elif there:
                problem = _one_sided(problem, mine, other, one)
            elif words.agreeable:
                problem = replace(problem, next=f"{problem.next}, or allow it in both: {HOW_TO}")
            problems.append(problem)
    counts = f"{_count(left)} and {_count(right)}"
    purposes = "; ".join(f"{label} on purpose ({reason})" for label, reason in allowed.items())
    outcome = f"shared: {purposes}" if allowed else "none shared"
    return Finding(f"{words.title}: {counts}, {outcome}", tuple(problems), frozenset(used))


def _count(things: Iterable[Thing]) -> int:
    return len({thing.label for thing in things})


def _agreed(one: Environment, other: Environment, thing: Thing) -> Agreed | None:
    return next((entry for entry in one.agreed if entry.allows(other.name, thing.label)), None)


def _shared(words: Words, one: Environment, other: Environment, mine: Thing, theirs: Thing) -> Problem:
    """The problem of a thing that both have."""
    text = words.equal if mine.label == theirs.label else words.alike
    note = f" ({mine.note})" if mine.note else ""
    has = text.format(label=theirs.label, other=other.name)
    what = f"`{mine.label}`{note} {has} ({theirs.place}: {theirs.variable})"
    return Problem(mine.place, mine.variable, what, words.fix.format(one=one.name, command=one.command))


def _one_sided(problem: Problem, thing: Thing, saying: Environment, silent: Environment) -> Problem:
    """The same problem, where one environment allows it and the other one does not."""
    place = silent.place("environment_name", "").partition(":")[0]
    entry = f'{{what: "{thing.label}", with: {saying.name}, reason: …}}'
    return replace(
        problem,
        what=f"{problem.what}; {saying.name} allows it, {silent.name} does not",
        next=f"{problem.next}, or add {entry} to {SHARED} in {place}",
    )
