"""What a host says of an app: whole, ailing, cut short."""

from __future__ import annotations

from typing import Any

import pytest
from flotilla.condition import condition, disk_problems
from flotilla.journal import Colour, Journal, Phase, Slot
from flotilla.store import Release, Standing

LIVE = Slot("r2", Colour.GREEN)
SERVICES = {
    "start_with_colour": ["api", "init", "flotilla-router"],
    "start_at_commit": ["worker"],
    "one_shots": ["init"],
}
RELEASES = [
    Release("r1", "1", "f", "s", {"api": "a@sha256:1"}, Standing.PROVEN),
    Release(
        "r2", "2", "f", "s", {"api": "a@sha256:2"}, Standing.LIVE, proven="2025-01-02T00:00:00Z", services=SERVICES
    ),
]


def inspected(service: str, **state: Any) -> dict[str, Any]:
    return {
        "Id": service,
        "Name": f"/notes-green-{service}-1",
        "RestartCount": 0,
        "State": {"Status": "running", **state},
        "Config": {"Labels": {"com.docker.compose.service": service}},
    }


WHOLE = [
    inspected("api", Health={"Status": "healthy"}),
    inspected("worker"),
    inspected("flotilla-router"),
    inspected("init", Status="exited", ExitCode=0),
]


def look(
    journal: Journal | None = None,
    edge: Colour | None = Colour.GREEN,
    green: list[dict[str, Any]] | None = None,
    blue: list[dict[str, Any]] | None = None,
    **more: Any,
) -> dict[str, Any]:
    colours = {Colour.GREEN: WHOLE if green is None else green, Colour.BLUE: blue or []}
    return condition(journal or Journal(live=LIVE), edge, RELEASES, colours, [], more.pop("history", []), **more)


def test_a_whole_app_has_no_problem() -> None:
    found = look(history=[{"outcome": "deployed", "to": "r2", "when": "2025-01-01T12:00:00Z"}])
    assert found["problems"] == []
    assert (found["release"], found["version"], found["colour"]) == ("r2", "2", "green")
    assert found["since"] == "2025-01-01T12:00:00Z"
    assert [release["id"] for release in found["releases"]] == ["r2", "r1"]
    assert not any(one["ailment"] for one in found["containers"])


def test_it_is_live_since_it_last_became_so() -> None:
    deployed = {"outcome": "deployed", "to": "r2"}
    history = [{**deployed, "when": "1"}, {"outcome": "deployed", "to": "r1", "when": "2"}, {**deployed, "when": "3"}]
    assert look(history=history)["since"] == "3"
    assert look()["since"] == "2025-01-02T00:00:00Z"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"edge": Colour.BLUE}, "the edge sends traffic to blue, but green is live"),
        ({"edge": None}, "the edge sends traffic to nobody, but green is live"),
        ({"blue": [inspected("api")]}, "containers of blue are there, which should be absent"),
        ({"green": WHOLE[1:]}, "api has no container"),
        ({"green": [*WHOLE[1:], inspected("api", Health={"Status": "unhealthy"})]}, "api is unhealthy"),
        (
            {"green": [*WHOLE[1:], inspected("api", Status="exited", ExitCode=137, OOMKilled=True)]},
            "api is exited (exit code 137, out of memory)",
        ),
        ({"journal": Journal()}, "nothing was ever deployed here"),
        (
            {"journal": Journal(Phase.COMMITTING, LIVE, Slot("r3", Colour.BLUE)), "edge": Colour.BLUE},
            "release r3 is committing, and no run is at work: one was cut short; deploy again",
        ),
        (
            {"journal": Journal(live=Slot("r9", Colour.GREEN)), "green": WHOLE[:1]},
            "the live release r9 has no record in releases/",
        ),
    ],
)
def test_what_is_wrong_is_said(arguments: dict[str, Any], expected: str) -> None:
    assert look(**arguments)["problems"] == [expected]


def test_a_deploy_at_work_is_no_problem() -> None:
    journal = Journal(Phase.COMMITTING, LIVE, Slot("r3", Colour.BLUE))
    found = look(journal, Colour.BLUE, blue=[inspected("api")], at_work=True)
    assert found["problems"] == []
    assert found["unfinished"] == "committing r3"


def test_a_full_disk_is_a_problem() -> None:
    disks = {"/opt": {"free": 10 * 1024**3, "total": 1}, "/var/lib/docker": {"free": 5 * 1024**2, "total": 1}}
    assert disk_problems(disks) == ["/var/lib/docker has 5 MiB left: the next deploy will be refused"]


def test_a_disk_is_told_while_there_is_time() -> None:
    (said,) = disk_problems({"/opt": {"free": 3 << 30, "total": 80 << 30}, "/": {"free": 4 << 30, "total": 80 << 30}})
    assert said.startswith("/opt has 3072 MiB left, less than 5 %: a full disk stops Postgres. Next: ")
