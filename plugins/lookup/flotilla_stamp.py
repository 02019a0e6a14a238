# MIT License, see LICENSE at the root of the project.
"""The stamp that the current host has once it was provisioned from this checkout and inventory."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from ansible.plugins.lookup import LookupBase

sys.path.append(str(Path(__file__).resolve().parents[1] / "module_utils"))

from flotilla.exposure import SETTINGS, allow_list
from flotilla.roles import OF_GROUP, options, roles_of
from flotilla.stamp import contents, digest_of_files, paths_for, provisioned_apps, stamp
from flotilla.volumes import senders

DOCUMENTATION = r"""
name: flotilla_stamp
short_description: Digest of what provisioning would make of the current host
description:
  - Covers the files of the host's roles, their Compose stacks, the plugins and the provisioning playbook; the host's
    resolved variables that these roles take; the names, groups and private addresses of all hosts; who may reach
    it; and what the playbook hands over.
  - Equal inputs give equal stamps on any controller. A new version of an app changes none.
  - The digest is keyed with the variable C(environment_stamp_key), as it covers secrets.
options:
  _terms:
    description: Names of roles; by the host's groups when there is none.
    type: list
    elements: str
  handed:
    description: Data that the playbook hands to the roles and that the inventory alone does not tell.
    type: raw
author:
  - Flotilla contributors (@flotilla)
"""

EXAMPLES = r"""
- name: Look at the host
  flotilla_host:
    host: "{{ inventory_hostname }}"
    stamp: "{{ lookup('flotilla_stamp') }}"
"""

RETURN = r"""
_raw:
  description: SHA-256 in hex.
  type: list
  elements: str
"""

ROOT = Path(__file__).resolve().parents[2]
# What the roles read beside their own variables.
ALWAYS = ("inventory_hostname", "environment_name", "private_address")


class LookupModule(LookupBase):
    """Reads files, the argument specs and the host's variables; changes nothing."""

    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[str]:
        """One stamp, for the host whose task is templated."""
        given = variables or {}
        roles = [str(term) for term in terms] or roles_of(given["group_names"])
        specs = options(ROOT / "roles")
        names = {name for role in roles for name in specs.get(role, {})} | set(ALWAYS)
        values = {name: contents(name, self._templar.template(given[name])) for name in sorted(names & given.keys())}
        values["apps"] = [self._templar.template(app) for app in provisioned_apps(given.get("apps", []))]
        values["topology"] = {
            # Only our groups: a play may have made others since.
            "groups": {name: sorted(given["groups"].get(name, [])) for name in OF_GROUP},
            "addresses": self._addresses(given),
        }
        values["allowed"] = self._allowed(given, values["topology"]["addresses"])
        values["handed"] = kwargs.get("handed")
        key = str(self._templar.template(given.get("environment_stamp_key", "")))
        return [stamp(digest_of_files(ROOT, paths_for(roles)), values, key)]

    def _allowed(self, given: dict[str, Any], addresses: dict[str, str]) -> Any:
        """What the firewall is told to let in."""
        mine = {name: self._templar.template(given[name]) for name in SETTINGS if name in given}
        hostvars = given["hostvars"]
        sending = senders(given["groups"], given.get("apps"), lambda host: bool(hostvars[host].get("redis_durable")))
        return allow_list(given["group_names"], mine, given["groups"], addresses, sending)

    def _addresses(self, given: dict[str, Any]) -> dict[str, str]:
        """The private address of every host: others are told of it."""
        hosts = sorted(given["groups"]["all"])
        if len(hosts) == 1:
            return {}
        return {host: str(given["hostvars"].raw_get(host).get("private_address", "")) for host in hosts}
