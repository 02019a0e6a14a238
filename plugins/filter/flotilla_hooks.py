# MIT License, see LICENSE at the root of the project.
"""Filters of the hooks: what they are told, and whether an earlier one has failed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1] / "module_utils"))

from flotilla import hooks


class FilterModule:
    """Registers the filters with Ansible."""

    def filters(self) -> dict[str, Any]:
        """Filter names, all prefixed with the project's."""
        return {"flotilla_hook_facts": hooks.facts, "flotilla_hook_failed": hooks.failed_before}
