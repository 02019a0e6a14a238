"""What a prepare starts, and what it only makes."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest
from flotilla.colour import ColourProject
from flotilla.journal import Colour, Slot
from flotilla.preparation import Preparation, leave_out_absent
from flotilla.site import Site


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


def test_a_harmless_file_that_the_host_does_not_have_is_not_mounted() -> None:
    """What a person named in a privilege is: there, a missing file is a mistake that the engine tells."""
    kept: list[dict[str, Any]] = [
        {"type": "bind", "source": "/etc/ssl/certs", "target": "/x"},
        {"type": "bind", "source": "/srv/nowhere", "target": "/y"},
        {"type": "volume", "target": "/tmp"},
    ]
    gone = {"type": "bind", "source": "/usr/share/zoneinfo/No/Where", "target": "/z"}
    document: dict[str, Any] = {"services": {"web": {"volumes": [gone, *kept]}, "api": {"image": "x"}}}
    leave_out_absent(document)
    assert document == {"services": {"web": {"volumes": kept}, "api": {"image": "x"}}}


@pytest.mark.parametrize(("services", "expected"), [({"memory_left": 7}, "7"), ({}, "9")])
def test_a_release_keeps_the_memory_that_it_was_made_with(services: dict[str, Any], expected: str) -> None:
    """Another number would have Compose make its containers anew, at the commit or in a rollback."""
    store = SimpleNamespace(read=lambda _: SimpleNamespace(services=services))
    site: Any = SimpleNamespace(
        store=store, settings=SimpleNamespace(host="h"), memory_left=lambda: 9, _addresses=lambda _: {}
    )
    assert Site.variables(site, Slot("r2", Colour.GREEN))["FLOTILLA_MEMORY"] == expected
