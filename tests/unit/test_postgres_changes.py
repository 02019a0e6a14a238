"""What brings PostgreSQL's roles and databases to what is declared."""

from __future__ import annotations

import json
from typing import Any

import pytest
from flotilla import scram

from plugins.filter.flotilla_postgres import (
    LOGIN_COMMENT,
    OWNER_ATTRIBUTES,
    flotilla_postgres_changes,
    flotilla_postgres_logins,
    flotilla_postgres_problems,
    flotilla_postgres_retirements,
    flotilla_postgres_state_sql,
    flotilla_postgres_value,
)

NOTES = {"name": "notes", "owner": "notes", "password": "notes' pa$$word"}
SUPERUSER_PASSWORD = "superuser"


def state(*, public: bool = False, schema: bool = False, shut: bool = False, **changed: Any) -> str:
    """Return what the server prints when NOTES is in place, with attributes of its role changed."""
    password = {"rolpassword": scram.verifier(NOTES["password"])}
    role = OWNER_ATTRIBUTES | password | {"comment": None, "owners": []} | changed
    superuser: dict[str, Any] = {"rolpassword": scram.verifier(SUPERUSER_PASSWORD), "comment": None, "owners": []}
    databases = {name: {"owner": "postgres", "public": False, "shut": False} for name in ("postgres", "template1")}
    databases["notes"] = {"owner": "notes", "public": public, "shut": shut}
    lines = [
        {"roles": {"postgres": superuser, "notes": role}, "databases": databases},
        *([] if shut else [{"schema": "notes", "public": schema}]),
    ]
    return "\n".join(json.dumps(line) for line in lines) + "\n"


def fresh() -> str:
    """Return what a new server prints: no database of ours, its own open to everyone."""
    databases = {name: {"owner": "postgres", "public": True, "shut": False} for name in ("postgres", "template1")}
    roles = {"postgres": {"rolpassword": scram.verifier(SUPERUSER_PASSWORD)}}
    return json.dumps({"roles": roles, "databases": databases})


def changes(databases: list[dict[str, str]], present: str) -> dict[str, Any]:
    return flotilla_postgres_changes(databases, present, SUPERUSER_PASSWORD)


def test_nothing_to_do_is_an_empty_script() -> None:
    assert changes([NOTES], state()) == {"actions": [], "sql": ""}


def test_a_new_server_is_closed_and_gets_the_database() -> None:
    assert changes([NOTES], fresh())["actions"] == [
        "close the database postgres to the public",
        "close the database template1 to the public",
        "create the role notes",
        "create the database notes",
        "close the database notes to the public",
        "close the schema public of notes",
    ]


@pytest.mark.parametrize("password", [NOTES["password"], SUPERUSER_PASSWORD])
def test_no_password_is_in_the_script(password: str) -> None:
    sql = flotilla_postgres_changes([NOTES], fresh().replace("SCRAM", "md5"), SUPERUSER_PASSWORD)["sql"]
    assert password not in sql
    assert "SCRAM-SHA-256$4096:" in sql


def test_statements_with_verifiers_are_kept_from_the_log_before_any_connect() -> None:
    sql = changes([NOTES], fresh())["sql"]
    assert sql.index("SET log_statement = 'none'") < sql.index("PASSWORD") < sql.index("\\connect")
    assert "PASSWORD" not in sql[sql.index("\\connect") :]


@pytest.mark.parametrize(
    ("present", "action"),
    [
        (state(rolsuper=True), "take privileges from the role notes"),
        (state(rolcreatedb=True), "take privileges from the role notes"),
        (state(rolcreaterole=True), "take privileges from the role notes"),
        (state(rolcanlogin=False), "take privileges from the role notes"),
        (state(rolpassword=scram.verifier("old")), "change the password of the role notes"),
        (state(rolpassword="md5" + "0" * 32), "change the password of the role notes"),
        (state(rolpassword=None), "change the password of the role notes"),
        (state(public=True), "close the database notes to the public"),
        (state(schema=True), "close the schema public of notes"),
        (state().replace('"owner": "notes"', '"owner": "other"'), "give the database notes to notes"),
    ],
)
def test_each_drift_is_one_change(present: str, action: str) -> None:
    assert changes([NOTES], present)["actions"] == [action]


