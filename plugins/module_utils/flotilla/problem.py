"""One shape for everything that is wrong with an input: where, which variable, what, and what to do next."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """`where` is a file (with its line when known) or a host; `next` is a command or an edit to make."""

    where: str
    variable: str
    what: str
    next: str

    def __str__(self) -> str:
        return f"{self.where}: {self.variable}: {self.what}. Next: {self.next}"


def report(problems: Iterable[Problem]) -> str:
    """All problems, one a line, each once, in the order found."""
    return "\n".join(dict.fromkeys(str(problem) for problem in problems))


def nearest(name: str, known: Iterable[str], cutoff: float = 0.7) -> str | None:
    """The known name that `name` was probably meant to be."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)
    return matches[0] if matches else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """` (did you mean \\`x\\`?)`, or nothing when no known name is near."""
    near = nearest(name, known)
    return f" (did you mean `{near}`?)" if near else ""
