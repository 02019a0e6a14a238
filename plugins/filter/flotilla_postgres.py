"""Filters of the role postgres: which SQL brings roles and databases to what the inventory declares."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ansible.errors import AnsibleFilterError

sys.path.append(str(Path(__file__).resolve().parents[1] / "module_utils"))
from flotilla import scram

DOCUMENTATION = r"""
name: flotilla_postgres
short_description: SQL for declared databases and their least-privilege owners
description:
  - C(flotilla_postgres_problems) lists what is wrong with declared databases.
  - C(flotilla_postgres_state_sql) is the psql script that reads the present state as lines of JSON.
  - C(flotilla_postgres_changes) compares that with what is declared.
positional: _input
options:
  _input:
    description: Databases, each with C(name), C(owner) and C(password).
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
stdin: "{{ postgres_databases | flotilla_postgres_state_sql }}"
"""

RETURN = r"""
_value:
  description: Problems; a psql script; or C(actions), what changes in words, and C(sql), the script that does it.
  type: raw
"""

NAME = re.compile(r"[a-z_][a-z0-9_-]{0,62}")
SUPERUSER = "postgres"
RESERVED_DATABASES = frozenset({"postgres", "template0", "template1"})

# A role that owns a database and nothing else.
OWNER_ATTRIBUTES = {
    "rolcanlogin": True,
    "rolsuper": False,
    "rolcreatedb": False,
    "rolcreaterole": False,
    "rolreplication": False,
    "rolbypassrls": False,
}
OWNER_OPTIONS = "LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS"

# Statements that carry a verifier stay out of the server's log, whatever it is set to.
PREAMBLE = (
    "SET log_statement = 'none';",
    "SET log_min_error_statement = 'panic';",
    "SET log_min_duration_statement = -1;",
    "SET log_min_duration_sample = -1;",
)


class Change(NamedTuple):
    """One change, in words and in SQL."""

    action: str
    sql: str


def identifier(name: str) -> str:
    """Return name quoted as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Return text quoted as an SQL string (standard_conforming_strings is on, as it has been since 9.1)."""
    return "'" + text.replace("'", "''") + "'"


def flotilla_postgres_value(value: object) -> str:
    """Return value as postgresql.conf writes it: on, off, or in quotes."""
    if isinstance(value, bool):
        return "on" if value else "off"
    text = str(value)
    if any(char in text for char in "\n\r\0"):
        raise AnsibleFilterError("postgres_settings: a value spans lines")
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


def flotilla_postgres_problems(databases: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what is wrong with the declared databases, in sentences; an empty list when nothing is."""
    problems: list[str] = []
    names = [str(database.get("name", "")) for database in databases]
    passwords: dict[str, object] = {}
    for index, database in enumerate(databases):
        where = f"postgres_databases[{index}]"
        name, owner, password = (str(database.get(key) or "") for key in ("name", "owner", "password"))
        for key, text in (("name", name), ("owner", owner)):
            if NAME.fullmatch(text) is None:
                problems.append(f"{where}.{key} is {text!r}: use at most 63 of a-z, 0-9, '_', '-', no digit first")
        if name in RESERVED_DATABASES:
            problems.append(f"{where}.name is {name!r}, a database of PostgreSQL itself")
        if owner == SUPERUSER or owner.startswith("pg_"):
            problems.append(f"{where}.owner is {owner!r}, a role of PostgreSQL itself")
        if names.count(name) > 1 and names.index(name) == index:
            problems.append(f"{where}.name: {name!r} is declared {names.count(name)} times")
        if not password or not password.isascii() or not password.isprintable():
            problems.append(f"{where}.password must be printable ASCII and not empty")
        if passwords.setdefault(owner, password) != password:
            problems.append(f"{where}.password differs from another database's with the same owner {owner!r}")
    return problems


def flotilla_postgres_state_sql(databases: Sequence[Mapping[str, Any]]) -> str:
    """Return the psql script that prints the present state, one JSON object a line.

    The first line is `{"roles": {name: {attribute: value}}, "databases": {name: {"owner": .., "public": bool}}}`; then
    comes `{"schema": name, "public": bool}` for each declared database that exists: whether anyone may create in its
    schema public.
    """
    cluster = """\
SELECT json_build_object(
  'roles', (SELECT json_object_agg(rolname, json_build_object(
      'rolcanlogin', rolcanlogin, 'rolsuper', rolsuper, 'rolcreatedb', rolcreatedb, 'rolcreaterole', rolcreaterole,
      'rolreplication', rolreplication, 'rolbypassrls', rolbypassrls, 'rolpassword', rolpassword))
    FROM pg_authid WHERE rolname !~ '^pg_'),
  'databases', (SELECT json_object_agg(datname, json_build_object(
      'owner', pg_get_userbyid(datdba),
      'public', EXISTS (SELECT FROM aclexplode(coalesce(datacl, acldefault('d', datdba))) WHERE grantee = 0)))
    FROM pg_database));
"""
    schema = """\
SELECT EXISTS (SELECT FROM pg_database WHERE datname = {name}) AS present \\gset
\\if :present
\\connect -reuse-previous=on {database}
SELECT json_build_object('schema', {name}, 'public', EXISTS (
  SELECT FROM pg_namespace, aclexplode(coalesce(nspacl, acldefault('n', nspowner)))
  WHERE nspname = 'public' AND grantee = 0 AND privilege_type = 'CREATE'));
\\endif
"""
    names = sorted({str(database["name"]) for database in databases})
    return cluster + "".join(schema.format(name=literal(name), database=identifier(name)) for name in names)


