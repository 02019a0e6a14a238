"""What a client of the role's Redis sees, over a network that it joined."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from testinfra.host import Host

from tests.lab.scenario import RENEWING, authorities, converge
from tests.lab.waiting import eventually

SCENARIO = Path(os.environ.get("MOLECULE_SCENARIO_DIRECTORY", Path(__file__).parents[1]))
VARIABLES: dict[str, Any] = yaml.safe_load((SCENARIO / "vars.yml").read_text())
VERSION: str = VARIABLES["redis_version"]
PASSWORD: str = VARIABLES["redis_password"]
OPERATOR_PASSWORD: str = VARIABLES["redis_operator_password"]
CERTIFICATES = "/opt/flotilla/redis/certs"
TRUST = f"{CERTIFICATES}/current/ca.crt"
MIB = 1024 * 1024

Cli = Callable[..., str]


@pytest.fixture
def cli(host: Host) -> Cli:
    """Run a command of Redis as a client in a container of its own on the network notes-green, who trusts `trust`."""

    def run(*words: str, password: str = PASSWORD, user: str = "default", trust: str = TRUST) -> str:
        client = (
            "REDISCLI_AUTH=%s docker run --rm --network notes-green -e REDISCLI_AUTH -v %s:/ca.crt:ro"
            " --entrypoint redis-cli %s -h redis --user %s --tls --cacert /ca.crt"
        )
        result = host.run(client + " %s" * len(words), password, trust, f"redis:{VERSION}", user, *words)
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
    eventually(lambda: inspect(host, "{{.State.Health.Status}}") != "starting", why="its health is known")
    assert inspect(host, "{{.State.Health.Status}}") == "healthy"


def test_the_port_is_published_on_the_bind_address_alone(host: Host) -> None:
    assert host.check_output("docker port redis") == "6379/tcp -> 127.0.0.1:6379"


@pytest.mark.parametrize("secret", [PASSWORD, OPERATOR_PASSWORD], ids=["default", "operator"])
@pytest.mark.parametrize("command", ["docker inspect redis", "docker logs redis 2>&1", "cat /opt/flotilla/redis/.env"])
def test_no_password_is_shown(host: Host, command: str, secret: str) -> None:
    shown = host.check_output(command)
    assert secret not in shown
    assert secret.replace("\\", "\\\\").replace('"', '\\"') not in shown


@pytest.mark.parametrize("name", ["password", "operator_password", "users.acl", "redis.conf"])
def test_its_files_can_be_read_by_the_containers_user_alone(host: Host, name: str) -> None:
    file = host.file(f"/opt/flotilla/redis/config/{name}")
    assert (file.uid, file.mode) == (999, 0o400)


def test_the_servers_own_files_hold_no_password(host: Host) -> None:
    assert PASSWORD not in host.check_output(
        "cat /opt/flotilla/redis/config/users.acl /opt/flotilla/redis/config/redis.conf"
    )


def address(host: Host) -> str:
    """The server's address on the network notes-green."""
    return inspect(host, '{{(index .NetworkSettings.Networks "notes-green").IPAddress}}')


def serves(host: Host, of: str) -> bool:
    """Whether new connections get the certificate of this version."""
    shown = host.check_output(
        f"openssl s_client -connect {address(host)}:6379 < /dev/null 2> /dev/null | openssl x509 -noout -fingerprint"
    )
    return bool(shown == host.check_output(f"openssl x509 -noout -fingerprint -in {CERTIFICATES}/{of}/tls.crt"))


def test_a_client_without_tls_is_refused(host: Host) -> None:
    plain = "docker run --rm --network notes-green --entrypoint redis-cli %s -h redis ping"
    result = host.run(plain, f"redis:{VERSION}")
    assert "PONG" not in result.stdout
    assert "NOAUTH" not in result.stdout + result.stderr
    assert result.rc != 0


def test_a_client_who_trusts_another_authority_refuses_the_server(host: Host, cli: Cli) -> None:
    host.check_output("printf %%s %s > /tmp/foreign.crt", authorities()["foreign"]["certificate"])
    assert "certificate verify failed" in cli("PING", trust="/tmp/foreign.crt")


@pytest.mark.parametrize(("name", "rc"), [("redis", 0), ("other", 1)])
def test_the_certificate_has_the_servers_name_alone(host: Host, name: str, rc: int) -> None:
    connect = f"openssl s_client -connect {address(host)}:6379 -CAfile {TRUST} -verify_return_error"
    assert host.run(f"{connect} -verify_hostname {name} < /dev/null").rc == rc


def test_an_old_protocol_is_refused(host: Host) -> None:
    connect = f"openssl s_client -connect {address(host)}:6379 -cipher ALL:@SECLEVEL=0"
    assert host.run(f"{connect} -tls1_1 < /dev/null").rc != 0
    assert host.run(f"{connect} -tls1_2 < /dev/null").rc == 0


@pytest.mark.parametrize("command", ["GET key", "INFO server", "ACL LIST", "SHUTDOWN NOSAVE", "CONFIG REWRITE"])
def test_the_operator_may_do_nothing_but_settings(cli: Cli, command: str) -> None:
    assert "NOPERM" in cli(*command.split(), password=OPERATOR_PASSWORD, user="operator")
    assert "redis" in cli("CONFIG", "GET", "aclfile", password=OPERATOR_PASSWORD, user="operator")


def test_a_renewed_certificate_is_served_and_nothing_is_forgotten(host: Host, cli: Cli) -> None:
    before, started = host.check_output(f"readlink {CERTIFICATES}/current"), inspect(host, "{{.State.StartedAt}}")
    cli("SET", "remembered", "value")
    assert serves(host, before)
    converge(SCENARIO, **RENEWING)
    after = host.check_output(f"readlink {CERTIFICATES}/current")
    assert after != before
    assert serves(host, after)
    assert cli("GET", "remembered") == "value"
    assert inspect(host, "{{.State.StartedAt}}") == started


def test_nothing_is_kept_over_a_restart(host: Host, cli: Cli) -> None:
    cli("SET", "forgotten", "value")
    ping = "redis-cli --tls --cacert /etc/flotilla/certs/current/ca.crt ping"
    again = f"timeout 300 sh -c 'until docker exec redis {ping}; do sleep 0.2; done'"
    host.run_expect([0], f"docker restart redis && {again}")
    assert cli("EXISTS", "forgotten") == "0"