def test_a_changed_superuser_password_is_applied() -> None:
    assert flotilla_postgres_changes([NOTES], state(), "new")["actions"] == ["change the password of the role postgres"]


def test_an_owner_of_two_databases_is_created_once() -> None:
    second = NOTES | {"name": "second"}
    assert changes([NOTES, second], fresh())["actions"].count("create the role notes") == 1


def test_names_are_quoted() -> None:
    sql = changes([NOTES | {"name": "my-notes", "owner": "my-owner"}], fresh())["sql"]
    assert 'CREATE DATABASE "my-notes" OWNER "my-owner";' in sql


def test_a_database_that_its_owner_has_shut_is_entered_again() -> None:
    given = changes([NOTES], state(shut=True))
    assert given["actions"] == ["let logins into the database notes", "close the schema public of notes"]
    assert given["sql"].index('ALTER DATABASE "notes" ALLOW_CONNECTIONS true') < given["sql"].index("\\connect")


def test_the_present_state_is_read_in_each_declared_database() -> None:
    sql = flotilla_postgres_state_sql([NOTES, NOTES | {"name": "my-notes"}])
    assert [line for line in sql.splitlines() if line.startswith("\\connect")] == [
        '\\connect -reuse-previous=on "my-notes"',
        '\\connect -reuse-previous=on "notes"',
    ]


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"name": "Notes"}, "postgres_databases[0].name is 'Notes'"),
        ({"name": 'notes"; DROP'}, "postgres_databases[0].name is"),
        ({"name": "n" * 64}, "at most 63"),
        ({"name": "postgres"}, "a database of PostgreSQL itself"),
        ({"owner": "postgres"}, "a role of PostgreSQL itself"),
        ({"owner": "pg_monitor"}, "a role of PostgreSQL itself"),
        ({"owner": ""}, "postgres_databases[0].owner is ''"),
        ({"login": "Notes"}, "postgres_databases[0].login is 'Notes'"),
        ({"login": "postgres"}, "postgres_databases[0].login is 'postgres', a role of PostgreSQL itself"),
        ({"password": ""}, "postgres_databases[0].password must be printable ASCII"),
        ({"password": "pässword"}, "postgres_databases[0].password must be printable ASCII"),
        ({"password": "two\nlines"}, "postgres_databases[0].password must be printable ASCII"),
    ],
)
def test_wrong_declarations_are_named_without_their_password(changed: dict[str, str], problem: str) -> None:
    problems = flotilla_postgres_problems([NOTES | changed])
    assert len(problems) == 1
    assert problem in problems[0]
    assert not changed.get("password") or changed["password"] not in problems[0]


@pytest.mark.parametrize(
    ("second", "problem"),
    [
        (NOTES, "'notes' is declared 2 times"),
        (NOTES | {"name": "other", "password": "differs"}, "differs from another database's"),
        (NOTES | {"name": "other", "owner": "other", "login": "notes"}, "'notes', which owns a database"),
    ],
)
def test_declarations_that_contradict_each_other_are_refused(second: dict[str, str], problem: str) -> None:
    problems = flotilla_postgres_problems([NOTES, second])
    assert len(problems) == 1
    assert problem in problems[0]


def test_a_right_declaration_has_no_problems() -> None:
    assert flotilla_postgres_problems([NOTES]) == []


@pytest.mark.parametrize(
    ("value", "written"),
    [(True, "on"), (False, "off"), (1.1, "'1.1'"), ("a'b\\c", "'a''b\\\\c'"), ("", "''")],
)
def test_settings_are_written_as_postgresql_reads_them(value: object, written: str) -> None:
    assert flotilla_postgres_value(value) == written


ROTATED = NOTES | {"login": "login_two", "password": "second"}


