"""What a client of the role's PostgreSQL sees, over a network that it joined."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from testinfra.backend.base import CommandResult
from testinfra.host import Host

from tests.lab.scenario import RENEWING, authorities, converge
from tests.lab.waiting import eventually

SCENARIO = Path(os.environ.get("MOLECULE_SCENARIO_DIRECTORY", Path(__file__).parents[1]))
VARIABLES: dict[str, Any] = yaml.safe_load((SCENARIO / "vars.yml").read_text())
VERSION: str = VARIABLES["postgres_version"]
NOTES, SECOND = VARIABLES["postgres_databases"]
SUPERUSER = {"name": "postgres", "owner": "postgres", "password": VARIABLES["postgres_superuser_password"]}

CERTIFICATES = "/opt/flotilla/postgres/certs"
TRUST = f"{CERTIFICATES}/current/ca.crt"

Query = Callable[..., CommandResult]


@pytest.fixture
def query(host: Host) -> Query:
    """Run SQL as a client in a container of its own on the network notes-green, who trusts `trust`."""

    def run(
        sql: str,
        role: dict[str, str] = NOTES,
        database: str = "",
        password: str | None = None,
        server: str = "postgres",
        mode: str = "verify-full",
        trust: str = TRUST,
    ) -> CommandResult:
        return host.run(
            "PGPASSWORD=%s docker run --rm --network notes-green -e PGPASSWORD -e PGCONNECT_TIMEOUT=60"
            " --entrypoint psql -e PGSSLMODE=%s -e PGSSLROOTCERT=/ca.crt -v %s:/ca.crt:ro %s"
            " --no-psqlrc -At -h %s -U %s -d %s -c %s",
            role["password"] if password is None else password,
            mode,
            trust,
            f"postgres:{VERSION}",
            server,
            role["owner"],
            database or role["name"],
            sql,
        )

    return run


def administer(host: Host, sql: str) -> str:
    """Run SQL as the superuser, as an administrator on the host does."""
    return str(host.check_output("docker exec postgres psql --no-psqlrc -At -U postgres -c %s", sql))


def inspect(host: Host, template: str) -> str:
    return str(host.check_output("docker inspect --format %s postgres", template))


def test_the_server_has_the_declared_version(query: Query) -> None:
    assert query("SHOW server_version").stdout.startswith(f"{VERSION}.")


@pytest.mark.parametrize("role", [NOTES, SECOND], ids=lambda role: role["owner"])
def test_an_owner_works_in_its_database(query: Query, role: dict[str, str]) -> None:
    sql = "CREATE TEMP TABLE t (v text); INSERT INTO t VALUES ('a row') RETURNING v"
    assert query(sql, role).stdout.splitlines()[0:3].count("a row") == 1


def test_an_owner_may_create_tables_and_schemas(query: Query) -> None:
    result = query("BEGIN; CREATE TABLE t (v int); CREATE SCHEMA s; ROLLBACK")
    assert result.rc == 0, result.stderr


@pytest.mark.parametrize("sql", ["CREATE DATABASE other", "CREATE ROLE other", "ALTER ROLE notes SUPERUSER"])
def test_an_owner_may_not_reach_beyond_its_database(query: Query, sql: str) -> None:
    result = query(sql)
    assert result.rc != 0
    assert "permission denied" in result.stderr or "must be superuser" in result.stderr


@pytest.mark.parametrize("database", ["second-app", "postgres", "template1"])
def test_an_owner_may_not_enter_another_database(query: Query, database: str) -> None:
    result = query("SELECT 1", database=database)
    assert result.rc != 0
    assert "permission denied for database" in result.stderr


@pytest.mark.parametrize("password", ["", "wrong", SECOND["password"]])
def test_a_wrong_password_is_refused(query: Query, password: str) -> None:
    result = query("SELECT 1", password=password)
    assert result.rc != 0
    assert "password" in result.stderr


def test_the_superuser_is_turned_away_from_the_network(query: Query) -> None:
    result = query("SELECT 1", SUPERUSER)
    assert result.rc != 0
    assert "pg_hba.conf rejects connection" in result.stderr


def test_the_superusers_password_is_the_declared_one(host: Host) -> None:
    sql = "SELECT current_user"
    connect = "PGPASSWORD=%s docker exec -e PGPASSWORD postgres psql -At -h 127.0.0.1 -U postgres -c %s"
    assert host.check_output(connect, SUPERUSER["password"], sql) == "postgres"
    assert host.run(connect, "wrong", sql).rc != 0


def test_passwords_are_stored_as_scram_verifiers(host: Host) -> None:
    sql = "SELECT count(*) FROM pg_authid WHERE rolcanlogin AND rolpassword NOT LIKE 'SCRAM-SHA-256$%'"
    assert administer(host, sql) == "0"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("shared_buffers", "64MB"),
        ("effective_cache_size", "192MB"),
        ("maintenance_work_mem", "16MB"),
        ("work_mem", "1724kB"),
        ("max_connections", "30"),
        ("password_encryption", "scram-sha-256"),
        ("data_checksums", "on"),
    ],
)
def test_settings_follow_from_the_limit(query: Query, name: str, value: str) -> None:
    assert query(f"SHOW {name}").stdout.strip() == value


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ("{{.HostConfig.Memory}}", str(256 * 1024 * 1024)),
        ("{{.HostConfig.NanoCpus}}", "1000000000"),
        ("{{.HostConfig.PidsLimit}}", "200"),
        ("{{.HostConfig.ShmSize}}", str(64 * 1024 * 1024)),
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
    assert host.check_output("docker port postgres") == "5432/tcp -> 127.0.0.1:5432"


@pytest.mark.parametrize("secret", [NOTES["password"], SUPERUSER["password"]], ids=["owner", "superuser"])
@pytest.mark.parametrize(
    "command", ["docker inspect postgres", "docker logs postgres 2>&1", "cat /opt/flotilla/postgres/.env"]
)
def test_no_password_is_shown(host: Host, command: str, secret: str) -> None:
    shown = host.check_output(command)
    assert secret not in shown
    assert secret.replace("\\", "\\\\").replace('"', '\\"') not in shown


def test_no_verifier_is_logged(host: Host) -> None:
    assert "SCRAM-SHA-256$" not in host.check_output("docker logs postgres 2>&1")


def test_the_superusers_password_can_be_read_by_the_containers_user_alone(host: Host) -> None:
    secret = host.file("/opt/flotilla/postgres/secrets/superuser_password")
    assert (secret.uid, secret.mode) == (999, 0o400)


def address(host: Host) -> str:
    """The server's address on the network notes-green."""
    return inspect(host, '{{(index .NetworkSettings.Networks "notes-green").IPAddress}}')


