#!/usr/bin/python
# MIT License, see LICENSE at the root of the project.
"""Tighten files, permissions and accounts that the distribution made, in one call."""

from __future__ import annotations

import glob
import os
import stat
import tempfile
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.flotilla.tighten import account_changes, accounts, edited, homes, tightened

DOCUMENTATION = r"""
module: flotilla_tighten
short_description: Tighten what the distribution made, in one task
description:
  - Sets lines of files that belong to others, takes permissions away, and closes accounts that nobody should log in to.
  - What does not exist is passed over, so that one list serves all systems.
options:
  edits:
    description: Lines to set. Edits of one file are made in their order, and the file is written once.
    type: list
    elements: dict
    default: []
    suboptions:
      path: {description: Absolute path., type: path, required: true}
      pattern: {description: Regular expression that the whole old line fits., type: str, required: true}
      line:
        description: The line to have once, C(\1) for a group of the pattern; without it the lines that fit are removed.
        type: str
      append: {description: Add the line where none fits., type: bool, default: true}
  modes:
    description: The most that is allowed. Permissions beyond are taken away, none is given.
    type: list
    elements: dict
    default: []
    suboptions:
      path: {description: Absolute path with shell wildcards., type: str, required: true}
      mode: {description: Octal digits., type: str, required: true}
  accounts:
    description:
      - Root and accounts with an empty password get one that nothing fits; they may still log in by key.
      - System accounts get the shell C(nologin), and homes below C(/home) at most the mode C(0750).
    type: bool
    default: false
  keep_shells:
    description: System accounts that keep their shell.
    type: list
    elements: str
    default: []
attributes:
  check_mode: {support: full}
  diff_mode: {support: full}
author: The Flotilla authors
"""

EXAMPLES = r"""
- name: Tighten what the distribution set
  flotilla_tighten:
    edits:
      - {path: /etc/login.defs, pattern: 'UMASK\s.*', line: "UMASK 027"}
    modes:
      - {path: /etc/cron.d, mode: "0700"}
    accounts: true
"""

RETURN = r"""
changes:
  description: What was (or in check mode would be) changed, a sentence each.
  type: list
  elements: str
  returned: success
changed_paths:
  description: Files with other lines.
  type: list
  elements: str
  returned: success
"""

# How much of a line --diff shows: a prime number in /etc/ssh/moduli has 2,000 digits.
SHOWN = 120


def main() -> None:
    """Arguments in, a tighter host and the list of changes out."""
    module = AnsibleModule(
        argument_spec={
            "edits": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "path": {"type": "path", "required": True},
                    "pattern": {"type": "str", "required": True},
                    "line": {"type": "str"},
                    "append": {"type": "bool", "default": True},
                },
            },
            "modes": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {"path": {"type": "str", "required": True}, "mode": {"type": "str", "required": True}},
            },
            "accounts": {"type": "bool", "default": False},
            "keep_shells": {"type": "list", "elements": "str", "default": [], "no_log": False},
        },
        supports_check_mode=True,
    )
    differences = _edit(module, module.params["edits"])
    changed_paths = [difference["before_header"] for difference in differences]
    changes = [f"{path}: other lines" for path in changed_paths]
    modes = list(module.params["modes"])
    if module.params["accounts"]:
        found = accounts(*(Path(path).read_text(encoding="utf-8") for path in ("/etc/passwd", "/etc/shadow")))
        for change in account_changes(found, module.params["keep_shells"]):
            changes.append(change.what)
            if not module.check_mode:
                module.run_command(list(change.command), check_rc=True)
        modes += [{"path": home, "mode": "0750"} for home in homes(found)]
    changes += _restrict(module, modes)
    said = [{"prepared": "".join(f"{change}\n" for change in changes[len(changed_paths) :])}]
    module.exit_json(
        changed=bool(changes),
        changes=changes,
        changed_paths=changed_paths,
        diff=differences + (said if changes else []),
    )


def _edit(module: AnsibleModule, edits: list[dict[str, Any]]) -> list[dict[str, str]]:
    before = {}
    after = {}
    for edit in edits:
        path = Path(edit["path"])
        if path not in before:
            if not path.is_file():
                continue
            before[path] = after[path] = path.read_text(encoding="utf-8")
        after[path] = edited(after[path], edit["pattern"], edit["line"], append=edit["append"])
    differing = [path for path in before if before[path] != after[path]]
    if not module.check_mode:
        for path in differing:
            _write(module, path.resolve(), after[path])
    return [
        {
            "before_header": str(path),
            "after_header": str(path),
            "before": _short(before[path]),
            "after": _short(after[path]),
        }
        for path in differing
    ]


def _short(text: str) -> str:
    return "".join(f"{line[:SHOWN]}\n" for line in text.splitlines())


def _write(module: AnsibleModule, path: Path, text: str) -> None:
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=module.tmpdir, delete=False) as file:
        module.add_cleanup_file(file.name)
        file.write(text)
    # atomic_move gives the new file the owner and the mode of the old one.
    module.atomic_move(file.name, str(path))


def _restrict(module: AnsibleModule, modes: list[dict[str, Any]]) -> list[str]:
    said = []
    for entry in modes:
        for name in sorted(glob.glob(entry["path"])):  # noqa: PTH207 (the pattern is an absolute path)
            path = Path(name)
            if path.is_symlink():
                continue
            mode = stat.S_IMODE(path.stat().st_mode)
            wanted = tightened(mode, int(entry["mode"], 8))
            if wanted != mode:
                said.append(f"{name}: mode {mode:04o} -> {wanted:04o}")
                if not module.check_mode:
                    os.chmod(name, wanted)  # noqa: PTH101 (not through a link)
    return said


if __name__ == "__main__":
    main()
