"""The rules of the dev-sec PostgreSQL baseline that apply to a server in a container of its own.

Left out:
  the service's state       the container's health: test_postgres.py.
  the data's owner by name  the volume belongs to the container's user, who has a number and no name on the host.
  MD5 for passwords         is broken; SCRAM-SHA-256 stands in its place.
  logging_collector, log_directory  the engine keeps and rotates what the server writes.
  log_connections           would be the health check, every few seconds; who was there is logged when the session ends.
  log_duration              each statement; slow ones are logged (`postgres_log_min_duration_ms`).
  log_hostname              a look-up for each connection; addresses are logged.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import yaml
from testinfra.host import Host

from tests.lab.waiting import eventually

SCENARIO = Path(os.environ.get("MOLECULE_SCENARIO_DIRECTORY", Path(__file__).parents[1]))
VERSION = str(yaml.safe_load((SCENARIO / "vars.yml").read_text())["postgres_version"])
CONFIG = "/opt/flotilla/postgres/config"
UID = 999


def ask(host: Host, sql: str) -> str:
    """What the superuser is told, on the container's own socket."""
    return str(host.check_output("docker exec postgres psql --no-psqlrc -At -U postgres -c %s", sql))


def test_the_version_is_a_released_one(host: Host) -> None:  # postgres-02
    assert re.fullmatch(rf"{VERSION}\.\d+", ask(host, "SHOW server_version").split()[0])


def test_a_container_has_one_server(host: Host) -> None:  # postgres-03
    parents = host.check_output("docker top postgres -eo pid,ppid,comm").splitlines()[1:]
    processes = {line.split()[0]: line.split()[1] for line in parents if line.split()[2].startswith("postgres")}
    assert len([pid for pid, parent in processes.items() if parent not in processes]) == 1


@pytest.mark.parametrize(
    "sql",
    [
        # postgres-04: a language that can do whatever the server's user can
        "SELECT lanname FROM pg_language WHERE NOT lanpltrusted AND lanname NOT IN ('internal', 'c')",
        # postgres-05, postgres-06
        "SELECT rolname FROM pg_authid WHERE rolcanlogin AND rolpassword IS NULL",
        "SELECT rolname FROM pg_authid WHERE rolcanlogin AND rolpassword NOT LIKE 'SCRAM-SHA-256$%'",
        # postgres-07
        "SELECT rolname FROM pg_roles WHERE rolname <> 'postgres'"
        " AND (rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls)",
        # postgres-08: the verifiers of the passwords
        "SELECT grantee FROM pg_class, aclexplode(relacl) WHERE relname = 'pg_authid' AND grantee <> relowner",
        "SELECT rolname FROM pg_roles WHERE rolname !~ '^(postgres$|pg_)'"
        " AND has_table_privilege(oid, 'pg_authid', 'SELECT')",
        # The server's own roles (pg_read_all_data, …), which are as good as the administrator.
        "SELECT member::regrole FROM pg_auth_members"
        " WHERE roleid::regrole::text ~ '^pg_' AND member::regrole::text !~ '^pg_'",
    ],
    ids=["languages", "no password", "no salt", "powers", "granted verifiers", "readable verifiers", "members"],
)
def test_nobody_has_what_only_the_administrator_needs(host: Host, sql: str) -> None:
    assert ask(host, sql) == ""


@pytest.mark.parametrize(
    ("place", "owner"),  # postgres-09, within the container
    [
        ("/var/lib/postgresql/data", UID),
        ("/var/lib/postgresql/data/base", UID),
        ("/run/secrets/superuser_password", UID),
    ],
)
def test_data_and_secrets_are_the_servers_alone(host: Host, place: str, owner: int) -> None:
    user, mode = host.check_output(f"docker exec postgres stat -L -c '%u %a' {place}").split()
    assert int(user) == owner
    assert int(mode, 8) & 0o077 == 0


def test_no_file_of_the_data_is_for_others(host: Host) -> None:
    data = "/var/lib/postgresql/data"
    assert host.check_output(f"docker exec postgres find {data} -perm /go=rwx -not -type l -print -quit") == ""


@pytest.mark.parametrize("name", ["postgresql.conf", "pg_hba.conf"])  # postgres-10
def test_the_configuration_is_written_by_root_and_read_by_the_server_alone(host: Host, name: str) -> None:
    file = host.file(f"{CONFIG}/{name}")
    assert (file.user, file.gid, file.mode) == ("root", UID, 0o640)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("ssl", "on"),  # postgres-11
        ("ssl_min_protocol_version", "TLSv1.2"),
        ("password_encryption", "scram-sha-256"),
        ("log_disconnections", "on"),  # postgres-15
        ("log_destination", "stderr"),
        ("config_file", "/etc/postgresql/postgresql.conf"),
    ],
)
def test_the_server_is_set_so(host: Host, setting: str, value: str) -> None:
    assert ask(host, f"SHOW {setting}") == value


@pytest.mark.parametrize("weak", ["NULL", "ADH", "AECDH", "EXP", "LOW", "MD5", "RC4", "3DES", "CBC"])  # postgres-12
def test_no_weak_cipher_is_offered(host: Host, weak: str) -> None:
    offered = ask(host, "SHOW ssl_ciphers").split(":")
    assert all(name.startswith("ECDHE-") and weak not in name for name in offered)


def test_each_line_of_who_may_come_wants_a_password_over_tls(host: Host) -> None:  # postgres-13, postgres-14
    rules = ask(host, "SELECT type, auth_method FROM pg_hba_file_rules ORDER BY line_number").splitlines()
    assert rules[0] == "local|peer"
    assert set(rules[1:]) <= {"hostssl|scram-sha-256", "hostssl|reject"}
    assert rules.count("local|peer") == 1


@pytest.mark.parametrize("escape", ["%m", "%p", "%u", "%d", "%h"])  # postgres-15
def test_a_line_of_the_log_says_when_who_where_and_from_where(host: Host, escape: str) -> None:
    assert escape in ask(host, "SHOW log_line_prefix")


def test_who_was_there_is_in_the_log(host: Host) -> None:
    ask(host, "SELECT 1")
    log = "docker logs --tail 200 postgres 2>&1"
    eventually(lambda: "disconnection: session time" in host.check_output(log), why="the end of a session is logged")
