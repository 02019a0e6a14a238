"""The controller's checks and the secrets' playbooks, run by Ansible over the inventories that ship."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.unit.controller import Done, ansible
from tests.unit.sharing import once

PLAY = """
- name: Validate
  hosts: all
  gather_facts: false
  tasks:
    - name: Validate
      flotilla_validate:
      run_once: true
    - name: Stamp
      ansible.builtin.debug:
        msg: "stamp={{ lookup('flotilla_stamp') }}"
"""
OVERLAY = """
base_deploy_authorized_keys: [ssh-ed25519 AAAA test]
vault_registry_password: given
"""


def make_overlay(base: Path) -> Path:
    directory = base / "staging"
    (directory / "group_vars/all").mkdir(parents=True)
    (directory / "hosts.yml").write_text("all: {hosts: {staging-1: {ansible_host: 127.0.0.1}}}\n")
    (directory / "group_vars/all/overlay.yml").write_text(OVERLAY)
    (directory / ".vault-password").write_text("password of the test\n")
    (directory / ".vault-password").chmod(0o600)
    (base / "play.yml").write_text(PLAY)
    return directory


@pytest.fixture
def overlay(tmp_path: Path) -> Path:
    """An inventory of the lab's kind over staging: its secrets are its own, and nothing is written elsewhere."""
    return make_overlay(tmp_path)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A vault with all secrets, made by the playbook."""

    def make(base: Path) -> None:
        run = play("playbooks/secrets.yml", make_overlay(base))
        assert run.returncode == 0, run.stdout + run.stderr

    return once(tmp_path_factory, "secrets of staging", make) / "staging/vault.yml"


@pytest.fixture
def complete(overlay: Path, made: Path) -> Path:
    """The same inventory with all its secrets."""
    shutil.copy(made, overlay / "vault.yml")
    return overlay


def play(name: str | Path, overlay: Path, *arguments: str) -> Done:
    return ansible("ansible-playbook", str(name), "-i", "inventories/staging", "-i", str(overlay), *arguments)


def test_from_no_secrets_to_a_valid_inventory(overlay: Path) -> None:
    without = play(overlay.parent / "play.yml", overlay)
    assert without.returncode != 0
    assert "`vault_redis_password` has no value" in without.stdout + without.stderr
    assert "`vault_pki_authorities` has no value" in without.stdout + without.stderr
    assert (
        f"Next: ansible-playbook playbooks/secrets.yml -i inventories/staging -i {overlay}"
        in without.stdout + without.stderr
    )

    made = play("playbooks/secrets.yml", overlay)
    assert made.returncode == 0, made.stdout + made.stderr
    assert (overlay / "vault.yml").read_text().startswith("$ANSIBLE_VAULT;1.2;AES256;staging")
    assert re.search(r"^localhost +0 +0 +0 ", play("playbooks/secrets.yml", overlay).stdout, re.MULTILINE)

    first, second = (
        play(overlay.parent / "play.yml", overlay),
        play(overlay.parent / "play.yml", overlay, "-e", "version=2"),
    )
    assert first.returncode == 0, first.stdout + first.stderr
    stamps = [line for run in (first, second) for line in run.stdout.splitlines() if "stamp=" in line]
    assert len(stamps) == 2
    assert len(set(stamps)) == 1

    rotated = play("playbooks/rekey.yml", overlay)
    assert rotated.returncode == 0, rotated.stdout + rotated.stderr
    assert (overlay / ".vault-password").read_text() != "password of the test\n"
    assert play(overlay.parent / "play.yml", overlay).returncode == 0

    (overlay / ".vault-password").write_text("another\n")
    wrong = play(overlay.parent / "play.yml", overlay)
    assert wrong.returncode != 0
    assert "does not open it. Next: put the right one there" in wrong.stdout + wrong.stderr


def test_every_wrong_input_is_told_in_one_run_with_file_and_line(complete: Path) -> None:
    (complete / "group_vars/all/wrong.yml").write_text(
        "postgres_memroy_mb: 1\nbase_swap_mb: lots\nredis_version: 99\ndocker_source: somewhere\n"
        "pki_authorities: []\n"
        "apps:\n  - name: notes\n    source: compose/app\n    environment: {COMPOSE_FILE: x}\n    routes:\n"
        "      - {path: /, service: ui, port: 8080}\n      - {path: /, service: uii, port: 8080}\n"
        "firewall_public_sources: [cloudflaer]\n"
        "redis_password: '{{ vault_short }}'\nvault_short: sta\n"
    )
    run = play(complete.parent / "play.yml", complete, "-e", "vesion=1", "-e", "version=latest")
    text = run.stdout + run.stderr
    assert run.returncode != 0
    for expected in (
        f"{complete}/group_vars/all/wrong.yml:1: postgres_memroy_mb: is not a variable of the role `postgres`",
        f"{complete}/group_vars/all/wrong.yml:2: base_swap_mb: is not what it should be",
        f"{complete}/group_vars/all/wrong.yml:4: docker_source: is not what it should be",
        f"{complete}/group_vars/all/wrong.yml:10: apps[notes].routes[1].path: / is the path of apps[notes].routes[0] ",
        "apps[notes].environment.COMPOSE_FILE",
        f"{complete}/group_vars/all/wrong.yml:13: firewall_public_sources: there are no networks called 'cloudflaer'",
        "pki_authorities: is missing: nobody signs for Postgres, Redis and edges behind a balancer. Next: add",
        f"{complete}/group_vars/all/wrong.yml:14: redis_password: the value of `vault_short` has fewer than 4 char",
        "`uii`",
        "command line: vesion: is not known (did you mean `version`?)",
        "command line: version: `latest` is forbidden",
    ):
        assert expected in text


def test_more_connections_than_the_database_takes_are_refused(complete: Path) -> None:
    declared = complete / "group_vars/all/wrong.yml"
    apps = (
        "apps:\n  - name: notes\n    source: compose/app\n    version: '1'\n    environment: {LOG_LEVEL: info}\n"
        "    secrets: {database_user: u, database_password: '{{ vault_notes_database_password }}'}\n"
        "    routes: [{path: /, service: ui, port: 8080}]\n    database_connections: {api: 20, wroker: 2}\n"
    )
    declared.write_text(apps)
    run = play(complete.parent / "play.yml", complete)
    text = run.stdout + run.stderr
    assert f"{declared}:8: apps[notes].database_connections.wroker: the Compose file has no service `wroker`" in text
    assert (
        f"{declared}:8: database_connections: while a release comes the apps hold 44 (notes: 2 colours x 1 hosts x 22"
        in text
    )
    assert "of the server's 56 (max_connections) 43 are left beside 3" in text
    for enough in ("postgres_settings: {max_connections: 57}", "postgres_pooler: true"):
        declared.write_text(f"{apps}{enough}\n")
        run = play(complete.parent / "play.yml", complete)
        text = run.stdout + run.stderr
        assert "wroker" in text
        assert "while a release comes" not in text


def test_a_secret_that_is_a_word_is_refused_with_the_command_that_replaces_it(complete: Path) -> None:
    values = complete.parent / "values.yml"
    values.write_text("secrets_values: {vault_notes_database_password: staging.example}\n")
    assert play("playbooks/secrets.yml", complete, "-e", f"@{values}").returncode == 0
    refused = play(complete.parent / "play.yml", complete)
    text = refused.stdout + refused.stderr
    assert refused.returncode != 0
    assert re.search(
        r"group_vars/all/apps.yml:\d+: apps\[notes\].secrets.database_password: the value of `vault_n", text
    )
    assert "as vault_notes_database_password, then ansible-playbook playbooks/secrets.yml -i inventories/stag" in text
    values.write_text("secrets_values: {vault_notes_database_password: long and random}\n")
    assert play("playbooks/secrets.yml", complete, "-e", f"@{values}").returncode == 0
    assert play(complete.parent / "play.yml", complete).returncode == 0


TWO_APPS = """
vault_todo_redis_password: another/one
redis_keys: [%s]
redis_users: %s
apps:
  - name: notes
    source: compose/app
    routes: [{path: /, service: ui, port: 8080}]
    secrets: {redis_password: "{{ vault_redis_password }}"}
  - name: todo
    source: compose/app
    routes: [{path: /, service: ui, port: 8080}]
    secrets: {redis_url: "rediss://%s@redis"}
