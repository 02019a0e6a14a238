"""A bare droplet becomes a served stack; run again, nothing changes; no secret shows on the way."""

from __future__ import annotations

import json
import os
import shlex
import statistics
import subprocess
import sys
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.e2e.fleet import DOMAIN, HOST, ROOT, SSH_FAILED, Environment, Lab, Run
from tests.e2e.watching import Seen, arguments_seen, files_with, names_in

LAB = Lab(versions=("1.0.0",))
# A second deploy takes at most so many times as long as `ansible all -m ping`.
NOOP_OVER_PING = 6.0
PAIRS = 3


@dataclass(frozen=True)
class FirstDeploy:
    """The first deploy of a droplet, in as many words as Ansible has, and what was seen meanwhile."""

    run: Run
    seen: Seen
    secrets: dict[str, str] = field(repr=False)


@pytest.fixture(scope="module")
def bare(staging: Environment) -> Environment:
    """A droplet with sshd and python3, and nothing of ours."""
    assert staging.ssh("command -v docker || true; ls /opt") == ""
    return staging


@pytest.fixture(scope="module")
def first(bare: Environment) -> FirstDeploy:
    with arguments_seen(bare, "-l", "root") as seen:
        run = bare.deploy(None, None, "-vvv", "--diff")
    secrets = bare.secrets()
    # As Docker keeps a login.
    login = b64encode(f"flotilla:{secrets['vault_registry_password']}".encode()).decode()
    return FirstDeploy(run.succeeded(), seen, {**secrets, "the registry's login": login})


def test_a_first_deploy_can_be_rehearsed(bare: Environment) -> None:
    rehearsal = bare.deploy(None, None, "--check").succeeded()
    assert rehearsal.recap[HOST].changed > 0
    assert bare.ssh("command -v docker || true; ls /opt") == "", "a rehearsal touched the droplet"


def test_root_made_the_first_contact_and_is_out_now(first: FirstDeploy, staging: Environment) -> None:
    """The inventory says `deploy`, whom a bare droplet does not know."""
    assert "Choose the hosts that know root only" in first.run.output
    login = ["ssh", "-F", str(staging.directory / "ssh_config"), "-o", "BatchMode=yes", HOST]
    root = subprocess.run([*login[:1], "-l", "root", *login[1:], "true"], capture_output=True, text=True, check=False)
    assert root.returncode == SSH_FAILED
    assert "Permission denied (publickey)" in root.stderr
    deploy = subprocess.run([*login, "id -un; sudo -n id -un"], capture_output=True, text=True, check=True)
    assert deploy.stdout.split() == ["deploy", "root"]


def test_a_page_is_served_over_https(first: FirstDeploy, staging: Environment) -> None:
    page = staging.fetch("/")
    assert page.status == 200
    assert page.headers["content-type"].startswith("text/html")


# In a container of the app: who gets a connection. What it prints is compared below.
DIALS = """
import asyncio, os, ssl, sys
import asyncpg, redis.asyncio

def secret(name):
    return open(f"/run/secrets/{name}").read().strip()

async def postgres(host, context):
    user, password = secret("database_user"), secret("database_password")
    connection = await asyncpg.connect(host=host, user=user, database="notes", password=password, ssl=context)
    await connection.close()

async def redis_(host, trusted):
    tls = {} if trusted is None else {"ssl": True, "ssl_ca_certs": trusted, "ssl_check_hostname": True}
    client = redis.asyncio.Redis(host=host, password=secret("redis_password"), socket_timeout=60, **tls)
    await client.ping()

async def main():
    trusted, foreign = "/run/secrets/authorities", sys.argv[1]
    for stack, dial, tls in (
        ("postgres", postgres, lambda file: ssl.create_default_context(cafile=file)),
        ("redis", redis_, lambda file: file),
    ):
        address = os.popen(f"getent hosts {stack}").read().split()[0]
        for what, host, given in (
            ("verified", stack, tls(trusted)),
            ("plain", stack, False if stack == "postgres" else None),
            ("foreign", stack, tls(foreign)),
            ("unnamed", address, tls(trusted)),
        ):
            try:
                await dial(host, given)
                print(stack, what, "connected")
            except Exception as error:
                print(stack, what, type(error).__name__, " ".join(str(error).split()))

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def dialled(first: FirstDeploy, staging: Environment) -> dict[tuple[str, str], str]:
    """What a client in the app's container gets: (stack, how) -> `connected` or the error."""
    foreign = (staging.directory / "ca.crt").read_text()
    container = f"notes-{staging.live().colour}-api-1"
    staging.ssh(f"docker exec -i {container} sh -c 'cat > /tmp/foreign.crt'", given=foreign)
    said = staging.ssh(f"docker exec -i {container} python3 - /tmp/foreign.crt", given=DIALS)
    lines = (line.split(" ", 2) for line in said.splitlines())
    return {(stack, how): result for stack, how, result in lines}


