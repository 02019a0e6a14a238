"""Draining, taking back, reloading and the maintenance page, with a balancer that is a model in Python."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from flotilla.balancer import Admin, BalancerError, parse_states
from flotilla.balancing import Balancer, HostsError, Master, each

from tests.unit.balancer_model import Backend, Clock, FakeMaster, Key


@dataclass
class Site:
    """A balancer with two hosts and two apps, as the tests use it."""

    master: FakeMaster
    clock: Clock
    balancer: Balancer

    def server(self, app: str = "notes", host: str = "app-1") -> Backend:
        return self.master.current[app, host]

    def kept(self) -> dict[Key, Admin]:
        rows = parse_states((self.balancer.directory / "state/servers").read_text())
        return {row.key: row.admin for row in rows}

    def every(self, seconds: float, happen: Callable[[], None], times: int = 100) -> None:
        self.clock.events += [(self.clock.seconds + seconds * number, happen) for number in range(1, times + 1)]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    for name in ("state", "conf"):
        (tmp_path / name).mkdir()
    (tmp_path / "conf/haproxy.cfg").write_text(
        "".join(
            f"backend {app}\n    server app-1 10.2.0.11:443\n    server app-2 10.2.0.12:443\n"
            for app in ("notes", "wiki")
        )
    )
    servers = {(app, host): Backend() for app in ("notes", "wiki") for host in ("app-1", "app-2")}
    master, clock = FakeMaster(tmp_path / "state", {30: servers}), Clock()
    return Site(master, clock, Balancer(master, tmp_path, clock.now, clock.sleep))


def older(site: Site, sessions: int) -> dict[Key, Backend]:
    """A worker of before a reload, with sessions to notes on app-1."""
    servers = {("notes", "app-1"): Backend(sessions=sessions)}
    site.master.workers[17] = servers
    return servers


# -- draining -----------------------------------------------------------------------------------------


def test_a_drained_host_gets_no_request_of_any_app(site: Site) -> None:
    assert site.balancer.drain("app-1", seconds=30)
    assert {site.server(app, "app-1").status for app in ("notes", "wiki")} == {"MAINT"}
    assert {site.server(app, "app-2").status for app in ("notes", "wiki")} == {"UP"}
    assert site.kept() == {("notes", "app-1"): Admin.MAINTENANCE, ("wiki", "app-1"): Admin.MAINTENANCE}


def test_a_host_is_drained_and_taken_back_where_nobody_checks_it_too(site: Site) -> None:
    for app in ("notes", "wiki"):
        for host in ("app-1", "app-2"):
            site.master.current[f"_any_{app}", host] = Backend()
    unchecked = site.server("_any_notes")
    assert {one.app for one in site.balancer.servers()} == {"notes", "wiki"}
    unchecked.sessions = 1
    site.every(2.0, lambda: setattr(unchecked, "sessions", 0), times=1)
    site.every(0.5, site.master.check)
    site.balancer.drain("app-1", ["notes"], seconds=5)
    assert site.clock.seconds >= 2
    assert unchecked.admin is Admin.MAINTENANCE
    assert site.server("_any_notes", "app-2").admin == site.server("_any_wiki").admin == Admin(0)
    site.balancer.ready("app-1", ["notes"], seconds=5)
    assert unchecked.admin == Admin(0)


def test_one_app_alone_is_drained(site: Site) -> None:
    assert site.balancer.drain("app-1", ["wiki"], seconds=30)
    assert (site.server("wiki").status, site.server("notes").status) == ("MAINT", "UP")


@pytest.mark.parametrize("changes", [{"up": False}, {"admin": Admin.MAINTENANCE}])
def test_the_last_host_is_not_drained_unless_asked_for(site: Site, changes: dict[str, Any]) -> None:
    site.master.current["wiki", "app-2"] = Backend(**changes)
    with pytest.raises(BalancerError, match="app-1 is the only host that takes the traffic of wiki, so it is not"):
        site.balancer.drain("app-1", seconds=5)
    assert {site.server(app, "app-1").status for app in ("notes", "wiki")} == {"UP"}
    assert site.balancer.drain("app-1", ["notes"], seconds=5)
    assert site.balancer.drain("app-1", seconds=5, last=True)


def test_a_host_that_takes_no_traffic_may_always_be_drained(site: Site) -> None:
    for host in ("app-1", "app-2"):
        site.server("notes", host).up = False
    assert site.balancer.drain("app-1", ["notes"], seconds=5)


def test_a_host_can_be_drained_without_a_wait(site: Site) -> None:
    site.server().sessions = 2
    assert site.balancer.drain("app-1", seconds=5, wait=False)
    assert (site.server().status, site.server().sessions, site.clock.seconds) == ("MAINT", 2, 0.0)


def test_draining_waits_for_what_is_in_flight(site: Site) -> None:
    site.server().sessions = 2
    site.server("notes", "app-2").sessions = 9
    site.clock.events.append((4.0, lambda: setattr(site.server(), "sessions", 0)))
    site.balancer.drain("app-1", seconds=30)
    assert site.clock.seconds == pytest.approx(4.0, abs=0.2)


def test_draining_waits_for_a_worker_of_before_a_reload_too(site: Site) -> None:
    old = older(site, sessions=1)
    site.clock.events.append((3.0, lambda: setattr(old["notes", "app-1"], "sessions", 0)))
    site.balancer.drain("app-1", seconds=30)
    assert site.clock.seconds == pytest.approx(3.0, abs=0.2)
    # Its connections go on: it must not send new requests there either.
    assert old["notes", "app-1"].status == "MAINT"


def test_an_old_worker_that_ends_has_nothing_in_flight(site: Site) -> None:
    older(site, sessions=1)
    site.clock.events.append((2.0, lambda: site.master.end(17)))
    site.balancer.drain("app-1", seconds=30)
    assert site.clock.seconds == pytest.approx(2.0, abs=0.2)


def test_an_old_worker_may_end_between_two_questions(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Balancer, "workers", lambda _: [30, 17])
    assert site.balancer.drain("app-1", seconds=30)
    assert site.server().status == "MAINT"


def test_draining_a_drained_host_changes_nothing_but_waits(site: Site) -> None:
    site.balancer.drain("app-1", seconds=30)
    site.server().sessions = 1
    site.clock.events.append((2.0, lambda: setattr(site.server(), "sessions", 0)))
    before = len(site.master.commands)
    assert not site.balancer.drain("app-1", seconds=30)
    assert site.clock.seconds == pytest.approx(2.0, abs=0.2)
    assert len(site.master.commands) == before


def test_at_the_deadline_a_host_is_said_not_to_be_drained_and_stays_out(site: Site) -> None:
    site.server().sessions = 3
    with pytest.raises(BalancerError, match=r"app-1 still has 3 requests or websockets in flight after 5 s"):
        site.balancer.drain("app-1", seconds=5)
    assert site.clock.seconds == pytest.approx(5.0, abs=0.2)
    assert site.server().status == "MAINT"
    assert site.server().sessions == 3
    assert site.kept()["notes", "app-1"] is Admin.MAINTENANCE


def test_cut_ends_what_is_left_at_the_deadline_and_not_before(site: Site) -> None:
    old = older(site, sessions=1)
    site.server().sessions = 2
    site.server("notes", "app-2").sessions = 4
    assert site.balancer.drain("app-1", seconds=5, cut=True)
    assert site.clock.seconds == pytest.approx(5.1, abs=0.2)
    assert (site.server().sessions, old["notes", "app-1"].sessions) == (0, 0)
    assert site.server("notes", "app-2").sessions == 4
    assert site.balancer.notes == ["ended 3 requests or websockets to app-1"]


def test_nothing_is_cut_that_ends_by_itself(site: Site) -> None:
    site.server().sessions = 2
    site.clock.events.append((1.0, lambda: setattr(site.server(), "sessions", 0)))
    site.balancer.drain("app-1", seconds=5, cut=True)
    assert not [command for command in site.master.commands if command.startswith("shutdown")]
    assert site.balancer.notes == []


def test_what_even_a_cut_does_not_end_is_an_error(site: Site) -> None:
    site.master.workers[30] = {("stubborn", "app-1"): Backend(sessions=1), ("stubborn", "app-2"): Backend()}
    with pytest.raises(BalancerError) as caught:
        site.balancer.drain("app-1", seconds=5, cut=True)
    message = "app-1 still has 1 requests or websockets in flight 10 s after they were ended; it gets no new ones"
    assert str(caught.value).startswith(message)
    assert "cut=true" not in str(caught.value)
    assert site.clock.seconds == pytest.approx(15.0, abs=0.3)


def test_an_unknown_host_is_an_error_and_nothing_changes(site: Site) -> None:
    with pytest.raises(BalancerError, match=r"no host app-9 \(it knows app-1, app-2\)"):
        site.balancer.drain("app-9", seconds=5)
    assert site.master.commands == []


def test_a_refusal_is_told(site: Site) -> None:
    site.master.ignores = "state maint"
    with pytest.raises(BalancerError, match=r"refused `set server notes/app-1 state maint`: No such server"):
        site.balancer.drain("app-1", seconds=5)


# -- taking back --------------------------------------------------------------------------------------


def test_a_host_comes_back_when_its_checks_pass_and_never_before(site: Site) -> None:
    site.balancer.drain("app-1", seconds=5)
    seen = []

    def checked() -> None:
        seen.append([site.server(app).status for app in ("notes", "wiki")])
        site.master.check()

    site.every(1.0, checked)
    assert site.balancer.ready("app-1", seconds=30)
    assert seen == [["DOWN", "DOWN"], ["DOWN 1/2", "DOWN 1/2"]]
    assert [site.server(app).status for app in ("notes", "wiki")] == ["UP", "UP"]
    assert site.clock.seconds == pytest.approx(2.0, abs=0.2)
    assert site.kept() == {}


def test_a_host_whose_checks_do_not_pass_stays_out(site: Site) -> None:
    site.balancer.drain("app-1", seconds=5)
    site.server("wiki").healthy = False
    site.every(1.0, site.master.check)
    with pytest.raises(BalancerError) as caught:
        site.balancer.ready("app-1", seconds=10)
    assert "app-1 is not ready after 10 s and stays out: wiki on app-1: DOWN, L7OK" in str(caught.value)
    assert [site.server(app).status for app in ("notes", "wiki")] == ["MAINT", "MAINT"]
    assert set(site.kept()) == {("notes", "app-1"), ("wiki", "app-1")}


def test_a_host_that_was_not_drained_is_only_looked_at(site: Site) -> None:
    assert not site.balancer.ready("app-1", seconds=10)
    assert site.master.commands == []


def test_a_host_that_is_down_without_being_drained_is_an_error_and_is_left_alone(site: Site) -> None:
    site.server().up = site.server().healthy = False
    with pytest.raises(BalancerError, match="app-1 is not up after 3 s: notes on app-1: DOWN"):
        site.balancer.ready("app-1", seconds=3)
    assert site.master.commands == []


def test_each_host_is_asked_whatever_came_of_the_one_before(site: Site) -> None:
    """One that stays out is no reason for the next to stay out too; and it is told which does."""
    site.balancer.drain("app-1", seconds=1)
    site.server(host="app-2").up = site.server(host="app-2").healthy = False
    site.every(1.0, site.master.check)
    with pytest.raises(HostsError, match="app-2 is not up") as told:
        each(["app-9", "app-2", "app-1"], lambda host: site.balancer.ready(host, seconds=5))
    assert told.value.trouble == {"app-9": "the balancer knows no host app-9 (it knows app-1, app-2)"}
    assert site.kept() == {}


def test_one_app_alone_is_taken_back(site: Site) -> None:
    site.balancer.drain("app-1", seconds=5)
    site.every(1.0, site.master.check)
    assert site.balancer.ready("app-1", ["notes"], seconds=10)
    assert (site.server("notes").status, site.server("wiki").status) == ("UP", "MAINT")
    assert set(site.kept()) == {("wiki", "app-1")}


def test_a_worker_of_before_a_reload_that_lacks_the_server_is_no_obstacle(site: Site) -> None:
    site.master.workers[17] = {}
    site.every(1.0, site.master.check)
    assert site.balancer.drain("app-1", seconds=5)
    assert site.balancer.ready("app-1", seconds=10)


# -- reloading ----------------------------------------------------------------------------------------


def test_what_is_drained_survives_a_reload_and_what_is_down_too(site: Site) -> None:
    site.balancer.drain("app-1", ["notes"], seconds=5)
    site.server("wiki", "app-2").up = site.server("wiki", "app-2").healthy = False
    site.balancer.reload()
    assert list(site.master.workers) == [40, 30]
    assert site.server("notes", "app-1").status == "MAINT"
    assert site.server("wiki", "app-2").status == "DOWN"
    assert site.server("wiki", "app-1").status == "UP"


def test_after_a_reload_only_what_is_drained_stays_written_down(site: Site) -> None:
    site.balancer.drain("app-1", ["notes"], seconds=5)
    site.balancer.reload()
    assert site.kept() == {("notes", "app-1"): Admin.MAINTENANCE}


def test_a_reload_takes_a_new_port(site: Site) -> None:
    path = site.balancer.directory / "conf/haproxy.cfg"
    path.write_text(path.read_text().replace("10.2.0.11:443", "10.2.0.11:8443"))
    site.balancer.reload()
    assert [site.server("notes", host).port for host in ("app-1", "app-2")] == [8443, 443]


def test_a_reload_that_fails_leaves_what_was_drained(site: Site) -> None:
    site.balancer.drain("app-1", seconds=5)
    site.master.refuses_reload = True
    with pytest.raises(BalancerError, match=r"did not reload; the one before serves on:\n.*unknown keyword"):
        site.balancer.reload()
    assert list(site.master.workers) == [30]
    assert site.server().status == "MAINT"
    assert set(site.kept()) == {("notes", "app-1"), ("wiki", "app-1")}


def test_a_reload_that_forgets_is_an_error(site: Site) -> None:
    site.balancer.drain("app-1", ["notes"], seconds=5)
    site.master.forgets = True
    with pytest.raises(BalancerError, match="forgot that notes/app-1 was drained"):
        site.balancer.reload()


# -- the maintenance page -----------------------------------------------------------------------------


def test_the_page_goes_on_and_off_once(site: Site) -> None:
    written = site.balancer.directory / "state/maintenance"
    assert site.balancer.maintain(["notes", "wiki"], on=True) == ["notes", "wiki"]
    assert site.balancer.maintain(["notes"], on=True) == []
    assert site.balancer.maintained() == ["notes", "wiki"]
    assert written.read_text() == "notes on\nwiki on\n"
    assert site.balancer.maintain(["notes"], on=False) == ["notes"]
    assert site.balancer.maintain(["notes"], on=False) == []
    assert site.balancer.maintained() == ["wiki"]
    assert written.read_text() == "wiki on\n"


def test_the_page_survives_a_reload(site: Site) -> None:
    site.balancer.maintain(["notes"], on=True)
    site.balancer.reload()
    assert list(site.master.workers) == [40, 30]
    assert site.balancer.maintained() == ["notes"]


def test_the_page_is_shown_by_workers_of_before_a_reload_too(site: Site) -> None:
    older(site, sessions=1)
    site.balancer.maintain(["notes"], on=True)
    assert site.master.shown[17] == {"notes"}
    # One that began without it has nothing to forget.
    site.master.shown[17].clear()
    assert site.balancer.maintain(["notes"], on=False) == ["notes"]
    assert site.balancer.maintained() == []


# -- files and the socket -----------------------------------------------------------------------------


def test_the_container_can_read_what_is_written_down(site: Site) -> None:
    site.balancer.drain("app-1", seconds=5)
    state = site.balancer.directory / "state"
    assert (state / "servers").stat().st_mode & 0o777 == 0o644
    assert [path.name for path in state.iterdir()] == ["servers"]


def test_a_worker_that_ended_is_an_error_with_what_to_do(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Balancer, "workers", lambda _: [99])
    with pytest.raises(BalancerError, match=r"worker 99 ended just now\. Next: run again"):
        site.balancer.servers()


def test_a_worker_that_is_too_busy_to_answer_is_asked_again(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    busy = iter(["Can't connect to the target CLI!\n"] * 3)
    tell = site.master.tell
    monkeypatch.setattr(site.master, "tell", lambda pid, command: next(busy, None) or tell(pid, command))
    assert len(site.balancer.servers()) == 4
    assert site.clock.seconds == pytest.approx(0.3)
    monkeypatch.setattr(site.master, "tell", lambda *_: "Can't connect to the target CLI!\n")
    with pytest.raises(BalancerError, match="Can't connect"):
        site.balancer.servers()


def test_a_master_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BalancerError, match=r"master\.sock: HAProxy does not answer .* Next: ansible-playbook"):
        Master(tmp_path / "master.sock").ask("show proc")
