"""What is wrong with an inventory: names, groups, hosts, secrets; and at which line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from flotilla import apps, inventory, roles
from flotilla.problem import Problem, nearest, report

ROOT = Path(__file__).resolve().parents[2]
OPTIONS: dict[str, dict[str, Any]] = {"postgres": {"postgres_memory_mb": {}}, "base": {"base_swap_mb": {}}}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("postgres_memroy_mb", "is not a variable of the role `postgres` (did you mean `postgres_memory_mb`?)"),
        ("postgres_zzz", "is not a variable of the role `postgres`"),
        ("posgres_memory_mb", "is not known (did you mean `postgres_memory_mb`?)"),
        ("enviroment_name", "is not known (did you mean `environment_name`?)"),
        ("droplet_cpu", "is not a variable of Flotilla (did you mean `droplet_cpus`?)"),
        ("vesion", "is not known (did you mean `version`?)"),
    ],
)
def test_misspelt_names_are_found(name: str, message: str) -> None:
    assert inventory.misspelt([name], OPTIONS) == {name: message}


@pytest.mark.parametrize("name", ["base_swap_mb", "apps", "ansible_host", "vault_x", "my_own_variable", "lab_network"])
def test_other_names_are_left_alone(name: str) -> None:
    assert inventory.misspelt([name], OPTIONS) == {}


@pytest.fixture
def sources(tmp_path: Path) -> inventory.Sources:
    texts = {
        "one/hosts.yml": "app:\n  hosts:\n    a-1:\n      private_address: 10.1.0.1\n",
        "one/group_vars/all/apps.yml": "# name: x\napps:\n  - name: a\n    redis_password: x\n",
        "one/group_vars/all/redis.yml": "redis_password: x\n",
        "two/group_vars/all.yml": "base_swap_mb: 1\n",
    }
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return inventory.Sources((tmp_path / "one", tmp_path / "two"), tmp_path)


@pytest.mark.parametrize(
    ("name", "within", "place"),
    [
        ("private_address", "", "one/hosts.yml:4"),
        ("redis_password", "", "one/group_vars/all/redis.yml:1"),
        ("redis_password", "apps", "one/group_vars/all/apps.yml:4"),
        ("name", "apps", "one/group_vars/all/apps.yml:3"),
        ("absent", "apps", "one/group_vars/all/apps.yml:2"),
        ("base_swap_mb", "", "two/group_vars/all.yml:1"),
        ("absent", "", "two"),
    ],
)
def test_places_are_files_with_lines(sources: inventory.Sources, name: str, within: str, place: str) -> None:
    assert sources.place(name, within) == place


@pytest.mark.parametrize(
    ("name", "value", "place"),
    [
        ("private_address", "10.1.0.1", "one/hosts.yml:4"),
        ("private_address", "10.1.0.17", "one/hosts.yml:7"),
        ("private_address", "10.9.9.9", "one/hosts.yml:4"),
        ("domains", "b.example.com", "one/group_vars/all/more.yml:3"),
        ("domains", "example.com", "one/group_vars/all/more.yml:4"),
        ("base_swap_mb", "", "two/group_vars/all.yml:1"),
        ("absent", "x", "two"),
    ],
)
def test_places_of_values_are_their_own_lines(
    sources: inventory.Sources, tmp_path: Path, name: str, value: str, place: str
) -> None:
    with (tmp_path / "one/hosts.yml").open("a") as hosts:
        hosts.write("    # private_address: 10.1.0.17\n    a-2:\n      private_address: 10.1.0.17\n")
    more = "# example.com\ndomains:\n  - b.example.com\n  - example.com\n"
    (tmp_path / "one/group_vars/all/more.yml").write_text(more)
    assert sources.where(name, value) == place


def test_a_name_that_no_file_has_is_not_found(sources: inventory.Sources) -> None:
    assert sources.find("absent") == ""
    assert sources.find("base_swap_mb", "apps") == ""


def test_groups_are_checked(sources: inventory.Sources) -> None:
    problems = report(inventory.group_problems({"app": [], "posgres": ["a-1"], "europe": []}, sources))
    assert "no host is in the group `app`" in problems
    assert "posgres: is not a group of Flotilla (did you mean `postgres`?)" in problems
    assert "europe" not in problems


def test_hosts_that_talk_to_each_other_need_private_addresses(sources: inventory.Sources) -> None:
    named = {"environment_name": "staging"}
    assert inventory.host_problems({"a": named}, sources) == []
    problems = report(inventory.host_problems({"a": named, "b": {**named, "private_address": "10.0.0.1"}}, sources))
    assert "private_address: `a` has none" in problems
    assert "`b`" not in problems


def test_a_secret_without_a_value_is_told_once_with_the_command(sources: inventory.Sources) -> None:
    hosts: dict[str, dict[str, Any]] = {
        "a": {"x": ["{{ vault_one }}"], "y": {"z": "{{ vault_one }} {{ vault_two }}"}, "vault_two": "2"},
        "b": {"registry": "{{ vault_given }}", "environment_given_secrets": ["vault_given"]},
        # What the command line of a rotation names, it does not use.
        "c": {"secrets": "vault_mistyped"},
    }
    problems = inventory.secret_problems(hosts, ["vault_given"], sources, "COMMAND")
    assert [problem.next for problem in problems] == [
        "COMMAND",
        "COMMAND -e @FILE, with vault_given below secrets_values in FILE",
    ]
    assert "`vault_one` has no value: there is no two/vault.yml" in str(problems[0])


def test_a_report_has_each_problem_once() -> None:
    problem = Problem("f:1", "v", "is wrong", "do this")
    assert report([problem, problem]) == "f:1: v: is wrong. Next: do this"


def test_nothing_is_suggested_for_a_name_like_no_other() -> None:
    assert nearest("zzz", ["apps"]) is None


@pytest.mark.parametrize("environment", ["staging", "production"])
def test_the_inventories_that_ship_name_only_variables_that_exist(environment: str) -> None:
    directory = ROOT / "inventories" / environment
    names = {
        line.split(":")[0]
        for file in (directory / "group_vars").rglob("*.yml")
        for line in file.read_text().splitlines()
        if line[:1].isalpha()
    }
    assert names
    assert inventory.misspelt(names, roles.options(ROOT / "roles")) == {}


def test_the_reference_describes_every_variable_and_key() -> None:
    text = (ROOT / "docs/reference/inventory.md").read_text()
    nested = [key.keys for key in apps.APP.values() if key.keys]
    keys = {name for keys in (apps.APP, apps.ROUTE, *nested) for name in keys}
    assert {
        name
        for name in keys | inventory.OURS
        if f"`{name}`" not in text and f"`-e {name}=" not in text and f"{{{name}:" not in text
    } == set()


def test_letters_that_changed_places_are_a_misspelling() -> None:
    assert "did you mean `version`?" in inventory.misspelt(["verison"], {})["verison"]
    assert inventory.misspelt(["vision"], {}) == {}
