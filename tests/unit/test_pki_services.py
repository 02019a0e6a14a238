"""Which certificates the hosts of an environment get, and whom balancers trust about edges."""

from __future__ import annotations

from typing import Any

import pytest
from flotilla.pki.certificates import problems
from flotilla.pki.services import certificates_of, needs_authority, serves_balancers, trusted_about_edges

AUTHORITIES = [{"certificate": "one", "key": "a key"}, {"certificate": "two"}]


def host(*groups: str, balancers: tuple[str, ...] = (), **more: Any) -> dict[str, Any]:
    apps = [{"name": "notes", "domains": ["www.example.com", "*.Example.com"]}]
    named = {"inventory_hostname": "db-1", "private_address": "10.0.0.1", "apps": apps, **more}
    return {**named, "group_names": list(groups), "groups": {"loadbalancer": list(balancers)}}


def by_name(variables: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found = certificates_of(variables)
    assert problems(found) == []
    return {one["name"]: one for one in found}


def test_a_database_has_the_name_of_its_stack_and_its_private_address() -> None:
    found = by_name(host("postgres", "redis", postgres_uid=70))
    assert found["postgres"]["dns_names"] == ["postgres", "db-1"]
    assert found["redis"]["dns_names"] == ["redis", "db-1"]
    assert {tuple(one["ip_addresses"]) for one in found.values()} == {("10.0.0.1",)}
    assert (found["postgres"]["owner"], found["redis"]["owner"]) == ("70", "999")
    assert {one["mode"] for one in found.values()} == {"0600"}


def test_a_pooler_shows_the_certificate_of_its_database() -> None:
    found = by_name(host("postgres", "redis", postgres_pooler=True))
    assert found["postgres"]["dns_names"] == ["postgres", "db-1", "pgbouncer"]
    assert found["redis"]["dns_names"] == ["redis", "db-1"]


def test_a_single_host_needs_no_private_address() -> None:
    assert by_name(host("postgres", private_address=""))["postgres"]["ip_addresses"] == []


def test_an_edge_behind_a_balancer_has_all_its_names() -> None:
    edge = by_name(host("app", balancers=("lb-1",), nginx_extra_names=["127.0.0.1", "localhost"]))["edge"]
    assert edge["dns_names"] == ["www.example.com", "*.example.com", "localhost", "db-1"]
    assert edge["ip_addresses"] == ["127.0.0.1", "10.0.0.1"]
    assert edge["owner"] == "101"


@pytest.mark.parametrize(
    "variables",
    [
        host("app"),
        host("app", balancers=("lb-1",), nginx_certificate="given.crt"),
        host("loadbalancer", balancers=("lb-1",)),
    ],
    ids=["faces the internet", "was given one", "a balancer"],
)
def test_other_hosts_get_none(variables: dict[str, Any]) -> None:
    assert not serves_balancers(variables)
    assert certificates_of(variables) == []
    assert trusted_about_edges(AUTHORITIES, [variables]) == []


def test_balancers_trust_all_authorities_and_see_no_key() -> None:
    edges = [host("app", balancers=("lb-1",), nginx_certificate="given.crt"), host("app", balancers=("lb-1",))]
    assert trusted_about_edges(AUTHORITIES, edges) == ["one", "two"]


@pytest.mark.parametrize(("groups", "needs"), [({"app": ["a"]}, False), ({"app": ["a"], "redis": ["a"]}, True)])
def test_an_environment_without_inner_connections_needs_no_authority(groups: dict[str, list[str]], needs: bool) -> None:
    assert needs_authority(groups) is needs
