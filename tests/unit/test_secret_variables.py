"""A secret becomes a variable of the program, and stands nowhere in the container's configuration."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from flotilla.resolve import ComposeFileError, Context, Resolved, resolve
from flotilla.resolve.secret_variables import started_with
from flotilla.resolve.values import unescape
from flotilla.static import static_problems
from hypothesis import given, settings
from hypothesis import strategies as st

PATH = "/run/secrets/database_url"


def resolved(changes: dict[str, Any], **context: Any) -> Resolved:
    service = {"image": "team/app:1", "networks": {"default": None}, **changes}
    config = {"name": "notes", "networks": {"default": {"name": "notes_default"}}, "services": {"web": service}}
    given = {"secrets": ("database_url",), "secret_variables": {"web": ("database_url",)}, **context}
    return resolve(config, Context(app="notes", source="/srv/notes", base="/opt/notes", **given))


def test_the_file_is_mounted_and_the_variable_leaves_the_configuration() -> None:
    found = resolved({"environment": {"DATABASE_URL": "postgres://u:hunter2@db/x", "LEVEL": "info"}})
    service = found.compose["services"]["web"]
    assert service["secrets"] == [{"source": "database_url", "target": PATH}]
    assert service["environment"]["LEVEL"] == "info"
    assert "hunter2" not in json.dumps(found.compose)
    assert found.secrets == {"database_url": ("web",)}
    assert found.secret_variables == {"web": {"DATABASE_URL": PATH}}


def test_a_secret_that_the_service_mounts_elsewhere_is_read_there() -> None:
    found = resolved({"secrets": [{"source": "database_url", "target": "/etc/url"}]})
    assert found.secret_variables == {"web": {"DATABASE_URL": "/etc/url"}}
    assert found.compose["services"]["web"]["secrets"] == [{"source": "database_url", "target": "/etc/url"}]


def test_what_is_not_there_is_refused() -> None:
    wrong = {"web": ("database_ulr",), "wweb": ("database_url",)}
    with pytest.raises(ComposeFileError) as error:
        resolved({}, secret_variables=wrong)
    problems = {problem.variable: problem.what for problem in error.value.problems}
    assert "did you mean `database_url`?" in problems["apps[notes].secret_variables.web[0]"]
    assert "did you mean `web`?" in problems["apps[notes].secret_variables.wweb"]
    text = "services: {web: {image: 'x:1'}}"
    early = static_problems(
        text, file="compose.yaml", inventory="i", app="notes", secrets=["database_url"], secret_variables=wrong
    )
    assert {problem.variable for problem in early} == set(problems)


@pytest.mark.parametrize(
    ("service", "image", "program"),
    [
        ({}, {"Entrypoint": ["/entry"], "Cmd": ["serve"]}, ["/entry", "serve"]),
        ({}, {"Entrypoint": None, "Cmd": ["serve", "$HOME"]}, ["serve", "$$HOME"]),
        ({"command": ["work"]}, {"Entrypoint": ["/entry"], "Cmd": ["serve"]}, ["/entry", "work"]),
        ({"command": []}, {"Entrypoint": ["/entry"], "Cmd": ["serve"]}, ["/entry"]),
        ({"entrypoint": ["mine"]}, {"Entrypoint": ["/entry"], "Cmd": ["serve"]}, ["mine"]),
        ({"entrypoint": ["mine"], "command": ["$$X"]}, {"Entrypoint": ["/entry"]}, ["mine", "$$X"]),
    ],
)
def test_the_program_is_the_one_that_the_engine_would_have_started(
    service: dict[str, Any], image: dict[str, Any], program: list[str]
) -> None:
    started = started_with({**service, "user": "1"}, {"DATABASE_URL": PATH}, image)
    assert started["entrypoint"][:2] == ["/bin/sh", "-c"]
    assert started["entrypoint"][3:] == ["sh", *program]
    assert "command" not in started
    assert started["user"] == "1"


@settings(max_examples=settings.default.max_examples // 2)
@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40))
def test_a_value_arrives_as_it_was(tmp_path_factory: pytest.TempPathFactory, value: str) -> None:
    """Through a real shell: newlines at the end, quotes, dollars."""
    file = tmp_path_factory.mktemp("run") / "it's a secret"
    file.write_bytes(value.encode())
    show = 'printf %s%s "$$TOKEN" "$$1"'
    started = started_with({"entrypoint": ["sh", "-c", show, "sh", "$$a b"]}, {"TOKEN": str(file)}, {})
    done = subprocess.run([unescape(word) for word in started["entrypoint"]], capture_output=True, check=True)
    assert done.stdout == value.encode() + b"$a b"


def test_a_file_that_cannot_be_read_ends_the_start() -> None:
    started = started_with({"entrypoint": ["echo", "started"]}, {"A": "/nonexistent/secret"}, {})
    done = subprocess.run(
        [unescape(word) for word in started["entrypoint"]], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "/nonexistent/secret" in done.stderr
    assert done.stdout == ""


def test_the_value_is_in_no_argument(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("hunter2")
    show = "print(open('/proc/self/cmdline').read(), open('/proc/self/environ').read())"
    started = started_with({"entrypoint": ["python3", "-c", show]}, {"TOKEN": str(file)}, {})
    command = [unescape(word) for word in started["entrypoint"]]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "hunter2" not in said.partition("TOKEN=")[0]
    assert "TOKEN=hunter2" in said
