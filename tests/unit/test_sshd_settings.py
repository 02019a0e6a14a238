"""roles/base: what sshd is told on each system, and while Ansible is still root."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROLE = ROOT / "roles" / "base"


def render(directory: Path, system: str = "Debian 13", login_user: str = "root", **variables: Any) -> dict[str, str]:
    """Option -> value of the drop-in, as the role writes it."""
    host = {"__base_system": system, "__base_login_user": login_user, "__base_in_container": False}
    subprocess.run(
        [
            *(Path(sys.executable).with_name("ansible"), "localhost", "-i", "localhost,", "-c", "local"),
            *("-m", "template", "-a", f"src={ROLE}/templates/ssh/sshd_config dest={directory}/sshd_config mode=0600"),
            *("-e", f"@{ROLE}/defaults/main.yml", "-e", f"@{ROLE}/vars/main.yml", "-e", json.dumps(host | variables)),
            *("-e", f"ansible_python_interpreter={sys.executable}"),
        ],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
        check=True,
        capture_output=True,
        timeout=60,
    )
    lines = (directory / "sshd_config").read_text().splitlines()
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
def test_each_system_gets_what_its_sshd_knows(
    tmp_path: Path, system: str, penalties: bool, first: str, last: str
) -> None:
    settings = render(tmp_path, system)
    assert ("PerSourcePenalties" in settings) is penalties
    exchanges = settings["KexAlgorithms"].split(",")
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
def test_root_goes_when_ansible_is_somebody_else(
    tmp_path: Path, login_user: str, wanted: str, root: str, users: str
) -> None:
    settings = render(tmp_path, login_user=login_user, base_ssh_root_login=wanted)
    assert settings["PermitRootLogin"] == root
    assert settings["AllowUsers"] == users


def test_the_inventory_adds_users_addresses_and_key_exchanges(tmp_path: Path) -> None:
    settings = render(
        tmp_path,
        base_ssh_allow_users=["ops"],
        base_ssh_trusted_addresses=["203.0.113.0/24", "2001:db8::1"],
        base_ssh_key_exchanges_custom=["curve25519-sha256"],
    )
    assert settings["AllowUsers"] == "deploy root ops"
    assert settings["PerSourcePenaltyExemptList"] == "203.0.113.0/24,2001:db8::1"
    assert settings["KexAlgorithms"].endswith(",curve25519-sha256")
