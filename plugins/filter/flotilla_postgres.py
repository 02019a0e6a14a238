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
  - C(flotilla_postgres_changes) compares that with what is declared. It takes nobody's login away.
  - C(flotilla_postgres_retirements) takes the logins away that are declared no more.
  - C(flotilla_postgres_logins) is who logs in to the declared databases, with the password.
positional: _input
options:
  _input:
    description: >-
      Databases, each with C(name), C(owner) and C(password), and C(login) where the owner does not log in itself.
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
OWNER_OPTIONS = "NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS"

# What a login of ours has as its comment, with the owner that it acts for. Others' roles are never taken away.
LOGIN_COMMENT = "Flotilla: logs in for "

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
    owners = {str(database.get("owner") or "") for database in databases}
    passwords: dict[str, object] = {}
    acts_for: dict[str, str] = {}
    for index, database in enumerate(databases):
        where = f"postgres_databases[{index}]"
        name, owner, password = (str(database.get(key) or "") for key in ("name", "owner", "password"))
        login = login_of(database)
        for key, text in (("name", name), ("owner", owner), ("login", login or "unset")):
            if NAME.fullmatch(text) is None:
                problems.append(f"{where}.{key} is {text!r}: use at most 63 of a-z, 0-9, '_', '-', no digit first")
        if name in RESERVED_DATABASES:
            problems.append(f"{where}.name is {name!r}, a database of PostgreSQL itself")
        for key, text in {login: ("login", login), owner: ("owner", owner)}.values():
            if text == SUPERUSER or text.startswith("pg_"):
                problems.append(f"{where}.{key} is {text!r}, a role of PostgreSQL itself")
        if login != owner and login in owners:
            problems.append(f"{where}.login is {login!r}, which owns a database: a login owns nothing")
        elif acts_for.setdefault(login, owner) != owner:
            problems.append(f"{where}.login: {login!r} logs in for another owner already")
        if names.count(name) > 1 and names.index(name) == index:
            problems.append(f"{where}.name: {name!r} is declared {names.count(name)} times")
        if not password or not password.isascii() or not password.isprintable():
            problems.append(f"{where}.password must be printable ASCII and not empty")
        if passwords.setdefault(login, password) != password:
            problems.append(f"{where}.password differs from another database's with the same login {login!r}")
    return problems


def login_of(database: Mapping[str, Any]) -> str:
    """Return the role that logs in to a declared database: its login, or the owner itself."""
    return str(database.get("login") or database.get("owner") or "")


def flotilla_postgres_logins(
    databases: Sequence[Mapping[str, Any]], superuser_password: str = ""
) -> list[dict[str, str]]:
    """Return `{database, login, password}` of each declared database, and of the superuser when it is given."""
    found = [
        {"database": str(database["name"]), "login": login_of(database), "password": str(database["password"])}
        for database in databases
    ]
    if superuser_password:
        found.append({"database": SUPERUSER, "login": SUPERUSER, "password": str(superuser_password)})
    return found


def flotilla_postgres_sessions_sql(roles: Sequence[str]) -> str:
    """Return the query for the sessions of some roles: a line of words for each."""
    names = ", ".join(literal(role) for role in roles) or "NULL"
    return (
        "SELECT format('%s is logged in to %s from %s (%s)', "
        "usename, datname, coalesce(client_addr::text, 'the socket'), application_name) "
        f"FROM pg_stat_activity WHERE usename IN ({names});\n"
    )


def flotilla_postgres_state_sql(databases: Sequence[Mapping[str, Any]]) -> str:
    """Return the psql script that prints the present state, one JSON object a line.

    The first line is `{"roles": {name: {attribute: value}}, "databases": {name: {"owner": .., "public": bool,
    "shut": bool}}}`, with `owners` of the roles that it is a member of and its `comment` among the attributes; then
    comes `{"schema": name, "public": bool}` for each declared database that lets anybody in: whether anyone may create
    in its schema public. Each database but postgres has an owner who is not believed: the session is session.sh's.
    """
    cluster = """\
SELECT json_build_object(
  'roles', (SELECT json_object_agg(rolname, json_build_object(
      'rolcanlogin', rolcanlogin, 'rolsuper', rolsuper, 'rolcreatedb', rolcreatedb, 'rolcreaterole', rolcreaterole,
      'rolreplication', rolreplication, 'rolbypassrls', rolbypassrls, 'rolpassword', rolpassword,
      'comment', shobj_description(oid, 'pg_authid'),
      'owners', (SELECT coalesce(json_agg(pg_get_userbyid(roleid)), '[]')
        FROM pg_auth_members WHERE member = pg_authid.oid)))
    FROM pg_authid WHERE rolname !~ '^pg_'),
  'databases', (SELECT json_object_agg(datname, json_build_object(
      'owner', pg_get_userbyid(datdba), 'shut', NOT datallowconn,
      'public', EXISTS (SELECT FROM aclexplode(coalesce(datacl, acldefault('d', datdba))) WHERE grantee = 0)))
    FROM pg_database));
"""
    schema = """\
SELECT EXISTS (SELECT FROM pg_database WHERE datname = {name} AND datallowconn) AS present \\gset
\\if :present
\\connect -reuse-previous=on {database}
SELECT pg_catalog.json_build_object('schema', {name}, 'public', EXISTS (
  SELECT FROM pg_catalog.pg_namespace,
    pg_catalog.aclexplode(coalesce(nspacl, pg_catalog.acldefault('n', nspowner)))
  WHERE nspname = 'public' AND grantee = 0 AND privilege_type = 'CREATE'));
\\endif
"""
    names = sorted({str(database["name"]) for database in databases})
    return cluster + "".join(schema.format(name=literal(name), database=identifier(name)) for name in names)


