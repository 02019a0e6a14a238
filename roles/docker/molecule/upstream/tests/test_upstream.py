"""What is different about an engine from Docker's own repository; the default scenario's tests ask the rest."""

from __future__ import annotations

import pytest
from testinfra.host import Host


@pytest.mark.parametrize("package", ["docker-ce", "docker-ce-cli", "containerd.io", "docker-compose-plugin"])
def test_the_packages_are_dockers(host: Host, package: str) -> None:
    assert host.package(package).is_installed


@pytest.mark.parametrize("package", ["docker.io", "docker-cli", "docker-compose"])
def test_none_of_the_distributions_is_left(host: Host, package: str) -> None:
    assert not host.package(package).is_installed


def test_apt_trusts_the_repository_by_the_pinned_key_alone(host: Host) -> None:
    source = host.file("/etc/apt/sources.list.d/flotilla-docker.sources").content_string.splitlines()
    assert "Signed-By: /etc/apt/keyrings/flotilla-docker.asc" in source
    assert host.run("apt-get update --error-on=any").rc == 0
    host.check_output("mv /etc/apt/keyrings/flotilla-docker.asc /root/")
    try:
        assert host.run("apt-get update --error-on=any").rc != 0
    finally:
        host.check_output("mv /root/flotilla-docker.asc /etc/apt/keyrings/")
