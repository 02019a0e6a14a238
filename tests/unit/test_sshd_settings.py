"""roles/base: what sshd is told on each system, and while Ansible is still root."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader

from tests.unit.nginx_rendering import render

ROLE = Path(__file__).resolve().parents[2] / "roles/base"
VARIABLES = {
    name: value
    for file in ("defaults/main.yml", "vars/main.yml")
    for name, value in DataLoader().load_from_file(str(ROLE / file), trusted_as_template=True).items()
}


def settings(system: str = "Debian 13", login_user: str = "root", **variables: Any) -> dict[str, str]:
    """Option -> value of the drop-in, as the role writes it."""
    host = {"__base_system": system, "__base_login_user": login_user, "__base_in_container": False}
    given = {"ansible_managed": "Ansible managed", **VARIABLES, **host, **variables}
    lines = render(ROLE / "templates/ssh/sshd_config", given).splitlines()
    return dict(line.split(" ", 1) for line in lines if line and not line.startswith("#"))


@pytest.mark.parametrize(
    ("system", "penalties", "first", "last"),
    [
        ("Debian 12", False, "sntrup761x25519-sha512@openssh.com", "curve25519-sha256@libssh.org"),
        ("Debian 13", True, "mlkem768x25519-sha256", "sntrup761x25519-sha512@openssh.com"),
        ("Ubuntu 24.04", False, "sntrup761x25519-sha512@openssh.com", "curve25519-sha256@libssh.org"),
        ("Ubuntu 26.04", False, "sntrup761x25519-sha512@openssh.com", "curve25519-sha256@libssh.org"),
    ],
)
def test_each_system_gets_what_its_sshd_knows(system: str, penalties: bool, first: str, last: str) -> None:
    told = settings(system)
    assert ("PerSourcePenalties" in told) is penalties
    exchanges = told["KexAlgorithms"].split(",")
    assert (exchanges[0], exchanges[-1]) == (first, last)


@pytest.mark.parametrize(
    ("login_user", "wanted", "root", "users"),
    [
        ("root", "auto", "prohibit-password", "deploy root"),
        ("deploy", "auto", "no", "deploy"),
        ("ubuntu", "auto", "no", "deploy ubuntu"),
        ("deploy", "prohibit-password", "prohibit-password", "deploy root"),
        ("deploy", "no", "no", "deploy"),
    ],
)
def test_root_goes_when_ansible_is_somebody_else(login_user: str, wanted: str, root: str, users: str) -> None:
    told = settings(login_user=login_user, base_ssh_root_login=wanted)
    assert told["PermitRootLogin"] == root
    assert told["AllowUsers"] == users


def test_the_inventory_adds_users_addresses_and_key_exchanges() -> None:
    told = settings(
        base_ssh_allow_users=["ops"],
        base_ssh_trusted_addresses=["203.0.113.0/24", "2001:db8::1"],
        base_ssh_key_exchanges_custom=["curve25519-sha256"],
    )
    assert told["AllowUsers"] == "deploy root ops"
    assert told["PerSourcePenaltyExemptList"] == "203.0.113.0/24,2001:db8::1"
    assert told["KexAlgorithms"].endswith(",curve25519-sha256")