def role_changes(name: str, password: str, present: Mapping[str, Any] | None) -> list[Change]:
    """Return what makes a role one that logs in and has no other privilege."""
    if present is None:
        options = f"LOGIN {OWNER_OPTIONS} PASSWORD {literal(scram.verifier(password))}"
        return [Change(f"create the role {name}", f"CREATE ROLE {identifier(name)} {options};")]
    changes = []
    if any(present[attribute] != wanted for attribute, wanted in OWNER_ATTRIBUTES.items()):
        changes.append(
            Change(f"take privileges from the role {name}", f"ALTER ROLE {identifier(name)} LOGIN {OWNER_OPTIONS};")
        )
    return changes + password_changes(name, password, present)


def owner_changes(name: str, present: Mapping[str, Any] | None) -> list[Change]:
    """Return what makes a role the owner of databases that others log in for. One that logs in still goes on to."""
    if present is None:
        return [Change(f"create the role {name}", f"CREATE ROLE {identifier(name)} NOLOGIN {OWNER_OPTIONS};")]
    wanted = {attribute: value for attribute, value in OWNER_ATTRIBUTES.items() if attribute != "rolcanlogin"}
    if any(present[attribute] != value for attribute, value in wanted.items()):
        return [Change(f"take privileges from the role {name}", f"ALTER ROLE {identifier(name)} {OWNER_OPTIONS};")]
    return []


def login_changes(name: str, owner: str, present: Mapping[str, Any] | None) -> list[Change]:
    """Return what makes the role `name` act as `owner`: all that it makes belongs to the owner, from its login on."""
    login, role = identifier(name), identifier(owner)
    comment = LOGIN_COMMENT + owner
    if present and owner in present["owners"] and present["comment"] == comment:
        return []
    sql = (
        f"GRANT {role} TO {login};\nALTER ROLE {login} SET role TO {literal(owner)};\n"
        f"COMMENT ON ROLE {login} IS {literal(comment)};"
    )
    return [Change(f"let {name} log in for {owner}", sql)]


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
    # Its owner can shut it to everybody, and nothing is known of its schema then.
    shut = present is not None and present["shut"]
    if shut:
        changes.append(
            Change(f"let logins into the database {name}", f"ALTER DATABASE {quoted} ALLOW_CONNECTIONS true;")
        )
    if present is None or public or shut:
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
    roles, present, public = parsed(state)

    changes = password_changes(SUPERUSER, superuser_password, roles[SUPERUSER])
    changes += [closed(name) for name in ("postgres", "template1") if present[name]["public"]]
    acts_for = {login_of(database): str(database["owner"]) for database in databases}
    for owner in sorted(set(acts_for.values()) - acts_for.keys()):
        changes += owner_changes(owner, roles.get(owner))
    passwords = {login["login"]: login["password"] for login in flotilla_postgres_logins(databases)}
    for login, password in sorted(passwords.items()):
        changes += role_changes(login, password, roles.get(login))
        if login != acts_for[login]:
            changes += login_changes(login, acts_for[login], roles.get(login))
    for database in databases:
        name = str(database["name"])
        changes += database_changes(name, str(database["owner"]), present.get(name), public.get(name))
    return {
        "actions": [change.action for change in changes],
        "sql": script(changes) if changes else "",
    }


def parsed(state: str) -> tuple[dict[str, Any], dict[str, Any], dict[str, bool]]:
    """Return roles, databases, and which schemas are public, of what flotilla_postgres_state_sql's script printed."""
    lines = [json.loads(text) for text in state.splitlines() if text.strip()]
    return lines[0]["roles"], lines[0]["databases"], {entry["schema"]: entry["public"] for entry in lines[1:]}


def flotilla_postgres_retirements(databases: Sequence[Mapping[str, Any]], state: str) -> dict[str, Any]:
    """Return `roles`, who may log in and is declared no more, `actions` and `sql`, which takes that away.

    An owner stays as a role without a login, and a login of Flotilla's goes; what it may own goes to the owner before.
    Roles that somebody else made are left alone, whatever they are members of.
    """
    roles, present, _ = parsed(state)
    acts_for = {login_of(database): str(database["owner"]) for database in databases}
    changes: dict[str, Change] = {}
    for owner in sorted(set(acts_for.values())):
        if owner not in acts_for and owner in roles and roles[owner]["rolcanlogin"]:
            sql = f"ALTER ROLE {identifier(owner)} NOLOGIN PASSWORD NULL;"
            changes[owner] = Change(f"take the login of the role {owner} away", sql)
        own = sorted({str(one["name"]) for one in databases if one["owner"] == owner} & present.keys())
        for name, role in sorted(roles.items()):
            if name not in acts_for and role["comment"] == LOGIN_COMMENT + owner:
                moved = [
                    f"\\connect -reuse-previous=on {identifier(database)}\nREASSIGN OWNED BY {identifier(name)} TO "
                    f"{identifier(owner)};\nDROP OWNED BY {identifier(name)};"
                    for database in own
                ]
                changes[name] = Change(
                    f"remove the login {name}", "\n".join([*moved, f"DROP ROLE {identifier(name)};"])
                )
    return {
        "roles": list(changes),
        "actions": [change.action for change in changes.values()],
        "sql": "".join(f"{change.sql}\n" for change in changes.values()),
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
            "flotilla_postgres_logins": flotilla_postgres_logins,
            "flotilla_postgres_problems": flotilla_postgres_problems,
            "flotilla_postgres_retirements": flotilla_postgres_retirements,
            "flotilla_postgres_sessions_sql": flotilla_postgres_sessions_sql,
            "flotilla_postgres_state_sql": flotilla_postgres_state_sql,
            "flotilla_postgres_value": flotilla_postgres_value,
        }
