"""Secrets that are words: Ansible strikes a secret out of whatever a module answers, a part of a word too, and then the
next step of a deploy reads `********` in place of an app, a host or a version. Pure: values in, problems out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .inventory import referenced_secrets
from .journal import Colour, Phase
from .outcome import End, Outcome
from .problem import Problem
from .roles import OF_GROUP
from .store import Standing
from .vault import LOGIN

# Of three letters there is one in every answer: in a digest, a time, a path.
SHORTEST = 4
# Digits alone are in times, sizes and ports.
SHORTEST_NUMBER = 8
# Secrets of roles that are the whole content of a file, and so reach a module as they are.
OF_ROLES = ("postgres_superuser_password", "redis_password", "redis_operator_password")
# What hosts answer with whatever the inventory says.
OWN = frozenset(
    {
        *(str(word) for words in (Colour, Phase, Outcome, End, Standing) for word in words),
        *OF_GROUP,
        *("nginx", "haproxy", "router", "shared", "deploy", "rollback", "restart", "/opt/flotilla", "/run/secrets"),
    }
)
COMMON = (
    "is a name that hosts answer with, or a part of one (of an app, a version, a service, a domain, a host, an "
    "address, a database, the environment)"
)


@dataclass(frozen=True)
class Handed:
    """A secret as a module is given it. raw: as the inventory writes it.  value: worked out.  app: whether an app's."""

    variable: str
    place: str
    raw: Any
    value: Any
    app: bool = False


def words_of_app(app: Mapping[str, Any], services: Iterable[str]) -> set[str]:
    """The words of an app that hosts answer with. services: names of its Compose file."""
    words = (app.get("name"), app.get("version"), *(app.get("domains") or ()), *services)
    return {str(word) for word in words if word}


def words_of_hosts(hosts: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """The words of an environment, from its hosts' raw variables; what is a template there is left out."""
    words = set(hosts)
    for variables in hosts.values():
        for name in ("environment_name", "private_address", "public_address"):
            words.add(str(variables.get(name) or ""))
        databases = variables.get("postgres_databases")
        for database in databases if isinstance(databases, (list, tuple)) else ():
            if isinstance(database, Mapping):
                words |= {str(database.get(key) or "") for key in ("name", "owner")}
    return {word for word in words if word and "{{" not in word}


def problems(
    handed: Iterable[Handed], words: Collection[str], given: Collection[str], command: str
) -> Iterator[Problem]:
    """One for each secret that would be struck out of what hosts answer. No message shows a value.

    given: names of `environment_given_secrets`.  command: completes the secrets of the environment.
    """
    for one in handed:
        wrong = next((why for text in _texts(one.value) if (why := why_not(text, words))), "")
        if wrong:
            names = sorted(referenced_secrets(one.raw))
            value = f"the value of `{names[0]}`" if names else "its value"
            what = f"{value} {wrong}: Ansible strikes a secret out of all that hosts answer, and a deploy would fail"
            yield Problem(one.place, one.variable, what, _next(one, names, given, command))


def why_not(text: str, words: Collection[str]) -> str:
    """Why a text cannot be a secret, or nothing; it does not say which word it is."""
    bare = text.strip()
    if len(bare) < SHORTEST:
        return f"has fewer than {SHORTEST} characters"
    if bare.isdigit() and len(bare) < SHORTEST_NUMBER:
        return f"is a number of fewer than {SHORTEST_NUMBER} digits"
    return COMMON if any(text in word for word in (*words, *OWN)) else ""


def _texts(value: Any) -> Iterator[str]:
    """What Ansible takes for secret in a value: texts and numbers, however deep, and no truth value."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield str(value)
    elif isinstance(value, str) and value:
        yield value


def _next(one: Handed, names: Sequence[str], given: Collection[str], command: str) -> str:
    if not names:
        vault = f'take it from the vault, as "{{{{ vault_… }}}}", then {command}'
        return f"hand it over in the app's environment if it is no secret, else {vault}" if one.app else vault
    name = names[0]
    kind = "ask for another and put it" if name in given else "put another, long and random,"
    if LOGIN.fullmatch(name):
        kind = "put another login, such as login_7c41f0,"
    return f"{kind} below secrets_values in FILE as {name}, then {command} -e @FILE"
