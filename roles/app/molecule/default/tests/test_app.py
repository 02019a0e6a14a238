"""What a client and an operator see of an app after its first deploy, and after a second one with nothing to do."""

from __future__ import annotations

import http.client
import json
import re
import socket
import ssl
from typing import Any

import pytest
from testinfra.host import Host

NAME = "page.example.com"
# The app's user in its Compose file, and the values of molecule.yml.
USER = 10001
GREETING = 'it\'s $5 "only"'
TOKEN = "to$ken'\"\\#1"
WEB, TELLER, ROUTER = "page-blue-web-1", "page-blue-teller-1", "page-blue-flotilla-router-1"


def inspect(host: Host, container: str) -> dict[str, Any]:
    (found,) = json.loads(host.check_output("docker inspect %s", container))
    return dict(found)


def history(host: Host) -> list[dict[str, Any]]:
    return [json.loads(line) for line in host.file("/opt/page/history.jsonl").content_string.splitlines()]


@pytest.fixture(scope="module")
def journal(host: Host) -> dict[str, Any]:
    return dict(json.loads(host.file("/opt/page/state.json").content_string))


def test_the_page_is_served_through_the_edge_over_https(host: Host) -> None:
    address = host.check_output("echo $SSH_CONNECTION").split()[2]
    context = ssl.create_default_context(cadata=host.file("/lab/seed/ca.crt").content_string)
    connection = http.client.HTTPConnection(NAME, timeout=60)
    connection.sock = context.wrap_socket(socket.create_connection((address, 443), timeout=60), server_hostname=NAME)
    connection.request("GET", "/")
    answer = connection.getresponse()
    assert (answer.status, answer.headers["X-Flotilla-Colour"]) == (200, "blue")
    assert "Deployed by the role app." in answer.read().decode()


def test_the_journal_is_idle_and_names_what_serves(journal: dict[str, Any]) -> None:
    assert (journal["phase"], journal["candidate"]) == ("idle", None)
    assert journal["live"]["colour"] == "blue"
    assert re.fullmatch(r"\d{8}T\d{6}Z-1\.0\.0", journal["live"]["release"])


def test_only_the_live_colour_exists(host: Host) -> None:
    names = host.check_output("docker ps --all --format '{{.Names}}' --filter name=page-").split()
    assert sorted(names) == [ROUTER, TELLER, WEB]


def test_all_of_it_was_done_on_an_engine_as_strict_as_engine_29(host: Host) -> None:
    refused = host.run("DOCKER_API_VERSION=1.43 docker ps")
    assert refused.rc
    assert "client version 1.43 is too old. Minimum supported API version is 1.44" in refused.stderr