def serves(host: Host, of: str) -> bool:
    """Whether new connections get the certificate of this version."""
    shown = host.check_output(
        f"openssl s_client -connect {address(host)}:5432 -starttls postgres < /dev/null 2> /dev/null"
        " | openssl x509 -noout -fingerprint"
    )
    return bool(shown == host.check_output(f"openssl x509 -noout -fingerprint -in {CERTIFICATES}/{of}/tls.crt"))


def test_a_client_without_tls_is_refused(query: Query) -> None:
    result = query("SELECT 1", mode="disable")
    assert result.rc != 0
    assert "no encryption" in result.stderr


def test_a_client_without_tls_is_refused_within_the_container_too(host: Host) -> None:
    psql = "docker exec -e PGPASSWORD=%s -e PGSSLMODE=%s postgres psql -At -h 127.0.0.1 -U postgres -c 'SELECT 1'"
    assert host.check_output(psql, SUPERUSER["password"], "require") == "1"
    assert "no encryption" in host.run(psql, SUPERUSER["password"], "disable").stderr


def test_a_client_who_trusts_another_authority_refuses_the_server(host: Host, query: Query) -> None:
    host.check_output("printf %%s %s > /tmp/foreign.crt", authorities()["foreign"]["certificate"])
    result = query("SELECT 1", trust="/tmp/foreign.crt")
    assert result.rc != 0
    assert "certificate verify failed" in result.stderr


