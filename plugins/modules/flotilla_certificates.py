#!/usr/bin/python
# MIT License, see LICENSE at the root of the project.
"""Read the certificates of a host, or make new versions of them the current ones, in one call."""

from __future__ import annotations

import grp
import importlib.util
import pwd
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.flotilla.pki.host import CertificateError, activate, current_version, read

DOCUMENTATION = r"""
module: flotilla_certificates
short_description: Read or switch the versions of a host's certificates
description:
  - A certificate has a directory, in it one directory a version, and the link C(current) that leads to one of them.
  - With O(state=read) nothing is changed, and no key is returned.
  - With O(state=active) each version becomes the current one in one step, if key and certificate belong together. The
    version before it stays, older ones are removed.
options:
  state:
    description: What to do.
    type: str
    choices: [read, active]
    required: true
  certificates:
    description: The certificates.
    type: list
    elements: dict
    required: true
    suboptions:
      directory: {description: Absolute path of the certificate's directory., type: path, required: true}
      owner: {description: User name or number that the key should belong to., type: str, default: root}
      group: {description: Group name or number that the key should belong to., type: str, default: root}
      mode: {description: Octal digits that the key should have., type: str, default: "0600"}
      version: {description: The version to make current; wanted by O(state=active)., type: str}
attributes:
  check_mode: {support: full}
  diff_mode: {support: none}
author: The Flotilla authors
"""

EXAMPLES = r"""
- name: Read the certificates
  flotilla_certificates:
    state: read
    certificates:
      - {directory: /opt/flotilla/nginx/certs/internal, owner: "101"}
"""

RETURN = r"""
found:
  description: >-
    By directory: C(version), the PEM texts C(certificate), C(chain) and C(authorities), C(key_matches), C(key_private);
    nothing where there is no version.
  type: dict
  returned: O(state=read)
library:
  description: Whether the host has the Python library that community.crypto makes keys and requests with.
  type: bool
  returned: O(state=read)
removed:
  description: Old versions that were removed, by directory.
  type: dict
  returned: O(state=active)
"""


def main() -> None:
    """Arguments in, what is there or what was removed out."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["read", "active"], "required": True},
            "certificates": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "directory": {"type": "path", "required": True},
                    "owner": {"type": "str", "default": "root"},
                    "group": {"type": "str", "default": "root"},
                    "mode": {"type": "str", "default": "0600"},
                    "version": {"type": "str"},
                },
            },
        },
        supports_check_mode=True,
    )
    entries = module.params["certificates"]
    if module.params["state"] == "read":
        module.exit_json(
            changed=False,
            found={entry["directory"]: _read(entry) for entry in entries},
            library=importlib.util.find_spec("cryptography") is not None,
        )
    moved = {
        entry["directory"]: entry["version"]
        for entry in entries
        if current_version(Path(entry["directory"])) != entry["version"]
    }
    removed = {}
    if not module.check_mode:
        try:
            removed = {directory: activate(Path(directory), version or "") for directory, version in moved.items()}
        except (CertificateError, OSError) as problem:
            module.fail_json(msg=f"{problem}. What was current there is current still.")
    module.exit_json(changed=bool(moved), removed=removed)


def _read(entry: dict[str, Any]) -> dict[str, Any]:
    uid, gid = _number(entry["owner"], _user), _number(entry["group"], _group)
    return asdict(read(Path(entry["directory"]), uid, gid, int(entry["mode"], 8)))


def _number(name: str, look_up: Callable[[str], int]) -> int:
    """The number that a name stands for; -1, which nobody has, for a name that the host does not know (yet)."""
    try:
        return int(name) if name.isdigit() else look_up(name)
    except KeyError:
        return -1


def _user(name: str) -> int:
    return pwd.getpwnam(name).pw_uid


def _group(name: str) -> int:
    return grp.getgrnam(name).gr_gid


if __name__ == "__main__":
    main()
