"""Fixed addresses: which a network can give, and to whom."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from flotilla.addresses import (
    AddressError,
    fixed_address,
    pinned_config,
    read_slots,
    router_addresses,
    upstream_variables,
    with_slots,
    write_slots,
)


def network(*configs: dict[str, str]) -> dict[str, Any]:
    return {"Name": "notes-blue", "IPAM": {"Config": list(configs)}}


CHOSEN = {"Subnet": "172.18.0.0/16", "Gateway": "172.18.0.1"}
PINNED = {"Subnet": "172.18.0.0/16", "IPRange": "172.18.0.0/17"}


def test_the_engine_keeps_the_lower_half_of_the_subnet_it_chose() -> None:
    assert pinned_config(network(CHOSEN)) == PINNED


@pytest.mark.parametrize("configs", [(), ({"Subnet": "fd00::/64"},), (CHOSEN, {"Subnet": "fd00::/64"})])
def test_only_a_network_of_one_ipv4_subnet_is_pinned(configs: tuple[dict[str, str], ...]) -> None:
    assert pinned_config(network(*configs)) is None


def test_fixed_addresses_are_in_the_upper_half() -> None:
    assert fixed_address(network(PINNED), 0) == "172.18.128.0"
    assert fixed_address(network(PINNED), 300) == "172.18.129.44"


def test_the_broadcast_address_is_nobody_s() -> None:
    small = network({"Subnet": "10.9.8.0/29", "IPRange": "10.9.8.0/30"})
    assert [fixed_address(small, number) for number in range(3)] == ["10.9.8.4", "10.9.8.5", "10.9.8.6"]
    with pytest.raises(AddressError, match="has no fixed address number 3"):
        fixed_address(small, 3)


def test_a_network_that_somebody_else_made_is_refused_with_the_next_command() -> None:
    with pytest.raises(AddressError, match="Next: stop what is on it, docker network rm notes-blue"):
        fixed_address(network(CHOSEN), 0)


def test_each_app_has_two_addresses_that_nobody_else_has() -> None:
    found = [router_addresses(network(PINNED), slot) for slot in range(3)]
    assert found[0] == {"blue": "172.18.128.0", "green": "172.18.128.1"}
    assert len({address for pair in found for address in pair.values()}) == 6


def test_a_slot_once_given_stays(tmp_path: Path) -> None:
    book = tmp_path / "routers.json"
    assert read_slots(book) == {}
    first = with_slots({}, ["notes", "todo"])
    write_slots(first, book)
    assert with_slots(read_slots(book), ["atlas", "todo"]) == {"notes": 0, "todo": 1, "atlas": 2}


def test_a_free_slot_is_taken_first() -> None:
    assert with_slots({"notes": 0, "todo": 2}, ["atlas"])["atlas"] == 1


def test_variables_follow_the_services_names_and_not_the_order_of_routes() -> None:
    assert upstream_variables(["ui", "api", "ui"]) == upstream_variables(["api", "ui"])
    assert upstream_variables(["ui", "api"]) == {"api": "FLOTILLA_UPSTREAM_0", "ui": "FLOTILLA_UPSTREAM_1"}
