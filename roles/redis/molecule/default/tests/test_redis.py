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
TODO: dict[str, str] = {"user": "todo", "password": VARIABLES["redis_users"][0]["password"]}
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
    assert cli("SET", "notes:key", "value", "EX", "60") == "OK"
    assert cli("GET", "notes:key") == "value"


@pytest.mark.parametrize("password", ["", "wrong"])
def test_without_the_password_nothing_is_served(cli: Cli, password: str) -> None:
    answer = cli("GET", "notes:key", password=password)
    assert "NOAUTH" in answer


@pytest.mark.parametrize(
    "command",
    ["FLUSHALL", "FLUSHDB", "KEYS *", "CONFIG GET *", "SHUTDOWN NOSAVE", "MODULE LIST", "ACL LIST", "REPLICAOF NO ONE"],
)
def test_commands_that_administer_are_refused(cli: Cli, command: str) -> None:
    assert "NOPERM" in cli(*command.split())


# What another app on the same server would read, spoil or spy on. `{key}` is not its own.
ATTACKS = [
    attack.replace("{key}", "notes:secret")
    for line in (
        "GET {key}|TYPE {key}|EXISTS {key}|TTL {key}|TOUCH {key}|WATCH {key}|DEL {key}|SET {key} mine|EXPIRE {key} 1",
        "DUMP {key}|OBJECT ENCODING {key}|OBJECT FREQ {key}|MEMORY USAGE {key}|MOVE {key} 1|RESTORE {key} 0 x REPLACE",
        "COPY {key} todo:x|RENAME {key} todo:x|LCS {key} todo:x|BITOP NOT todo:x {key}|XREAD STREAMS {key} 0",
        "ZUNIONSTORE todo:x 1 {key}|GEORADIUS {key} 0 0 1 m STORE todo:x|LMOVE {key} todo:x LEFT LEFT",
        "SORT todo:ids BY nosort GET notes:*|SORT_RO todo:ids BY nosort GET notes:*|SORT todo:ids BY notes:*",
        'EVAL return(redis.call("GET","{key}")) 0|EVAL return(redis.call("SCAN","0")) 0|MIGRATE h 1 {key} 0 1',
        "KEYS *|SCAN 0|RANDOMKEY|CLIENT TRACKING on BCAST|PUBSUB CHANNELS|PUBSUB SHARDCHANNELS",
        "SUBSCRIBE notes:topic|PSUBSCRIBE *|PSUBSCRIBE notes:*|SSUBSCRIBE notes:topic|SUBSCRIBE __keyspace@0__:{key}",
        "PUBLISH notes:topic x|SPUBLISH notes:topic x|FLUSHALL|FLUSHDB|SWAPDB 0 1|SCRIPT FLUSH|SCRIPT KILL",
        "FUNCTION LIST|FUNCTION DUMP|FUNCTION DELETE library|FUNCTION FLUSH|FUNCTION LOAD x|MONITOR|SLOWLOG GET",
        "CLIENT LIST|CLIENT KILL TYPE normal|CLIENT PAUSE 1|CLIENT UNBLOCK 3|CLIENT NO-EVICT on|LATENCY LATEST",
        "ACL LIST|ACL LOG|ACL GETUSER default|ACL SETUSER todo allkeys|ACL DRYRUN default GET {key}|MODULE LIST",
        "CONFIG GET *|CONFIG SET save x|SAVE|BGSAVE|SHUTDOWN NOSAVE|FAILOVER|REPLICAOF 192.0.2.1 1",
    )
    for attack in line.split("|")
]
# In a sandbox that all scripts of the server share.
POISON = [
    'EVAL getmetatable("").__index=1 0',
    "EVAL rawset(_G,'planted',1) 0",
    "EVAL redis.call=1 0",
    "EVAL string.format=1 0",
]
REFUSED = (
    "NOPERM",
    "denied due to insufficient ACL permissions",
    # In a script: before 7.2, and since.
    "The user executing the script can't",
    "ACL failure in script",
)


