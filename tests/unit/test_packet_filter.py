"""What the role firewall is told: what it takes, what it refuses, and whom it would lock out."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from flotilla.packet_filter import declared_rules, locked_out
from flotilla.ranges import Network, collapsed, merged_ports, network
from hypothesis import given
from hypothesis import strategies as st

DECLARED: dict[str, Any] = {
    "firewall_ssh_sources": ["203.0.113.0/24"],
    "firewall_ssh_ports": [22],
    "firewall_container_interfaces": ["docker0", "br-*"],
    "firewall_networks_default": {"office": ["203.0.113.0/24", "2001:db8::/48"]},
}


def problems(**variables: Any) -> list[str]:
    return declared_rules({**DECLARED, **variables})[1]


def allowed(**entry: Any) -> dict[str, Any]:
    """The one entry of firewall_allow as the template gets it."""
    rules, wrong = declared_rules({**DECLARED, "firewall_allow": [entry]})
    assert not wrong
    (one,) = rules.describe()["allow"]
    found: dict[str, Any] = one
    return found


# -- entries ------------------------------------------------------------------------------------------


def test_nothing_is_wrong_with_the_least_that_can_be_declared() -> None:
    assert problems() == []


@pytest.mark.parametrize(
    ("sources", "addresses"),
    [
        (["any"], [""]),
        (["0.0.0.0/0", "::/0"], [""]),
        ("any", [""]),
        (["0.0.0.0/0"], ["ip saddr @allow_0_ip"]),
        (["10.0.0.11"], ["ip saddr @allow_0_ip"]),
        (["2001:db8::1"], ["ip6 saddr @allow_0_ip6"]),
        (["office"], ["ip saddr @allow_0_ip", "ip6 saddr @allow_0_ip6"]),
    ],
)
def test_sources_are_matched_by_family(sources: Any, addresses: list[str]) -> None:
    assert allowed(ports=[80], sources=sources)["addresses"] == addresses


def test_without_sources_an_entry_is_for_everybody() -> None:
    assert allowed(ports=[80])["addresses"] == [""]


def test_a_list_of_sources_that_came_out_empty_opens_nothing() -> None:
    assert allowed(ports=[5432], sources=[])["addresses"] == []


def test_a_name_of_ones_own_takes_the_place_of_the_default_one() -> None:
    declared = {**DECLARED, "firewall_networks_custom": {"office": ["192.0.2.7"]}}
    rules, wrong = declared_rules({**declared, "firewall_allow": [{"ports": [80], "sources": ["office"]}]})
    assert not wrong
    (one,) = rules.describe()["allow"]
    assert one["sets"] == [{"name": "allow_0_ip", "family": "ip", "elements": ["192.0.2.7"]}]


@pytest.mark.parametrize("name", ["public", "metrics"])
def test_a_variable_says_who_is_meant_by_a_name(name: str) -> None:
    entry = {"firewall_allow": [{"ports": [80], "sources": [name]}]}
    for sources, elements in ((["office"], ["203.0.113.0/24"]), (["192.0.2.7"], ["192.0.2.7"]), ([], None)):
        rules, wrong = declared_rules({**DECLARED, **entry, f"firewall_{name}_sources": sources})
        assert not wrong
        (one,) = rules.describe()["allow"]
        assert [of["elements"] for of in one["sets"] if of["family"] == "ip"] == ([elements] if elements else [])
    rules, _ = declared_rules({**DECLARED, **entry, f"firewall_{name}_sources": ["any"]})
    assert rules.describe()["allow"][0]["addresses"] == [""]
    assert problems(**{f"firewall_{name}_sources": ["ofice"]}) == [
        f"firewall_{name}_sources: there are no networks called 'ofice' (did you mean `office`?);"
        + " any, office"
        + (", public" if name == "metrics" else "")
    ]
    assert problems(firewall_networks_custom={name: ["192.0.2.7"]}) != []


def test_your_entries_come_after_those_of_the_playbook() -> None:
    lists = {"firewall_allow": [{"ports": [80]}], "firewall_allow_custom": [{"ports": [81]}]}
    rules, _ = declared_rules({**DECLARED, **lists})
    assert [one["ports"] for one in rules.describe()["allow"]] == [["80"], ["81"]]


def test_the_sets_of_all_entries_have_names_of_their_own() -> None:
    entry = {"ports": [80], "sources": ["office"]}
    lists = {name: [entry, entry] for name in ("firewall_allow", "firewall_allow_custom", "firewall_containers_allow")}
    egress = {"ports": [80], "destinations": ["office"]}
    lists |= {name: [egress, egress] for name in ("firewall_egress_deny", "firewall_egress_allow")}
    rules, _ = declared_rules({**DECLARED, **lists})
    every = rules.describe()["all"]
    names = [one["ports_set"] for one in every] + [each["name"] for one in every for each in one["sets"]]
    assert len(every) == 11 and len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("protocol", "match"),
    [("tcp", "meta l4proto tcp"), ("udp", "meta l4proto udp"), ("both", "meta l4proto { tcp, udp }")],
)
def test_a_port_is_one_of_its_protocol(protocol: str, match: str) -> None:
    assert allowed(ports=[53], protocol=protocol)["protocol"] == match


@pytest.mark.parametrize("ports", [80, "80", [80], ["80"]])
def test_one_port_may_stand_without_a_list(ports: Any) -> None:
    assert allowed(ports=ports)["ports"] == ["80"]


def test_an_entry_without_a_comment_is_known_by_its_place() -> None:
    assert allowed(ports=[80])["comment"] == "firewall_allow[0]"


def test_without_ports_a_destination_is_closed_for_every_protocol() -> None:
    rules, wrong = declared_rules({**DECLARED, "firewall_egress_deny": [{"destinations": ["office"]}]})
    assert not wrong
    (one,) = rules.describe()["egress_deny"]
    assert (one["ports"], one["protocol"]) == ([], "")
    assert one["addresses"] == ["ip daddr @egress_deny_0_ip", "ip6 daddr @egress_deny_0_ip6"]


# -- what is refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ({"ports": ["http"]}, "firewall_allow[0].ports: 'http' is not a port"),
        ({"ports": [0]}, "firewall_allow[0].ports: '0' is not a port"),
        ({"ports": [65536]}, "firewall_allow[0].ports: '65536' is not a port"),
        ({"ports": ["90-80"]}, "firewall_allow[0].ports: '90-80' is not a port"),
        ({"ports": ["80 }; drop"]}, "firewall_allow[0].ports: '80 }; drop' is not a port"),
        ({"ports": [True]}, "firewall_allow[0].ports: True is not a port"),
        ({"ports": []}, "firewall_allow[0].ports: an entry needs at least one port"),
        ({}, "firewall_allow[0].ports: an entry needs at least one port"),
        ({"ports": [80], "protocol": "icmp"}, "firewall_allow[0].protocol: 'icmp' is not tcp, udp, both"),
        ({"ports": [80], "sources": ["10.0.0.5/16"]}, "did you mean 10.0.0.0/16?"),
        ({"ports": [80], "sources": ["10.0.0"]}, "firewall_allow[0].sources: '10.0.0' is not a network"),
        ({"ports": [80], "sources": [10]}, "firewall_allow[0].sources: 10 is not a network"),
        ({"ports": [80], "sources": ["::ffff:10.0.0.1"]}, "did you mean 10.0.0.1?"),
        ({"ports": [80], "sources": ["fe80::1%eth0"]}, "has a zone"),
        ({"ports": [80], "sources": ["offise"]}, "no networks called 'offise' (did you mean `office`?)"),
        ({"ports": [80], "interface": 'eth0" accept'}, "firewall_allow[0].interface: "),
        ({"ports": [80], "interface": "*"}, "firewall_allow[0].interface: "),
        ({"ports": [80], "comment": 'a" accept comment "b'}, "firewall_allow[0].comment: "),
        ({"ports": [80], "comment": "a\nb"}, "firewall_allow[0].comment: "),
        (
            {"ports": [80], "source": ["office"]},
            "firewall_allow[0].source: there is no such key (did you mean `sources`?)",
        ),
        ({"ports": [80], "destinations": ["office"]}, "firewall_allow[0].destinations: there is no such key"),
        ("80", "firewall_allow[0]: '80' is not an entry"),
    ],
)
def test_what_is_wrong_with_an_entry_is_told_with_its_variable(entry: Any, told: str) -> None:
    (one,) = problems(firewall_allow=[entry])
    assert told in one


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({"firewall_ssh_sources": []}, "firewall_ssh_sources: "),
        ({"firewall_ssh_sources": ["203.0.113.0/33"]}, "firewall_ssh_sources: '203.0.113.0/33' is not a network"),
        ({"firewall_ssh_ports": []}, "firewall_ssh_ports: "),
        ({"firewall_ssh_ports": [0]}, "firewall_ssh_ports: '0' is not a port"),
        ({"firewall_container_interfaces": []}, "firewall_container_interfaces: "),
        ({"firewall_container_interfaces": ["br *"]}, "firewall_container_interfaces[0]: "),
        ({"firewall_networks_custom": {"any": ["10.0.0.0/8"]}}, "firewall_networks_custom.any: "),
        ({"firewall_networks_custom": {"vpn": ["10.0.0.1/8"]}}, "firewall_networks_custom.vpn: "),
        ({"firewall_networks_custom": ["10.0.0.0/8"]}, "firewall_networks_custom: "),
        ({"firewall_egress_deny": [{"protocol": "udp"}]}, "firewall_egress_deny[0].protocol: without ports"),
        ({"firewall_egress_allow": [{"ports": [53], "interface": "eth0"}]}, "firewall_egress_allow[0].interface: "),
        ({"firewall_undo_seconds": 0}, "firewall_undo_seconds: 0 is not a number from 5 on"),
        ({"firewall_log_per_minute": -1}, "firewall_log_per_minute: -1 is not a number from 0 on"),
        ({"firewall_allow": {"ports": [80]}}, "firewall_allow: "),
    ],
)
def test_what_is_wrong_with_a_variable_is_told_with_it(variables: dict[str, Any], told: str) -> None:
    (one,) = problems(**variables)
    assert one.startswith(told)


def test_all_problems_are_told_at_once() -> None:
    found = problems(firewall_allow=[{"ports": ["x"]}, {"ports": [80], "sources": ["y y"]}], firewall_ssh_sources=[])
    assert [one.partition(":")[0] for one in found] == [
        "firewall_allow[0].ports",
        "firewall_allow[1].sources",
        "firewall_ssh_sources",
    ]


# -- who would be locked out --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("connection", "told"),
    [
        ("203.0.113.9 50000 192.0.2.10 22", ""),
        ("::ffff:203.0.113.9 50000 ::ffff:192.0.2.10 22", ""),
        ("198.51.100.9 50000 192.0.2.10 22", "you are connected from 198.51.100.9"),
        ("2001:db8::9 50000 2001:db8::10 22", "you are connected from 2001:db8::9"),
        ("fe80::9%eth1 50000 fe80::10%eth1 22", "you are connected from fe80::9"),
        ("203.0.113.9 50000 192.0.2.10 2222", "firewall_ssh_ports: you are connected to port 2222"),
        # Not over the network, or nobody knows.
        ("127.0.0.1 50000 127.0.0.1 22", ""),
        ("", ""),
        ("UNKNOWN 65535 UNKNOWN 65535", ""),
    ],
)
def test_who_connects_from_elsewhere_is_told_before_the_rules_are_loaded(connection: str, told: str) -> None:
    rules, _ = declared_rules(DECLARED)
    found = locked_out(rules, connection)
    assert told in found if told else not found


def test_a_range_of_ports_lets_the_connection_in() -> None:
    rules, _ = declared_rules({**DECLARED, "firewall_ssh_ports": ["2200-2299"]})
    assert not locked_out(rules, "203.0.113.9 50000 192.0.2.10 2222")


# -- what holds for any input -------------------------------------------------------------------------

SPANS = st.tuples(st.integers(1, 65_535), st.integers(0, 300)).map(lambda one: (one[0], min(one[0] + one[1], 65_535)))
NETWORKS: st.SearchStrategy[Network] = st.one_of(
    st.ip_addresses(network="10.0.0.0/26").flatmap(
        lambda one: st.integers(26, 32).map(lambda length: ipaddress.ip_network(f"{one}/{length}", strict=False))
    ),
    st.ip_addresses(network="2001:db8::/122").flatmap(
        lambda one: st.integers(122, 128).map(lambda length: ipaddress.ip_network(f"{one}/{length}", strict=False))
    ),
)


def ports_of(texts: tuple[str, ...]) -> list[int]:
    found: list[int] = []
    for text in texts:
        first, _, last = text.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


@given(st.lists(SPANS, max_size=6))
def test_merged_ports_are_the_same_ports_each_once(spans: list[tuple[int, int]]) -> None:
    merged = ports_of(merged_ports([f"{first}-{last}" for first, last in spans]))
    assert merged == sorted({port for first, last in spans for port in range(first, last + 1)})


@given(st.lists(NETWORKS, max_size=6))
def test_collapsed_networks_are_the_same_addresses_each_once(networks: list[Network]) -> None:
    for version in (4, 6):
        found = [str(address) for text in collapsed(networks, version) for address in ipaddress.ip_network(text)]
        assert len(set(found)) == len(found)
        assert set(found) == {str(address) for one in networks if one.version == version for address in one}


@given(st.text(max_size=24))
def test_a_text_is_a_network_that_nft_reads_or_it_is_refused(text: str) -> None:
    try:
        found = str(network(text))
    except ValueError:
        return
    assert set(found) <= set("0123456789abcdef:./")


@given(st.text(max_size=24))
def test_whatever_stands_in_a_comment_stays_within_its_quotes(text: str) -> None:
    rules, wrong = declared_rules({**DECLARED, "firewall_allow": [{"ports": [80], "comment": text}]})
    (one,) = rules.describe()["allow"]
    assert wrong or not set(one["comment"]) & set('"\\$`\n\r')
