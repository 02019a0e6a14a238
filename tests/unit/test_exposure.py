"""flotilla.exposure: what the firewall of a host lets in by its groups, whom it would shut out, and the stamp of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from flotilla.exposure import allow_list, declared, lockouts, problems
from flotilla.inventory import Sources
from flotilla.packet_filter import declared_rules
from flotilla.roles import options
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.controller import ansible

ROOT = Path(__file__).resolve().parents[2]
SPECS = options(ROOT / "roles")["firewall"]
FLEET = {"loadbalancer": ["lb-1"], "app": ["app-2", "app-1"], "postgres": ["db-1"], "redis": ["cache-1"]}
ADDRESSES = {"lb-1": "10.0.0.10", "app-1": "10.0.0.11", "app-2": "10.0.0.12", "db-1": "10.0.0.21"}
APPS = ["10.0.0.11", "10.0.0.12"]


def opened(member: list[str], groups: dict[str, list[str]] | None = None, **variables: Any) -> dict[str, Any]:
    """`port,port` → sources of each entry for a host in these groups."""
    entries = allow_list(member, variables, FLEET if groups is None else groups, ADDRESSES)
    return {",".join(str(port) for port in entry["ports"]): entry["sources"] for entry in entries}


# -- by group -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("member", "variables", "expected"),
    [
        (["loadbalancer"], {}, {"80,443": ["public"], "8405": ["metrics"]}),
        (
            ["loadbalancer"],
            {"haproxy_http_port": 8080, "haproxy_https_port": 8443, "haproxy_metrics_port": 9101},
            {"8080,8443": ["public"], "9101": ["metrics"]},
        ),
        (["loadbalancer"], {"haproxy_metrics_address": "127.0.0.1"}, {"80,443": ["public"]}),
        (["loadbalancer"], {"haproxy_bind_address": "::1"}, {"8405": ["metrics"]}),
        (["app"], {}, {"443": ["10.0.0.10"]}),
        (["app"], {"nginx_https_port": 8443}, {"8443": ["10.0.0.10"]}),
        (["app"], {"nginx_bind_address": "127.0.0.1"}, {}),
        (["app"], {"nginx_bind_address": "10.0.0.11"}, {"443": ["10.0.0.10"]}),
        (["app"], {"loadbalancer_mode": "external"}, {"80,443": ["public"]}),
        (
            ["app"],
            {"loadbalancer_mode": "external", "nginx_trusted_proxies": ["192.0.2.0/24"]},
            {"80,443": ["192.0.2.0/24"]},
        ),
        # Whom an edge believes is not whom it lets in, where the balancers are ours.
        (["app"], {"nginx_trusted_proxies": ["192.0.2.0/24"]}, {"443": ["10.0.0.10"]}),
        (["postgres"], {}, {"5432": APPS}),
        (["postgres"], {"postgres_pooler": True}, {"5432,6432": APPS}),
        (["redis"], {"postgres_pooler": True}, {"6379": APPS}),
        (["backup"], {}, {"2222": ["10.0.0.21"]}),
        (["redis", "backup"], {"backup_port": 2022}, {"6379": APPS, "2022": ["10.0.0.21"]}),
        (["redis"], {"redis_port": 6380}, {"6380": APPS}),
        (["postgres", "redis"], {"postgres_port": 5433}, {"5433": APPS, "6379": APPS}),
        (["app", "postgres", "redis"], {}, {"443": ["10.0.0.10"]}),
        (["mine"], {}, {}),
    ],
)
def test_each_group_opens_its_ports(member: list[str], variables: dict[str, Any], expected: dict[str, Any]) -> None:
    assert opened(member, **variables) == expected


def test_hosts_that_send_volumes_reach_the_repository_too() -> None:
    (entry,) = allow_list(["backup"], {}, FLEET, ADDRESSES, ["app-1"])
    assert entry["sources"] == ["10.0.0.11", "10.0.0.21"]


def test_one_droplet_that_does_everything_opens_its_edge_alone() -> None:
    alone = {group: ["staging-1"] for group in ("app", "postgres", "redis")}
    assert opened(list(alone), alone) == {"80,443": ["public"]}


def test_a_database_without_app_hosts_is_open_to_nobody() -> None:
    assert opened(["postgres"], {"postgres": ["db-1"]}) == {"5432": []}


def test_what_the_inventory_declares_takes_the_place_of_it() -> None:
    mine = [{"ports": [8080]}]
    assert allow_list(["app"], {"firewall_allow": mine}, FLEET, ADDRESSES) == mine
    assert allow_list(["app"], {"firewall_allow": []}, FLEET, ADDRESSES) == []


@given(
    st.sets(st.sampled_from(["app", "postgres", "redis", "loadbalancer", "mine"])),
    st.fixed_dictionaries({}, optional={group: st.lists(st.sampled_from(list(ADDRESSES))) for group in FLEET}),
    st.fixed_dictionaries(
        {},
        optional={
            "loadbalancer_mode": st.sampled_from(["haproxy", "external"]),
            "nginx_trusted_proxies": st.sampled_from([[], ["192.0.2.0/24"]]),
            "postgres_port": st.integers(1, 65_535),
        },
    ),
)
def test_the_role_takes_it_and_no_database_is_public(
    member: set[str], groups: dict[str, list[str]], variables: dict[str, Any]
) -> None:
    entries = allow_list(member, variables, groups, ADDRESSES)
    given_to_role = declared({"firewall_ssh_sources": ["192.0.2.1"], "firewall_allow": entries}, SPECS)
    assert declared_rules(given_to_role)[1] == []
    for entry in entries:
        if "app hosts" in entry["comment"]:
            assert set(entry["sources"]) <= set(ADDRESSES.values())


# -- what is wrong with it ------------------------------------------------------------------------------------------


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    file = tmp_path / "production/group_vars/all/firewall.yml"
    file.parent.mkdir(parents=True)
    file.write_text("---\n# EDIT\nfirewall_ssh_sources: [192.0.2.0/24]\nfirewall_public_sources: [cloudflaer]\n")
    return Sources((tmp_path / "production",), tmp_path)


def test_a_wrong_value_is_told_with_its_line(sources: Sources) -> None:
    variables = declared({"firewall_ssh_sources": ["192.0.2.0/24"], "firewall_public_sources": ["cloudflaer"]}, SPECS)
    (problem,) = problems(variables, sources)
    assert str(problem).startswith(
        "production/group_vars/all/firewall.yml:4: firewall_public_sources: there are no networks called 'cloudflaer'"
        " (did you mean `cloudflare`?)"
    )


def test_whoever_would_be_shut_out_is_told_once_with_file_address_and_command(sources: Sources) -> None:
    variables = declared({"firewall_ssh_sources": ["192.0.2.0/24"]}, SPECS)
    connections = {
        "db-1": "203.0.113.9 1 10.0.0.21 22",
        "lb-1": "203.0.113.9 2 10.0.0.10 22",
        "app-1": "192.0.2.7 3 x 22",
    }
    hosts = [(host, variables, connection) for host, connection in connections.items()]
    (problem,) = lockouts(hosts, sources, "ansible-playbook deploy.yml -i inventories/production")
    assert str(problem) == (
        "production/group_vars/all/firewall.yml:3: firewall_ssh_sources: db-1, lb-1: you are connected from"
        " 203.0.113.9, which is in none of them, and would be locked out. Add it, or the network that it is in."
        " Next: correct it, then ansible-playbook deploy.yml -i inventories/production"
    )


def test_nobody_is_shut_out_by_a_connection_that_is_not_known(sources: Sources) -> None:
    variables = declared({"firewall_ssh_sources": ["192.0.2.0/24"]}, SPECS)
    assert lockouts([("db-1", variables, "")], sources, "x") == []


# -- the stamp --------------------------------------------------------------------------------------------------------

PLAY = """
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.debug:
        msg: "{{ inventory_hostname }} stamp={{ lookup('flotilla_stamp') }}"
    - ansible.builtin.debug:
        msg: "{{ inventory_hostname }} allow={{ (allow | to_json | b64encode) }}"
      vars:
        allow: "{{ inventory_hostname | flotilla_firewall_allow(hostvars, groups) }}"
