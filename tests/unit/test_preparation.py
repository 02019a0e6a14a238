"""What a prepare starts, and what it only makes."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest
from flotilla.colour import ColourProject
from flotilla.journal import Colour, Slot
from flotilla.preparation import Preparation


@pytest.mark.parametrize("workers", [[], ["worker"]])
def test_workers_get_their_containers_and_are_not_started(workers: list[str]) -> None:
    """What would keep them from being made is found before any traffic moves."""
    commands: list[tuple[str, ...]] = []
    waited: list[Sequence[str]] = []

    class Booting(ColourProject):
        def remove(self, *, graceful: bool = True) -> bool:
            return True

        def wait_ready(self, services: Any, *, deadline: float, stable_seconds: float) -> None:
            waited.append(services)

    project: Any = SimpleNamespace(run=lambda *arguments, timeout: commands.append(arguments))
    colour = Booting(cast(Any, None), project, (), {})
    settings = SimpleNamespace(ready_seconds=5.0, stable_seconds=1.0)
    site: Any = SimpleNamespace(settings=settings, colour=lambda _: colour)
    record: Any = SimpleNamespace(services={"start_with_colour": ["api"], "start_at_commit": workers})
    Preparation(site, Slot("r2", Colour.GREEN))._boot(record)
    started = [command[-1] for command in commands if "--no-start" not in command]
    made = [command[-1] for command in commands if "--no-start" in command]
    assert (started, made, waited) == (["api"], workers, [["api"]])
