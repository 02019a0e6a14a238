"""What an operator sees of the engine that the role docker has installed. The values are those of converge.yml."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from testinfra.host import Host

from tests.lab.waiting import eventually

CONTAINER = "flotilla-verify"
IMAGE = "nginx:1.30"


@pytest.fixture
def info(host: Host) -> dict[str, Any]:
    """What `docker info` says."""
    said: dict[str, Any] = json.loads(host.check_output("docker info --format '{{json .}}'"))
    return said


@pytest.fixture(scope="module")
def container(host: Host) -> Iterator[str]:
    """A container with a published port. Its image is Docker Hub's, which the lab has by the mirror alone."""
    host.run(f"docker rm --force {CONTAINER}")
    host.check_output(f"docker run --detach --name {CONTAINER} --publish 127.0.0.1:8081:80 {IMAGE}")
    yield CONTAINER
    host.check_output(f"docker rm --force {CONTAINER}")


def test_the_engine_runs_and_starts_at_boot(host: Host) -> None:
    assert host.service("docker").is_running
    assert host.service("docker").is_enabled
    assert host.service("containerd").is_enabled


def test_compose_is_version_2(host: Host) -> None:
    assert host.check_output("docker compose version --short").removeprefix("v").startswith("2.")


def test_docker_hub_is_asked_through_the_mirror(info: dict[str, Any]) -> None:
    assert len(info["RegistryConfig"]["Mirrors"]) == 1
    assert "index.docker.io" not in info["RegistryConfig"]["Mirrors"][0]


def test_logs_rotate(host: Host, container: str) -> None:
    found = json.loads(host.check_output(f"docker inspect --format '{{{{json .HostConfig.LogConfig}}}}' {container}"))
    assert found == {"Type": "json-file", "Config": {"max-file": "2", "max-size": "5m"}}


def test_a_published_port_is_served_without_a_proxy_process(host: Host, container: str) -> None:
    fetch = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:8081/', timeout=60).headers['Server'])"
    eventually(lambda: host.run(f'python3 -c "{fetch}"').rc == 0, why="the container listens")
    assert "nginx" in host.check_output(f'python3 -c "{fetch}"')
    assert host.process.filter(comm="docker-proxy") == []


def test_a_container_outlives_the_restart_of_its_engine(host: Host, container: str) -> None:
    started = f"docker inspect --format '{{{{.State.Running}}}} {{{{.State.StartedAt}}}}' {container}"
    before = host.check_output(started)
    host.check_output("systemctl reset-failed docker && systemctl restart docker")
    assert before.startswith("true")
    assert host.check_output(started) == before


def test_the_options_of_the_inventory_are_in_effect(info: dict[str, Any]) -> None:
    assert info["LiveRestoreEnabled"] is True
    assert info["Labels"] == ["environment=test"]


# -- sections 2 and 3 of the CIS benchmark for Docker, as docker-bench-security asks them --------------


def test_the_engine_listens_on_its_socket_alone(host: Host) -> None:
    """2.7: no TCP socket, with TLS or without; it holds published ports. 3.15, 3.16: the socket is root's."""
    listening = [line.split()[3] for line in host.check_output("ss -Hltnp").splitlines() if "dockerd" in line]
    assert set(listening) <= {"127.0.0.1:8081"}
    socket = host.file("/run/docker.sock")
    assert (socket.user, socket.group, oct(socket.mode)) == ("root", "docker", "0o660")


def test_containers_that_nobody_gave_a_network_do_not_reach_each_other(host: Host, container: str) -> None:
    """2.2."""
    address = host.check_output(
        "docker inspect --format '{{.NetworkSettings.Networks.bridge.IPAddress}}' %s", container
    )
    assert not served(host, address, "bridge")


def test_containers_of_a_network_with_a_name_reach_each_other(host: Host, container: str) -> None:
    """The rule above is the default bridge's alone: services of an app find each other."""
    host.check_output("docker network create flotilla-verify")
    try:
        host.check_output(f"docker network connect flotilla-verify {container}")
        eventually(lambda: served(host, container, "flotilla-verify"), why="the page is served")
    finally:
        host.run(f"docker network disconnect --force flotilla-verify {container}")
        host.check_output("docker network rm flotilla-verify")


def served(host: Host, name: str, network: str) -> bool:
    """Whether a container on a network gets a page from another one."""
    curl = f"curl -fsS --max-time 3 --output /dev/null http://{name}:80/"
    return bool(host.run(f"docker run --rm --network {network} {IMAGE} {curl}").rc == 0)


def test_a_container_of_which_nothing_is_said_gets_no_new_privileges(host: Host, container: str) -> None:
    """2.14. 2.17, 5.21: the engine's filter of system calls."""
    status = host.check_output("docker exec %s cat /proc/1/status", container)
    assert "NoNewPrivs:\t1" in status
    assert "Seccomp:\t2" in status


def test_the_engine_is_set_up_as_the_benchmark_wants(info: dict[str, Any], host: Host) -> None:
    """2.3 to 2.6, 2.16, 2.18; 2.5 but for a registry that the inventory names."""
    written = json.loads(host.file("/etc/docker/daemon.json").content_string)
    assert written["userland-proxy"] is False
    assert {"debug", "log-level", "iptables", "hosts", "experimental", "authorization-plugins"} & set(written) == set()
    assert info["Driver"] == "overlay2"
    assert info["ExperimentalBuild"] is False
    assert info["RegistryConfig"]["InsecureRegistryCIDRs"] == ["127.0.0.0/8"]


@pytest.mark.parametrize(
    "path", ["/etc/docker", "/etc/docker/daemon.json", "/etc/docker/certs.d", "/usr/lib/systemd/system/docker.service"]
)
def test_nobody_but_root_writes_what_the_engine_reads(host: Host, path: str) -> None:
    """3.1 to 3.8, 3.17, 3.18."""
    for line in host.check_output(f"find -L {path} -printf '%U %m %p\n'").splitlines():
        owner, mode, name = line.split(" ", 2)
        assert (owner, int(mode, 8) & 0o022) == ("0", 0), name


def test_the_login_is_readable_by_root_alone(host: Host) -> None:
    file = host.file("/root/.docker/config.json")
    assert (file.user, oct(file.mode)) == ("root", "0o600")
    assert list(json.loads(file.content_string)["auths"]) == ["registry.example.com"]


def test_the_registry_lets_the_host_in_and_nobody_without_a_login(host: Host) -> None:
    absent = "registry.example.com/flotilla/absent:1"
    assert "not found" in host.run(f"docker pull {absent}").stderr
    assert "no basic auth credentials" in host.run(f"docker --config /nonexistent pull {absent}").stderr


def test_nobody_is_in_the_group_docker(host: Host) -> None:
    assert host.group("docker").members == []