def role_changes(name: str, password: str, present: Mapping[str, Any] | None) -> list[Change]:
    """Return what makes a role the owner of its databases and nothing more."""
    if present is None:
        options = f"{OWNER_OPTIONS} PASSWORD {literal(scram.verifier(password))}"
        return [Change(f"create the role {name}", f"CREATE ROLE {identifier(name)} {options};")]
    changes = []
    if any(present[attribute] != wanted for attribute, wanted in OWNER_ATTRIBUTES.items()):
        changes.append(
            Change(f"take privileges from the role {name}", f"ALTER ROLE {identifier(name)} {OWNER_OPTIONS};")
        )
    return changes + password_changes(name, password, present)


def password_changes(name: str, password: str, present: Mapping[str, Any]) -> list[Change]:
    """Return what makes password the role's, stored as a SCRAM verifier."""
    if scram.matches(present["rolpassword"], password):
        return []
    sql = f"ALTER ROLE {identifier(name)} PASSWORD {literal(scram.verifier(password))};"
    return [Change(f"change the password of the role {name}", sql)]


def database_changes(name: str, owner: str, present: Mapping[str, Any] | None, public: bool | None) -> list[Change]:
    """Return what gives a database to its owner alone. public: whether anyone may create in its schema public."""
    changes = []
    quoted = identifier(name)
    if present is None:
        sql = f"CREATE DATABASE {quoted} OWNER {identifier(owner)};"
        changes.append(Change(f"create the database {name}", sql))
    elif present["owner"] != owner:
        sql = f"ALTER DATABASE {quoted} OWNER TO {identifier(owner)};"
        changes.append(Change(f"give the database {name} to {owner}", sql))
    if present is None or present["public"]:
        changes.append(closed(name))
    if present is None or public:
        sql = f"\\connect -reuse-previous=on {quoted}\nREVOKE CREATE ON SCHEMA public FROM PUBLIC;"
        changes.append(Change(f"close the schema public of {name}", sql))
    return changes


def closed(name: str) -> Change:
    """Return what keeps everyone but owner and superuser from connecting to a database."""
    return Change(f"close the database {name} to the public", f"REVOKE ALL ON DATABASE {identifier(name)} FROM PUBLIC;")


def flotilla_postgres_changes(
    databases: Sequence[Mapping[str, Any]], state: str, superuser_password: str
) -> dict[str, Any]:
    """Return `actions`, the changes in words, and `sql`, the psql script that makes them; both empty when none is due.

    state: what the script of flotilla_postgres_state_sql printed. The script holds SCRAM verifiers, no password.
    """
    problems = flotilla_postgres_problems(databases)
    if problems:
        raise AnsibleFilterError("; ".join(problems))
    lines = [json.loads(text) for text in state.splitlines() if text.strip()]
    cluster = lines[0]
    public = {entry["schema"]: entry["public"] for entry in lines[1:]}
    roles, present = cluster["roles"], cluster["databases"]

    changes = password_changes(SUPERUSER, superuser_password, roles[SUPERUSER])
    changes += [closed(name) for name in ("postgres", "template1") if present[name]["public"]]
    for owner, password in sorted({str(d["owner"]): str(d["password"]) for d in databases}.items()):
        changes += role_changes(owner, password, roles.get(owner))
    for database in databases:
        name = str(database["name"])
        changes += database_changes(name, str(database["owner"]), present.get(name), public.get(name))
    return {
        "actions": [change.action for change in changes],
        "sql": script(changes) if changes else "",
    }


def script(changes: Sequence[Change]) -> str:
    """Return one psql script. Changes with verifiers come before any \\connect, which forgets the preamble."""
    preamble = "\n".join(PREAMBLE)
    return "".join(f"{part}\n" for part in (preamble, *(change.sql for change in changes)))


class FilterModule:
    """Registers the filters."""

    def filters(self) -> dict[str, Callable[..., object]]:
        return {
            "flotilla_postgres_changes": flotilla_postgres_changes,
            "flotilla_postgres_problems": flotilla_postgres_problems,
            "flotilla_postgres_state_sql": flotilla_postgres_state_sql,
            "flotilla_postgres_value": flotilla_postgres_value,
        }
