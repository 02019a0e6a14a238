"""What a client of the role's PgBouncer sees, and what becomes of its queries when the server is another container."""

from __future__ import annotations

import os
import time
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
NOTES, SECOND = VARIABLES["postgres_databases"]
CERTIFICATES = "/opt/flotilla/postgres/certs"
TRUST = f"{CERTIFICATES}/current/ca.crt"
CLIENT = (
    "PGPASSWORD=%s docker run --rm --network notes-green -e PGPASSWORD -e PGCONNECT_TIMEOUT={seconds}"
    " -e PGSSLMODE={mode} -e PGSSLROOTCERT=/ca.crt -v {trust}:/ca.crt:ro --entrypoint {program} postgres:17"
)
CONSOLE = "docker exec pgbouncer psql -XAtq -h /var/run/pgbouncer -p 6432 -U pgbouncer pgbouncer -c"

# Longer than any run of the role, and long enough for a stop to come in between.
LONG = "SELECT pg_sleep(3000)"
INSERT = "INSERT INTO kept SELECT 1 FROM pg_sleep(8)"
RUNS = "docker inspect --format '{{.Image}}' pgbouncer"
JOINED = "docker inspect --format '{{range $name, $_ := .NetworkSettings.Networks}}{{println $name}}{{end}}' pgbouncer"

Query = Callable[..., CommandResult]


def client(program: str, mode: str = "verify-full", trust: str = TRUST, seconds: str = "60") -> str:
    return CLIENT.format(program=program, mode=mode, trust=trust, seconds=seconds)


@pytest.fixture
def query(host: Host) -> Query:
    """Run SQL through the pooler, as a client in a container of its own on the network notes-green."""

    def run(sql: str, role: dict[str, str] = NOTES, password: str | None = None, **how: str) -> CommandResult:
        return host.run(
            f"{client('psql', **how)} --no-psqlrc -At -h pgbouncer -p 6432 -U %s -d %s -c %s",
            role["password"] if password is None else password,
            role["owner"],
            role["name"],
            sql,
        )

    return run


def administer(host: Host, sql: str) -> str:
    """Run SQL as the superuser, past the pooler."""
    return str(host.check_output("docker exec postgres psql --no-psqlrc -At -U postgres -c %s", sql))


def runs(host: Host, sql: str) -> bool:
    """Whether the server is at work on this very statement."""
    return administer(host, f"SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query = '{sql}'") == "1"


def bench(host: Host, *options: str) -> str:
    """A pgbench through the pooler that goes on in the container `bench`; its name."""
    host.run("docker rm --force bench")
    host.run_expect(
        [0],
        client("pgbench").replace("--rm", "--detach --name bench")
        + f" -h pgbouncer -p 6432 -U notes {' '.join(options)} notes",
        NOTES["password"],
    )
    return "bench"


def ended(host: Host) -> tuple[int, str]:
    """Exit code and output of the pgbench, when it is over."""
    code = int(host.check_output("docker wait bench"))
    return code, str(host.check_output("docker logs bench 2>&1"))


@pytest.mark.parametrize("role", [NOTES, SECOND], ids=lambda role: role["owner"])
def test_an_owner_works_in_its_database(query: Query, role: dict[str, str]) -> None:
    result = query("SELECT current_user, current_database()", role)
    assert result.stdout.strip() == f"{role['owner']}|{role['name']}", result.stderr


@pytest.mark.parametrize("password", ["", "wrong", SECOND["password"]])
def test_a_wrong_password_is_refused(query: Query, password: str) -> None:
    result = query("SELECT 1", password=password)
    assert result.rc != 0
    assert "no password supplied" in result.stderr or "SASL authentication failed" in result.stderr


@pytest.mark.parametrize("name", ["postgres", "pgbouncer"])
def test_nobody_but_an_apps_login_comes_in(query: Query, name: str) -> None:
    role = {"owner": name, "name": name, "password": VARIABLES["postgres_superuser_password"]}
    assert query("SHOW VERSION", role).rc != 0


def test_a_client_without_tls_is_refused(query: Query) -> None:
    result = query("SELECT 1", mode="disable")
    assert result.rc != 0
    assert "SSL required" in result.stderr


