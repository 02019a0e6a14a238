# MIT License, see LICENSE at the root of the project.
"""The secrets of an environment: vault.yml of each inventory directory, opened with that environment's password."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.vars import BaseVarsPlugin

sys.path.append(str(Path(__file__).resolve().parents[1] / "module_utils"))

from flotilla.vault import VAULT, VaultError, locate, open_vault

DOCUMENTATION = r"""
name: flotilla_vault
short_description: Variables of the environment's encrypted vault.yml
description:
  - Decrypts C(vault.yml) in each inventory directory given with C(-i), and gives its variables to all hosts.
  - The vault id is the name of the directory. The password is read from C(.vault/<environment>.password) of the
    project, from the file named by E(FLOTILLA_VAULT_PASSWORD_FILE_<ENVIRONMENT>), or, for an inventory of the lab,
    from C(.vault-password) beside the vault. An executable file is run, as Ansible runs vault password scripts.
  - While a password is being rotated, the new one (C(….new)) opens the vault too.
  - Values are never templates, whatever they contain.
extends_documentation_fragment:
  - vars_plugin_staging
options: {}
author:
  - Flotilla contributors (@flotilla)
"""

ROOT = Path(__file__).resolve().parents[2]
# Opened once a process: file → (what tells that it is another one now, secrets).
_opened: dict[Path, tuple[tuple[int, int], dict[str, Any]]] = {}


class VarsModule(BaseVarsPlugin):
    """Gives the secrets to the group `all`, so that any other variable can override one."""

    REQUIRES_ENABLED = True
    is_stateless = True

    def get_vars(self, loader: Any, path: str, entities: Any, cache: bool = True) -> dict[str, Any]:
        """The secrets of the inventory directory `path`; none when it has no vault."""
        names = [entity.name for entity in (entities if isinstance(entities, list) else [entities])]
        file = Path(path) / VAULT
        if "all" not in names:
            return {}
        try:
            status = file.stat()
        except OSError:
            return {}
        version = (status.st_mtime_ns, status.st_size)
        known = _opened.get(file)
        if known is None or known[0] != version:
            try:
                values, _ = open_vault(locate(Path(path), ROOT, os.environ), ROOT)
            except VaultError as problem:
                raise AnsibleError(str(problem)) from None
            known = _opened[file] = (version, values)
        return dict(known[1])
