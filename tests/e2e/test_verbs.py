"""The operators' verbs, hooks, and what a deploy looks like, on a droplet that serves."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.fleet import APP, DOMAIN, HOST, PLAYBOOK_SECONDS, ROOT, STAGING_LAB, Environment, Run, app_entry
from tests.e2e.load import BackgroundLoad, Kind, Mode, Plan, Stream, Target

TOLD = Path(tempfile.gettempdir()) / f"flotilla-e2e-hooks-{os.getpid()}"
ON_HOST = "/root/hooks"
FACTS = "$FLOTILLA_HOOK $FLOTILLA_ACTION $FLOTILLA_VERSION $FLOTILLA_ENVIRONMENT $FLOTILLA_OUTCOME"
HOOKS = {
    point: [
        {"command": f'echo "{FACTS}" >> {TOLD}'},
        {"command": f'echo "{FACTS}" >> {ON_HOST}', "where": "host"},
    ]
    for point in ("before_deploy", "after_deploy", "on_failure", "on_rollback")
}
LAB = STAGING_LAB
TRAIL = "/opt/flotilla/trail.jsonl"
# A finding, what brings it about on the host, and what takes it back.
CHANGES = {
    "line 2 was changed after it was written": (
        f"cp -p {TRAIL} /root/kept; sed -i '2s/provisioned/deployed/' {TRAIL}",
        f"cat /root/kept > {TRAIL}; rm /root/kept",
    ),
    "the host was not provisioned from this checkout and inventory, or not to the end": (
        "mv /opt/flotilla/stamp.json /root/stamp.json",
        "mv /root/stamp.json /opt/flotilla/stamp.json",
    ),
    "/opt/flotilla/postgres/.env has the mode 0644, and may have 0600": (
        "chmod 644 /opt/flotilla/postgres/.env",
        "chmod 600 /opt/flotilla/postgres/.env",
    ),
    "port 9999 answers the control node, and nothing declares it": (
        # A firewall would not let it answer.
        "systemd-run -u left-open --collect python3 -m http.server 9999; nft delete table inet flotilla 2> /dev/null",
        "systemctl stop left-open; systemctl restart flotilla-firewall 2> /dev/null",
    ),
}
STREAMS = (
    Stream(Kind.GET, Mode.KEEPALIVE, rate=30),
    Stream(Kind.GET, Mode.NEW, rate=10),
    Stream(Kind.POST, Mode.KEEPALIVE, rate=10),
)


@pytest.fixture(scope="module", autouse=True)
def told() -> None:
    TOLD.unlink(missing_ok=True)


@pytest.fixture(scope="module")
def served(served: Environment, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Version 1.0.0 serves, and was deployed with hooks."""
    served.deploy("1.1.0").succeeded()
    hooked = served.with_overlay(tmp_path_factory.mktemp("hooks"), {"apps": [app_entry(hooks=HOOKS)]})
    hooked.deploy("1.0.0").succeeded()
    return hooked


def test_hooks_run_around_a_deploy_and_are_told_of_it(served: Environment) -> None:
    expected = ["before_deploy deploy 1.0.0 staging", "after_deploy deploy 1.0.0 staging deployed"]
    assert [line.rstrip() for line in TOLD.read_text().splitlines()] == expected
    assert [line.rstrip() for line in served.ssh(f"cat {ON_HOST}").splitlines()] == expected


def test_a_hook_can_refuse_a_deploy(served: Environment, tmp_path: Path) -> None:
    frozen = {**HOOKS, "before_deploy": [{"command": "echo no deploys on Fridays; exit 1"}]}
    run = served.over(tmp_path, {"apps": [app_entry(hooks=frozen)]}).deploy("1.1.0")
    assert run.rc != 0
    assert "no deploys on Fridays" in run.text
    assert "notes 1.1.0: refused, no traffic moved" in run.text.splitlines()[-1]
    assert served.live().version == "1.0.0"
    assert TOLD.read_text().splitlines()[-1] == "on_failure deploy 1.1.0 staging refused"
    # The lock was given back.
    assert served.ssh("ls /opt/flotilla/lock.json", check=False) == ""