@pytest.mark.parametrize("container", [WEB, ROUTER])
def test_its_containers_are_healthy_and_labelled(host: Host, journal: dict[str, Any], container: str) -> None:
    found = inspect(host, container)
    assert found["State"]["Health"]["Status"] == "healthy"
    assert found["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped"
    labels = found["Config"]["Labels"]
    assert (labels["flotilla.app"], labels["flotilla.colour"]) == ("page", "blue")
    assert labels["flotilla.release"] == journal["live"]["release"]


@pytest.mark.parametrize("container", [WEB, ROUTER])
def test_what_the_file_does_not_say_is_read_strictly(host: Host, container: str) -> None:
    found = inspect(host, container)["HostConfig"]
    assert (found["ReadonlyRootfs"], found["CapDrop"]) == (True, ["ALL"])
    assert "no-new-privileges:true" in found["SecurityOpt"]
    assert host.run("docker exec %s mkdir /page", container).stderr.strip().endswith("Read-only file system")
    status = host.check_output("docker exec %s cat /proc/1/status", container)
    assert "CapBnd:\t0000000000000000" in status
    assert "NoNewPrivs:\t1" in status


def test_what_passes_through_a_service_is_in_memory_half_its_limit(host: Host) -> None:
    assert f"size={32 * 1024 * 1024}" in inspect(host, WEB)["HostConfig"]["Tmpfs"]["/tmp"].split(",")
    full = host.run("docker exec %s dd if=/dev/zero of=/tmp/passing bs=1M count=40", WEB)
    host.check_output("docker exec %s rm /tmp/passing", WEB)
    assert full.rc
    assert "No space left on device" in full.stderr


def test_the_router_has_a_place_of_its_own_on_the_disk_for_what_passes(host: Host) -> None:
    host.check_output("docker exec %s sh -c 'echo passes > /tmp/passing'", ROUTER)
    (mount,) = [one for one in inspect(host, ROUTER)["Mounts"] if one["Destination"] == "/tmp"]
    assert mount["Type"] == "volume"
    assert host.file(f"{mount['Source']}/passing").content_string == "passes\n"


def test_a_service_without_a_memory_limit_leaves_the_stacks_theirs(host: Host) -> None:
    """The edge's 128 MB (converge.yml) and the system's 128 MB; or half, on a small host."""
    limit = inspect(host, TELLER)["HostConfig"]["Memory"]
    kilobytes = int(host.check_output("awk '/^MemTotal/ {print $2}' /proc/meminfo"))
    assert 128 * 1024 * 1024 < limit <= kilobytes * 1024 - 256 * 1024 * 1024
    assert inspect(host, WEB)["HostConfig"]["Memory"] == 64 * 1024 * 1024


def test_the_hosts_time_is_mounted_to_be_read(host: Host) -> None:
    """Where the host has it: Debian 13 has no /etc/timezone, and gets no directory in its place."""
    assert host.file("/etc/timezone").is_directory is False
    (mount,) = [one for one in inspect(host, TELLER)["Mounts"] if one["Destination"] == "/etc/localtime"]
    assert (mount["Source"], mount["RW"]) == ("/etc/localtime", False)


def test_the_router_alone_is_on_the_edges_network(host: Host) -> None:
    assert sorted(inspect(host, ROUTER)["NetworkSettings"]["Networks"]) == ["flotilla-edge", "page-blue"]
    assert sorted(inspect(host, WEB)["NetworkSettings"]["Networks"]) == ["page-blue"]


def test_values_arrive_as_they_were_written(host: Host) -> None:
    environment = inspect(host, WEB)["Config"]["Env"]
    assert f"GREETING={GREETING}" in environment
    assert "VERSION=1.0.0" in environment
    assert host.check_output("docker exec %s cat /run/secrets/token", WEB) == TOKEN


def test_a_secret_can_be_a_variable_of_the_process_and_of_nothing_else(host: Host) -> None:
    pid = host.check_output("docker inspect --format '{{.State.Pid}}' %s", TELLER)
    assert f"TOKEN={TOKEN}" in host.file(f"/proc/{pid}/environ").content_string.split("\0")
    assert host.file(f"/proc/{pid}/cmdline").content_string.split("\0")[0] == "sleep"
    # In JSON a value has another form; a part of it has not.
    part = "to$ken"
    inspected = host.check_output("docker ps --all --quiet | xargs docker inspect")
    assert part not in inspected
    assert part not in host.check_output("ps -eo args")
    files = host.check_output("grep --recursive --files-with-matches --fixed-strings 'to$ken' /opt/page || true")
    assert {path.split("/")[3] for path in files.split()} == {"secrets"}


def test_a_secret_can_be_read_by_the_containers_user_alone(host: Host) -> None:
    (path,) = host.check_output("find /opt/page/secrets -name 'token*'").split()
    assert (host.file(path).uid, host.file(path).mode) == (USER, 0o400)
    directory = host.file("/opt/page/secrets")
    assert (directory.uid, directory.mode) == (0, 0o700)


def test_what_a_deploy_remembers_is_for_root_alone(host: Host) -> None:
    files = host.check_output("find /opt/page -maxdepth 1 -type f -printf '%f %U %m\\n'").splitlines()
    assert sorted(files) == ["history.jsonl 0 600", "state.json 0 600"]


def test_a_releases_files_are_for_root_alone(host: Host, journal: dict[str, Any]) -> None:
    directory = host.file(f"/opt/page/releases/{journal['live']['release']}")
    assert (directory.uid, directory.mode & 0o077) == (0, 0)


def test_images_are_pinned_by_digest(host: Host, journal: dict[str, Any]) -> None:
    text = host.file(f"/opt/page/releases/{journal['live']['release']}/compose.json").content_string
    images = {name: service["image"] for name, service in json.loads(text)["services"].items()}
    assert set(images) == {"web", "teller", "flotilla-router"}
    assert all(re.search(r"@sha256:[0-9a-f]{64}$", image) for image in images.values()), images


def test_the_history_has_the_deploy_and_not_the_one_without_work(host: Host, journal: dict[str, Any]) -> None:
    (line,) = history(host)
    assert (line["outcome"], line["to"]) == ("deployed", journal["live"]["release"])
