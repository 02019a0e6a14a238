"""HAProxy's answers, read into values; and what of them is carried over a reload or a restart."""

from __future__ import annotations

from typing import Any

import pytest
from flotilla.balancer import (
    Admin,
    BalancerError,
    Condition,
    Server,
    carried_over,
    chosen,
    configured_servers,
    counted,
    counted_since,
    held,
    kept,
    parse_map,
    parse_reload,
    parse_servers,
    parse_states,
    parse_workers,
)

from tests.unit.haproxy_answers import STATE_HEADER, processes, stat, state_line, states

CONFIGURATION = """
frontend _https
    bind :8443 ssl crt /etc/flotilla/certs/selfsigned/tls.crt

backend notes
    balance leastconn
    default-server ssl verify required
    server app-1 10.2.0.11:8443
    server app-2 [fd00::2]:443

backend _rate_notes
    stick-table type ipv6 size 100k

backend wiki
    server app-1 10.2.0.11:443
"""
APP_1: dict[str, Any] = {
    "pxname": "notes",
    "svname": "app-1",
    "scur": 2,
    "stot": 40,
    "econ": 1,
    "eresp": 2,
    "wretr": 3,
    "wredis": 4,
    "status": "UP",
    "check_status": "L7OK",
    "check_code": 200,
    "hrsp_5xx": 5,
    "req_tot": 41,
    "last_chk": '"OK, ""fine"""',
    "rtime": 12,
}


def server(app: str = "notes", host: str = "app-1", **changes: Any) -> Server:
    zero = dict.fromkeys(
        ("requests", "errors_5xx", "connection_errors", "response_errors", "retries", "redispatches", "response_ms"), 0
    )
    return Server(**{"app": app, "host": host, "status": "UP", "check": "", "sessions": 0, **zero, **changes})


# -- show servers state -------------------------------------------------------------------------------


def test_states() -> None:
    rows = parse_states(states(state_line("notes", "app-1"), state_line("notes", "app-2", admin=9)))
    assert [row.key for row in rows] == [("notes", "app-1"), ("notes", "app-2")]
    assert [row.admin for row in rows] == [Admin(0), Admin.MAINTENANCE | Admin.DRAIN]
    assert rows[0].fields["srv_port"] == "443"


def test_a_balancer_without_servers_has_no_states() -> None:
    assert parse_states(states()) == []


@pytest.mark.parametrize(
    "text",
    ["", "\n", "Unknown command: 'show'\n", STATE_HEADER.replace("1\n", "2\n", 1), "1\n", "1\nnotes app-1\n"],
    ids=["nothing", "empty line", "refusal", "another version", "half", "no header"],
)
def test_anything_else_is_no_state(text: str) -> None:
    with pytest.raises(BalancerError, match="show servers state"):
        parse_states(text)


def test_servers_of_a_configuration() -> None:
    assert configured_servers(CONFIGURATION) == {
        ("notes", "app-1"): ("10.2.0.11", "8443"),
        ("notes", "app-2"): ("fd00::2", "443"),
        ("wiki", "app-1"): ("10.2.0.11", "443"),
    }


def test_a_reload_takes_addresses_and_ports_from_the_configuration_and_the_rest_from_before() -> None:
    dump = states(
        state_line("notes", "app-1", port=443, admin=1, op=0),
        state_line("notes", "app-2", address="10.2.0.12"),
        state_line("notes", "app-3"),
        state_line("gone", "app-1"),
    )
    rows = {row.key: row for row in parse_states(carried_over(dump, CONFIGURATION))}
    assert set(rows) == {("notes", "app-1"), ("notes", "app-2")}
    first = rows["notes", "app-1"]
    assert (first.fields["srv_port"], first.admin, first.fields["srv_op_state"]) == ("8443", Admin.MAINTENANCE, "0")
    second = rows["notes", "app-2"]
    assert (second.fields["srv_addr"], second.fields["srv_port"]) == ("fd00::2", "443")


def test_what_is_carried_over_has_the_form_of_the_dump() -> None:
    unchanged = state_line("wiki", "app-1")
    assert carried_over(states(unchanged), CONFIGURATION) == STATE_HEADER + unchanged


def test_only_what_an_operator_said_outlives_a_restart() -> None:
    dump = states(
        state_line("notes", "up"),
        state_line("notes", "down", op=0),
        state_line("notes", "maintained", admin=Admin.MAINTENANCE),
        state_line("notes", "draining", admin=Admin.DRAIN),
        state_line("notes", "configured", admin=Admin.MAINTENANCE_CONFIGURED),
        state_line("notes", "inherited", admin=Admin.DRAIN_INHERITED),
    )
    assert [row.key[1] for row in parse_states(kept(dump))] == ["maintained", "draining"]
    assert kept(states(state_line("notes", "up"))) == STATE_HEADER
    assert held(dump) == held(kept(dump)) == ["notes/draining", "notes/maintained"]
    assert held(STATE_HEADER) == []


# -- show stat ----------------------------------------------------------------------------------------


def test_servers() -> None:
    assert parse_servers(stat([APP_1])) == [
        Server(
            app="notes",
            host="app-1",
            status="UP",
            check='L7OK 200 OK, "fine"',
            sessions=2,
            requests=41,
            errors_5xx=5,
            connection_errors=1,
            response_errors=2,
            retries=3,
            redispatches=4,
            response_ms=12,
        )
    ]


def test_a_check_in_progress_and_empty_columns() -> None:
    (found,) = parse_servers(
        stat([{"pxname": "notes", "svname": "app-1", "status": "DOWN", "check_status": "* L4TOUT"}])
    )
    assert (found.check, found.sessions, found.requests) == ("* L4TOUT", 0, 0)


