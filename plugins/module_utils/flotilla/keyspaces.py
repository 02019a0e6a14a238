"""Who logs in to Redis, for which keys, and who could read another's. Pure: values in, rules and problems out."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any
from urllib.parse import quote

from .problem import Problem

HOW_TO = "docs/how-to/several-apps.md"
# The app's that has no other; and the role's own, which sets a renewed certificate.
DEFAULT, OPERATOR = "default", "operator"
NAME = re.compile(r"[a-z][a-z0-9_-]{0,30}")
# Every client can send it, and a line of users.acl can hold it.
WORD = re.compile(r"[!-~]+")
# A rule that gives or takes commands: what gives keys, channels or a way in has variables of its own.
COMMANDS = re.compile(r"[+-][A-Za-z@][!-~]*")
# Where a pattern of Redis begins to stand for more than itself.
WILD = re.compile(r"[*?\[\\]")


@dataclass(frozen=True)
class Login:
    """Who logs in. variable: where the inventory says the keys.  keys: patterns of its keys and channels."""

    name: str
    password: str
    variable: str
    keys: tuple[str, ...]


def logins(password: Any, keys: Iterable[Any], users: Iterable[Mapping[str, Any]]) -> list[Login]:
    """`default` and then those of `redis_users`; without `keys` one has those that begin with its name."""
    found = [Login(DEFAULT, str(password or ""), "redis_keys", tuple(map(str, keys)))]
    for user in users:
        name = str(user["name"])
        own = user.get("keys")
        mine = (f"{name}:*",) if own is None else tuple(map(str, own))
        found.append(Login(name, str(user.get("password") or ""), f"redis_users[{name}].keys", mine))
    return found


def shared(found: Sequence[Login]) -> bool:
    """Whether several have keys on the server."""
    return sum(1 for login in found if login.keys) > 1


def rules(login: Login, commands: Sequence[str], withheld: Sequence[str]) -> str:
    """What a login may do, in the language of Redis ACLs. The last rule that matches wins.

    withheld: taken away where several have keys; else empty.
    """
    return " ".join([*commands, *(f"{kind}{key}" for kind in "~&" for key in login.keys), *withheld])


def problems(
    found: Sequence[Login], operator: str, commands: Iterable[str], where: Callable[[str], str]
) -> Iterator[Problem]:
    """What is wrong with the logins, and who could read what another keeps. where: the place of a variable."""
    names = [login.name for login in found]
    for login in found:
        place = where(login.variable.partition("[")[0])
        if login.name == OPERATOR or names.count(login.name) > 1 or not NAME.fullmatch(login.name):
            fix = f"choose a name of its own: lower-case letters, digits, - and _, and neither {DEFAULT} nor {OPERATOR}"
            yield Problem(place, "redis_users", f"`{login.name}` cannot be the name of a login", fix)
        for key in login.keys:
            if not WORD.fullmatch(key):
                yield Problem(
                    place, login.variable, f"`{key}` is not a pattern", "write printable ASCII without spaces"
                )
    known = [*((login.name, login.password) for login in found), (OPERATOR, operator)]
    for (one, password), (other, same) in combinations(known, 2):
        if password and password == same:
            what = f"`{one}` and `{other}` have the same password: each could log in as the other"
            yield Problem(where("redis_users"), "redis_users", what, "write another one into the environment's vault")
    for mine, theirs in combinations(found, 2):
        for key, other in ((key, other) for key in mine.keys for other in theirs.keys if overlap(key, other)):
            yield Problem(
                where(mine.variable.partition("[")[0]),
                mine.variable,
                f"`{key}` of `{mine.name}` and `{other}` of `{theirs.name}` ({theirs.variable}) overlap: one could "
                "read what the other keeps in Redis",
                "write what the keys of each begin with, or the same pattern for both if they are to share those keys: "
                f"{HOW_TO}",
            )
    for rule in commands:
        if not COMMANDS.fullmatch(rule):
            what = f"`{rule}` neither gives nor takes a command"
            fix = f"remove it; redis_keys and redis_users say which keys and channels a login has: {HOW_TO}"
            yield Problem(where("redis_acl_rules"), "redis_acl_rules", what, fix)


def overlap(one: str, other: str) -> bool:
    """Whether a key may match both patterns, which are not the same. In doubt yes: only beginnings are compared."""
    if one == other:
        return False
    first, second = (WILD.split(pattern, maxsplit=1)[0] for pattern in (one, other))
    return (first != one and second.startswith(first)) or (second != other and first.startswith(second))


def handed_twice(
    passwords: Mapping[str, str], apps: Mapping[str, Sequence[str]], where: Callable[[str], str]
) -> Iterator[Problem]:
    """Logins of Redis that several apps have, and the operator's, which is for none.

    passwords: login → password.  apps: app → the texts that it is handed.
    """
    for login, password in passwords.items():
        forms = {password, quote(password, safe="")} - {""}
        having = [app for app, texts in apps.items() if any(form in text for form in forms for text in texts)]
        if len(having) > (0 if login == OPERATOR else 1):
            whose = " and ".join(f"`{app}`" for app in having)
            what = f"the password of Redis' user `{login}` is handed to {whose}"
            if login == OPERATOR:
                yield Problem(where("apps"), "redis_operator_password", what, "take it out of the app's secrets")
                continue
            yield Problem(
                where("apps"),
                "redis_password" if login == DEFAULT else f"redis_users[{login}].password",
                f"{what}: each could read what the other keeps in Redis",
                f"give all but one a login of their own in redis_users: {HOW_TO}",
            )
