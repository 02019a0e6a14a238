# MIT License, see LICENSE at the root of the project.
"""Filters of public certificates: who has one by ACME, for which names, and how it is with them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleFilterError

sys.path.append(str(Path(__file__).resolve().parents[1] / "module_utils"))
from flotilla import acme
from flotilla.problem import report

Hostvars = Mapping[str, Mapping[str, Any]]
Groups = Mapping[str, Sequence[str]]


def _inventory(sources: Iterable[str]) -> str:
    return "".join(f" -i {source}" for source in sources) or " -i inventories/<environment>"


def flotilla_acme_thumbprint(hostvars: Hostvars, host: str, groups: Groups) -> str:
    """What a host's edge answers challenges with; empty when its certificate does not come by ACME."""
    if not acme.wanted(host, hostvars[host], groups):
        return ""
    try:
        return acme.thumbprint(str(hostvars[host].get("acme_account_key", "")))
    except ValueError as error:
        raise AnsibleFilterError(f"acme_account_key: {error}. Next: see docs/how-to/public-certificate.md") from None


def flotilla_acme_problems(values: Mapping[str, Any], apps: Sequence[Mapping[str, Any]], sources: Sequence[str]) -> str:
    """All that is wrong, one a line with place, variable and next step; empty when nothing is."""
    command = f"ansible-playbook playbooks/secrets.yml{_inventory(sources)}"
    place = f"{sources[-1]}" if sources else "inventories/<environment>"
    return report(acme.problems(values, apps, lambda _: place, command))


def flotilla_acme_report(asked: Iterable[Mapping[str, Any]], sources: Sequence[str]) -> dict[str, list[str]]:
    """`lines` and `problems` of what a loop over the hosts (`status_edge`) registered of `flotilla-acme status`."""
    seen = {}
    for one in asked:
        if "status_edge" in one:
            text = str(one.get("stdout") or "")
            said = json.loads(text) if one.get("rc") == 0 and text.startswith("{") else None
            seen[str(one["status_edge"])] = {"said": said, "msg": one.get("stderr") or one.get("msg")}
    return acme.report(seen, f"ansible-playbook playbooks/provision.yml{_inventory(sources)}")


def flotilla_acme_peers(hostvars: Hostvars, host: str, groups: Groups) -> dict[str, Any]:
    """The other hosts with the same certificate, and this one's place among them."""
    return acme.peers(host, hostvars, groups)


class FilterModule:
    """Registers the filters with Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Filter names, all prefixed with the project's."""
        return {
            "flotilla_acme_edge": acme.edge_of,
            "flotilla_acme_hosts": acme.wanted_hosts,
            "flotilla_acme_names": acme.names_of,
            "flotilla_acme_peers": flotilla_acme_peers,
            "flotilla_acme_problems": flotilla_acme_problems,
            "flotilla_acme_report": flotilla_acme_report,
            "flotilla_acme_thumbprint": flotilla_acme_thumbprint,
        }