"""


def stamps(directory: Path, apps: int = 2, **variables: Any) -> dict[str, str]:
    """What the stamp and the allow list of each host of a fleet come to: `<host> stamp` and `<host> allow` → text."""
    directory.mkdir(parents=True)
    hosts = {"lb-1": 10, "db-1": 21, **{f"app-{number}": 10 + number for number in range(1, apps + 1)}}
    groups = {"loadbalancer": ["lb-1"], "postgres": ["db-1"], "app": [host for host in hosts if host[:3] == "app"]}
    inventory = {
        group: {"hosts": {host: {"private_address": f"10.0.0.{hosts[host]}"} for host in members}}
        for group, members in groups.items()
    }
    every = {"environment_name": "test", "environment_stamp_key": "key", "apps": [], **variables}
    (directory / "hosts.yml").write_text(yaml.safe_dump({"all": {"vars": every, "children": inventory}}))
    (directory / "play.yml").write_text(PLAY)
    command = ("ansible-playbook", str(directory / "play.yml"), "-i", str(directory / "hosts.yml"))
    done = ansible(*command, ANSIBLE_STDOUT_CALLBACK="default")
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.findall(r'"msg": "(\S+) (stamp|allow)=(\S+)"', done.stdout)
    return {f"{host} {what}": value for host, what, value in found}


def test_the_stamp_of_a_host_goes_stale_when_its_allow_list_changes(tmp_path: Path) -> None:
    before = stamps(tmp_path / "before")
    assert len(before) == 8
    more = stamps(tmp_path / "more", apps=3)
    assert more["db-1 allow"] != before["db-1 allow"]
    assert more["db-1 stamp"] != before["db-1 stamp"]
    # No role's variable, and no host's name or address.
    outside = stamps(tmp_path / "outside", loadbalancer_mode="external")
    assert {key for key in before if outside[key] != before[key]} == {
        f"app-{number} {what}" for number in (1, 2) for what in ("stamp", "allow")
    }