def test_a_restart_drops_nothing_and_ships_nothing(served: Environment) -> None:
    before = served.live()
    plan = Plan(Target(served.url, DOMAIN, str(served.ca)), STREAMS, seconds=1800)
    with BackgroundLoad(plan) as load:
        run = served.playbook("playbooks/restart.yml").succeeded()
        result = load.stop()
    after = served.live()
    assert result.requests > 100
    assert not result.failures, result.summary(shown=30)
    assert (after.release, after.version) == (before.release, before.version)
    assert after.colour != before.colour
    assert list(served.colours()) == [after.colour]
    assert f"notes 1.0.0: restarted, serves on {HOST} ({after.colour})" in run.text.splitlines()[-1]
    # It goes a rollback's way, and is none.
    assert "on_rollback" not in TOLD.read_text()


def test_the_status_of_a_whole_host(served: Environment) -> None:
    run = served.playbook("playbooks/status.yml").succeeded()
    live = served.live()
    assert re.search(rf"{HOST} +1\.0\.0 +{live.release} +{live.colour} +\d{{4}}-\d\d-\d\d ", run.text)
    assert "4 of 4 well" in run.text
    assert f"{HOST}  not locked" in run.text


def test_the_status_fails_when_something_is_down(served: Environment) -> None:
    worker = next(name for name in served.containers(f"{APP}-{served.live().colour}") if "worker" in name)
    served.ssh(f"docker stop -t 1 {worker}")
    try:
        run = served.playbook("playbooks/status.yml")
    finally:
        served.ssh(f"docker start {worker}")
    assert run.rc != 0
    assert f"{HOST}: notes: worker is exited" in run.text


def test_patching_renews_an_image_and_drops_nothing(served: Environment) -> None:
    """The registry's tag means another build than when the host pulled it; no balancer could send traffic elsewhere."""
    newest = served.image_of("nginx")
    older = served.run_an_older_build("nginx", "nginx:1.30")
    assert older != newest
    aged = rf"{HOST} +nginx +nginx:1\.30 +0 days +\d+ days +a newer build: playbooks/patch\.yml"
    assert re.search(aged, served.playbook("playbooks/status.yml").succeeded().text)
    due = "renew nginx (nginx:1.30 has a newer build)"
    patch = ("playbooks/patch.yml", "-e", "patch_reboot=never")
    assert due in served.playbook(*patch, "--check").succeeded().text
    assert served.image_of("nginx") == older
    # A kept connection is another matter: Nginx may close it in the moment that a request is sent.
    streams = (
        Stream(Kind.GET, Mode.NEW, rate=30),
        Stream(Kind.POST, Mode.NEW, rate=10),
        Stream(Kind.SLOW, Mode.NEW, concurrency=2, path="/api/slow?seconds=3"),
    )
    plan = Plan(Target(served.url, DOMAIN, str(served.ca)), streams, seconds=1800)
    with BackgroundLoad(plan) as load:
        run = served.playbook(*patch).succeeded()
        result = load.stop()
    print(f"\nrenewed in {run.seconds:.0f} s\n{result.summary()}")
    assert due in run.text
    assert result.requests > 100
    assert not result.failures, result.summary(shown=30)
    assert served.image_of("nginx") == newest
    assert served.ssh(f"docker image inspect {older} > /dev/null 2>&1 || echo gone").strip() == "gone"
    assert (
        served.ssh(
            "docker ps --all --quiet --filter name=nginx-next; nft list table ip flotilla_edge_renewal", check=False
        )
        == ""
    )
    assert re.search(
        rf"{HOST} +nginx +nginx:1\.30 .* the newest", served.playbook("playbooks/status.yml").succeeded().text
    )
    assert "nothing to do" in served.playbook(*patch).succeeded().text


def test_the_history_has_every_event(served: Environment) -> None:
    run = served.playbook("playbooks/history.yml").succeeded()
    assert re.search(r"deployed +notes 1\.0\.0 +deploy by ", run.text)
    assert re.search(r"deployed +notes 1\.0\.0 +restart by ", run.text)


def test_the_logs_are_those_of_the_live_colour(served: Environment) -> None:
    run = served.playbook("playbooks/logs.yml", "-e", "service=api", "-e", "lines=5").succeeded()
    assert f"{HOST} notes-{served.live().colour}-api-1 | " in run.text
    assert "worker-1 |" not in run.text