@pytest.mark.parametrize(
    ("stack", "how", "expected"),
    [
        ("postgres", "verified", "connected"),
        ("postgres", "plain", "no encryption"),
        ("postgres", "foreign", "CERTIFICATE_VERIFY_FAILED"),
        ("postgres", "unnamed", "IP address mismatch"),
        ("redis", "verified", "connected"),
        ("redis", "plain", "ConnectionError"),
        ("redis", "foreign", "CERTIFICATE_VERIFY_FAILED"),
        ("redis", "unnamed", "IP address mismatch"),
    ],
)
def test_the_database_and_the_cache_speak_tls_alone(
    dialled: dict[tuple[str, str], str], stack: str, how: str, expected: str
) -> None:
    assert expected in dialled[stack, how]


def test_every_connection_of_the_app_to_the_database_is_encrypted(first: FirstDeploy, staging: Environment) -> None:
    staging.fetch("/api/status")
    query = "SELECT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name LIKE 'notes %'"
    assert set(staging.sql(query)) == {"t"}


def test_the_status_says_how_long_certificates_last(first: FirstDeploy, staging: Environment) -> None:
    said = staging.playbook("playbooks/status.yml").succeeded().text
    assert f"{HOST}  postgres  396 days, to 20" in said
    assert f"{HOST}  redis  396 days, to 20" in said
    # With a year left, a threshold of a year warns.
    warned = staging.playbook("playbooks/status.yml", "-e", "pki_renew_days=397")
    assert warned.rc != 0
    assert (
        f"{HOST}: the certificate `postgres`: it ends in 396 days. Next: ansible-playbook playbooks/provision.yml"
        in (warned.text)
    )


def test_the_app_knows_version_colour_and_host(first: FirstDeploy, staging: Environment) -> None:
    live = staging.live()
    assert (live.version, live.colour, live.host) == ("1.0.0", "blue", HOST)
    assert live.release.endswith("-1.0.0")


def test_every_dependency_is_ready(first: FirstDeploy, staging: Environment) -> None:
    ready = staging.fetch("/api/ready")
    assert (ready.status, ready.json()["failing"]) == (200, [])


def test_plain_http_leads_to_https(first: FirstDeploy, staging: Environment) -> None:
    answer = staging.fetch("/notes?x=1", tls=False)
    assert answer.status in (301, 308)
    assert answer.headers["location"] == f"https://{DOMAIN}/notes?x=1"


def test_the_last_words_of_a_deploy_name_what_serves(first: FirstDeploy) -> None:
    assert f"notes 1.0.0: deployed, serves on {HOST} (blue)" in first.run.text


def test_ansible_shows_no_secret(first: FirstDeploy) -> None:
    assert names_in(first.run.output, first.secrets) == []


