"""Status, history and logs of several hosts, as the text that an operator reads."""

from __future__ import annotations

import textwrap
from typing import Any

import pytest
from flotilla import overview

GIB = 1024**3


def app(release: str = "r2", **changes: Any) -> dict[str, Any]:
    found = {
        "release": release,
        "version": release[1:],
        "colour": "green",
        "since": "2025-01-01T12:00:00Z",
        "unfinished": "",
        "containers": [
            {"service": "api", "restarts": 0, "ailment": ""},
            {"service": "ui", "restarts": 1, "ailment": ""},
        ],
        "images": {"api": f"a@sha256:{release}"},
        "releases": [
            {"id": "r2", "version": "2", "standing": "live", "proven": "2025-01-01T12:00:00Z"},
            {"id": "r1", "version": "1", "standing": "proven", "proven": "2024-12-31T12:00:00Z"},
            {"id": "r0", "version": "0", "standing": "reverted", "proven": ""},
        ],
        "problems": [],
    }
    return {**found, **changes}


def host(*apps: tuple[str, dict[str, Any]], **changes: Any) -> dict[str, Any]:
    disks = {path: {"free": 10 * GIB, "total": 40 * GIB} for path in ("/var/lib/docker", "/opt")}
    return {"status": {"apps": dict(apps), "lock": {}, "disks": disks, "problems": [], **changes}}


def test_a_fleet_that_agrees() -> None:
    seen = {"app-1": host(("notes", app())), "app-2": host(("notes", app()))}
    found = overview.status(seen)
    assert found["problems"] == []
    assert "\n".join(found["lines"]) == textwrap.dedent(
        """\
        notes
          host   version  release  colour  live since           containers
          app-1  2        r2       green   2025-01-01 12:00:00  2 of 2 well, 1 restarts
          app-2  2        r2       green   2025-01-01 12:00:00  2 of 2 well, 1 restarts
          proven releases: r1 (proven 2024-12-31 12:00:00)
          drift: none, 2 of 2 hosts agree
        hosts
          app-1  not locked  /var/lib/docker 10.0 of 40.0 GiB free
          app-2  not locked  /var/lib/docker 10.0 of 40.0 GiB free"""
    )


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        (
            host(("notes", app("r1"))),
            "notes: the hosts do not serve the same release: r1 on app-2; r2 on app-1. Next: deploy again, NEXT",
        ),
        (
            host(("notes", app(images={"api": "other"}))),
            "notes: the release is the same, but its images differ between: app-1; app-2. Next: deploy again, NEXT",
        ),
        (host(), "notes: it was never deployed on app-2. Next: deploy again, NEXT"),
        (host(("notes", app(problems=["ui is unhealthy"]))), "app-2: notes: ui is unhealthy"),
        (host(("notes", app()), problems=["/opt is full"]), "app-2: /opt is full"),
        ({"unreachable": True, "msg": "no route\nto host"}, "app-2: cannot be reached: no route to host"),
        ({"failed": True, "msg": "app-2: it broke"}, "app-2: it broke"),
        ({}, "app-2: it said nothing"),
    ],
)
def test_what_is_wrong_with_one_host_is_said(second: dict[str, Any], expected: str) -> None:
    found = overview.status({"app-1": host(("notes", app())), "app-2": second}, ", NEXT")
    assert found["problems"] == [expected]


def test_drift_under_a_lock_is_shown_and_no_problem() -> None:
    lock = {"owner": "mia@laptop", "purpose": "deploy notes 2", "expired": False}
    seen = {"app-1": host(("notes", app()), lock=lock), "app-2": host(("notes", app("r1")))}
    found = overview.status(seen)
    assert found["problems"] == []
    assert "  drift: the hosts do not serve the same release: r1 on app-2; r2 on app-1" in found["lines"]
    assert any("locked by mia@laptop: deploy notes 2" in line for line in found["lines"])


def test_an_expired_lock_hides_nothing() -> None:
    lock = {"owner": "mia@laptop", "purpose": "deploy", "expired": True}
    seen = {"app-1": host(("notes", app()), lock=lock), "app-2": host(("notes", app("r1")))}
    assert len(overview.status(seen)["problems"]) == 1


def test_releases_that_are_not_everywhere_are_named() -> None:
    lacking = [release for release in app()["releases"] if release["id"] != "r1"]
    seen = {"app-1": host(("notes", app())), "app-2": host(("notes", app(releases=lacking)))}
    lines = overview.status(seen)["lines"]
    assert "  proven releases: none but what serves" in lines
    assert "  r1 is not proven on app-2: a rollback cannot go there" in lines


def test_hosts_without_any_app() -> None:
    assert overview.status({"app-1": host()})["problems"] == ["no app was ever deployed on app-1"]


