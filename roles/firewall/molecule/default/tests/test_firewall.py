"""What others reach of a droplet, before and after what could take its rules away. The values are those of vars.yml."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from testinfra.host import Host

from roles.firewall.molecule.default.tests.reach import NEIGHBOUR, OTHER_NEIGHBOUR, Droplet
from tests.lab.waiting import eventually


def nothing(host: Host) -> None:
    """As the role left it."""


def restart_engine(host: Host) -> None:
    host.run_expect([0], "systemctl reset-failed docker; systemctl restart docker")


def reload_firewall(host: Host) -> None:
    host.run_expect([0], "systemctl reload flotilla-firewall")


@pytest.fixture(scope="module", params=[nothing, restart_engine, reload_firewall])
def moment(request: pytest.FixtureRequest, host: Host, droplet: Droplet) -> Iterator[None]:
    happens: Callable[[Host], None] = request.param
    happens(host)
    eventually(lambda: droplet.from_host("127.0.0.1", 8081), why="the container comes back")
    yield


@pytest.mark.usefixtures("moment")
class TestReach:
    """Each of these holds at every moment."""

    @pytest.mark.parametrize("port", [9000, 8080], ids=["host", "published"])
    def test_a_declared_port_is_open(self, droplet: Droplet, port: int) -> None:
        assert droplet.from_here(droplet.public, port)
        assert droplet.from_here(droplet.private, port)
        assert droplet.from_neighbour("198.51.100.1", port)

    @pytest.mark.parametrize("port", [9001, 8081], ids=["host", "published"])
    def test_an_undeclared_port_is_closed_although_somebody_listens(self, droplet: Droplet, port: int) -> None:
        assert droplet.from_host(droplet.public, port)
        assert not droplet.from_here(droplet.public, port)
        assert not droplet.from_here(droplet.private, port)

    def test_a_published_port_is_open_for_its_sources_on_their_interface_alone(self, droplet: Droplet) -> None:
        assert droplet.from_neighbour(droplet.private, 5432, NEIGHBOUR)
        assert not droplet.from_neighbour(droplet.private, 5432, OTHER_NEIGHBOUR)
        assert not droplet.from_here(droplet.private, 5432)

    def test_a_neighbour_that_routes_to_a_container_does_not_reach_it(self, host: Host, droplet: Droplet) -> None:
        address = host.check_output("docker inspect --format '{{.NetworkSettings.IPAddress}}' web")
        assert droplet.from_host(address, 80)
        assert not droplet.from_neighbour(address, 80, NEIGHBOUR)

    def test_what_is_published_on_a_loopback_address_is_for_the_host(self, droplet: Droplet) -> None:
        assert droplet.from_host("127.0.0.1", 8082)
        assert not droplet.from_neighbour("127.0.0.1", 8082, NEIGHBOUR)

    def test_ipv6_has_the_same_rules(self, droplet: Droplet) -> None:
        assert droplet.from_neighbour("2001:db8:51::1", 9000)
        assert not droplet.from_neighbour("2001:db8:51::1", 9001)

    def test_a_container_gets_out_but_not_to_the_hosts_services(self, droplet: Droplet) -> None:
        assert droplet.from_container(NEIGHBOUR, 443)
        assert not droplet.from_container(droplet.private, 9001)
        assert not droplet.from_container(droplet.private, 22)


def test_a_port_is_open_for_its_protocol_alone(droplet: Droplet) -> None:
    assert droplet.from_neighbour("198.51.100.1", 9053, kind="udp")
    assert droplet.from_neighbour("2001:db8:51::1", 9053, kind="udp")
    assert not droplet.from_neighbour("198.51.100.1", 9053, kind="tcp")


def test_the_host_answers_a_ping(droplet: Droplet) -> None:
    assert droplet.from_neighbour("198.51.100.1", 0, kind="ping")


def test_ssh_is_for_its_networks(droplet: Droplet) -> None:
    assert droplet.from_here(droplet.public, 22)
    assert not droplet.from_neighbour("198.51.100.1", 22)


def test_a_container_asks_the_host_for_what_is_declared_for_containers(droplet: Droplet) -> None:
    assert droplet.from_container("172.17.0.1", 9100)
    assert not droplet.from_here(droplet.public, 9100)


def test_a_container_does_not_reach_the_providers_metadata_and_the_host_does(droplet: Droplet) -> None:
    assert droplet.from_host("169.254.169.254", 80)
    assert not droplet.from_container("169.254.169.254", 80)
    assert droplet.from_container("169.254.169.254", 443)


def test_the_rules_are_there_before_the_network_and_the_engine(host: Host) -> None:
    assert host.service("flotilla-firewall").is_enabled
    before = host.check_output("systemctl show --property=Before --value flotilla-firewall").split()
    assert {"network-pre.target", "docker.service"} <= set(before)


def test_the_distributions_service_cannot_flush_them(host: Host) -> None:
    assert host.run("systemctl start nftables").rc != 0
    assert "masked" in host.check_output("systemctl is-enabled nftables || true")


def test_the_engines_rules_are_as_they_were(host: Host) -> None:
    rules = "iptables-save | grep -v '^#' | sed 's/\\[.*\\]//'"
    before = host.check_output(rules)
    assert "DOCKER" in before
    reload_firewall(host)
    assert host.check_output(rules) == before
