"""What the tests of the hardened droplet share."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from testinfra.host import Host

Provision = Callable[..., subprocess.CompletedProcess[str]]
Login = Callable[..., subprocess.CompletedProcess[str]]

EPHEMERAL = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
ROOT = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"]).parents[1]


@pytest.fixture(scope="session")
def login() -> Login:
    """A new connection as `user`: `login("deploy", "id", "-o", "…")`."""

    def run(user: str, command: str, *options: str) -> subprocess.CompletedProcess[str]:
        config = ["-F", str(EPHEMERAL / "lab" / "ssh_config"), "-o", "BatchMode=yes", "-o", "ControlPath=none"]
        # sshd does not listen for a moment while it reads its configuration anew.
        config += ["-o", "ConnectionAttempts=5"]
        return subprocess.run(
            ["ssh", *config, *options, f"{user}@droplet", command],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def provision() -> Provision:
    """The role once more, with other variables."""

    def run(**variables: Any) -> subprocess.CompletedProcess[str]:
        inventories = ("-i", str(EPHEMERAL / "inventory"), "-i", str(EPHEMERAL / "lab" / "molecule"))
        return subprocess.run(
            [
                *("ansible-playbook", *inventories, str(ROOT / "tests/lab/molecule/converge.yml")),
                *("-e", json.dumps(variables)),
            ],
            cwd=ROOT,
            env=os.environ | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )

    return run


@pytest.fixture(scope="module")
def sshd(host: Host) -> dict[str, str]:
    """What sshd makes of all its files: option in small letters -> value."""
    lines = host.check_output("/usr/sbin/sshd -T").splitlines()
    return {name: value for name, _, value in (line.partition(" ") for line in lines)}
