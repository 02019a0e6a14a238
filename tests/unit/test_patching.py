"""What is due on a host: what apt, needrestart and the engine say, and what is made of it."""

from __future__ import annotations

import pytest
from flotilla.patching import Found, Reboot, Upgrade, drained, due, found, newer, order, summary, trouble, unwell
from hypothesis import given
from hypothesis import strategies as st

SIMULATED = """\
Reading package lists...
Calculating upgrade...
The following packages will be upgraded:
  base-files libssl3t64 linux-image-amd64 tzdata
4 upgraded, 1 newly installed, 0 to remove and 0 not upgraded.
Inst base-files [13.8+deb13u1] (13.8+deb13u2 Debian:13.2/stable [amd64]) []
Inst libssl3t64 [3.5.1-1] (3.5.4-1~deb13u1 Debian-Security:13/stable-security [amd64])
Inst linux-image-6.12.48+deb13-amd64 (6.12.48-1 Debian-Security:13/stable-security [amd64])
Inst linux-image-amd64 [6.12.43-1] (6.12.48-1 Debian-Security:13/stable-security [amd64])
Inst tzdata [2025a-0] (2025b-0 Ubuntu:24.04/noble-updates, Ubuntu:24.04/noble-security [all])
Conf base-files (13.8+deb13u2 Debian:13.2/stable [amd64])
"""
SECURE = ["libssl3t64", "linux-image-amd64", "tzdata"]
NEEDRESTART = """\
NEEDRESTART-VER: 3.8
NEEDRESTART-KCUR: 6.12.43+deb13-amd64
NEEDRESTART-KEXP: 6.12.48+deb13-amd64
NEEDRESTART-KSTA: {}
NEEDRESTART-SVC: ssh.service
NEEDRESTART-SVC: cron.service
"""
NOTHING = Found((), False, ())


@pytest.mark.parametrize(
    ("upgrade", "expected"), [(Upgrade.SECURITY, SECURE), (Upgrade.FULL, sorted(["base-files", *SECURE]))]
)
def test_what_is_newer_by_its_archive(upgrade: Upgrade, expected: list[str]) -> None:
    assert newer(SIMULATED, upgrade) == expected


@given(st.text(), st.sampled_from(Upgrade))
def test_whatever_apt_says_is_read(text: str, upgrade: Upgrade) -> None:
    assert set(newer(text, Upgrade.SECURITY)) <= set(newer(text, Upgrade.FULL))
    assert all(name and " " not in name for name in newer(text, upgrade))


@given(
    st.from_regex(r"[a-z0-9][a-z0-9+.-]{1,20}(:i386)?", fullmatch=True),
    st.from_regex(r"[0-9][A-Za-z0-9.+~:-]{0,12}", fullmatch=True),
    st.booleans(),
)
def test_a_package_is_found_by_its_name(name: str, version: str, secure: bool) -> None:
    archive = "Debian-Security:13/stable-security" if secure else "Debian:13.2/stable"
    line = f"Inst {name} [{version}] ({version}+1 {archive} [amd64])\n"
    assert newer(line, Upgrade.FULL) == [name]
    assert newer(line, Upgrade.SECURITY) == ([name] if secure else [])


@pytest.mark.parametrize(
    ("old", "expected"),
    [
        ("", False),
        ("REBOOT\n", True),
        (NEEDRESTART.format(1), False),
        (NEEDRESTART.format(2), True),
        (NEEDRESTART.format(3), True),
        ("REBOOT\n" + NEEDRESTART.format(0), True),
    ],
)
def test_a_host_waits_for_a_reboot(old: str, expected: bool) -> None:
    assert found("", Upgrade.SECURITY, old).reboot is expected


def test_services_that_run_old_code() -> None:
    assert found("", Upgrade.SECURITY, NEEDRESTART.format(1)).services == ("cron.service", "ssh.service")


@pytest.mark.parametrize(
    ("what", "policy", "expected", "said"),
    [
        (NOTHING, Reboot.AUTO, False, "nothing to do"),
        (NOTHING, Reboot.ALWAYS, True, "reboot"),
        (Found(("tzdata",), False, ()), Reboot.AUTO, True, "upgrade tzdata"),
        (Found(("tzdata",), True, ("ssh.service",)), Reboot.AUTO, True, "upgrade tzdata; reboot"),
        (Found((), False, ("ssh.service",)), Reboot.AUTO, True, "restart ssh.service"),
        (Found((), True, ()), Reboot.NEVER, False, "it waits for a reboot, and patch_reboot is never"),
    ],
)
def test_what_is_due_is_done_and_said(what: Found, policy: Reboot, expected: bool, said: str) -> None:
    assert (due(what, policy), summary(what, policy)) == (expected, said)


def test_a_container_is_well_when_it_runs_and_is_healthy() -> None:
    up = {"a": "(healthy)", "b": "", "c": "(health: starting)", "d": "(unhealthy)"}
    listed = [f"{name} Up 3 seconds {health}" for name, health in up.items()]
    assert unwell(listed, ["a", "b"]) == []
    assert unwell(listed, ["a", "c", "d", "e"]) == ["c (starting)", "d (unhealthy)", "e (does not run)"]
    assert unwell(["f Restarting (1) 3 seconds ago"], ["f"]) == ["f (Restarting (1) 3 seconds ago)"]


def test_hosts_with_data_come_last_and_none_twice() -> None:
    groups = {"all": ["db", "lb", "a1", "a2", "cache", "spare"], "app": ["a1", "a2"], "loadbalancer": ["lb"]}
    assert order({**groups, "postgres": ["db"], "redis": ["cache"]}) == ["a1", "a2", "lb", "spare", "cache", "db"]
    assert order({"all": ["one"], "app": ["one"], "postgres": ["one"], "redis": ["one"]}) == ["one"]


@pytest.mark.parametrize(("condition", "expected"), [("drained", True), ("up", False), ("down", False)])
def test_a_host_that_somebody_drained(condition: str, expected: bool) -> None:
    balanced = {"results": [{"servers": [{"host": "a1", "condition": condition}, {"host": "a2", "condition": "up"}]}]}
    assert drained(balanced, "a1") is expected
    assert drained({}, "a1") is False


def test_why_a_task_failed() -> None:
    assert trouble({"msg": "no\nroom"}) == "no room"
    assert trouble({"msg": "all", "results": [{"msg": "fine"}, {"msg": "locked", "failed": True}]}) == "locked"
