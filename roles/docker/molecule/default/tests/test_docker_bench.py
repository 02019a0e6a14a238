"""What docker-bench-security asks of the host (1), the engine (2) and its files (3). Containers (5) are the app's.

Not kept, on purpose:
  1.1.1  a file system of its own for /var/lib/docker: a droplet has one disk.
  1.1.3 to 1.1.18  audit rules: the role base; not for /var/lib/docker, where every write of a container counts.
  2.1    an engine without root: no published port below 1024, no live-restore.
  2.8    remapped users: owners of binds and volumes would be other ones than the images expect.
  2.11   a plugin that authorises: nobody but root talks to the engine.
  2.12   central logs: log files are limited and rotated here.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from testinfra.host import Host


@pytest.fixture(scope="module")
def info(host: Host) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(host.check_output("docker info --format '{{json .}}'"))
    return said


@pytest.fixture(scope="module")
def daemon(host: Host) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(host.file("/etc/docker/daemon.json").content_string)
    return said


def test_containers_of_the_default_network_do_not_talk_to_each_other(host: Host) -> None:  # 2.2
    command = "docker network inspect bridge --format '{{index .Options \"com.docker.network.bridge.enable_icc\"}}'"
    assert host.check_output(command) == "false"


def test_the_engine_logs_what_matters_and_manages_its_rules(daemon: dict[str, Any]) -> None:  # 2.3, 2.4
    assert daemon.get("log-level", "info") == "info"
    assert daemon.get("iptables", True) is True


def test_no_registry_is_trusted_blindly(info: dict[str, Any]) -> None:  # 2.5
    assert [name for name, one in info["RegistryConfig"]["IndexConfigs"].items() if not one["Secure"]] == []
    assert set(info["RegistryConfig"]["InsecureRegistryCIDRs"]) <= {"127.0.0.0/8", "::1/128"}


def test_the_engine_listens_on_no_network(host: Host) -> None:  # 2.7
    engine = host.process.get(comm="dockerd")
    assert "tcp:" not in engine.args
    assert f"pid={engine.pid}," not in host.check_output("ss -Hltnp")


def test_a_program_gets_no_more_rights_than_who_started_it(host: Host) -> None:  # 2.14
    command = "docker run --rm --entrypoint grep nginx:1.30 NoNewPrivs /proc/self/status"
    assert host.check_output(command).split() == ["NoNewPrivs:", "1"]


def test_containers_outlive_the_engine_and_ports_need_no_process(
    info: dict[str, Any], daemon: dict[str, Any]
) -> None:  # 2.15, 2.16
    assert info["LiveRestoreEnabled"] is True
    assert daemon["userland-proxy"] is False


def test_system_calls_are_filtered_and_nothing_is_experimental(info: dict[str, Any]) -> None:  # 2.6, 2.10, 2.17, 2.18
    assert any(option.startswith("name=seccomp,profile=builtin") for option in info["SecurityOptions"])
    assert info["ExperimentalBuild"] is False
    assert info["Driver"] != "aufs"
    assert info.get("CgroupParent", "") == ""


@pytest.mark.parametrize(  # 3.1 to 3.24
    ("path", "group", "mode"),
    [
        ("/usr/lib/systemd/system/docker.service", "root", 0o644),
        ("/usr/lib/systemd/system/docker.socket", "root", 0o644),
        ("/etc/docker", "root", 0o755),
        ("/etc/docker/daemon.json", "root", 0o644),
        ("/etc/default/docker", "root", 0o644),
        ("/run/docker.sock", "docker", 0o660),
        ("/run/containerd/containerd.sock", "root", 0o660),
        ("/var/lib/docker", "root", 0o710),
        ("/root/.docker/config.json", "root", 0o600),
    ],
)
def test_the_engines_files_are_roots(host: Host, path: str, group: str, mode: int) -> None:
    file = host.file(path)
    assert (file.user, file.group) == ("root", group)
    assert file.mode & ~mode == 0