def test_no_secret_is_an_argument_of_a_process(first: FirstDeploy) -> None:
    assert any("docker" in line for line in first.seen.droplet), "the sampler saw nothing of the deploy"
    assert any("deploy.yml" in line for line in first.seen.controller), "the sampler saw nothing of the controller"
    assert names_in("\n".join(first.seen.droplet), first.secrets) == []
    assert names_in("\n".join(first.seen.controller), first.secrets) == []


def test_no_file_that_all_can_read_holds_a_secret(first: FirstDeploy, staging: Environment) -> None:
    places = ["/opt", "/etc", "/root", "/home", "/run", "/tmp", "/var/tmp"]
    found = files_with(staging, places, [*first.secrets.values()])
    paths = {file.path for file in found}
    assert "/root/.docker/config.json" in paths, "the search finds no login"
    assert any(path.startswith("/opt/notes/secrets/") for path in paths), "the search finds no secret of the app"
    assert [file.path for file in found if file.public] == []


def test_the_journal_of_the_droplet_holds_no_secret(first: FirstDeploy, staging: Environment) -> None:
    journal = staging.ssh("journalctl --no-pager --output=export")
    assert "docker" in journal
    assert names_in(journal, first.secrets) == []


def test_no_container_shows_a_secret(first: FirstDeploy, staging: Environment) -> None:
    inspected = staging.ssh("docker ps -aq | xargs docker inspect")
    assert {container["State"]["Status"] for container in json.loads(inspected)} == {"running"}
    assert names_in(inspected, first.secrets) == []


@pytest.fixture(scope="module")
def containers(first: FirstDeploy, staging: Environment) -> dict[str, Any]:
    """Every running container, as `docker inspect` shows it."""
    found = json.loads(staging.ssh("docker ps --quiet | xargs docker inspect"))
    assert len(found) >= 6, "the droplet does not run what it should"
    return {container["Name"].lstrip("/"): container for container in found}


# What the CIS benchmark for Docker asks of every container (its section 5). Nobody is excepted.
CONTAINED: dict[str, Callable[[dict[str, Any], dict[str, Any]], bool]] = {
    # An app's is found by its digest; Postgres, Redis and the edge by the version that the inventory states.
    "an image named by its digest": lambda host, own: "@sha256:" in own["Image"] or "flotilla.app" not in own["Labels"],
    "an image of one version": lambda host, own: ":" in own["Image"] and not own["Image"].endswith(":latest"),
    "a user that is not root": lambda host, own: own["User"].partition(":")[0] not in ("", "0", "root"),
    "no capability": lambda host, own: host["CapDrop"] == ["ALL"] and not host["CapAdd"],
    "not privileged, no device": lambda host, own: not host["Privileged"] and not host["Devices"],
    "no new privileges": lambda host, own: "no-new-privileges:true" in host["SecurityOpt"],
    "the engine's system call filter": lambda host, own: "unconfined" not in " ".join(host["SecurityOpt"]),
    "a root file system that is read-only": lambda host, own: bool(host["ReadonlyRootfs"]),
    "a limit of processes": lambda host, own: 0 < host["PidsLimit"] <= 4096,
    "a limit of memory": lambda host, own: host["Memory"] > 0,
    "a limit of the processor": lambda host, own: host["NanoCpus"] > 0,
    "a health check": lambda host, own: bool(own.get("Healthcheck", {}).get("Test")),
    # Control groups of version 1 have no namespace by default.
    "namespaces of its own": lambda host, own: (
        "host" not in {host[key] for key in ("NetworkMode", "PidMode", "IpcMode", "UTSMode", "UsernsMode")}
    ),
    "no part of the default bridge": lambda host, own: host["NetworkMode"] not in ("default", "bridge"),
    "no mount that spreads": lambda host, own: not any("shared" in bind for bind in host["Binds"] or ()),
}
SYSTEM = ("/boot", "/dev", "/etc", "/lib", "/proc", "/root", "/run", "/sys", "/usr", "/var/run", "/var/lib/docker/")


