"""The role pki and the vault's authority, run by Ansible here: what is refused, and that no output has a key."""

from __future__ import annotations

import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from flotilla.vault import locate, open_vault

from tests.unit import pki_data as data
from tests.unit.controller import Done, ansible

ROOT = Path(__file__).resolve().parents[2]
PLAY = """
- name: Issue
  hosts: web-1
  gather_facts: false
  roles:
    - role: pki
      pki_authorities: "{{ vault_pki_authorities | default([]) }}"
"""
NOW = datetime.now(UTC)


def playbook(*arguments: str) -> Done:
    return ansible("ansible-playbook", *arguments, ANSIBLE_STDOUT_CALLBACK="default")


@pytest.fixture
def inventory(tmp_path: Path) -> Path:
    """An environment of one host, this machine, with a vault of its own."""
    directory = tmp_path / ".lab/one/staging"
    (directory / "group_vars/all").mkdir(parents=True)
    (directory / "hosts.yml").write_text(
        f"all: {{hosts: {{web-1: {{ansible_connection: local, ansible_python_interpreter: {sys.executable}}}}}}}\n"
    )
    (directory / "group_vars/all/pki.yml").write_text(
        'environment_name: staging\npki_authorities: "{{ vault_pki_authorities | default([]) }}"\n'
    )
    (directory / ".vault-password").write_text("password of the test\n")
    (directory / ".vault-password").chmod(0o600)
    (tmp_path / "play.yml").write_text(PLAY)
    return directory


def issue(inventory: Path, variables: dict[str, Any], *arguments: str) -> Done:
    play = inventory.parents[2] / "play.yml"
    declared = {"name": "web", "directory": str(play.parent / "certs"), "dns_names": ["web.internal"]}
    values = {"pki_certificates": [declared | {"owner": str(os.getuid()), "group": str(os.getgid())}]} | variables
    return playbook(str(play), "-i", str(inventory), "-e", json.dumps(values), *arguments)


def secret_lines(key: str) -> list[str]:
    return [line for line in key.splitlines() if "PRIVATE KEY" not in line]


def test_the_vault_gets_an_authority_and_no_output_has_its_key(inventory: Path, tmp_path: Path) -> None:
    made = playbook("playbooks/secrets.yml", "-i", str(inventory), "-vvv", "--diff")
    assert made.returncode == 0, made.stdout + made.stderr
    values, _ = open_vault(locate(inventory, ROOT, os.environ), ROOT)
    (authority,) = values["vault_pki_authorities"]
    assert authority.keys() == {"certificate", "key"}

    output = made.stdout + made.stderr
    if os.geteuid() == 0:
        run = issue(inventory, {}, "-vvv", "--diff")
        assert run.returncode == 0, run.stdout + run.stderr
        output += run.stdout + run.stderr
        assert (tmp_path / "certs/current/ca.crt").read_text() == authority["certificate"]
        for path in (tmp_path / "certs").rglob("*"):
            assert path.is_dir() or secret_lines(authority["key"])[0] not in path.read_text()
        assert secret_lines((tmp_path / "certs/current/tls.key").read_text())[0] not in output
    assert not [line for line in secret_lines(authority["key"]) if line in output]
    # What gets the key as an argument gets it through a pipe: no file of the controller has it.
    assert "<localhost> EXEC" in output
    assert "<localhost> PUT" not in output

    again = playbook("playbooks/secrets.yml", "-i", str(inventory))
    assert "changed=0" in again.stdout
    assert open_vault(locate(inventory, ROOT, os.environ), ROOT)[0] == values


def test_a_missing_authority_is_refused_with_the_command_that_makes_it(inventory: Path, tmp_path: Path) -> None:
    run = issue(inventory, {})
    assert run.returncode != 0
    assert f"{inventory}/vault.yml: pki_authorities: is empty" in run.stdout
    assert f"ansible-playbook playbooks/secrets.yml -i {inventory}" in run.stdout
    assert not (tmp_path / "certs").exists()


def test_every_wrong_input_is_refused_before_anything_is_touched(inventory: Path, tmp_path: Path) -> None:
    ended, other = data.authority(NOW - 2 * data.DAY, NOW - data.DAY), data.named("old")
    wrong = [ended | {"key": other["key"]}]
    certificates = [{"name": "web", "directory": str(tmp_path / "certs"), "ip_addresses": ["10.0.0.300"]}]
    run = issue(inventory, {"vault_pki_authorities": wrong, "pki_certificates": certificates, "pki_valid_days": 30})
    assert run.returncode != 0
    for expected in (
        "pki_authorities[0].certificate: ended on",
        "pki_authorities[0].key: does not belong to the certificate beside it",
        "web-1: pki_renew_days: is 60, and must be 0 or more, and less than pki_valid_days (30)",
        "web-1: pki_certificates[0].ip_addresses: has '10.0.0.300', which is no IP address",
    ):
        assert expected in run.stdout
    assert not [line for line in secret_lines(other["key"]) if line in run.stdout + run.stderr]
    assert not (tmp_path / "certs").exists()


def test_a_certificate_that_would_outlive_its_authority_is_refused(inventory: Path, tmp_path: Path) -> None:
    short = data.authority(NOW - data.DAY, NOW + 100 * data.DAY)
    run = issue(inventory, {"vault_pki_authorities": [short]})
    assert run.returncode != 0
    assert "pki_valid_days: is 397, and the authority that signs ends in 99 days" in run.stdout
    assert not (tmp_path / "certs").exists()


@pytest.mark.parametrize("wrong", ["text", "key is a list"])
def test_a_secret_of_the_wrong_shape_is_refused_and_not_shown(inventory: Path, wrong: str) -> None:
    authority = data.named("old")
    shapes: dict[str, Any] = {
        "text": authority["key"],
        "key is a list": [authority | {"key": [authority["key"]]}],
    }
    run = issue(inventory, {"vault_pki_authorities": shapes[wrong]}, "-vvv")
    assert run.returncode != 0
    shown = "\n".join(line for line in (run.stdout + run.stderr).splitlines() if not line.startswith("<web-1>"))
    assert not [line for line in secret_lines(authority["key"]) if line in shown]
