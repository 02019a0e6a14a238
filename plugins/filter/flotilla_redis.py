# MIT License, see LICENSE at the root of the project.
"""Filter of the role redis: which passwords a user of the server may come with."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

DOCUMENTATION = r"""
name: flotilla_redis_accepted
short_description: Passwords of a user, in the language of Redis ACLs
description:
  - The declared password comes first. Those that the server takes already stay, so that whoever still has one is not
    cut off, until they are retired.
positional: _input, user, password, retire
options:
  _input:
    description: Lines of which C(accepts <user> <SHA-256 in hex>) count, one for each password that the server takes.
    type: list
    elements: str
    required: true
  user: {description: The user., type: str, required: true}
  password: {description: The declared password., type: str, required: true}
  retire: {description: Whether the others go., type: bool, default: false}
"""

EXAMPLES = r"""
rules: "{{ lines | flotilla_redis_accepted('default', redis_password) }}"
"""

RETURN = r"""
_value:
  description: C(#<SHA-256>) of each password, with blanks in between.
  type: str
"""


def accepted(lines: Iterable[str], user: str, password: str, retire: bool = False) -> str:
    """The rules for a user's passwords; hashes, as Redis itself keeps them."""
    declared = hashlib.sha256(password.encode()).hexdigest()
    words = [line.split() for line in lines]
    others = [line[2] for line in words if len(line) == 3 and line[:2] == ["accepts", user] and line[2] != declared]
    return " ".join(f"#{digest}" for digest in [declared, *([] if retire else others)])


class FilterModule:
    """Registers the filter with Ansible."""

    def filters(self) -> dict[str, Any]:
        """The name is prefixed with the project's."""
        return {"flotilla_redis_accepted": accepted}