@pytest.fixture(scope="module")
def refusals(host: Host) -> dict[str, str]:
    """What another app is told: attack → answer. One client gives them all, each on a connection of its own."""
    script = """
        REDISCLI_AUTH=$DEFAULT ask SET notes:secret value
        export REDISCLI_AUTH=$OTHER
        ask --user todo RPUSH todo:ids 1
        while read -r words; do echo "<<$words>>"; ask --user todo $words; done
    """
    client = f'set -f; ask() {{ timeout 5 redis-cli -h redis --tls --cacert /ca.crt "$@" 2>&1 < /dev/null; }}; {script}'
    words = (
        "printf '%%s\n' %s | DEFAULT=%s OTHER=%s docker run --rm -i --network notes-green -e DEFAULT -e OTHER"
        " -v %s:/ca.crt:ro --entrypoint sh %s -c %s"
    )
    said = host.check_output(
        words, "\n".join([*ATTACKS, *POISON]), PASSWORD, TODO["password"], TRUST, f"redis:{VERSION}", client
    )
    return {attack: answer for attack, _, answer in (part.partition(">>") for part in said.split("<<")[1:])}


@pytest.mark.parametrize("attack", ATTACKS)
def test_another_app_is_refused(refusals: dict[str, str], attack: str) -> None:
    assert any(words in refusals[attack] for words in REFUSED), refusals[attack]


@pytest.mark.parametrize("attack", POISON)
def test_a_script_leaves_nothing_for_the_scripts_of_others(refusals: dict[str, str], attack: str) -> None:
    assert "readonly table" in refusals[attack]


def test_another_app_has_what_begins_with_its_name(cli: Cli) -> None:
    assert cli("SET", "todo:key", "value", **TODO) == "OK"
    assert cli("EVAL", "return redis.call('GET', KEYS[1])", "1", "todo:key", **TODO) == "value"
    assert cli("PUBLISH", "todo:topic", "text", **TODO) == "0"
    assert "NOPERM" in cli("GET", "todo:key")


def test_the_debug_command_is_switched_off(cli: Cli) -> None:
    assert "DEBUG command not allowed" in cli("DEBUG", "JMAP")


@pytest.mark.parametrize(
    "command",
    ["INFO server", "CLIENT SETNAME app", "EVAL return(1) 0", "PUBLISH notes:topic text", "LPUSH notes:queue job"],
)
def test_commands_that_clients_and_queues_need_are_served(cli: Cli, command: str) -> None:
    assert "NOPERM" not in cli(*command.split())


@pytest.mark.parametrize("line", [f"maxmemory:{96 * MIB}", "maxmemory_policy:allkeys-lru"])
def test_memory_follows_from_the_limit(cli: Cli, line: str) -> None:
    assert line in cli("INFO", "memory").splitlines()


def test_old_keys_go_when_memory_is_full(host: Host, cli: Cli) -> None:
    fill = "local t = redis.call('TIME') return redis.call('SET', 'notes:' .. t[1] .. t[2], string.rep('x', 1048576))"
    assert set(cli("-r", "130", "EVAL", fill, "0").split()) == {"OK"}
    assert 0 < int(cli("DBSIZE")) < 130
    assert cli("SET", "notes:newest", "value") == "OK"
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


SECRETS = {"default": PASSWORD, "operator": OPERATOR_PASSWORD, **{TODO["user"]: TODO["password"]}}


@pytest.mark.parametrize("secret", SECRETS.values(), ids=SECRETS)
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
    said = host.check_output("cat /opt/flotilla/redis/config/users.acl /opt/flotilla/redis/config/redis.conf")
    assert PASSWORD not in said
    assert TODO["password"] not in said


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
    cli("SET", "notes:remembered", "value")
    assert serves(host, before)
    converge(SCENARIO, **RENEWING)
    after = host.check_output(f"readlink {CERTIFICATES}/current")
    assert after != before
    assert serves(host, after)
    assert cli("GET", "notes:remembered") == "value"
    assert inspect(host, "{{.State.StartedAt}}") == started


def test_nothing_is_kept_over_a_restart(host: Host, cli: Cli) -> None:
    cli("SET", "notes:forgotten", "value")
    ping = "redis-cli --tls --cacert /etc/flotilla/certs/current/ca.crt ping"
    again = f"timeout 300 sh -c 'until docker exec redis {ping}; do sleep 0.2; done'"
    host.run_expect([0], f"docker restart redis && {again}")
    assert cli("EXISTS", "notes:forgotten") == "0"