def test_a_command_runs_in_the_live_colour(served: Environment) -> None:
    ask = ("playbooks/exec.yml", "-e", "service=api", "-e")
    command = "sh -c 'echo colour=$FLOTILLA_COLOUR; echo two words'"
    good = served.playbook(*ask, json.dumps({"command": command})).succeeded()
    assert f"colour={served.live().colour}" in good.text
    assert "two words" in good.text
    bad = served.playbook(*ask, "command='ls /nowhere'")
    assert bad.rc != 0
    assert "No such file or directory" in bad.text


@pytest.mark.parametrize("cut", ["command=ls /nowhere", "command=ls --all=yes"])
def test_a_command_that_ansible_has_cut_is_refused(served: Environment, cut: str) -> None:
    run = served.playbook("playbooks/exec.yml", "-e", "service=api", "-e", cut)
    assert run.rc != 0
    assert "is `ls` only" in run.text


def test_a_deploy_can_be_read(served: Environment) -> None:
    done = subprocess.run(
        [str(Path(sys.executable).with_name("ansible-playbook")), *served.deploy_arguments("1.1.0")],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=PLAYBOOK_SECONDS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.rstrip().splitlines()
    phases = [
        line.split()[0] for line in lines if re.match(r"  (Admit|Prepare|Commit) +staging-1 +(ok|changed) ", line)
    ]
    assert phases == ["Admit", "Prepare", "Commit"]
    assert "Deploy the apps" in lines
    assert re.match(rf"notes 1\.1\.0: deployed, serves on {HOST} \((blue|green)\)", lines[-1])
    assert len(lines) < 40


# -- who did what, and whether the host is still what it was made -------------------------------------


def trail(environment: Environment) -> list[dict[str, Any]]:
    """The entries of the host's trail."""
    return [json.loads(line) for line in environment.ssh(f"cat {TRAIL}").splitlines()]


def test_every_change_is_written_down_with_who_and_from_which_commit(served: Environment) -> None:
    secret = next(value for name, value in served.secrets().items() if "password" in name)
    ask = ("playbooks/exec.yml", "-e", "service=api", "-e", json.dumps({"command": f"echo {secret}"}))
    served.playbook(*ask).succeeded()
    served.ssh("echo '{}' > /opt/flotilla/lock.json")
    served.playbook("playbooks/unlock.yml").succeeded()
    entries = trail(served)
    told = [(one["verb"], one["step"], one.get("outcome", "")) for one in entries]
    assert told[:4] == [
        ("provision", "begin", ""),
        ("provision", "end", "provisioned"),
        ("deploy", "begin", ""),
        ("deploy", "end", "deployed"),
    ]
    for verb, outcome in (("restart", "deployed"), ("deploy", "deployed"), ("exec", "exit code 0")):
        assert (verb, "begin", "") in told
        assert (verb, "end", outcome) in told
    assert told[-1] == ("unlock", "done", "done")
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True)
    # The first four may be a snapshot's, which is as good at a later commit when nothing that makes it changed.
    assert {one["by"]["commit"] for one in entries[4:]} == {commit.stdout.strip()}
    for one in entries:
        assert re.fullmatch(r"[0-9a-f]{40}", one["by"]["commit"])
        assert "@" in one["by"]["operator"]
        assert one["by"]["environment"] == "staging"
        assert one["session"]["from"]
    assert entries[-2]["arguments"] == {"command": "echo ********", "service": "api"}
    everything = served.ssh(f"cat {TRAIL}")
    assert not [name for name, value in served.secrets().items() if value in everything]
    assert served.ssh(f"stat -c '%a %U' {TRAIL}").strip() == "600 root"


def test_a_deploy_that_changes_nothing_writes_nothing_down(served: Environment) -> None:
    before = trail(served)
    assert "nothing to do" in served.deploy("1.1.0").succeeded().text
    assert trail(served) == before


