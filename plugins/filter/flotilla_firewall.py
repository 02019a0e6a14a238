"""Filters of the role firewall: what its variables declare, checked and shaped for the template."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleFilterError

sys.path.append(str(Path(__file__).resolve().parents[1] / "module_utils"))
from flotilla.packet_filter import declared_rules, locked_out


def flotilla_firewall_problems(declared: Mapping[str, Any], connection: str = "") -> list[str]:
    """Everything that is wrong with the role's variables, each with its variable; empty when nothing is.

    connection: the operator's, as sshd tells it in SSH_CONNECTION; empty when it is not known.
    """
    rules, problems = declared_rules(declared)
    lockout = "" if problems else locked_out(rules, connection)
    return [*problems, lockout] if lockout else problems


def flotilla_firewall_rules(declared: Mapping[str, Any]) -> dict[str, Any]:
    """The role's variables as its template needs them. Raises AnsibleFilterError with all problems, one a line."""
    rules, problems = declared_rules(declared)
    if problems:
        raise AnsibleFilterError("\n".join(problems))
    return rules.describe()


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {
            "flotilla_firewall_problems": flotilla_firewall_problems,
            "flotilla_firewall_rules": flotilla_firewall_rules,
        }
