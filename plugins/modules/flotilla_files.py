#!/usr/bin/python
# MIT License, see LICENSE at the root of the project.
"""Bring all files and directories of a role to what they should be, in one call."""

from __future__ import annotations

import os
import tempfile
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.flotilla.files import Wanted, content_differs, difference, settle, wanted, write

DOCUMENTATION = r"""
module: flotilla_files
short_description: Write many files in one task
description:
  - Makes directories and writes files with their owner, group and mode, each atomically and only when it differs.
  - It is C(ansible.builtin.copy) and C(ansible.builtin.file) for many paths in one round trip; a task costs 0.3 to
    0.5 seconds whatever it does.
  - No link is followed in a directory that others than root can write to; in one of root's alone it is. A file that is
    a link is replaced by the file.
  - All files with O(files[].validate) are checked before the first one is written.
options:
  directories:
    description: Directories to make, with their parents. What is in them stays.
    type: list
    elements: dict
    default: []
    suboptions:
      path: {description: Absolute path., type: path, required: true}
      owner: {description: User name or number., type: str, default: root}
      group: {description: Group name or number., type: str, default: root}
      mode: {description: Octal digits., type: str, default: "0755"}
  files:
    description: Files to write. Missing directories above them are made, with mode 0755.
    type: list
    elements: dict
    default: []
    suboptions: &file
      path: {description: Absolute path., type: path, required: true}
      content: {description: The whole content., type: str, required: true}
      owner: {description: User name or number., type: str, default: root}
      group: {description: Group name or number., type: str, default: root}
      mode: {description: Octal digits., type: str, default: "0644"}
      validate: {description: Command that must succeed before the file is used; C(%s) is the new file., type: str}
      in_place:
        description: Write into the file that is there where it cannot be replaced, such as a mount in a container.
        type: bool
        default: false
  secrets:
    description: The same, for contents that no log and no diff may show.
    type: list
    elements: dict
    default: []
    suboptions: *file
attributes:
  check_mode: {support: full}
  diff_mode: {support: full}
author: The Flotilla authors
"""

EXAMPLES = r"""
- name: Write the files of the stack
  flotilla_files:
    directories:
      - {path: /opt/stack/secrets, mode: "0700"}
    files:
      - {path: /opt/stack/compose.yaml, content: "{{ lookup('ansible.builtin.file', 'compose.yaml', rstrip=false) }}"}
    secrets:
      - {path: /opt/stack/secrets/password, content: "{{ stack_password }}", owner: "999", group: "999", mode: "0400"}
"""

RETURN = r"""
changed_paths:
  description: What was (or in check mode would be) written or given another owner, group or mode.
  type: list
  elements: str
  returned: success
"""

FILE: dict[str, dict[str, Any]] = {
    "path": {"type": "path", "required": True},
    "content": {"type": "str", "required": True},
    "owner": {"type": "str", "default": "root"},
    "group": {"type": "str", "default": "root"},
    "mode": {"type": "str", "default": "0644"},
    "validate": {"type": "str"},
    "in_place": {"type": "bool", "default": False},
}
DIRECTORY: dict[str, dict[str, Any]] = {
    **{name: FILE[name] for name in ("path", "owner", "group")},
    "mode": {"type": "str", "default": "0755"},
}


class Discreet(AnsibleModule):
    """Ansible logs a module's arguments on the host, and finds no secret in them that has more than one line."""

    def _log_invocation(self) -> None:
        paths = [entry["path"] for kind in ("directories", "files", "secrets") for entry in self.params[kind]]
        self.log(f"Invoked for {' '.join(paths)}")


def main() -> None:
    """Arguments in, files on disk, the changed paths out."""
    module = Discreet(
        argument_spec={
            "directories": {"type": "list", "elements": "dict", "default": [], "options": DIRECTORY},
            "files": {"type": "list", "elements": "dict", "default": [], "options": FILE},
            "secrets": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "no_log": False,
                "options": {**FILE, "content": {**FILE["content"], "no_log": True}},
            },
        },
        supports_check_mode=True,
    )
    params = module.params
    # A new file is private until it has its own mode.
    os.umask(0o077)
    try:
        entries = wanted(params["directories"], params["files"], params["secrets"])
        differing = {one.path for one in entries if content_differs(one)}
    except ValueError as error:
        module.fail_json(msg=f"{error}. Nothing was written.")
    if not module.check_mode:
        for one in entries:
            if one.validate and one.path in differing:
                _validate(module, one, _draft(module, one))
    changed_paths: list[str] = []
    differences = []
    for one in entries:
        if one.path in differing:
            differences.append(difference(one))
        try:
            if one.path in differing and not module.check_mode:
                write(one)
            settled = settle(one, look=module.check_mode)
        except (OSError, ValueError) as error:
            written = ", ".join(changed_paths) or "nothing"
            module.fail_json(msg=f"{one.path} cannot be written: {error}. Written before it: {written}")
        if settled or one.path in differing:
            changed_paths.append(str(one.path))
    module.exit_json(changed=bool(changed_paths), changed_paths=changed_paths, diff=differences)


def _draft(module: AnsibleModule, one: Wanted) -> str:
    """The new content in a private file of Ansible's own temporary directory."""
    with tempfile.NamedTemporaryFile(dir=module.tmpdir, delete=False) as file:
        module.add_cleanup_file(file.name)
        file.write(one.content or b"")
        return file.name


def _validate(module: AnsibleModule, one: Wanted, draft: str) -> None:
    rc, out, err = module.run_command(one.validate.replace("%s", draft))
    if rc != 0:
        said = (err or out).strip()
        module.fail_json(msg=f"{one.path} would not be valid, so nothing was written: {said}", rc=rc, cmd=one.validate)


if __name__ == "__main__":
    main()
