"""When the requests of a colour that lost the traffic are counted as ended."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest
from flotilla import sockets
from flotilla.colour import ROUTER, ColourProject


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """What each look at the routers finds open; a look that nobody expects fails."""
    found: list[int] = []
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    monkeypatch.setattr(sockets, "of_process", lambda pid: ())
    monkeypatch.setattr(sockets, "in_flight", lambda opened, port: found.pop(0))
    yield found
    assert found == []


@pytest.mark.parametrize(
    ("switched_seconds", "found"),
    [
        # A request may be on its way still: quiet once is not enough.
        (0.0, [0, 0]),
        (0.4, [0, 1, 0, 0]),
        (0.5, [0]),
        (60.0, [2, 1, 0]),
    ],
)
def test_a_drain_ends_when_nothing_can_come_any_more(
    looks: list[int], switched_seconds: float, found: list[int]
) -> None:
    router = {"State": {"Pid": 7}, "Config": {"Labels": {"com.docker.compose.service": ROUTER}}}
    engine: Any = type("Engine", (), {"project": lambda self, name: [router]})()
    looks += found
    project = ColourProject(engine, cast(Any, type("Project", (), {"name": "notes-blue"})()), (), {})
    assert project.drain(30.0, switched_seconds=switched_seconds) == 0
