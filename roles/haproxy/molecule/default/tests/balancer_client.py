"""The balancer as an operator commands it, and what its clients see."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from roles.nginx.molecule.default.tests.edge_client import Edge
from tests.lab.waiting import eventually

DIRECTORY = "/opt/flotilla/haproxy"
CONTAINER = "haproxy-haproxy-1"
HOSTS = {"app-1", "app-2"}
FETCH = "import sys, urllib.request as r; print(r.urlopen(sys.argv[1], timeout=60).read().decode())"
ROOT = Path(__file__).resolve().parents[5]


@dataclass(frozen=True)
class Operator:
    """Runs the module `flotilla_balancer` on the droplet."""

    inventory: Path

    def run(self, *, check: bool = False, **arguments: Any) -> dict[str, Any]:
        """What the module returns, also when it fails."""
        command = ["ansible", "droplet", "-i", str(self.inventory), "-u", "root", "-m", "flotilla_balancer"]
        command += ["-e", "ansible_python_interpreter=/usr/bin/python3", "-a", json.dumps(arguments)]
        settings = {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_LOAD_CALLBACK_PLUGINS": "0"}
        done = subprocess.run(
            [*command, *(["--check"] if check else [])],
            cwd=ROOT,
            env={**os.environ, **settings, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_FORCE_COLOR": "0"},
            capture_output=True,
            text=True,
            timeout=600,
        )
        head, found, answer = done.stdout.partition(" => ")
        assert found, f"{done.stdout}\n{done.stderr}"
        result: dict[str, Any] = json.JSONDecoder().raw_decode(answer)[0]
        return {**result, "failed": "FAILED" in head}

    def do(self, *, check: bool = False, **arguments: Any) -> dict[str, Any]:
        """What the module returns when it succeeds."""
        result = self.run(check=check, **arguments)
        assert not result["failed"], result
        return result

    def conditions(self, app: str = "notes") -> dict[str, str]:
        """Host → what it is for an app."""
        return {one["host"]: one["condition"] for one in self.do(state="status")["servers"] if one["app"] == app}


def all_answer(edge: Edge) -> None:
    """Each host gets its share, as soon as the balancer finds it well."""
    eventually(lambda: answering(edge) == HOSTS, why="all hosts answer")


def answering(edge: Edge, requests: int = 20) -> set[str]:
    """The hosts that answer some requests, all of which must succeed."""
    found = set()
    for _ in range(requests):
        answer = edge.ask("/who")
        assert answer.status == 200, answer
        found.add(answer.json["host"])
    return found
