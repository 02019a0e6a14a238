"""Two apps on one droplet: what happens to one is nothing to the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from tests.e2e.fleet import APP, DOMAIN, HOST, STAGING_LAB, Environment, app_entry, inventory_variables
from tests.e2e.load import BackgroundLoad, Kind, Mode, Plan, Result, Stream, Target

OTHER = "todo"
OTHER_DOMAIN = "todo.example.com"
SECRET = "{{ vault_todo_database_password }}"
LOGIN = "{{ vault_todo_database_user }}"
REDIS_SECRET = "{{ vault_todo_redis_password }}"


def other_app() -> dict[str, Any]:
    """A second app, of the same image: its own name, domain, database, prefix in Redis and passwords."""
    entry = app_entry(
        name=OTHER,
        domains=[OTHER_DOMAIN],
        environment={"DATABASE_NAME": OTHER, "REDIS_USER": OTHER, "REDIS_PREFIX": f"{OTHER}:"},
    )
    own = {"database_user": LOGIN, "database_password": SECRET, "redis_password": REDIS_SECRET}
    entry["secrets"] = {**entry["secrets"], **own}
    return entry


LAB = STAGING_LAB
BOTH = {
    "apps": [*LAB.overlay["apps"], other_app()],
    "postgres_databases": [
        *inventory_variables("postgres")["postgres_databases"],
        {"name": OTHER, "owner": OTHER, "login": LOGIN, "password": SECRET},
    ],
    "redis_keys": [f"{APP}:*"],
    "redis_users": [{"name": OTHER, "password": REDIS_SECRET}],
}
DOMAINS = {APP: DOMAIN, OTHER: OTHER_DOMAIN}


CLIENT = "redis-cli --tls --cacert /etc/flotilla/certs/current/ca.crt"
REDIS = f'REDISCLI_AUTH="$(cat /etc/redis/password)" {CLIENT}'


@dataclass(frozen=True)
class Addition:
    """The second app came to the first one's droplet while that was under load.

    kept: ids of the containers that both need, before and after.  value: of a key that was in Redis before.
    """

    both: Environment
    kept: tuple[dict[str, str], dict[str, str]]
    value: str
    result: Result


@pytest.fixture(scope="module")
def addition(served: Environment, tmp_path_factory: pytest.TempPathFactory) -> Addition:
    """The first app alone, then both by one command."""
    both = served.with_overlay(tmp_path_factory.mktemp("both"), BOTH)
    both.playbook("playbooks/secrets.yml").succeeded()
    served.ssh(f"docker exec redis sh -c '{REDIS} set notes:remember me'")
    before = shared(served)
    streams = (
        Stream(Kind.GET, Mode.NEW, rate=10),
        Stream(Kind.POST, Mode.NEW, rate=5),
        Stream(Kind.GET, Mode.KEEPALIVE, rate=20),
    )
    with BackgroundLoad(Plan(Target(served.url, DOMAIN, str(served.ca)), streams, seconds=1800)) as load:
        both.deploy().succeeded()
        result = load.stop()
    value = served.ssh(f"docker exec redis sh -c '{REDIS} get notes:remember'").strip()
    return Addition(both, (before, shared(served)), value, result)


@pytest.fixture(scope="module")
def both(addition: Addition) -> Environment:
    """Both apps in the version of the inventory."""
    return addition.both


def shared(environment: Environment) -> dict[str, str]:
    """The containers that all apps of the droplet need, and those of the first app: name → id."""
    projects = ("postgres", "redis", "nginx", f"{APP}-blue")
    return {name: number for project in projects for name, number in environment.containers(project).items()}


def test_a_new_app_is_nothing_to_the_one_that_was_there(addition: Addition) -> None:
    before, after = addition.kept
    assert before == after
    assert addition.value == "me"
    assert addition.result.passed, addition.result.summary()


def test_one_command_deploys_both(both: Environment) -> None:
    assert both.live(DOMAIN).version == both.live(OTHER_DOMAIN).version == "1.0.0"
    containers = both.containers("notes-blue"), both.containers("todo-blue")
    assert [len(found) for found in containers] == [4, 4]


def test_a_version_wants_the_name_of_its_app(both: Environment) -> None:
    refused = both.deploy("1.1.0")
    assert refused.rc != 0
    assert "-e app=" in refused.text


@pytest.mark.parametrize(("rolled", "other"), [(APP, OTHER), (OTHER, APP)])
def test_a_release_of_one_is_nothing_to_the_other(both: Environment, rolled: str, other: str) -> None:
    containers, live = both.colours(other), both.live(DOMAINS[other])
    streams = (Stream(Kind.GET, Mode.KEEPALIVE, rate=20), Stream(Kind.GET, Mode.NEW, rate=10))
    plan = Plan(Target(both.url, DOMAINS[other], str(both.ca)), streams, seconds=1800)
    with BackgroundLoad(plan) as load:
        both.deploy("1.1.0", rolled).succeeded()
        result = load.stop()
    assert both.live(DOMAINS[rolled]).version == "1.1.0"
    assert both.live(DOMAINS[other]) == live
    assert both.colours(other) == containers
    assert result.passed, result.summary()


def test_a_refused_release_of_one_is_nothing_to_the_other(both: Environment) -> None:
    containers, lives = both.colours(OTHER), [both.live(domain) for domain in DOMAINS.values()]
    refused = both.deploy("9.9.9", APP)
    assert refused.rc != 0
    assert [both.live(domain) for domain in DOMAINS.values()] == lives
    assert both.colours(OTHER) == containers


def test_each_has_its_own_notes(both: Environment) -> None:
    assert both.sql("SELECT current_database()", OTHER) == [OTHER]
    owners = both.sql("SELECT datname, pg_get_userbyid(datdba) FROM pg_database WHERE datname IN ('notes', 'todo')")
    assert sorted(owners) == ["notes|notes", "todo|todo"]
    networks = {app: both.ssh(f"docker network ls -q -f name=^{app}-").split() for app in DOMAINS}
    assert not set(networks[APP]) & set(networks[OTHER])


def test_neither_can_read_what_the_other_keeps_in_redis(both: Environment) -> None:
    password = both.ssh(f"cat /opt/{OTHER}/secrets/*/redis_password-10001").split()[0]
    theirs = f"docker exec -e REDISCLI_AUTH={password} redis {CLIENT} --user {OTHER}"
    assert both.ssh(f"{theirs} ping").strip() == "PONG"
    for attempt in ("get notes:remember", "scan 0", "flushall"):
        assert "NOPERM" in both.ssh(f"{theirs} {attempt}")
    assert "NOPERM" in both.ssh(f"docker exec redis sh -c '{REDIS} get {OTHER}:visits'")


def test_both_again_change_nothing(both: Environment) -> None:
    for app in DOMAINS:
        again = both.deploy("1.1.0", app)
        assert again.succeeded().recap[HOST].changed == 0
