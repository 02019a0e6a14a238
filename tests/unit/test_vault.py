"""flotilla.vault: where secrets and passwords are, who may read them, and that a rotation never loses both."""

from __future__ import annotations

import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from flotilla import vault
from flotilla.vault import Vault, VaultError
from hypothesis import given
from hypothesis import strategies as st


def make(root: Path, values: dict[str, str], environment: str = "staging") -> Vault:
    found = vault.locate(root / "inventories" / environment, root, {})
    found.directory.mkdir(parents=True)
    vault.write_vault(found, values, vault.write_password(found.password))
    return found


def test_the_password_is_in_the_project(tmp_path: Path) -> None:
    found = vault.locate(tmp_path / "inventories/staging", tmp_path, {})
    assert found.password == tmp_path / ".vault/staging.password"


@pytest.mark.parametrize("path", [".vault/staging.password", "inventories/staging/.vault-password"])
def test_no_commit_takes_a_password_or_what_is_left_of_writing_one(path: str) -> None:
    """A run that is killed leaves the file that it was about to rename."""
    root = Path(__file__).resolve().parents[2]
    found = Vault(root / "inventories/staging", root / path)
    files = [found.password, found.next_password]
    # As write_private names them.
    files += [one.with_name(f".{one.name}.0a1b2c3d") for one in (*files, found.file)]
    names = [str(one.relative_to(root)) for one in files]
    done = subprocess.run(["git", "check-ignore", "--no-index", *names], cwd=root, capture_output=True, text=True)
    assert done.stdout.splitlines() == names


def test_the_environment_may_name_another_file(tmp_path: Path) -> None:
    environ = {"FLOTILLA_VAULT_PASSWORD_FILE_EU_WEST": str(tmp_path / "elsewhere")}
    assert vault.locate(tmp_path / "inventories/eu-west", tmp_path, environ).password == tmp_path / "elsewhere"
    assert vault.locate(tmp_path / "inventories/staging", tmp_path, environ).password != tmp_path / "elsewhere"


def test_an_inventory_of_the_lab_keeps_its_password_beside_it(tmp_path: Path) -> None:
    directory = tmp_path / ".lab/one/staging"
    environ = {"FLOTILLA_VAULT_PASSWORD_FILE_STAGING": "/nowhere"}
    assert vault.locate(directory, tmp_path, environ).password == directory / ".vault-password"


def test_secrets_come_back_as_they_were_written(tmp_path: Path) -> None:
    values = {"vault_a": "pa$word {{ x }} 'q'", "vault_b": "12"}
    assert vault.open_vault(make(tmp_path, values), tmp_path)[0] == values


def test_a_vault_is_tried_with_the_password_of_another(tmp_path: Path) -> None:
    one, other = make(tmp_path, {"vault_a": "1"}), make(tmp_path, {"vault_a": "2"}, "production")
    assert vault.opens_with(one, *vault.passwords(one))
    assert not vault.opens_with(one, *vault.passwords(other))
    assert [vault.vault_id(found) for found in (one, other)] == ["staging", "production"]


def test_files_are_private(tmp_path: Path) -> None:
    found = make(tmp_path, {"vault_a": "1"})
    assert stat.S_IMODE(found.file.stat().st_mode) == 0o600
    assert stat.S_IMODE(found.password.stat().st_mode) == 0o600
    assert stat.S_IMODE(found.password.parent.stat().st_mode) == 0o700


def test_ansible_vault_opens_the_same_file_under_the_environment_s_id(tmp_path: Path) -> None:
    found = make(tmp_path, {"vault_a": "visible"})
    assert found.file.read_bytes().splitlines()[0] == b"$ANSIBLE_VAULT;1.2;AES256;staging"
    program = Path(sys.executable).with_name("ansible-vault")
    command: list[str | Path] = [program, "view", "--vault-id", f"staging@{found.password}", found.file]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert "vault_a: visible" in shown.stdout


def test_a_missing_password_names_file_and_command(tmp_path: Path) -> None:
    found = make(tmp_path, {"vault_a": "1"})
    found.password.unlink()
    with pytest.raises(
        VaultError, match=r"^inventories/staging/vault.yml: its password is not at .vault/staging.pass"
    ) as error:
        vault.open_vault(found, tmp_path)
    assert "Next: install -D -m 600 <the copy you kept> .vault/staging.password" in str(error.value)
    assert "ansible-playbook playbooks/secrets.yml -i inventories/staging" in str(error.value)


