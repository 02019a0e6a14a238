# MIT License, see LICENSE at the root of the project.
"""Filters of the role redis: who logs in, with which passwords, and for which keys."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1] / "module_utils"))
from flotilla import keyspaces

DOCUMENTATION = r"""
name: flotilla_redis
short_description: The users of Redis and what they may do, in the language of its ACLs
description:
  - C(flotilla_redis_accepted) gives the passwords of a user. The declared one comes first. Those that the server takes
    already stay, so that whoever still has one is not cut off, until they are retired.
  - C(flotilla_redis_users) gives the users, each with C(name), C(password) and C(rules).
  - C(flotilla_redis_credentials) gives C(login) and C(password) of everyone, the operator included.
  - C(flotilla_redis_problems) gives what is wrong with them, and which could read what another keeps.
positional: _input
options:
  _input:
    description: >-
      Lines of which C(accepts <user> <SHA-256 in hex>) count, one for each password that the server takes; or
      C(redis_users).
    type: list
    required: true
"""

EXAMPLES = r"""
passwords: "{{ lines | flotilla_redis_accepted('default', redis_password) }}"
users: "{{ redis_users | flotilla_redis_users(redis_password, redis_keys, redis_acl_rules, redis_shared_rules) }}"
"""

RETURN = r"""
_value:
  description: >-
    C(#<SHA-256>) of each password, with blanks in between; a list of dictionaries; or a list of sentences.
  type: raw
"""


def accepted(lines: Iterable[str], user: str, password: str, retire: bool = False) -> str:
    """The rules for a user's passwords; hashes, as Redis itself keeps them."""
    declared = hashlib.sha256(password.encode()).hexdigest()
    words = [line.split() for line in lines]
    others = [line[2] for line in words if len(line) == 3 and line[:2] == ["accepts", user] and line[2] != declared]
    return " ".join(f"#{digest}" for digest in [declared, *([] if retire else others)])


def users(
    declared: Sequence[Mapping[str, Any]],
    password: str,
    keys: Sequence[str],
    commands: Sequence[str],
    shared_rules: Sequence[str],
) -> list[dict[str, str]]:
    """`default` and the declared users, each with `name`, `password` and `rules`."""
    found = keyspaces.logins(password, keys, declared)
    withheld = shared_rules if keyspaces.shared(found) else ()
    return [
        {"name": one.name, "password": one.password, "rules": keyspaces.rules(one, commands, withheld)} for one in found
    ]


def credentials(declared: Sequence[Mapping[str, Any]], password: str, operator: str) -> list[dict[str, str]]:
    """`login` and `password` of everyone, as a rotation compares them."""
    everyone = [*((one.name, one.password) for one in keyspaces.logins(password, (), declared)), ("operator", operator)]
    return [{"login": login, "password": secret} for login, secret in everyone]


def problems(
    declared: Sequence[Mapping[str, Any]], password: str, keys: Sequence[str], commands: Sequence[str], operator: str
) -> list[str]:
    """What is wrong with the users, in sentences with the next step. No message shows a password."""
    found = keyspaces.logins(password, keys, declared)
    told = keyspaces.problems(found, operator, commands, lambda _: "")
    return [f"{one.variable}: {one.what}. Next: {one.next}" for one in told]


class FilterModule:
    """Registers the filters with Ansible."""

    def filters(self) -> dict[str, Any]:
        """Their names are prefixed with the project's."""
        return {
            "flotilla_redis_accepted": accepted,
            "flotilla_redis_users": users,
            "flotilla_redis_credentials": credentials,
            "flotilla_redis_problems": problems,
        }
