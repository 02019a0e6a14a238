"""The resolver: from `docker compose config` to the one file of a release. Pure functions, no I/O."""

from __future__ import annotations

from .images import former_keep_tag, keep_tag
from .model import (
    EDGE_NETWORK,
    ROUTER,
    ComposeFileError,
    Context,
    Copy,
    Limits,
    Network,
    Resolved,
    Route,
    UpdateConfig,
    Volume,
)
from .resolver import fingerprint, resolve
from .values import environment_problems

__all__ = [
    "EDGE_NETWORK",
    "ROUTER",
    "ComposeFileError",
    "Context",
    "Copy",
    "Limits",
    "Network",
    "Resolved",
    "Route",
    "UpdateConfig",
    "Volume",
    "environment_problems",
    "fingerprint",
    "former_keep_tag",
    "keep_tag",
    "resolve",
]
