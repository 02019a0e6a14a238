"""How long a test of a role may take: the unit tests' limit is too near where containers start and playbooks run."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent
# A test that runs its role again waits for that as long as tests/lab/scenario.py does.
SECONDS = 1800


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(SECONDS))