"""
TODO_LOGIN = "todo:{{ vault_todo_redis_password | urlencode }}"


def test_two_apps_on_one_redis_are_refused_until_neither_can_read_the_other(complete: Path) -> None:
    apps = complete / "group_vars/all/apps.yml"

    def said(*given: str) -> str:
        apps.write_text(TWO_APPS % given)
        run = play("playbooks/validate.yml", complete, "-e", "droplets=false")
        return " ".join((run.stdout + run.stderr).split())

    user = "[{name: todo, password: '{{ vault_todo_redis_password }}'}]"
    same = "the password of Redis' user `default` is handed to `notes` and `todo`"
    overlapping = f"{apps}:3: redis_keys: `*` of `default` and `todo:*` of `todo` (redis_users[todo].keys) overlap"
    assert same in said("'*'", "[]", ":{{ vault_redis_password }}")
    assert overlapping in said("'*'", user, TODO_LOGIN)
    apart = said("'notes:*'", user, TODO_LOGIN)
    assert "in Redis" not in apart
    assert "redis_keys" not in apart
    assert "redis_users" not in apart


AGENT = """
services:
  agent:
    image: agent:1
    env_file: /etc/agent.env
    volumes: ["/var/run/docker.sock:/var/run/docker.sock:ro", "/etc/localtime:/etc/localtime"]
    healthcheck: {test: [CMD, "true"]}
