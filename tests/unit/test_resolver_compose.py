"""The resolver against the real `docker compose`.

Runs where the plugin is. `FLOTILLA_COMPOSE_PREFIX` puts a command before it, such as `docker exec -i <droplet>`
or `ssh <host>`: the files travel over standard input.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from flotilla.resolve import Context, Resolved, Route, resolve

pytestmark = pytest.mark.compose

ROUTER_ADDRESS = "172.18.128.0"
DATA = Path(__file__).parent / "resolver_data"
PREFIX = shlex.split(os.environ.get("FLOTILLA_COMPOSE_PREFIX", ""))


def compose(text: str, *words: str, **variables: str) -> str:
    assignments = [
        shlex.quote(f"{name}={value}") if PREFIX[:1] == ["ssh"] else f"{name}={value}"
        for name, value in variables.items()
    ]
    command = [*PREFIX, "env", *assignments, "docker", "compose", "-f", "-", "--env-file", "/dev/null", *words]
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    try:
        subprocess.run([*PREFIX, "docker", "compose", "version"], capture_output=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError) as error:
        pytest.skip(f"no docker compose here ({error}); set FLOTILLA_COMPOSE_PREFIX to reach one")
    words = [
        "-p",
        "notes",
        "--project-directory",
        "/srv/notes",
        "--profile",
        "*",
        "config",
        "--no-consistency",
        "--format",
        "json",
    ]
    text = compose((DATA / "notes.yaml").read_text(), *words, VERSION="1.0", PASSED="x$y")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


@pytest.fixture(scope="module")
def resolved(config: dict[str, Any]) -> Resolved:
    return resolve(
        config,
        Context(
            app="notes",
            source="/srv/notes",
            base="/opt/notes",
            routes=(Route("/api", "api", 3000), Route("/", "ui", 80)),
            migration="migrate",
            workers=("worker",),
            secrets=("password", "token"),
            shared_paths=("uploads",),
            privileges={"db": ("volume:customname",)},
        ),
    )


def read_back(project: dict[str, Any] | None, colour: str = "blue") -> dict[str, Any]:
    variables = {"FLOTILLA_COLOUR": colour, "FLOTILLA_RELEASE": "r1", "FLOTILLA_HOST": "web-1"}
    variables |= {"FLOTILLA_MEMORY": "1073741824"}
    variables |= {"FLOTILLA_ROUTER_ADDRESS": ROUTER_ADDRESS} | {
        f"FLOTILLA_ADDRESS_{number}": f"172.19.128.{number}" for number in range(2)
    }
    loaded: dict[str, Any] = json.loads(compose(json.dumps(project), "config", "--format", "json", **variables))
    return loaded


@pytest.mark.parametrize("colour", ["blue", "green"])
def test_compose_accepts_the_colours_file_and_fills_in_the_colour(resolved: Resolved, colour: str) -> None:
    read = read_back(resolved.compose, colour)
    assert read["name"] == f"notes-{colour}"
    assert sorted(read["services"]) == sorted(resolved.compose["services"])
    assert read["networks"]["back"]["name"] == f"notes-{colour}-back"
    assert read["services"]["flotilla-router"]["networks"]["flotilla-edge"]["ipv4_address"] == ROUTER_ADDRESS
    api = read["services"]["api"]
    assert api["environment"]["FLOTILLA_COLOUR"] == colour
    assert api["volumes"][0]["source"] == "/opt/notes/releases/r1/files/conf"


def test_no_value_is_lost_on_the_way_through_two_files(resolved: Resolved) -> None:
    api = read_back(resolved.compose)["services"]["api"]
    assert api["command"] == ["sh", "-c", "echo $$HOME $${X}"]
    assert api["environment"]["GREETING"] == "pa$$word"
    assert api["environment"]["PASSED"] == "x$$y"
    assert api["healthcheck"]["test"] == ["CMD-SHELL", "curl -f http://localhost/$$X"]


def test_compose_accepts_the_shared_and_the_migration_project(resolved: Resolved) -> None:
    assert sorted(read_back(resolved.shared)["services"]) == ["cache", "db"]
    assert sorted(read_back(resolved.migration)["services"]) == ["migrate"]


def test_the_captured_answer_is_still_what_compose_says(config: dict[str, Any]) -> None:
    """Newer versions add keys; what the resolver reads must be there in the same form."""
    captured = json.loads((DATA / "notes.2.26.json").read_text())
    assert sorted(config["services"]) == sorted(captured["services"])
    for name, service in captured["services"].items():
        for key in ("environment", "depends_on", "healthcheck", "networks", "deploy"):
            assert set(service.get(key) or ()) <= set(config["services"][name].get(key) or ())