def test_validate_finds_what_somebody_changed(served: Environment, tmp_path: Path) -> None:
    names = tmp_path / "hosts"
    names.write_text(f"{served.address} {DOMAIN}\n")
    ask = ("playbooks/validate.yml", "-e", f"names_file={names}")
    assert not CHANGES.keys() & findings(served.playbook(*ask))
    # The host is known by the key that ssh verified.
    (known,) = json.loads(next(served.home.rglob("trail.json")).read_text()).values()
    assert known["key"] == served.ssh("ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub").split()[1]
    names.write_text("192.0.2.9 elsewhere.example.com\n")
    served.ssh("; ".join(do for do, _ in CHANGES.values()), check=False)
    try:
        found = findings(served.playbook(*ask))
    finally:
        served.ssh("; ".join(undo for _, undo in CHANGES.values()), check=False)
        names.write_text(f"{served.address} {DOMAIN}\n")
    assert CHANGES.keys() <= found
    assert f"{DOMAIN} does not resolve" in found
    assert not CHANGES.keys() & findings(served.playbook(*ask))


def findings(run: Run) -> set[str]:
    """The table of validate.yml. It fails exactly when something is in it, and names a way out of each."""
    lines = [line.strip().strip('",').strip() for line in run.text.splitlines()]
    rows = [re.split(r"\s{2,}", line) for line in lines]
    start = next((n for n, row in enumerate(rows) if row[:2] == ["host", "about"]), len(rows))
    table = [row for row in rows[start + 1 :] if len(row) == 3 and row[0] in (HOST, "-")]
    remedies = [line for line in lines[start:] if line.startswith("Next: ")]
    assert len(remedies) >= len(table)
    assert (run.rc != 0) == bool(table), run.output
    assert "1 of 1 hosts answered; their logs have" in run.text
    return {row[2] for row in table}


def credentials(served: Environment) -> dict[str, str]:
    """What the live release logs in with."""
    record = json.loads(served.ssh(f"cat /opt/{APP}/releases/{served.live().release}/release.json"))
    directory = f"/opt/{APP}/secrets/{record['secrets_version']}"
    names = ("database_user", "database_password", "redis_password")
    return {name: served.ssh(f"cat {directory}/{name}-10001") for name in names}


def logs_in(served: Environment, known: dict[str, str]) -> tuple[bool, bool]:
    """Whether Postgres and Redis let these credentials in."""
    psql = f"psql -h 127.0.0.1 -U {known['database_user']} -d {APP} -Atc 'SELECT 1'"
    database = f"docker exec -e PGPASSWORD={known['database_password']} postgres {psql}"
    tls = "--tls --cacert /etc/flotilla/certs/current/ca.crt"
    redis = f"docker exec -e REDISCLI_AUTH={known['redis_password']} redis redis-cli {tls} ping"
    return "1" in served.ssh(database, check=False).split(), "PONG" in served.ssh(redis, check=False).split()


def test_a_rotation_drops_nothing_and_ends_the_old_credentials(served: Environment) -> None:
    before, old = served.live(), credentials(served)
    assert logs_in(served, old) == (True, True)
    plan = Plan(Target(served.url, DOMAIN, str(served.ca)), STREAMS, seconds=1800)
    with BackgroundLoad(plan) as load:
        run = served.playbook("playbooks/rotate.yml").succeeded()
        result = load.stop()
    after, new = served.live(), credentials(served)
    assert result.requests > 100
    assert not result.failures, result.summary(shown=30)
    assert (after.release, after.version) == (before.release, before.version)
    assert after.colour != before.colour
    assert not set(old.values()) & set(new.values())
    assert (logs_in(served, old), logs_in(served, new)) == ((False, False), (True, True))
    assert not [name for known in (old, new) for name in known if "password" in name and known[name] in run.text]
    # What a new login makes belongs to the owner, as what the login before made does.
    owners = "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'"
    assert served.sql(owners) == ["notes"]
    assert served.sql("SELECT rolname FROM pg_roles WHERE rolcanlogin") == ["postgres", new["database_user"]]


def test_a_release_of_before_the_rotation_comes_back_with_the_new_credentials(served: Environment) -> None:
    served.playbook("rollback.yml").succeeded()
    assert served.live().version == "1.0.0"
    assert logs_in(served, credentials(served)) == (True, True)