def test_a_client_who_trusts_another_authority_refuses_it(host: Host, query: Query) -> None:
    host.check_output("printf %%s %s > /tmp/foreign.crt", authorities()["foreign"]["certificate"])
    result = query("SELECT 1", trust="/tmp/foreign.crt")
    assert result.rc != 0
    assert "certificate verify failed" in result.stderr


def test_it_speaks_tls_with_the_server(query: Query) -> None:
    assert query("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").stdout.strip() == "t"


def test_a_server_with_another_name_is_refused_by_it(host: Host, query: Query) -> None:
    """What it asks of the server is the name `postgres`, signed by the environment's authority."""
    said = host.check_output(f"{CONSOLE} 'SHOW CONFIG'").splitlines()
    found = {line.split("|")[0]: line.split("|")[1] for line in said}
    assert found["server_tls_sslmode"] == "verify-full"
    config = "/opt/flotilla/pgbouncer/config/pgbouncer.ini"
    address = host.check_output(
        "docker inspect --format '{{.NetworkSettings.Networks.postgres_default.IPAddress}}' postgres"
    )
    host.check_output(f"cp -p {config} /root/kept.ini && sed -i 's/host=postgres/host={address}/' {config}")
    try:
        host.check_output(f"{CONSOLE} RELOAD && {CONSOLE} RECONNECT")
        refused = query("SELECT 1", seconds="5")
    finally:
        host.check_output(f"cp -p /root/kept.ini {config} && {CONSOLE} RELOAD")
    assert refused.rc != 0
    assert query("SELECT 1").rc == 0


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ("{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}}", f"{64 * 1024 * 1024} 500000000"),
        ("{{.HostConfig.PidsLimit}} {{.Config.User}}", "32 999:999"),
        ("{{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}}", "true [ALL]"),
        ("{{.HostConfig.SecurityOpt}}", "[no-new-privileges:true]"),
    ],
)
def test_the_container_is_held(host: Host, template: str, value: str) -> None:
    assert host.check_output("docker inspect --format %s pgbouncer", template) == value


def test_the_port_is_published_on_the_bind_address_alone(host: Host) -> None:
    assert host.check_output("docker port pgbouncer") == "6432/tcp -> 127.0.0.1:6432"


def test_its_logins_can_be_read_by_the_containers_user_alone(host: Host) -> None:
    file = host.file("/opt/flotilla/pgbouncer/config/userlist.txt")
    assert (file.uid, file.mode) == (999, 0o400)
    assert NOTES["password"] not in file.content_string
    assert "SCRAM-SHA-256$" in file.content_string


def test_many_clients_share_few_connections(host: Host) -> None:
    """Prepared statements included. Each client has a thread: pgbench waits for an answer when it prepares one."""
    bench(host, "--initialize", "--quiet")
    assert ended(host)[0] == 0
    bench(host, "--client=30", "--jobs=30", "--time=5", "--protocol=prepared", "--no-vacuum")
    most, sql = 0, "SELECT count(*) FROM pg_stat_activity WHERE datname = 'notes'"
    while host.check_output("docker inspect --format '{{.State.Running}}' bench") == "true":
        most = max(most, int(administer(host, sql)))
    code, said = ended(host)
    assert code == 0, said
    assert "number of failed transactions: 0" in said
    assert 1 <= most <= VARIABLES["postgres_pooler_connections"]


def test_another_container_of_the_server_fails_no_query(host: Host) -> None:
    before = host.check_output("docker inspect --format '{{.Id}}' postgres")
    load = "--client=10 --jobs=10 --time=40 --protocol=prepared --no-vacuum --rate=50 --log --log-prefix=/tmp/each"
    bench(host, load)
    said = converge(SCENARIO, postgres_memory_mb=272)
    assert "Put another container" in said
    assert host.check_output("docker inspect --format '{{.Id}}' postgres") != before
    code, told = ended(host)
    assert code == 0, told
    assert "number of failed transactions: 0" in told
    # Of each transaction its client, number and microseconds, with more behind them.
    lines = host.check_output("docker cp bench:/tmp - | tar --extract --to-stdout --wildcards 'tmp/each*'").splitlines()
    longest = max(int(line.split()[2]) for line in lines) / 1e6
    print(f"{len(lines)} transactions, the longest took {longest:.1f} s")
    assert longest < VARIABLES.get("postgres_pooler_wait_seconds", 60)


