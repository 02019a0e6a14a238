"""roles/firewall/templates/firewall.nft.j2: the rules, read as chains of lines."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleError

from tests.unit.nginx_rendering import ROOT, render

ROLE = ROOT / "roles/firewall"
SSH = ["203.0.113.0/24", "2001:db8::/48"]
EDGE = {"ports": [80, 443], "comment": "the edge"}
POSTGRES = {"ports": [5432], "sources": ["10.0.0.11", "fd00::11"], "interface": "eth1"}
NFT = shutil.which("nft", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def text(**variables: Any) -> str:
    values = {**yaml.safe_load((ROLE / "defaults/main.yml").read_text()), "firewall_ssh_sources": SSH, **variables}
    declared = yaml.safe_load((ROLE / "vars/main.yml").read_text())["__firewall_declared"]
    values["__firewall_declared"] = {name: values[name] for name in declared}
    return render(ROLE / "templates/firewall.nft.j2", {**values, "ansible_managed": "Ansible managed"})


def chains(**variables: Any) -> dict[str, list[str]]:
    """Chain → its lines, without comments."""
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in map(str.strip, text(**variables).splitlines()):
        if line.startswith("chain "):
            lines = found.setdefault(line.split()[1], [])
        elif line and line != "}" and not line.startswith(("#", "set ", "table ", "delete ")):
            lines.append(line)
    return found


def place(lines: list[str], part: str) -> int:
    """Where the one line with this part stands."""
    (found,) = [number for number, line in enumerate(lines) if part in line]
    return found


def test_the_table_is_replaced_in_one_transaction_and_nothing_else_is_touched() -> None:
    lines = [line for line in text().splitlines() if line and not line.startswith(("#", " "))]
    assert lines == ["table inet flotilla", "delete table inet flotilla", "table inet flotilla {", "}"]
    assert "flush" not in text()


def test_lines_are_indented_and_nothing_is_left_of_the_template() -> None:
    rendered = text(firewall_allow=[EDGE, POSTGRES], firewall_egress_policy="deny")
    assert not [part for part in ("{{", "{%", "None", "Undefined") if part in rendered]
    assert not [line for line in rendered.splitlines() if line != line.rstrip()]
    assert not [
        line
        for line in rendered.splitlines()
        if line.startswith(" ") and line[: len(line) - len(line.lstrip())] not in (" " * 4, " " * 8)
    ]


def test_what_comes_in_and_is_not_declared_is_dropped() -> None:
    lines = chains()["input"]
    assert lines[0].endswith("policy drop;")
    assert lines[-1] == "goto dropped"
    assert chains()["dropped"][-1] == "counter drop"


def test_what_is_forwarded_from_outside_is_dropped_unless_it_is_published_and_declared() -> None:
    lines = chains()["forward"]
    # Before the engine's own chain, whose priority is `filter`.
    assert lines[0] == "type filter hook forward priority filter - 1; policy accept;"
    assert lines[1:] == [
        "ct state established,related accept",
        "iifname @containers goto from_containers",
        "ct status dnat jump published",
        "goto dropped",
    ]


def test_a_declared_port_is_open_on_the_host_and_where_it_is_published() -> None:
    found = chains(firewall_allow=[EDGE])
    assert 'meta l4proto tcp th dport @allow_0_ports counter accept comment "the edge"' in found["input"]
    assert found["published"] == [
        'meta l4proto tcp ct original proto-dst @allow_0_ports counter accept comment "the edge"'
    ]


def test_sources_and_interface_hold_for_both() -> None:
    found = chains(firewall_allow=[POSTGRES])
    for chain in ("input", "published"):
        lines = [line for line in found[chain] if "@allow_0_ports" in line]
        assert [line.split(" counter ")[0].split()[-3:] for line in lines] == [
            ["ip", "saddr", "@allow_0_ip"],
            ["ip6", "saddr", "@allow_0_ip6"],
        ]
        assert all(line.startswith('iifname "eth1" meta l4proto tcp ') for line in lines)


def test_ssh_is_for_its_own_sources_and_no_published_port() -> None:
    found = chains(firewall_allow=[EDGE], firewall_ssh_ports=[2222])
    assert [line for line in found["input"] if '"SSH"' in line] == [
        'meta l4proto tcp th dport @ssh_ports ip saddr @ssh_ip counter accept comment "SSH"',
        'meta l4proto tcp th dport @ssh_ports ip6 saddr @ssh_ip6 counter accept comment "SSH"',
    ]
    assert "set ssh_ports { type inet_service; flags interval; elements = { 2222 }; }" in text(
        firewall_ssh_ports=[2222]
    )
    assert not [line for line in found["published"] if "ssh" in line]


def test_what_is_open_to_the_outside_is_not_thereby_open_to_containers() -> None:
    found = chains(firewall_allow=[EDGE], firewall_containers_allow=[])
    lines = found["input"]
    assert place(lines, "goto containers_to_host") < min(place(lines, "@allow_0_ports"), place(lines, "@ssh_ip "))
    assert found["containers_to_host"] == ["counter reject with icmpx admin-prohibited"]


def test_containers_may_ask_the_host_for_names_unless_it_is_said_otherwise() -> None:
    assert chains()["containers_to_host"][0].endswith('th dport @containers_0_ports counter accept comment "names"')
    assert "set containers_0_ports { type inet_service; flags interval; elements = { 53 }; }" in text()


def test_a_container_gets_out_but_not_to_the_providers_metadata() -> None:
    lines = chains()["from_containers"]
    assert lines[0] == "oifname @containers accept"
    assert "ip daddr @egress_deny_0_ip counter reject" in lines[1]
    assert lines[-1] == "accept"
    assert "elements = { 169.254.169.254 }" in text()


def test_with_the_policy_deny_a_container_gets_only_where_it_is_let() -> None:
    allow = [{"destinations": ["10.0.0.21"], "comment": "the database"}]
    lines = chains(firewall_egress_policy="deny", firewall_egress_allow=allow)["from_containers"]
    assert lines[-2:] == [
        'ip daddr @egress_allow_0_ip counter accept comment "the database"',
        "counter reject with icmpx admin-prohibited",
    ]


def test_a_neighbour_asks_no_loopback_address() -> None:
    lines = chains()["arrival"]
    assert lines[0] == "type filter hook prerouting priority raw; policy accept;"
    assert 'iifname != "lo" ip daddr 127.0.0.0/8 counter drop' in lines
    assert 'iifname != "lo" ip6 daddr ::1 counter drop' in lines


def test_neighbour_discovery_comes_before_anything_that_could_drop_it() -> None:
    lines = chains()["input"]
    assert place(lines, "jump control") < place(lines, "ct state invalid")


@pytest.mark.parametrize(("limit", "logged"), [(0, False), (5, True)])
def test_drops_are_logged_within_a_limit(limit: int, logged: bool) -> None:
    lines = chains(firewall_log_per_minute=limit)["dropped"]
    assert ("log" in " ".join(lines)) is logged
    assert not logged or lines[0].startswith("limit rate 5/minute ")


def test_cloudflare_is_a_source() -> None:
    rendered = text(firewall_allow=[{"ports": [443], "sources": ["cloudflare"]}])
    assert "173.245.48.0/20" in rendered and "2606:4700::/32" in rendered


def test_what_is_wrong_becomes_no_rule() -> None:
    with pytest.raises(AnsibleError, match=r"firewall_allow\[0\]\.sources"):
        text(firewall_allow=[{"ports": [80], "sources": ["10.0.0.0/8 }; accept"]}])


@pytest.mark.skipif(NFT is None, reason="there is no nft on this machine")
@pytest.mark.parametrize(
    "variables",
    [
        {},
        {
            "firewall_allow": [
                EDGE,
                POSTGRES,
                {"ports": [443, "8000-8010"], "protocol": "both", "sources": ["cloudflare"]},
            ]
        },
        {"firewall_allow": [{"ports": [80], "sources": []}], "firewall_log_per_minute": 0},
        {"firewall_allow": [{"ports": [80], "sources": ["0.0.0.0/0"]}, {"ports": [81], "sources": ["::/0"]}]},
        {"firewall_egress_policy": "deny", "firewall_egress_allow": [{"destinations": ["10.0.0.0/8", "fd00::/8"]}]},
        {"firewall_containers_allow": [], "firewall_egress_deny": [{}]},
    ],
)
def test_nft_accepts_the_rules(tmp_path: Path, variables: dict[str, Any]) -> None:
    rules = tmp_path / "firewall.nft"
    rules.write_text(text(**variables))
    # In a network of its own: it needs no right to the machine's, and sees none of its rules.
    apart = ["unshare", "--net", *(["--map-root-user"] if os.geteuid() else [])]
    if subprocess.run([*apart, "true"], capture_output=True).returncode != 0:
        pytest.skip("this machine lets nobody make a network namespace")
    checked = subprocess.run([*apart, str(NFT), "--check", "--file", str(rules)], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
