"""A Molecule scenario as its tests see it: its throw-away authorities, and runs of its role with other inputs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
EPHEMERAL = Path(os.environ.get("MOLECULE_EPHEMERAL_DIRECTORY", ROOT))
CONVERGE = ROOT / "tests/lab/molecule/converge.yml"
SECONDS = 900
# A certificate of before is due, and the one that is made now is not.
RENEWING: dict[str, Any] = {"pki_valid_days": 398, "pki_renew_days": 397}


@cache
def authorities() -> dict[str, dict[str, str]]:
    """The scenario's throw-away authorities by name: `old`, and what `molecule_authorities` says."""
    read: dict[str, dict[str, str]] = json.loads((EPHEMERAL / "authorities.json").read_text())
    return read


def converge(scenario: Path, trusted: str = "old", playbook: Path = CONVERGE, **variables: Any) -> str:
    """Run the scenario's role with other variables than its own; return what Ansible said.

    trusted: names of the authorities in the order of `pki_authorities`.
    """
    values = {"pki_authorities": [authorities()[name] for name in trusted.split()], **variables}
    with tempfile.NamedTemporaryFile("w", suffix=".json", dir=EPHEMERAL) as file:
        json.dump(values, file)
        file.flush()
        finished = subprocess.run(
            [
                str(Path(sys.executable).with_name("ansible-playbook")),
                *("-i", os.environ["MOLECULE_INVENTORY_FILE"], "-i", str(EPHEMERAL / "lab/molecule")),
                *(str(playbook), "-e", f"@{scenario / 'vars.yml'}", "-e", f"@{file.name}"),
            ],
            env=os.environ
            | {
                "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
                "ANSIBLE_STDOUT_CALLBACK": "default",
                "MOLECULE_PROJECT_DIRECTORY": str(scenario.parents[1]),
                "MOLECULE_SCENARIO_DIRECTORY": str(scenario),
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
        )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout
