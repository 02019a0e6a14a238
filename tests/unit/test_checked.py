"""What the check of every host says of them together."""

from __future__ import annotations

from typing import Any

import pytest
from flotilla.checked import first_contact, to_provision, unreachable

GROUPS = {"app": ["app-1", "app-2"], "loadbalancer": ["lb-1"], "postgres": ["db-1"]}
HOSTS = ["app-1", "app-2", "lb-1", "db-1"]


def answered(*stale: str, serving: bool = True, groups: dict[str, list[str]] = GROUPS) -> dict[str, Any]:
    """Hosts of which these are not provisioned as they should be."""
    return {
        host: {"groups": groups, "preflight_host": {"stamp_matches": host not in stale, "serves": serving}}
        for host in HOSTS
    }


def test_nobody_is_provisioned_where_all_are_as_they_should_be() -> None:
    assert to_provision(HOSTS, answered()) == []


def test_force_provisions_all() -> None:
    assert [one["host"] for one in to_provision(HOSTS, answered(), force=True)] == HOSTS


@pytest.mark.parametrize(
    ("stale", "serving", "groups", "expected"),
    [
        ("app-2", True, GROUPS, ["unprovisioned", "rolling"]),
        ("app-2", False, GROUPS, ["unprovisioned"]),
        ("db-1", True, GROUPS, ["unprovisioned"]),
        ("app-2", True, {"app": ["app-2"], "loadbalancer": ["lb-1"]}, ["unprovisioned"]),
        ("app-2", True, {"app": ["app-1", "app-2"]}, ["unprovisioned"]),
    ],
)
def test_a_host_that_serves_beside_others_is_provisioned_in_its_turn(
    stale: str, serving: bool, groups: dict[str, list[str]], expected: list[str]
) -> None:
    hosts = answered(stale, serving=serving, groups=groups)
    assert to_provision(HOSTS, hosts) == [{"host": stale, "groups": expected}]


def test_hosts_that_do_not_answer_are_named_with_their_address() -> None:
    hosts = answered()
    hosts["db-1"] = {"ansible_host": "192.0.2.9", "preflight_host": {"unreachable": True, "msg": "no route\n"}}
    assert unreachable(HOSTS, hosts) == ["db-1: ansible_host: 192.0.2.9 cannot be reached: no route"]


def refused(why: str, **variables: str) -> dict[str, Any]:
    """A host that did not answer, among others that did."""
    return answered() | {"db-1": {"preflight_host": {"unreachable": True, "msg": why}, **variables}}


@pytest.mark.parametrize(
    ("why", "account", "expected"),
    [
        ("deploy@192.0.2.9: Permission denied (publickey).", "deploy", ["db-1"]),
        ("deploy@192.0.2.9: Permission denied (publickey,password).", "deploy", ["db-1"]),
        # Somebody else's account is not ours to make: root's word would not help it.
        ("admin@192.0.2.9: Permission denied (publickey).", "admin", []),
        ("root@192.0.2.9: Permission denied (publickey).", "root", []),
        ("connect to host 192.0.2.9 port 22: No route to host", "deploy", []),
        ("Host key verification failed.", "deploy", []),
    ],
)
def test_a_host_that_refuses_the_deploy_user_may_be_bare(why: str, account: str, expected: list[str]) -> None:
    assert first_contact(HOSTS, refused(why, ansible_user=account), "deploy") == expected


def test_a_host_that_refuses_root_too_says_so() -> None:
    hosts = refused("root@192.0.2.9: Permission denied (publickey).", preflight_account="deploy")
    (said,) = unreachable(HOSTS, hosts)
    assert said.startswith("db-1: ansible_host: db-1 cannot be reached: root@192.0.2.9: Permission denied")
    assert said.endswith("(nor could deploy log in)")


def test_a_host_whose_deploy_user_is_lost_is_provisioned_again() -> None:
    hosts = answered()
    hosts["db-1"]["preflight_account"] = "deploy"
    assert [one["host"] for one in to_provision(HOSTS, hosts)] == ["db-1"]
