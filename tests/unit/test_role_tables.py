"""tests/docs/role_tables.py: the tables say what the argument specs say, and --check notices when they do not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

SCRIPT = Path(__file__).resolve().parents[1] / "docs" / "role_tables.py"
OPTIONS = {
    "web_port": {"type": "int", "default": 80, "description": "Where it listens."},
    "web_sites": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "description": "What it serves.",
        "options": {"mode": {"choices": ["a", "b"], "default": "a", "description": "Either a|b."}},
    },
}


@pytest.fixture
def role(tmp_path: Path) -> Path:
    path = tmp_path / "web"
    (path / "meta").mkdir(parents=True)
    (path / "defaults").mkdir()
    (path / "meta" / "argument_specs.yml").write_text(
        yaml.safe_dump({"argument_specs": {"main": {"options": OPTIONS}}})
    )
    (path / "defaults" / "main.yml").write_text("web_port: 80\n")
    (path / "README.md").write_text("# web\n<!-- begin variables -->\nold\n<!-- end variables -->\nafter\n")
    return path


def run(role: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), "--roles", str(role.parent), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_table_replaces_what_stood_between_the_marks(role: Path) -> None:
    assert run(role).returncode == 0
    assert (role / "README.md").read_text().splitlines() == [
        "# web",
        "<!-- begin variables -->",
        "| name | type | default | description |",
        "|---|---|---|---|",
        "| `web_port` | int | `80` | Where it listens. |",
        "| `web_sites` | list of dict | **required** | What it serves. |",
        "| `web_sites[].mode` | str: `a`, `b` | `a` | Either a\\|b. |",
        "<!-- end variables -->",
        "after",
    ]


def test_check_passes_on_what_was_just_written(role: Path) -> None:
    run(role)
    assert run(role, "--check").returncode == 0


def test_check_names_the_stale_file_and_leaves_it(role: Path) -> None:
    before = (role / "README.md").read_text()
    result = run(role, "--check")
    assert result.returncode == 1
    assert str(role / "README.md") in result.stderr
    assert (role / "README.md").read_text() == before


@pytest.mark.parametrize(
    ("defaults", "complaint"),
    [
        ("web_port: 81\n", "web_port defaults to 80 here and to 81 in defaults/main.yml"),
        ("{}\n", "web_port has a default here and none in defaults/main.yml"),
        ("web_port: 80\nweb_name: x\n", "web_name stands in defaults/main.yml and is not specified"),
        ("web_port: 80\nweb_sites: []\n", "web_sites has a default in defaults/main.yml and none here"),
    ],
)
def test_specs_that_disagree_with_the_defaults_are_an_error(role: Path, defaults: str, complaint: str) -> None:
    (role / "defaults" / "main.yml").write_text(defaults)
    result = run(role)
    assert result.returncode == 1
    assert complaint in result.stderr


def test_a_readme_without_the_marks_is_an_error(role: Path) -> None:
    (role / "README.md").write_text("# web\n")
    result = run(role)
    assert result.returncode == 1
    assert "begin variables" in result.stderr
