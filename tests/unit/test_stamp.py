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


@pytest.mark.parametrize("name", sorted(stamp.FILES))
def test_a_file_of_the_controller_counts_by_what_is_in_it(tmp_path: Path, name: str) -> None:
    here, there = tmp_path / "here.pem", tmp_path / "there.pem"
    here.write_text("one")
    there.write_text("one")
    assert stamp.contents(name, str(here)) == stamp.contents(name, str(there))
    there.write_text("two")
    assert stamp.contents(name, str(here)) != stamp.contents(name, str(there))


def test_other_values_count_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("one")
    text = "-----BEGIN CERTIFICATE-----"
    assert stamp.contents("nginx_certificate", text) == text
    assert stamp.contents("nginx_certificate", "") == ""
    assert stamp.contents("nginx_certificate", str(tmp_path / "none")) == str(tmp_path / "none")
    assert stamp.contents("postgres_image", str(tmp_path / "file")) == str(tmp_path / "file")


def test_every_variable_that_may_name_a_file_is_known() -> None:
    documented = {
        name
        for options in roles.options(ROOT / "roles").values()
        for name, option in options.items()
        if "file on the controller" in str(option.get("description"))
    }
    assert documented == set(stamp.FILES)
