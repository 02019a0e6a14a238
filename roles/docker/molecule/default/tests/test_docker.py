"""What an operator sees of the engine that the role docker has installed. The values are those of converge.yml."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from testinfra.host import Host

CONTAINER = "flotilla-verify"
IMAGE = "nginx:1.26"


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
    fetch = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:8081/', timeout=10).headers['Server'])"
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
