"""What a client of the role's Redis sees, over a network that it joined."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from testinfra.host import Host

SCENARIO = Path(os.environ.get("MOLECULE_SCENARIO_DIRECTORY", Path(__file__).parents[1]))
VARIABLES: dict[str, Any] = yaml.safe_load((SCENARIO / "vars.yml").read_text())
VERSION: str = VARIABLES["redis_version"]
PASSWORD: str = VARIABLES["redis_password"]
MIB = 1024 * 1024

Cli = Callable[..., str]


@pytest.fixture
def cli(host: Host) -> Cli:
    """Run a command of Redis as a client in a container of its own on the network notes-green."""

    def run(*words: str, password: str = PASSWORD) -> str:
        client = (
            "REDISCLI_AUTH=%s docker run --rm --network notes-green -e REDISCLI_AUTH --entrypoint redis-cli %s -h redis"
        )
        result = host.run(client + " %s" * len(words), password, f"redis:{VERSION}", *words)
        return str(result.stdout + result.stderr).strip()

    return run


def inspect(host: Host, template: str) -> str:
    return str(host.check_output("docker inspect --format %s redis", template))


def test_the_server_has_the_declared_version(cli: Cli) -> None:
    assert f"redis_version:{VERSION}." in cli("INFO", "server")


def test_a_value_comes_back(cli: Cli) -> None:
    assert cli("SET", "key", "value", "EX", "60") == "OK"
    assert cli("GET", "key") == "value"


@pytest.mark.parametrize("password", ["", "wrong"])
def test_without_the_password_nothing_is_served(cli: Cli, password: str) -> None:
    answer = cli("GET", "key", password=password)
    assert "NOAUTH" in answer


@pytest.mark.parametrize(
    "command",
    ["FLUSHALL", "FLUSHDB", "KEYS *", "CONFIG GET *", "SHUTDOWN NOSAVE", "MODULE LIST", "ACL LIST", "REPLICAOF NO ONE"],
)
def test_commands_that_administer_are_refused(cli: Cli, command: str) -> None:
    assert "NOPERM" in cli(*command.split())


def test_the_debug_command_is_switched_off(cli: Cli) -> None:
    assert "DEBUG command not allowed" in cli("DEBUG", "JMAP")


@pytest.mark.parametrize(
    "command", ["INFO server", "CLIENT SETNAME app", "EVAL return(1) 0", "PUBLISH topic text", "LPUSH queue job"]
)
def test_commands_that_clients_and_queues_need_are_served(cli: Cli, command: str) -> None:
    assert "NOPERM" not in cli(*command.split())


@pytest.mark.parametrize("line", [f"maxmemory:{96 * MIB}", "maxmemory_policy:allkeys-lru"])
def test_memory_follows_from_the_limit(cli: Cli, line: str) -> None:
    assert line in cli("INFO", "memory").splitlines()


def test_old_keys_go_when_memory_is_full(host: Host, cli: Cli) -> None:
    fill = "local t = redis.call('TIME') return redis.call('SET', t[1] .. '.' .. t[2], string.rep('x', 1048576))"
    assert set(cli("-r", "130", "EVAL", fill, "0").split()) == {"OK"}
    assert 0 < int(cli("DBSIZE")) < 130
    assert cli("SET", "newest", "value") == "OK"
    assert inspect(host, "{{.State.OOMKilled}} {{.RestartCount}}") == "false 0"


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ("{{.HostConfig.Memory}}", str(128 * MIB)),
        ("{{.HostConfig.NanoCpus}}", "500000000"),
        ("{{.HostConfig.PidsLimit}}", "64"),
        ("{{.HostConfig.RestartPolicy.Name}}", "unless-stopped"),
        ("{{.HostConfig.LogConfig.Config}}", "map[max-file:3 max-size:10m]"),
        ("{{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}}", "true [ALL]"),
        ("{{.HostConfig.SecurityOpt}}", "[no-new-privileges:true]"),
    ],
)
def test_the_container_has_its_limits(host: Host, template: str, value: str) -> None:
    assert inspect(host, template) == value


def test_the_container_is_healthy(host: Host) -> None:
    for _ in range(30):
        if inspect(host, "{{.State.Health.Status}}") != "starting":
            break
        time.sleep(1)
    assert inspect(host, "{{.State.Health.Status}}") == "healthy"


def test_the_port_is_published_on_the_bind_address_alone(host: Host) -> None:
    assert host.check_output("docker port redis") == "6379/tcp -> 127.0.0.1:6379"


@pytest.mark.parametrize("command", ["docker inspect redis", "docker logs redis 2>&1", "cat /opt/flotilla/redis/.env"])
def test_the_password_is_not_shown(host: Host, command: str) -> None:
    shown = host.check_output(command)
    assert PASSWORD not in shown
    assert PASSWORD.replace("\\", "\\\\").replace('"', '\\"') not in shown


@pytest.mark.parametrize("name", ["password", "users.acl", "redis.conf"])
def test_its_files_can_be_read_by_the_containers_user_alone(host: Host, name: str) -> None:
    file = host.file(f"/opt/flotilla/redis/config/{name}")
    assert (file.uid, file.mode) == (999, 0o400)


def test_the_servers_own_files_hold_no_password(host: Host) -> None:
    assert PASSWORD not in host.check_output(
        "cat /opt/flotilla/redis/config/users.acl /opt/flotilla/redis/config/redis.conf"
    )


def test_nothing_is_kept_over_a_restart(host: Host, cli: Cli) -> None:
    cli("SET", "forgotten", "value")
    host.run_expect(
        [0], "docker restart redis && timeout 30 sh -c 'until docker exec redis redis-cli ping; do sleep 0.2; done'"
    )
    assert cli("EXISTS", "forgotten") == "0"
