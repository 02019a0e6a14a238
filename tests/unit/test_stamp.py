"""flotilla.stamp: the provisioning stamp changes with what provisioning uses, and with nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from flotilla import roles, stamp
from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parents[2]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in (
        "roles/base/tasks/main.yml",
        "roles/base/README.md",
        "compose/redis/compose.yaml",
        "plugins/filter/x.py",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("one")
    return tmp_path


def digest(project: Path) -> str:
    stamp.digest_of_files.cache_clear()
    return stamp.digest_of_files(project, stamp.paths_for(["base", "redis"]))


@pytest.mark.parametrize(
    "name", ["roles/base/tasks/main.yml", "compose/redis/compose.yaml", "plugins/filter/x.py", "roles/base/new"]
)
def test_a_file_that_provisioning_uses_changes_it(project: Path, name: str) -> None:
    before = digest(project)
    (project / name).write_text("two")
    assert digest(project) != before


@pytest.mark.parametrize(
    "name",
    [
        "roles/base/README.md",
        "roles/base/molecule/default/molecule.yml",
        "roles/nginx/tasks/main.yml",
        "plugins/__pycache__/x.pyc",
    ],
)
def test_other_files_do_not(project: Path, name: str) -> None:
    before = digest(project)
    (project / name).parent.mkdir(parents=True, exist_ok=True)
    (project / name).write_text("two")
    assert digest(project) == before


def test_a_moved_file_changes_it(project: Path) -> None:
    before = digest(project)
    (project / "roles/base/tasks/main.yml").rename(project / "roles/base/tasks/other.yml")
    assert digest(project) != before


def test_a_new_version_or_route_of_an_app_does_not() -> None:
    app = {"name": "notes", "domains": ["a"], "version": "1", "routes": [], "secrets": {"a": "b"}, "upload_limit_mb": 1}
    assert stamp.provisioned_apps([app]) == stamp.provisioned_apps(
        [app | {"version": "2", "routes": [1], "secrets": {}}]
    )
    assert stamp.provisioned_apps([app]) != stamp.provisioned_apps([app | {"domains": ["b"]}])


@given(JSON)
def test_equal_values_give_equal_stamps_and_the_key_matters(value: Any) -> None:
    assert stamp.stamp("f", {"a": value, "b": 1}, "k") == stamp.stamp("f", {"b": 1, "a": value}, "k")
    assert stamp.stamp("f", {"a": value}, "k") != stamp.stamp("f", {"a": value}, "other")
    assert stamp.stamp("f", {"a": value}, "k") != stamp.stamp("f", {"a": [value]}, "k")


def test_roles_follow_the_groups() -> None:
    assert roles.roles_of(["app", "postgres", "mine"]) == [
        *("base", "docker", "firewall", "pki"),
        *("nginx", "acme", "app", "backup", "postgres", "restore"),
    ]
    assert roles.roles_of(["postgres", "backup"])[4:] == ["postgres", "backup", "restore"]
    assert roles.roles_of([]) == ["base", "docker", "firewall", "pki"]


def test_the_roles_variables_are_read_from_their_argument_specs() -> None:
    assert "base_swap_mb" in roles.options(ROOT / "roles")["base"]
