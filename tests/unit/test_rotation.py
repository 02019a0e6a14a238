"""Which secrets a rotation changes, and who is given the new ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from flotilla.vault import LOGIN, new_value, open_vault

from plugins.filter.flotilla_rotation import reissued, using
from tests.unit.controller import ansible
from tests.unit.test_vault import make

VALUES = {
    "vault_notes_database_user": "login_one",
    "vault_notes_database_password": "first",
    "vault_redis_password": "redis",
    "vault_session_key": "session",
    "vault_registry_password": "of the registry",
    "vault_todo_database_password": "of todo",
}
NOTES = {"database": "notes", "login": "login_one", "password": "first"}
TODO = {"database": "todo", "login": "todo", "password": "of todo"}
REDIS = {"login": "default", "password": "redis"}
CREDENTIALS = ["vault_notes_database_password", "vault_notes_database_user", "vault_redis_password"]
PLAY = """
- name: Rotate
  hosts: localhost
  gather_facts: false
  tasks:
    - name: Rotate
      flotilla_secrets:
        {state: rotated, directory: "{{ directory }}", names: "{{ names }}", logins: "{{ logins }}", apps: "{{ apps }}"}
      register: rotated
    - name: Say what anybody may know
      ansible.builtin.debug:
        msg: "names={{ rotated.names | join(',') }} given={{ rotated.current.keys() | sort | join(',') }}"
"""


def rotate(
    root: Path, logins: list[dict[str, str]], *names: str, **environment: str
) -> tuple[int, str, dict[str, Any]]:
    """Exit status, output, and what the vault holds afterwards."""
    vault = make(root, VALUES)
    (root / "play.yml").write_text(PLAY)
    (vault.directory / "group_vars/all").mkdir(parents=True)
    (vault.directory / "group_vars/all/all.yml").write_text("environment_given_secrets: [vault_registry_password]\n")
    apps = [{"name": "notes", "environment": environment}]
    extra = json.dumps({"directory": str(vault.directory), "names": list(names), "logins": logins, "apps": apps})
    command = ["-i", str(vault.directory), "-e", extra, "-vvv"]
    run = ansible(
        "ansible-playbook", str(root / "play.yml"), *command, FLOTILLA_VAULT_PASSWORD_FILE_STAGING=str(vault.password)
    )
    return run.returncode, run.stdout + run.stderr, open_vault(vault, root)[0]


def test_without_names_all_that_somebody_logs_in_with_is_changed(tmp_path: Path) -> None:
    status, said, after = rotate(
        tmp_path, [NOTES, REDIS, {"database": "postgres", "login": "postgres", "password": "x"}]
    )
    assert status == 0, said
    assert [name for name in VALUES if after[name] != VALUES[name]] == sorted(CREDENTIALS, key=list(VALUES).index)
    assert LOGIN.fullmatch("vault_notes_database_user")
    assert after["vault_notes_database_user"].startswith("login_")
    assert len(after["vault_redis_password"]) == 32
    assert f"names={','.join(CREDENTIALS)} given={','.join(CREDENTIALS)}" in said
    assert not [value for value in (*VALUES.values(), *after.values()) if len(value) > 9 and value in said]


def test_others_are_changed_by_name_alone(tmp_path: Path) -> None:
    status, said, after = rotate(tmp_path, [NOTES, REDIS], "vault_session_key")
    assert status == 0, said
    assert [name for name in VALUES if after[name] != VALUES[name]] == ["vault_session_key"]


def test_what_cannot_be_rotated_is_refused_before_anything_is(tmp_path: Path) -> None:
    status, said, after = rotate(tmp_path, [], "vault_sesion_key", "vault_registry_password", "vault_pki_authorities")
    assert status != 0
    assert "nothing was touched: " in said
    for problem in (
        "vault_sesion_key is not there, but vault_session_key is. Next: ",
        "vault_registry_password is handed out by others. Next: ",
        "vault_pki_authorities is no password. Next: ",
    ):
        assert problem in said
    assert after == VALUES


def test_a_login_that_stays_has_one_password_at_a_time(tmp_path: Path) -> None:
    names = ["vault_notes_database_password", "vault_todo_database_password"]
    status, said, after = rotate(tmp_path, [NOTES, TODO], *names, URL="postgres://notes:first@db", USER="notes")
    assert status != 0
    assert "apps[notes].environment.URL: holds vault_notes_database_password" in said
    assert "environment.USER" not in said
    assert "notes: its password is named and its login is not. Next: " in said
    assert "todo: its owner logs in itself, with one password at a time. Next: " in said
    assert after == VALUES


APPS: list[dict[str, Any]] = [
    {"name": "notes", "secrets": {"password": "new", "url": "redis://:other@redis", "key": "as it was"}},
    {"name": "todo", "secrets": {"key": "as it was"}},
    {"name": "page"},
]


def test_an_app_gets_what_holds_a_new_value() -> None:
    current = {"vault_a": "new", "vault_b": "other"}
    assert reissued(APPS, "notes", current) == {"password": "new", "url": "redis://:other@redis"}
    assert reissued(APPS, "page", current) == {}
    assert using([{"name": "todo"}, {"name": "notes", "routes": []}], APPS, current) == [
        {"name": "notes", "routes": []}
    ]


def test_a_login_fits_where_postgres_wants_a_name() -> None:
    assert new_value("vault_notes_database_user") != new_value("vault_notes_database_user")
    assert new_value("vault_notes_database_user").isidentifier()
    assert new_value("vault_notes_database_user").islower()
    assert len(new_value("vault_user_password")) == 32
