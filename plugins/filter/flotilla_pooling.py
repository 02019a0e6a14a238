# MIT License, see LICENSE at the root of the project.
"""Filters of the pooler of connections."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from ansible.errors import AnsibleFilterError

sys.path.append(str(Path(__file__).resolve().parents[1] / "module_utils"))
from flotilla import pooling


def flotilla_pool_size(max_connections: int, databases: int, declared: int, direct: int) -> int:
    """Connections that the pooler makes to each database; declared: 0 for what is left, shared out.

    Raises AnsibleFilterError when the server has too few.
    """
    try:
        return pooling.pool_size(int(max_connections), int(databases), int(declared), int(direct))
    except ValueError as error:
        raise AnsibleFilterError(
            f"{error}. Next: raise postgres_max_connections (or postgres_memory_mb), or lower them; then run this "
            "playbook again"
        ) from None


class FilterModule:
    """Registers the filters with Ansible."""

    def filters(self) -> dict[str, Callable[..., int]]:
        """Filter names, all prefixed with the project's."""
        return {"flotilla_pool_size": flotilla_pool_size}
