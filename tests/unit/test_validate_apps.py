"""What is wrong with the list `apps`, with the version of a release and with the choice of an app."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from flotilla import apps
from flotilla.problem import report
from hypothesis import given
from hypothesis import strategies as st

NOTES: dict[str, Any] = {
    "name": "notes",
    "source": "compose/app",
    "version": "1.0.0",
    "domains": ["staging.example.com"],
    "routes": [{"path": "/", "service": "ui", "port": 8080}],
}
COMMAND = "ansible-playbook deploy.yml -i inventories/staging"


def where(name: str) -> str:
    return "apps.yml"


def check(change: dict[str, Any], drop: str = "") -> list[str]:
    app = {name: value for name, value in (copy.deepcopy(NOTES) | change).items() if name != drop}
    return [str(problem) for problem in apps.check_apps([app], where)]


def test_a_good_app_has_no_problems() -> None:
    assert check({"environment": {"A": 1}, "secrets": {"b": "c"}, "migration": {"service": "m"}}) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"verson": "1"}, "apps[notes].verson: is not a key that is known here (did you mean `version`?)"),
        ({"version": 1.1}, 'apps[notes].version: is not a text. Next: write it in quotes: version: "1.1"'),
        ({"name": "Notes"}, "apps[Notes].name: `Notes` is not allowed here"),
        ({"domains": "a.example.com"}, "apps[notes].domains: is not a list of texts"),
        ({"domains": ["a b"]}, "apps[notes].domains: `a b` is not allowed here"),
        ({"routes": [{"path": "/", "service": "ui"}]}, "apps[notes].routes[0].port: is missing"),
        ({"routes": [{"path": "x", "service": "ui", "port": 1}]}, "apps[notes].routes[0].path: is not a path"),
        ({"routes": [{"path": "/", "service": "u", "port": "80"}]}, "routes[0].port: is not a whole number"),
        ({"routes": [{"path": "/", "service": "u", "port": True}]}, "routes[0].port: is not a whole number"),
        ({"deadlines": {"ready": 1}}, "apps[notes].deadlines.ready: is not a key that is known here"),
        ({"keep_releases": 0}, "apps[notes].keep_releases: is 0, less than 1"),
        ({"secrets": {"a-b": "x"}}, "apps[notes].secrets: `a-b` is not allowed here"),
        ({"database_connections": {"api": "8"}}, "database_connections: is not a mapping of names to whole numbers"),
        ({"database_connections": {"api": -1}}, "database_connections: is not a mapping of names to whole numbers"),
        ({"secrets": ["a"]}, "apps[notes].secrets: is not a mapping of names to values"),
    ],
)
def test_each_wrong_key_is_told_with_its_place(change: dict[str, Any], message: str) -> None:
    (problem,) = check(change)
    assert problem.startswith("apps.yml: ")
    assert message in problem
    assert ". Next: " in problem


@pytest.mark.parametrize("name", ["name", "source", "routes"])
def test_a_required_key_is_missed(name: str) -> None:
    assert any(f"{name}: is missing" in problem for problem in check({}, drop=name))


@pytest.mark.parametrize("value", [None, [], {}, "notes"])
def test_apps_must_be_a_list_of_something(value: Any) -> None:
    assert "is not a list with an app in it" in report(apps.check_apps(value, where))


def test_two_apps_share_no_name_and_no_domain() -> None:
    other = copy.deepcopy(NOTES) | {"name": "blog"}
    assert "`staging.example.com` is a domain of `notes` too" in report(apps.check_apps([NOTES, other], where))
    assert "apps[notes]: is there twice" in report(apps.check_apps([NOTES, NOTES], where))


def test_all_problems_are_reported_at_once() -> None:
    assert len(check({"verson": 1, "keep_releases": "x", "routes": [{}]})) == 5


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_no_input_breaks_the_check(value: Any) -> None:
    assert apps.check_apps(value, where)
    apps.check_apps([copy.deepcopy(NOTES) | {"routes": value, "deadlines": value}], where)


def test_defaults_are_filled_in_and_secrets_left_out() -> None:
    filled = apps.with_defaults(NOTES | {"secrets": {"a": "hidden"}, "environment": {"URL": "hidden"}})
    assert filled["routes"] == NOTES["routes"]
    assert filled["deadlines"] == {"ready_seconds": 120, "drain_seconds": 30, "pull_seconds": 600}
    assert "migration" not in filled
    assert "hidden" not in str(filled)


TWO = [NOTES, NOTES | {"name": "blog", "version": "2"}]


def select(
    of: list[dict[str, Any]], app: str | None = None, version: Any = None, allow: bool = False
) -> tuple[Any, str]:
    chosen, problems = apps.select(of, app, version, allow, where, COMMAND)
    return [(entry["name"], entry["version"]) for entry in chosen], report(problems)


@pytest.mark.parametrize(
    ("of", "app", "version", "expected"),
    [
        ([NOTES], None, None, [("notes", "1.0.0")]),
        ([NOTES], None, "2", [("notes", "2")]),
        (TWO, None, None, [("notes", "1.0.0"), ("blog", "2")]),
        (TWO, "blog", None, [("blog", "2")]),
        (TWO, "blog", "3", [("blog", "3")]),
    ],
)
def test_the_command_line_chooses(of: list[dict[str, Any]], app: str | None, version: Any, expected: Any) -> None:
    assert select(of, app, version) == (expected, "")


def test_the_inventory_is_not_changed_by_the_command_line() -> None:
    before = copy.deepcopy(TWO)
    select(TWO, "blog", "3")
    assert before == TWO


@pytest.mark.parametrize(
    ("of", "app", "version", "message"),
    [
        (
            [{**NOTES, "version": None}],
            None,
            None,
            f"apps[notes].version: no version is given. Next: {COMMAND} -e version=",
        ),
        (
            [NOTES],
            None,
            "latest",
            "command line: version: `latest` is forbidden in this environment (environment_allow_latest)",
        ),
        ([NOTES | {"version": "latest"}], None, None, "apps.yml: apps[notes].version: `latest` is forbidden"),
        ([NOTES], None, "a/b", "command line: version: `a/b` cannot be an image's tag"),
        ([NOTES], None, 1.5, "command line: version: is a number, not a text"),
        ([NOTES], "ntes", None, "command line: app: there is no app `ntes` (did you mean `notes`?)"),
        (TWO, None, "2", f"not which of the apps gets it (notes, blog). Next: {COMMAND} -e app=notes -e version=2"),
    ],
)
def test_a_wrong_choice_is_told_with_the_command(of: Any, app: str | None, version: Any, message: str) -> None:
    assert message in select(of, app, version)[1]


def test_latest_is_allowed_where_the_environment_allows_it() -> None:
    assert select([NOTES], None, "latest", allow=True) == ([("notes", "latest")], "")


@pytest.mark.parametrize(
    "name", ["flotilla", "notes-blue", "notes-green", "notes-data", "notes-migration", "notes-blue-x"]
)
def test_a_name_that_flotilla_uses_itself_is_refused(name: str) -> None:
    assert any(
        f"apps[{name}].name: `{name}` is a name that Flotilla itself uses" in line for line in check({"name": name})
    )
