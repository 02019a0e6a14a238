"""Sessions of the superuser in databases that apps own: all are opened in one place."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from plugins.scripts.postgres_copy import RESTORER, Entry, entries, turns
from plugins.scripts.postgres_restore import RestoreError

ROOT = Path(__file__).resolve().parents[2]
SESSION = ROOT / "compose/postgres/session.sh"

# Whatever opens a session of PostgreSQL: programs of libpq, and what of Python and Ansible does.
PROGRAM = re.compile(
    r"\b(?:psql|pg_dump|pg_dumpall|pg_restore|pg_amcheck|vacuumdb|reindexdb|clusterdb|createdb|dropdb|createuser|dropuser"
    r"|vacuumlo|pgbench|pg_basebackup|psycopg2?|asyncpg|pg8000|community\.postgresql)\b"
)
# What is no session of a server's: words for people, a script's name, the pooler's console, a package.
NO_SESSION = re.compile(
    r"^\s*(?:#|--|//)|\"\"\"|psql script|pgbouncer|postgresql-client|What psql prints|def psql|\bpsql\(|description:"
    r"|__postgres_psql\b"
)
OPENED = re.compile(
    r"session\.sh|\*session|session\(|_new\(|_old\(|_run\(|\b(?:dump|restore|psql) = \(|\bwords = [\[(]"
)


def test_every_session_is_opened_by_the_one_script() -> None:
    files = [
        path
        for where in ("roles", "plugins", "playbooks", "compose/postgres", "compose/pgbouncer", "inventories")
        for path in sorted((ROOT / where).rglob("*"))
        if path.is_file()
        and path.suffix in {".py", ".yml", ".yaml", ".sh", ".j2", ".sql", ".service", ".timer", ""}
        and not {"molecule", "__pycache__"} & set(path.parts)
        and path != SESSION
    ]
    lines = [(path, line) for path in files for line in path.read_text(errors="replace").splitlines()]
    found = [(path, line) for path, line in lines if PROGRAM.search(line) and not NO_SESSION.search(line)]
    assert len(found) >= 10
    assert [f"{path.relative_to(ROOT)}: {line.strip()}" for path, line in found if not OPENED.search(line)] == [
        # Of the pooler's console, and of the list that begins with the script.
        "roles/postgres/vars/main.yml: - psql",
        "roles/postgres/vars/main.yml: - psql",
    ]
    variables = (ROOT / "roles/postgres/vars/main.yml").read_text()
    script = """lookup('ansible.builtin.file', role_path ~ '/../../compose/postgres/session.sh') }}"\n"""
    assert f"{script}  - session\n  - postgres\n  - psql\n" in variables


def test_what_nobody_else_may_make_is_the_superusers_and_all_else_the_owners() -> None:
    listed = """\
; Selected TOC Entries:
11; 2615 16637 SCHEMA - evil notes
9; 2615 16527 SCHEMA - shared postgres
3736; 0 0 ACL - SCHEMA shared postgres
3737; 0 0 ACL - DATABASE notes notes
3; 3079 16515 EXTENSION - amcheck \n\
1024; 1247 16680 TYPE public pair notes
3552; 2605 16682 CAST - CAST (public.pair AS text) \n\
1026; 1259 1 TABLE public a postgres notes
1027; 0 0 TABLE ATTACH public b \n\
1028; 0 0 ACL public TABLE b notes
"""
    supers = {"postgres": True, "notes": False, "a b": False}
    found = entries(listed, supers)
    assert [(role, [one.number for one in mine]) for role, mine in turns(found, supers)] == [
        (RESTORER, [11]),
        ("postgres", [9, 3736, 3]),
        (RESTORER, [1024]),
        ("postgres", [3552]),
        (RESTORER, [1026, 1027]),
    ]
    assert Entry(1, "SCHEMA - public pg_database_owner", "pg_database_owner").role(supers) == "postgres"


def test_a_table_of_contents_that_names_a_number_twice_is_refused() -> None:
    with pytest.raises(RestoreError, match="has 7 twice"):
        entries("7; 1 1 TABLE public a notes\n7; 1 1 TABLE public a postgres\n", ["notes", "postgres"])
