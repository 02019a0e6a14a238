# MIT License, see LICENSE at the root of the project.
"""An app's Compose file with the files that it refers to, as one text."""

from __future__ import annotations

import base64
import sys
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase

sys.path.append(str(Path(__file__).resolve().parents[1] / "module_utils"))

from flotilla.bundle import BundleError, collect, pack

DOCUMENTATION = r"""
name: flotilla_bundle
short_description: The part of an app's directory that a host needs
description:
  - Packs C(compose.yaml) and what it refers to (C(include), C(extends), C(env_file), C(label_file),
    C(configs), relative binds).
  - Build contexts stay behind. Equal files give equal archives, whenever and wherever they are packed.
  - Fails when a file is missing, is outside the directory, or when all of them are larger than 2 MiB.
options:
  _terms:
    description: Directories relative to the root of the project.
    type: list
    elements: str
    required: true
  privileges:
    description:
      - What C(apps[].privileges) names, service to list. C(env_file) and C(label_file) outside the app's directory need
        their path in it, as Compose reads them on the host.
    type: dict
    default: {}
author:
  - Flotilla contributors (@flotilla)
"""

EXAMPLES = r"""
- name: Hand over the app
  flotilla_release:
    bundle: "{{ lookup('flotilla_bundle', item.source) }}"
"""

RETURN = r"""
_raw:
  description: A gzipped tar archive in base64 for each directory; paths in it are relative to the directory.
  type: list
  elements: str
"""

ROOT = Path(__file__).resolve().parents[2]


class LookupModule(LookupBase):
    """Reads files only."""

    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[str]:
        """One archive a directory."""
        archives = []
        privileges: dict[str, list[str]] = kwargs.get("privileges") or {}
        for term in terms:
            directory = ROOT / term
            try:
                archives.append(base64.b64encode(pack(collect(directory, privileges), directory)).decode())
            except BundleError as problem:
                raise AnsibleLookupError(str(problem).replace(f"{ROOT}/", "")) from None
        return archives