@pytest.mark.parametrize("promise", CONTAINED)
def test_every_container_has(containers: dict[str, Any], promise: str) -> None:
    holds = CONTAINED[promise]
    assert [name for name, one in containers.items() if not holds(one["HostConfig"], one["Config"])] == []


def test_no_process_of_a_container_can_become_more_than_it_is(containers: dict[str, Any], staging: Environment) -> None:
    """What the kernel says: the real user, what it could ever have of capabilities, and the filter of system calls."""
    wanted = ("CapBnd: 0000000000000000", "NoNewPrivs: 1", "Seccomp: 2")
    for name, container in containers.items():
        status = staging.ssh(f"cat /proc/{container['State']['Pid']}/status").replace("\t", " ")
        assert [line for line in wanted if line not in status] == [], name
        assert "Uid: 0" not in status, name


def test_nothing_of_the_system_is_mounted_into_a_container(containers: dict[str, Any]) -> None:
    sources = {mount["Source"] for one in containers.values() for mount in one["Mounts"] if mount["Type"] == "bind"}
    assert sources
    assert [source for source in sources if source == "/" or source.startswith(SYSTEM) or "sock" in source] == []


def test_the_edge_alone_publishes_ports_to_everybody(containers: dict[str, Any]) -> None:
    published = {
        (name, port, at["HostIp"], at["HostPort"])
        for name, one in containers.items()
        for port, places in one["NetworkSettings"]["Ports"].items()
        for at in places or ()
        if not at["HostIp"].startswith("127.")
    }
    assert published == {
        ("nginx-nginx-1", "8080/tcp", "0.0.0.0", "80"),
        ("nginx-nginx-1", "8443/tcp", "0.0.0.0", "443"),
    }


def test_a_second_deploy_changes_nothing_at_the_price_of_six_pings(first: FirstDeploy, staging: Environment) -> None:
    staging.ping().succeeded()  # opens the connection that both use
    pairs = []
    for _ in range(PAIRS):
        ping, deploy = staging.ping().succeeded(), staging.deploy().succeeded()
        assert {host: recap.changed for host, recap in deploy.recap.items()} == {HOST: 0}
        pairs.append((deploy.seconds, ping.seconds))
    ratio = statistics.median(deploy / ping for deploy, ping in pairs)
    print(f"noop_over_ping {ratio:.2f}; " + ", ".join(f"{deploy:.2f} s / {ping:.2f} s" for deploy, ping in pairs))
    assert ratio <= NOOP_OVER_PING


def test_provisioning_again_changes_nothing(first: FirstDeploy, staging: Environment) -> None:
    again = staging.playbook("playbooks/provision.yml").succeeded()
    assert again.recap[HOST].ok > 20, "nothing was provisioned: the playbook must not skip a stamped host"
    assert again.recap[HOST].changed == 0, again.output


@pytest.mark.parametrize("stack", ["app", "nginx", "postgres", "redis"])
def test_compose_accepts_the_stacks_as_they_are(first: FirstDeploy, staging: Environment, stack: str) -> None:
    directory = ROOT / "compose" / stack
    staging.ssh("cat > /run/example.env", given=(directory / ".env.example").read_text())
    staging.ssh(
        "docker compose -f - --env-file /run/example.env --project-directory /run config --quiet",
        given=(directory / "compose.yaml").read_text(),
    )


def test_compose_reads_what_the_resolver_and_the_roles_write(first: FirstDeploy, staging: Environment) -> None:
    """The unit tests that need the Compose plugin, with the droplet's."""
    prefix = shlex.join(["docker", "exec", "-i", f"{staging.name}-{HOST}"])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-m", "compose", "tests/unit"],
        cwd=ROOT,
        env={**os.environ, "FLOTILLA_COMPOSE_PREFIX": prefix},
        capture_output=True,
        text=True,
        check=False,
        timeout=1500,
    )
    assert done.returncode == 0, done.stdout
    assert "skipped" not in done.stdout, done.stdout
    assert " passed" in done.stdout