def test_a_client_who_asks_for_another_name_refuses_the_server(host: Host, query: Query) -> None:
    result = query("SELECT 1", server=address(host))
    assert result.rc != 0
    assert "does not match host name" in result.stderr
    # The reason is the name alone.
    assert query("SELECT 1", server=address(host), mode="verify-ca").rc == 0


def test_the_key_belongs_to_the_servers_user_alone(host: Host) -> None:
    key = host.file(f"{CERTIFICATES}/current/tls.key")
    assert (key.uid, key.mode) == (999, 0o600)


def test_an_old_protocol_is_refused(host: Host) -> None:
    connect = f"openssl s_client -connect {address(host)}:5432 -starttls postgres -cipher ALL:@SECLEVEL=0"
    assert host.run(f"{connect} -tls1_1 < /dev/null").rc != 0
    assert host.run(f"{connect} -tls1_2 < /dev/null").rc == 0


def test_a_renewed_certificate_is_served_without_a_restart(host: Host, query: Query) -> None:
    before = host.check_output(f"readlink {CERTIFICATES}/current")
    started, connected = inspect(host, "{{.State.StartedAt}}"), "SELECT pg_postmaster_start_time()"
    since = administer(host, connected)
    assert serves(host, before)
    converge(SCENARIO, **RENEWING)
    after = host.check_output(f"readlink {CERTIFICATES}/current")
    assert after != before
    assert serves(host, after)
    assert query("SELECT 1").rc == 0
    assert (inspect(host, "{{.State.StartedAt}}"), administer(host, connected)) == (started, since)


# A name of PostgreSQL's, which whoever believes the database's search_path calls in the owner's schema.
PLANTED = """
CREATE SCHEMA evil;
CREATE FUNCTION evil.json_build_object(text, text, text, boolean) RETURNS json LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE 'ALTER ROLE notes SUPERUSER';
  RETURN '{"schema": "notes", "public": false}';
END $$;
ALTER DATABASE notes SET search_path = evil, pg_catalog, public;
ALTER DATABASE notes SET default_transaction_read_only = on;
ALTER DATABASE notes SET statement_timeout = '1ms';
"""


def test_provisioning_calls_nothing_that_an_owner_has_planted(host: Host, query: Query) -> None:
    is_super = "SELECT rolsuper FROM pg_roles WHERE rolname = 'notes'"
    assert query(PLANTED).rc == 0
    look = "SELECT json_build_object('schema', 'notes', 'public', true)"
    try:
        # So it is in a plain session.
        plain = "docker exec --env PGOPTIONS=%s postgres psql --no-psqlrc -At -U postgres -d notes -c %s"
        host.run(plain, "-c default_transaction_read_only=off -c statement_timeout=0", look)
        assert administer(host, is_super) == "t"
        administer(host, "ALTER ROLE notes NOSUPERUSER")
        administer(host, "ALTER DATABASE notes OWNER TO postgres")
        assert "give the database notes to notes" in converge(SCENARIO)
        assert administer(host, is_super) == "f"
    finally:
        administer(host, "ALTER DATABASE notes RESET ALL")
        administer(host, "ALTER ROLE notes NOSUPERUSER")
        host.check_output(
            "docker exec postgres psql --no-psqlrc -U postgres -d notes -c %s", "DROP SCHEMA evil CASCADE"
        )


def test_data_survive_a_new_container(host: Host, query: Query) -> None:
    query("CREATE TABLE IF NOT EXISTS kept (v text); TRUNCATE kept; INSERT INTO kept VALUES ('still here')")
    before = inspect(host, "{{.Id}}")
    compose = "cd /opt/flotilla/postgres && docker compose"
    host.run_expect([0], f"{compose} up --detach --force-recreate --wait")
    assert inspect(host, "{{.Id}}") != before
    # By hand it is on no app's network; the role would bring it back.
    read = "docker exec postgres psql -U postgres -d notes -At -c 'SELECT v FROM kept'"
    assert host.check_output(read) == "still here"