def test_a_wrong_password_names_file_and_command(tmp_path: Path) -> None:
    found = make(tmp_path, {"vault_a": "1"})
    vault.write_password(found.password)
    with pytest.raises(
        VaultError, match=r"vault\.yml: the password in \.vault/staging\.password does not open it\. Next: "
    ):
        vault.open_vault(found, tmp_path)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_a_password_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    found = make(tmp_path, {"vault_a": "1"})
    found.password.chmod(mode)
    with pytest.raises(VaultError, match=r"Next: chmod 600 \.vault/staging\.password"):
        vault.open_vault(found, tmp_path)


def test_a_script_may_print_the_password(tmp_path: Path) -> None:
    found = make(tmp_path, {"vault_a": "1"})
    script = tmp_path / "password"
    script.write_text(f"#!/bin/sh\ncat {found.password}\n")
    script.chmod(0o755)
    assert vault.open_vault(Vault(found.directory, script), tmp_path)[0] == {"vault_a": "1"}


def test_a_rotation_replaces_the_password_and_keeps_the_secrets(tmp_path: Path) -> None:
    found = make(tmp_path, {"vault_a": "1"})
    old = found.password.read_bytes()
    vault.rekey(found, {"vault_a": "1"})
    assert found.password.read_bytes() != old
    assert not found.next_password.exists()
    assert vault.open_vault(found, tmp_path)[0] == {"vault_a": "1"}


class _CrashError(Exception):
    pass


@pytest.mark.parametrize("step", range(1, 7))
def test_a_rotation_cut_short_anywhere_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    found = make(tmp_path, {"vault_a": "1"})
    calls = 0
    replace = Path.replace

    def crash(self: Path, target: Path) -> Path:
        nonlocal calls
        calls += 1
        if calls == (step + 1) // 2 and step % 2:
            raise _CrashError
        moved = replace(self, target)
        if calls == step // 2 and not step % 2:
            raise _CrashError
        return moved

    monkeypatch.setattr(Path, "replace", crash)
    with pytest.raises(_CrashError):
        vault.rekey(found, {"vault_a": "1"})
    monkeypatch.undo()
    assert vault.open_vault(found, tmp_path)[0] == {"vault_a": "1"}
    vault.rekey(found, {"vault_a": "1"})
    assert vault.open_vault(found, tmp_path)[0] == {"vault_a": "1"}
    assert not found.next_password.exists()


def test_references_are_found_but_for_comments() -> None:
    text = 'a: "{{ vault_one }}"  # vault_two\n# b: "{{ vault_three }}"\nc: "x#{{ vault_four }}"\n'
    assert vault.references([text]) == {"vault_one", "vault_four"}


def test_variable_files_leave_the_vault_out(tmp_path: Path) -> None:
    for name in ("hosts.yml", "vault.yml", "notes.md", "group_vars/all/a.yml", "host_vars/h/b.yml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = [str(path.relative_to(tmp_path)) for path in vault.variable_files(tmp_path)]
    assert found == ["group_vars/all/a.yml", "host_vars/h/b.yml", "hosts.yml"]


def test_new_secrets_are_long_safe_and_different() -> None:
    made = {vault.new_secret() for _ in range(50)}
    assert len(made) == 50
    assert all(re.fullmatch(r"[A-Za-z0-9]{32}", secret) for secret in made)


def test_a_secret_may_have_parts() -> None:
    class Marked(str):
        """As Ansible's own strings are."""

    value = [{"certificate": Marked("a"), "key": Marked("b")}, {"certificate": "c"}]
    plain = vault.plain_value({Marked("vault_x"): value, "vault_y": 1})
    assert plain == {"vault_x": [{"certificate": "a", "key": "b"}, {"certificate": "c"}], "vault_y": "1"}
    assert type(plain["vault_x"][0]["key"]) is str
    assert list(vault.texts_of(value)) == ["a", "b", "c"]
    assert list(vault.texts_of(["", None, "d"])) == ["d"]


@given(st.text())
def test_any_environment_has_a_legal_variable(name: str) -> None:
    assert re.fullmatch(r"FLOTILLA_VAULT_PASSWORD_FILE_\w*", vault.password_variable(name))