def with_login(name: str, *, owner_logs_in: bool = False, password: str = "first", **changed: Any) -> str:
    """What the server prints when a login of ours stands in front of the owner of NOTES."""
    lines = [json.loads(line) for line in state(rolcanlogin=owner_logs_in).splitlines()]
    login = {"rolpassword": scram.verifier(password), "comment": LOGIN_COMMENT + "notes", "owners": ["notes"]}
    lines[0]["roles"][name] = OWNER_ATTRIBUTES | login | changed
    return "\n".join(json.dumps(line) for line in lines)


def test_a_login_of_its_own_leaves_the_owner_without_one() -> None:
    found = changes([ROTATED], fresh())
    assert found["actions"][2:5] == [
        "create the role notes",
        "create the role login_two",
        "let login_two log in for notes",
    ]
    assert 'CREATE ROLE "notes" NOLOGIN ' in found["sql"]
    assert 'CREATE ROLE "login_two" LOGIN ' in found["sql"]
    # What it makes belongs to the owner, so that it can go and the tables stay.
    assert """GRANT "notes" TO "login_two";\nALTER ROLE "login_two" SET role TO 'notes';""" in found["sql"]
    assert changes([ROTATED], with_login("login_two", password="second")) == {"actions": [], "sql": ""}


@pytest.mark.parametrize("present", [state(), with_login("login_one")])
def test_a_new_login_leaves_the_old_one_valid(present: str) -> None:
    """Both are, until somebody retires the old one: what serves meanwhile has it."""
    found = changes([ROTATED], present)
    assert found["actions"] == ["create the role login_two", "let login_two log in for notes"]
    assert "NOLOGIN" not in found["sql"]
    assert "login_one" not in found["sql"]


@pytest.mark.parametrize("missing", [{"owners": []}, {"comment": None}, {"owners": ["other"]}])
def test_a_login_that_does_not_act_for_the_owner_is_mended(missing: dict[str, Any]) -> None:
    found = changes([ROTATED], with_login("login_two", password="second", **missing))
    assert found["actions"] == ["let login_two log in for notes"]


def test_retiring_takes_the_old_login_and_leaves_what_it_made() -> None:
    found = flotilla_postgres_retirements([ROTATED], with_login("login_one"))
    assert found["roles"] == ["login_one"]
    order = [
        '\\connect -reuse-previous=on "notes"',
        'REASSIGN OWNED BY "login_one" TO "notes"',
        'DROP ROLE "login_one"',
    ]
    places = [found["sql"].index(text) for text in order]
    assert places == sorted(places)


def test_retiring_takes_the_login_of_an_owner_and_not_the_owner() -> None:
    found = flotilla_postgres_retirements([ROTATED], state())
    assert found == {
        "roles": ["notes"],
        "actions": ["take the login of the role notes away"],
        "sql": 'ALTER ROLE "notes" NOLOGIN PASSWORD NULL;\n',
    }


@pytest.mark.parametrize(
    ("databases", "present"),
    [
        ([NOTES], state()),
        ([ROTATED], with_login("login_two", password="second")),
        # A person's role that was made a member of the owner.
        ([ROTATED], with_login("ann", comment=None)),
        # One that logs in for the owner of a database which is declared no more, and may be needed again.
        ([ROTATED], with_login("login_other", comment=LOGIN_COMMENT + "todo", owners=["todo"])),
    ],
)
def test_who_is_declared_or_not_ours_keeps_its_login(databases: list[dict[str, str]], present: str) -> None:
    assert flotilla_postgres_retirements(databases, present) == {"roles": [], "actions": [], "sql": ""}


def test_who_logs_in_is_the_owner_unless_a_login_is_declared() -> None:
    second = ROTATED | {"name": "second", "owner": "other"}
    assert flotilla_postgres_logins([NOTES, second]) == [
        {"database": "notes", "login": "notes", "password": NOTES["password"]},
        {"database": "second", "login": "login_two", "password": "second"},
    ]
