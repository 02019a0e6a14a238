# MIT License, see LICENSE at the root of the project.
"""Copies roles and databases from one server into another, for postgres_upgrade.py: each object as who owns it may.

What a dump brings is run: CHECK constraints, generated columns, and already the expression of a partition's key while
the table is made. Were it the superuser who restores, they would be functions of an app that run as the superuser. So
it is a role that is a member of a database's owners and no more, and that logs in, as SET ROLE can be taken back. The
superuser restores what only a superuser may own, and what runs nothing: extensions, access, large objects.
"""

from __future__ import annotations

import itertools
import json
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .postgres_restore import SESSION, RestoreError, conninfo, last_lines, run, session, sql

SUPERUSER, RESTORER = "postgres", "flotilla_restore"
# Lets the restorer in, over a socket that only root and the server's own user reach. Nobody else but the superuser.
ACCESS = f"local all {SUPERUSER} peer\nlocal all {RESTORER} trust\n"
COPY_SECONDS = 86_400
# In the new server's container.
SCHEMA = "/tmp/flotilla.schema"
# A line of `pg_restore --list`: number; two of the catalogue's; what it is, its schema, its name, its owner.
ENTRY = re.compile(r"(\d+); \d+ \d+ (.*)")
# Only a superuser may make these, whoever owns them afterwards; what is called in them is not run by making them.
PRIVILEGED = re.compile(
    r"(?:EXTENSION|COMMENT - EXTENSION|ACCESS METHOD|PROCEDURAL LANGUAGE|FOREIGN DATA WRAPPER|EVENT TRIGGER"
    r"|SUBSCRIPTION|CAST|TRANSFORM|OPERATOR CLASS|OPERATOR FAMILY|SECURITY LABEL|ACL|DEFAULT ACL) "
)
ACCESS_ENTRY = re.compile(r"(?:DEFAULT )?ACL ")
SCHEMA_ACCESS = re.compile(r"ACL - SCHEMA ")
OF_DATABASE = re.compile(r"(?:ACL|COMMENT|SECURITY LABEL) - DATABASE |DATABASE(?: PROPERTIES)? ")
ROLES = "SELECT json_object_agg(rolname, rolsuper) FROM pg_roles"
ABOUT = (
    "SELECT json_build_object('encoding', pg_encoding_to_char(encoding), 'owner', pg_get_userbyid(datdba)) "
    "FROM pg_database WHERE datname = {name}"
)
# Tables and sequences of superusers, as patterns of pg_dump, and whether there are large objects.
PRIVILEGED_DATA = """
SELECT pg_catalog.json_build_object(
    'tables', (SELECT coalesce(pg_catalog.json_agg(pg_catalog.format('"%s"."%s"',
            pg_catalog.replace(n.nspname, '"', '""'), pg_catalog.replace(c.relname, '"', '""'))), '[]')
        FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
        JOIN pg_catalog.pg_roles AS r ON r.oid = c.relowner
        WHERE r.rolsuper AND c.relkind IN ('r', 'p', 'S')
            AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'),
    'large', EXISTS (SELECT FROM pg_catalog.pg_largeobject_metadata))
"""


@dataclass(frozen=True)
class Entry:
    """One entry of a dump's table of contents. `what`: its words; `owner`: a role, or nothing."""

    number: int
    what: str
    owner: str

    def role(self, supers: Mapping[str, bool]) -> str:
        """Who restores it. supers: whether each role is a superuser."""
        # Those of PostgreSQL itself own the schema public, which is there already.
        predefined = self.owner.startswith("pg_")
        return SUPERUSER if PRIVILEGED.match(self.what) or predefined or supers.get(self.owner) else RESTORER


def entries(listed: str, roles: Iterable[str]) -> list[Entry]:
    """The entries of what `pg_restore --list` prints, in its order. Raises RestoreError when one is there twice."""
    found: dict[int, Entry] = {}
    # The longest first: a role may have a blank in its name.
    known = sorted(roles, key=len, reverse=True)
    for line in listed.splitlines():
        matched = ENTRY.match(line)
        if matched is None:
            continue
        number, what = int(matched[1]), matched[2]
        if number in found:
            raise RestoreError(f"the dump's table of contents has {number} twice: {what}")
        found[number] = Entry(number, what, next((one for one in known if what.endswith(f" {one}")), ""))
    return list(found.values())


def turns(found: Sequence[Entry], supers: Mapping[str, bool]) -> list[tuple[str, list[Entry]]]:
    """Who restores what, one after the other, without what is about the database and without access.

    Access to a schema is given at once: what others own is made in it.
    """
    mine = (
        one
        for one in found
        if not OF_DATABASE.match(one.what) and (not ACCESS_ENTRY.match(one.what) or SCHEMA_ACCESS.match(one.what))
    )
    return [(role, list(group)) for role, group in itertools.groupby(mine, key=lambda one: one.role(supers))]


def literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def identifier(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


@dataclass(frozen=True)
class Copier:
    """From the server behind the socket in /old of the container `new`, of the major version `major`, into its own."""

    old: str
    new: str
    major: str

    def all(self, named: Sequence[str]) -> None:
        """Roles and databases, with statistics. Raises RestoreError.

        The programs are the new version's, as PostgreSQL advises (SQL Dump, Upgrading). template1 is the new one's.
        """
        # No data is in this, and the superuser is there already.
        only = f"sed '/^CREATE ROLE {SUPERUSER};$/d'"
        psql = ("psql", "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--dbname=postgres")
        self._pipe(self._old("pg_dumpall", "--globals-only"), only, self._new(SUPERUSER, *psql))
        sql(self.new, f"CREATE ROLE {RESTORER} LOGIN INHERIT")
        for name in named:
            self._database(name)
        sql(self.new, f"DROP ROLE {RESTORER}")
        self._run(SUPERUSER, "vacuumdb", "--all", "--analyze-only", "--quiet")

    def _database(self, name: str) -> None:
        about = json.loads(sql(self.old, ABOUT.format(name=literal(name))))
        supers: dict[str, bool] = json.loads(sql(self.new, ROLES))
        into = f"--dbname={conninfo(name)}"
        dump = ("pg_dump", "--format=custom", f"--encoding={about['encoding']}", into)
        schema = ("--section=pre-data", "--section=post-data", "--create", f"--file={SCHEMA}")
        self._shell(self._old(*dump, *schema))
        listed = self._run(SUPERUSER, "pg_restore", "--list", "--create", SCHEMA)
        found = entries(listed, supers)
        if name != "postgres":
            about_it = [one for one in found if OF_DATABASE.match(one.what)]
            self._restore(SUPERUSER, about_it, "--create", "--dbname=postgres")
        owners = sorted({about["owner"], *(one.owner for one in found)} & {one for one in supers if not supers[one]})
        owners = [one for one in owners if not one.startswith("pg_")]
        self._grant(name, owners)
        steps = turns(found, supers)
        for role, mine in steps:
            self._restore(role, mine, "--section=pre-data", into)
        self._data(name, dump, into)
        for role, mine in steps:
            self._restore(role, mine, "--section=post-data", into)
        access = [one for one in found if ACCESS_ENTRY.match(one.what) and not OF_DATABASE.match(one.what)]
        self._restore(SUPERUSER, access, into)
        self._take_back(name, owners)

    def _data(self, name: str, dump: Sequence[str], into: str) -> None:
        privileged: dict[str, Any] = json.loads(sql(self.old, PRIVILEGED_DATA, name))
        tables: list[str] = privileged["tables"]
        data = (*dump, "--section=data", "--compress=0")
        without = ("--no-blobs", *(f"--exclude-table-data={one}" for one in tables))
        restore = ("pg_restore", "--exit-on-error", into)
        self._pipe(self._old(*data, *without), self._new(RESTORER, *restore))
        if tables or privileged["large"]:
            only = [f"--table={one}" for one in tables] or ["--exclude-table-data=*"]
            self._pipe(self._old(*data, "--blobs", *only), self._new(SUPERUSER, *restore))

    def _grant(self, name: str, owners: Sequence[str]) -> None:
        script = [f"GRANT CREATE ON DATABASE {identifier(name)} TO {RESTORER};"]
        sql(self.new, "\n".join([*script, *(f"GRANT {identifier(one)} TO {RESTORER};" for one in owners)]))

    def _take_back(self, name: str, owners: Sequence[str]) -> None:
        """All that it may, and what functions have made as it meanwhile: no dump says that anything is its own."""
        sql(self.new, f"DROP OWNED BY {RESTORER} CASCADE", name)
        script = [f"REVOKE ALL ON DATABASE {identifier(name)} FROM {RESTORER};"]
        sql(self.new, "\n".join([*script, *(f"REVOKE {identifier(one)} FROM {RESTORER};" for one in owners)]))

    def _restore(self, role: str, mine: Sequence[Entry], *options: str) -> None:
        numbers = "".join(f"{one.number};\n" for one in mine)
        words = ("pg_restore", "--exit-on-error", "--use-list=/dev/stdin", *options, SCHEMA)
        self._run(role, *words, given=numbers)

    def _run(self, role: str, *words: str, given: str = "") -> str:
        try:
            return run(*session(self.new, role, *words), given=given, seconds=COPY_SECONDS)
        except RestoreError as error:
            raise self._failed(words[0], role, error) from None

    def _old(self, *words: str) -> str:
        return shlex.join(["env", f"PG_MAJOR={self.major}", "PGHOST=/old", "sh", SESSION, SUPERUSER, *words])

    def _new(self, role: str, *words: str) -> str:
        return shlex.join(["sh", SESSION, role, *words])

    def _pipe(self, *commands: str) -> None:
        self._shell(" | ".join(commands))

    def _shell(self, command: str) -> None:
        try:
            run("docker", "exec", self.new, "bash", "-c", f"set -eo pipefail; {command}", seconds=COPY_SECONDS)
        except RestoreError as error:
            program = re.search(r"pg_\w+", command)
            role = RESTORER if RESTORER in command else SUPERUSER
            raise self._failed(program[0] if program else "bash", role, error) from None

    def _failed(self, program: str, role: str, error: RestoreError) -> RestoreError:
        told = f"{program}: {last_lines(str(error), 3)}"
        if role == RESTORER and re.search("permission denied|must be (?:owner|superuser)|must have", told):
            told += (
                ". What only a superuser may make has to be its. Next: ALTER … OWNER TO postgres, then run this again"
            )
        return RestoreError(told)
