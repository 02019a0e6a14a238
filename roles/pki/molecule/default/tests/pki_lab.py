"""Where the scenario is, and what its fixtures give."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

SCENARIO = Path(os.environ.get("MOLECULE_SCENARIO_DIRECTORY", Path(__file__).parents[1]))
SERVER, CLIENT = "/opt/pki-test/server", "/opt/pki-test/client"

Play = Callable[..., str]
Handshake = Callable[..., bool]
