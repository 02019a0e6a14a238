"""`environment_shared`: what an environment shares with another on purpose, and why."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .problem import Problem, did_you_mean
from .ssh_keys import read_keys

SHARED = "environment_shared"
KEYS = ("what", "with", "reason")
_EXAMPLE = '{what: vault_registry_password, with: production, reason: "one account with the registry"}'


@dataclass(frozen=True)
class Agreed:
    """One entry. what: the label of a thing.  partner: the other environment.  place: where the entry stands."""

    what: str
    partner: str
    reason: str
    place: str

    def allows(self, partner: str, label: str) -> bool:
        """Whether a thing with this label may be the partner's too."""
        return self.partner == partner and self.what == label


def read(value: Any, environment: str, place: Callable[[str, str], str]) -> tuple[list[Agreed], list[Problem]]:
    """The entries of one environment, and what is wrong with them. A public key may stand for its fingerprint."""
    if value is None:
        return [], []
    if not isinstance(value, list):
        return [], [Problem(place(SHARED, ""), SHARED, "is not a list", f"write a list of entries such as {_EXAMPLE}")]
    agreed: list[Agreed] = []
    problems: list[Problem] = []
    for index, entry in enumerate(value):
        wrong = _wrong(entry, environment)
        if wrong:
            fix = f"write it as {_EXAMPLE}"
            problems += [Problem(place(SHARED, ""), f"{SHARED}[{index}]", what, fix) for what in wrong]
            continue
        keys = read_keys(str(entry["what"]))
        what = keys[0].fingerprint if keys else str(entry["what"])
        agreed.append(Agreed(what, str(entry["with"]), str(entry["reason"]), place(SHARED, str(entry["what"]))))
    return agreed, problems


def _wrong(entry: Any, environment: str) -> list[str]:
    if not isinstance(entry, Mapping):
        return ["is not a mapping"]
    wrong = [f"has a key `{key}`{did_you_mean(str(key), KEYS)}" for key in entry if key not in KEYS]
    wrong += [f"has no `{key}`" for key in KEYS if not str(entry.get(key) or "").strip()]
    if entry.get("with") == environment:
        wrong.append("names this environment itself in `with`")
    return wrong
