"""The role looks and touches nothing."""

from __future__ import annotations

import pytest
from testinfra.host import Host


@pytest.mark.parametrize("path", ["/opt/flotilla", "/opt/page", "/usr/bin/docker"])
def test_nothing_was_touched(host: Host, path: str) -> None:
    assert not host.file(path).exists