def test_without_a_count_of_requests_the_sessions_count() -> None:
    (found,) = parse_servers(stat([{**APP_1, "req_tot": ""}]))
    assert found.requests == 40


@pytest.mark.parametrize("text", ["", "\n", "Permission denied\n", "pxname,svname\n"])
def test_anything_else_is_no_stat(text: str) -> None:
    with pytest.raises(BalancerError, match="show stat"):
        parse_servers(text)


@pytest.mark.parametrize(
    ("status", "sessions", "expected"),
    [
        ("UP", 3, Condition.UP),
        ("UP 1/2", 0, Condition.UP),
        ("no check", 0, Condition.UP),
        ("DOWN", 0, Condition.DOWN),
        ("DOWN 1/2", 0, Condition.DOWN),
        ("NOLB", 0, Condition.DOWN),
        ("DRAIN", 0, Condition.DRAINING),
        ("MAINT", 2, Condition.DRAINING),
        ("MAINT", 0, Condition.DRAINED),
        ("MAINT (via notes/app-2)", 0, Condition.DRAINED),
    ],
)
def test_condition(status: str, sessions: int, expected: Condition) -> None:
    one = server(status=status, sessions=sessions)
    assert one.condition is expected
    assert one.describe()["condition"] == str(expected)


# -- the master ---------------------------------------------------------------------------------------


def test_workers() -> None:
    assert parse_workers(processes(31)) == (31, [])
    assert parse_workers(processes(31, 17, 9)) == (31, [17, 9])


@pytest.mark.parametrize("text", ["", "# workers\n# old workers\n17 worker 1 0d00h00m41s 3.0\n", processes(3) * 2])
def test_there_is_one_current_worker(text: str) -> None:
    with pytest.raises(BalancerError, match=r"names [02] current workers"):
        parse_workers(text)


def test_a_reload_that_succeeded() -> None:
    parse_reload("Success=1\n--\n[NOTICE]   (1) : Loading success.\n")


def test_a_reload_that_failed_tells_the_reasons_only() -> None:
    answer = (
        "Success=0\n--\n"
        "[NOTICE]   (1) : haproxy version is 3.0.11\n"
        "[ALERT]    (1) : config : parsing [/etc/flotilla/conf/haproxy.cfg:1]: unknown keyword 'x' out of section.\n"
        "[ALERT]    (1) : config : Fatal errors found in configuration.\n"
        "[WARNING]  (1) : Loading failure!\n"
    )
    with pytest.raises(BalancerError) as caught:
        parse_reload(answer)
    assert str(caught.value).splitlines() == [
        "HAProxy did not reload; the one before serves on:",
        *answer.splitlines()[3:5],
    ]


@pytest.mark.parametrize("answer", ["", "Unknown command: 'reload'", "Success=0\n--\n"])
def test_a_reload_that_did_not_succeed_without_a_reason(answer: str) -> None:
    with pytest.raises(BalancerError, match="did not reload"):
        parse_reload(answer)


def test_a_map() -> None:
    assert parse_map("0x7f31 notes on\n0x7f32 wiki\n\n") == {"notes": "on", "wiki": ""}
    assert parse_map("\n") == {}


# -- choosing and counting ----------------------------------------------------------------------------

SERVERS = [server("notes", "app-1"), server("wiki", "app-1"), server("notes", "app-2")]


@pytest.mark.parametrize(
    ("apps", "expected"), [([], ["notes", "wiki"]), (["wiki"], ["wiki"]), (["wiki", "notes"], ["notes", "wiki"])]
)
def test_chosen(apps: list[str], expected: list[str]) -> None:
    found = chosen(SERVERS, "app-1", apps)
    assert [one.app for one in found] == expected
    assert {one.host for one in found} == {"app-1"}


@pytest.mark.parametrize(
    ("host", "apps", "problem"),
    [
        ("app-3", [], "the balancer knows no host app-3 (it knows app-1, app-2)"),
        ("app-2", ["wiki"], "the balancer knows no app wiki on app-2"),
        ("app-1", ["notes", "shop"], "the balancer knows no app shop on app-1"),
    ],
)
def test_what_the_balancer_does_not_know(host: str, apps: list[str], problem: str) -> None:
    with pytest.raises(BalancerError) as caught:
        chosen(SERVERS, host, apps)
    assert str(caught.value) == problem


def test_a_balancer_that_knows_nobody() -> None:
    with pytest.raises(BalancerError, match=r"knows no host app-1 \(it knows none\)"):
        chosen([], "app-1")


def test_counters_by_app_and_host() -> None:
    found = counted([server("notes", "app-1", requests=7, retries=1), server("notes", "app-2", errors_5xx=2)])
    assert found["notes"]["app-1"]["requests"] == 7
    assert found["notes"]["app-1"]["retries"] == 1
    assert found["notes"]["app-2"]["errors_5xx"] == 2
    assert "response_ms" not in found["notes"]["app-1"]


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        ({"requests": 5, "errors_5xx": 1}, {"requests": 9, "errors_5xx": 1}, {"requests": 4, "errors_5xx": 0}),
        # After a reload all begin at 0, those too that are higher than before.
        ({"requests": 50, "errors_5xx": 0}, {"requests": 9, "errors_5xx": 3}, {"requests": 9, "errors_5xx": 3}),
        ({"requests": 50, "errors_5xx": 1}, {"requests": 9, "errors_5xx": 3}, {"requests": 9, "errors_5xx": 3}),
        ({}, {"requests": 9, "errors_5xx": 3}, {"requests": 9, "errors_5xx": 3}),
    ],
)
def test_counters_since(before: dict[str, int], now: dict[str, int], expected: dict[str, int]) -> None:
    assert counted_since(before, now) == expected