def test_a_transaction_that_does_not_end_is_not_cut_off(host: Host, query: Query) -> None:
    before = host.check_output("docker inspect --format '{{.Id}}' postgres")
    host.run_expect(
        [0],
        client("psql").replace("--rm", "--detach --name bench-long")
        + f" -h pgbouncer -p 6432 -U notes -d notes -c '{LONG}'",
        NOTES["password"],
    )
    try:
        eventually(lambda: runs(host, LONG), why="the transaction runs")
        with pytest.raises(AssertionError, match="was not started anew, and serves on"):
            converge(SCENARIO, postgres_memory_mb=288, postgres_pooler_pause_seconds=5)
        assert host.check_output("docker inspect --format '{{.Id}}' postgres") == before
        assert query("SELECT 1").rc == 0
    finally:
        host.run("docker rm --force bench-long")
        administer(host, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = '{LONG}'")


def test_a_server_that_was_away_when_it_was_looked_for_is_found(host: Host, query: Query) -> None:
    """As when the droplet starts and the pooler is there first."""
    host.check_output("docker stop postgres && docker restart pgbouncer")
    try:
        assert query("SELECT 1", seconds="5").rc != 0
        assert host.check_output(f"{CONSOLE} 'SHOW DNS_HOSTS'").startswith("postgres|")
    finally:
        host.check_output("docker start postgres")
    eventually(lambda: query("SELECT 1", seconds="5").rc == 0, why="the server is found: docker logs pgbouncer")
    began = host.check_output("docker inspect --format '{{.State.StartedAt}}' pgbouncer")
    # And then nobody ends it again.
    time.sleep(12)
    healthy = "docker inspect --format '{{.State.Health.Status}}' pgbouncer"
    eventually(lambda: host.check_output(healthy) == "healthy", why="the pooler is well")
    assert host.check_output("docker inspect --format '{{.State.StartedAt}} {{.State.Health.Status}}' pgbouncer") == (
        f"{began} healthy"
    )


def test_a_stop_lets_transactions_end(host: Host, query: Query) -> None:
    assert query("DROP TABLE IF EXISTS kept; CREATE TABLE kept (v int)").rc == 0
    host.run("docker rm --force bench")
    host.run_expect(
        [0],
        client("psql").replace("--rm", "--detach --name bench")
        + f" -h pgbouncer -p 6432 -U notes -d notes -c '{INSERT}'",
        NOTES["password"],
    )
    eventually(lambda: runs(host, INSERT), why="the transaction runs")
    host.check_output("cd /opt/flotilla/pgbouncer && docker compose restart")
    code, said = ended(host)
    assert (code, said.strip()) == (0, "INSERT 0 1")
    assert query("SELECT count(*) FROM kept").stdout.strip() == "1"


def test_an_image_that_is_built_anew_takes_its_place(host: Host, query: Query) -> None:
    before = [host.check_output(RUNS), host.check_output(JOINED)]
    converge(SCENARIO, molecule_tasks="pooler_renew")
    after = [host.check_output(RUNS), host.check_output(JOINED)]
    assert after[0] != before[0]
    assert after[1] == before[1]
    assert query("SELECT 1").rc == 0
    converge(SCENARIO)
    assert host.check_output(RUNS) == after[0]


def test_a_renewed_certificate_is_served_without_a_restart(host: Host, query: Query) -> None:
    address = host.check_output(
        "docker inspect --format '{{(index .NetworkSettings.Networks \"notes-green\").IPAddress}}' pgbouncer"
    )
    shown = (
        f"openssl s_client -connect {address}:6432 -starttls postgres < /dev/null 2> /dev/null"
        " | openssl x509 -noout -fingerprint"
    )
    before = host.check_output(shown)
    started = host.check_output("docker inspect --format '{{.State.StartedAt}}' pgbouncer")
    converge(SCENARIO, **RENEWING)
    assert host.check_output(shown) != before
    assert host.check_output("docker inspect --format '{{.State.StartedAt}}' pgbouncer") == started
    assert query("SELECT 1").rc == 0


def test_switched_off_nothing_of_it_is_left(host: Host) -> None:
    converge(SCENARIO, postgres_pooler=False)
    assert "pgbouncer" not in host.check_output("docker ps --all --format '{{.Names}}'")
    assert not host.file("/opt/flotilla/pgbouncer").exists