"""
APPS = """
apps:
  - name: notes
    source: %s
    routes: [{path: /, service: agent, port: 80}]
    privileges: {agent: [%s]}
"""


def test_the_engine_s_socket_is_refused_without_its_name_and_told_loudly_with_it(complete: Path) -> None:
    source = complete.parent / "app"
    source.mkdir()
    (source / "compose.yaml").write_text(AGENT)
    apps = complete / "group_vars/all/apps.yml"
    apps.write_text(APPS % (source, ""))
    refused = play("playbooks/validate.yml", complete, "-e", "droplets=false")
    text = refused.stdout + refused.stderr
    assert refused.returncode != 0
    assert "compose.yaml:6: services.agent.volumes[0]: /var/run/docker.sock is the engine's socket" in text
    assert "write `privileges: {agent: [docker_socket]}` into apps[notes]" in text
    assert "privileges: {agent: [path:/etc/agent.env:ro]}" in text
    assert "volumes[1]" not in text

    apps.write_text(APPS % (source, "docker_socket, path:/etc/agent.env:ro"))
    for name in ("playbooks/validate.yml", complete.parent / "play.yml"):
        said = play(name, complete, "-e", "droplets=false", "-e", "version=1")
        assert said.returncode == 0, said.stdout + said.stderr
        warning = " ".join((said.stdout + said.stderr).split())
        assert "`agent` has the engine's socket: who breaks into it is root on every app host" in warning


@pytest.mark.parametrize("environment", ["staging", "production"])
def test_the_inventories_that_ship_can_be_read(environment: str) -> None:
    run = ansible("ansible-inventory", "-i", f"inventories/{environment}", "--list")
    assert run.returncode == 0
    assert f'"environment_name": "{environment}"' in run.stdout
    assert "WARNING" not in run.stderr.replace("DEPRECATION WARNING", "")


def test_a_rotation_looks_at_the_names_first(complete: Path) -> None:
    run = play("playbooks/rotate.yml", complete, "-e", "secrets=vault_redis_pasword,vault_pki_authorities")
    text = run.stdout + run.stderr
    assert run.returncode != 0
    assert "vault_redis_pasword is not there, but vault_redis_password is. Next: correct -e secrets=" in text
    assert "vault_pki_authorities is no password. Next: ansible-playbook playbooks/rotate-authority.yml" in text
    # One task failed, and nobody tried to reach a host.
    assert re.search(r"^staging-1 +0 +1 +0 ", text, re.MULTILINE)