def entry(when: str, to: str, outcome: str = "deployed", **more: Any) -> dict[str, Any]:
    return {"app": "notes", "when": when, "to": to, "outcome": outcome, "version": to[1:], "who": "mia", **more}


def test_histories_are_merged_by_time_and_runs_are_one_line() -> None:
    seen = {
        "app-1": {"history": [entry("2025-01-01T10:00:00Z", "r1", seconds=4.5), entry("2025-01-01T12:00:00Z", "r2")]},
        "app-2": {
            "history": [
                entry("2025-01-01T10:00:02Z", "r1", seconds=4.5),
                entry("2025-01-01T11:00:00Z", "r9", "refused", reason="no memory", migration="failed"),
                entry("2025-01-01T12:00:01Z", "r2"),
            ]
        },
    }
    assert overview.history(seen, 20) == [
        "2025-01-01 10:00:00  deployed  notes 1  by mia  on app-1, app-2  4.5 s",
        "2025-01-01 11:00:00  refused   notes 9  by mia  on app-2         migration failed; no memory",
        "2025-01-01 12:00:00  deployed  notes 2  by mia  on app-1, app-2",
    ]
    assert len(overview.history(seen, 1)) == 1


def test_the_same_twice_on_one_host_is_two_events() -> None:
    twice = [entry("2025-01-01T10:00:00Z", "r1"), entry("2025-01-01T11:00:00Z", "r1")]
    assert len(overview.history({"app-1": {"history": twice}, "app-2": {"history": twice}}, 20)) == 2


def test_without_history_or_logs_that_is_said() -> None:
    assert overview.history({"app-1": {}}, 5) == ["no host has a history yet"]
    assert overview.logs({"app-1": {"logs": []}}) == ["no container has logged anything"]


def test_log_lines_say_where_they_are_from() -> None:
    seen = {"app-1": {"logs": [{"container": "notes-blue-api-1", "lines": ["a", "b"]}]}}
    assert overview.logs(seen) == ["app-1 notes-blue-api-1 | a", "app-1 notes-blue-api-1 | b"]


def server(name: str, condition: str, sessions: int = 0) -> dict[str, Any]:
    return {"app": "notes", "host": name, "condition": condition, "sessions": sessions, "check": "L7OK 200"}


def test_balancers_say_where_the_traffic_goes() -> None:
    seen = {"lb-1": {"servers": [server("app-1", "up", 3), server("app-2", "up")], "maintained": []}}
    assert overview.balanced(seen) == {
        "lines": [
            "balancers",
            "  balancer  app    host   state  in flight",
            "  lb-1      notes  app-1  up     3",
            "  lb-1      notes  app-2  up     0",
        ],
        "problems": [],
    }
    assert overview.balanced({}) == {"lines": [], "problems": []}


def test_what_a_balancer_does_not_send_traffic_to_is_a_problem() -> None:
    seen = {
        "lb-1": {"servers": [server("app-1", "drained"), server("app-2", "up")], "maintained": ["notes"]},
        "lb-2": {"unreachable": True, "msg": "no route"},
        "lb-3": {"failed": True, "msg": "HAProxy does not answer"},
    }
    assert overview.balanced(seen)["problems"] == [
        "lb-1: notes: no new request goes to app-1, which is drained (its last check: L7OK 200)",
        "lb-1: notes: the maintenance page is shown",
        "lb-2: cannot be reached: no route",
        "lb-3: HAProxy does not answer",
    ]


def test_a_disk_that_fills_is_told_of_hosts_without_apps() -> None:
    said: dict[str, dict[str, Any]] = {
        "db-1": {"stdout": f"File Avail 1B-blocks\n/ {GIB * 30} {GIB * 40}\n/var/lib/docker {GIB * 2} {GIB * 80}\n"},
        "backup-1": {"stdout": f"File Avail 1B-blocks\n/srv/x {GIB // 2} {GIB * 5}\n"},
        "redis-1": {"unreachable": True, "msg": "no route"},
        "redis-2": {},
    }
    found = overview.rooms(said)
    assert found["lines"][0] == "  db-1      / 30.0 of 40.0 GiB free, /var/lib/docker 2.0 of 80.0 GiB free"
    assert [problem.partition(". Next: ")[0] for problem in found["problems"]] == [
        "db-1: /var/lib/docker has 2048 MiB left, less than 5 %: a full disk stops Postgres",
        "backup-1: /srv/x has 512 MiB left: a full disk stops Postgres",
        "redis-1: cannot be reached: no route",
    ]


def test_where_apps_are_on_every_host_nothing_is_added() -> None:
    assert overview.rooms({}) == {"lines": [], "problems": []}
