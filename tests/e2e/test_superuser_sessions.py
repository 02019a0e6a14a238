"""Sessions of the superuser in databases that apps own: none believes an owner's settings, names or functions.

The owner here has planted functions that make it a superuser, wherever PostgreSQL may call one. A test of a way first
shows that it works in a plain session, so that the test cannot pass for want of an attack.
"""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from plugins.filter.flotilla_postgres import flotilla_postgres_changes, flotilla_postgres_state_sql
from plugins.scripts.postgres_copy import ACCESS, Copier
from plugins.scripts.postgres_restore import amcheck, databases, difference, rows, session
from plugins.scripts.postgres_upgrade import MISPLACED
from tests.lab.waiting import eventually

ROOT = Path(__file__).resolve().parents[2]
SESSION = ROOT / "compose/postgres/session.sh"

PLANTED = r"""
CREATE EXTENSION citext;
CREATE SCHEMA evil;
CREATE FUNCTION evil.act(at text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
  BEGIN EXECUTE 'RESET ROLE'; EXCEPTION WHEN OTHERS THEN END;
  BEGIN EXECUTE 'RESET SESSION AUTHORIZATION'; EXCEPTION WHEN OTHERS THEN END;
  BEGIN EXECUTE 'ALTER ROLE notes SUPERUSER'; EXCEPTION WHEN OTHERS THEN END;
  RETURN true;
END $$;
CREATE FUNCTION evil.fixed(at text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE
  AS $$ BEGIN PERFORM evil.act(at); RETURN true; END $$;
CREATE TABLE public.notes (id serial PRIMARY KEY, body text);
INSERT INTO public.notes (body) SELECT n::text FROM generate_series(1, 3) AS n;
CREATE TABLE public."odd "":name" ("a b" text);
CREATE TABLE public.empty ();
INSERT INTO public.empty DEFAULT VALUES;
"""
# Each is called where the superuser restores it in a plain session, or where it looks at it.
CHECK = "CREATE TABLE checked (x int CHECK (evil.act('check'))); INSERT INTO checked VALUES (1)"
GENERATED = "CREATE TABLE generated (x int, y boolean GENERATED ALWAYS AS (evil.fixed('generated')) STORED)"
PARTITION = (
    "CREATE TABLE parted (x int) PARTITION BY RANGE ((CASE WHEN evil.fixed('partition') THEN x END));"
    "CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (10); INSERT INTO parted VALUES (1)"
)
DOMAIN = (
    "CREATE DOMAIN word AS text CHECK (evil.act('domain')); CREATE TABLE words (w word); INSERT INTO words VALUES ('a')"
)
IN_A_DUMP = {"check": CHECK, "generated": GENERATED, "partition": PARTITION, "domain": DOMAIN}
INDEX = "CREATE INDEX ON notes (id) WHERE evil.fixed('index')"
# Those that PostgreSQL itself keeps from running as anybody but who owns them, or that nothing of ours calls.
OTHERS = """
CREATE MATERIALIZED VIEW seen AS SELECT evil.act('matview');
CREATE TYPE pair AS (a int, b int);
CREATE FUNCTION evil.to_text(pair) RETURNS text LANGUAGE plpgsql IMMUTABLE
  AS $$ BEGIN PERFORM evil.act('cast'); RETURN 'p'; END $$;
CREATE CAST (pair AS text) WITH FUNCTION evil.to_text(pair) AS IMPLICIT;
CREATE TABLE pairs (p pair); INSERT INTO pairs VALUES ((1, 2));
CREATE FUNCTION evil.fire() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM evil.act('t'); RETURN NEW; END $$;
CREATE TABLE triggered (x int); INSERT INTO triggered VALUES (1);
CREATE TRIGGER t BEFORE INSERT ON triggered FOR EACH ROW EXECUTE FUNCTION evil.fire();
CREATE TABLE ruled (x int); INSERT INTO ruled VALUES (1);
CREATE RULE r AS ON INSERT TO ruled DO ALSO SELECT evil.act('rule');
CREATE TABLE protected (x int); INSERT INTO protected VALUES (1);
ALTER TABLE protected ENABLE ROW LEVEL SECURITY; ALTER TABLE protected FORCE ROW LEVEL SECURITY;
CREATE POLICY p ON protected USING (evil.act('policy'));
CREATE TABLE shared.theirs (x int); INSERT INTO shared.theirs VALUES (1);
CREATE TABLE read_only (x int); INSERT INTO read_only VALUES (1); REVOKE INSERT ON read_only FROM notes;
SELECT lo_create(4711);
"""
# Nearer than PostgreSQL's own, for whoever believes the database's search_path.
NAMES = """
CREATE FUNCTION evil.json_build_object(text, text, text, boolean) RETURNS json LANGUAGE plpgsql
  AS $$ BEGIN PERFORM evil.act('function'); RETURN '{"schema": "notes", "public": false}'; END $$;
CREATE VIEW evil.pg_namespace AS SELECT n.* FROM pg_catalog.pg_namespace AS n WHERE evil.act('view');
CREATE VIEW evil.pg_extension AS SELECT e.* FROM pg_catalog.pg_extension AS e WHERE evil.act('view');
CREATE FUNCTION evil.equal(name, text) RETURNS boolean LANGUAGE plpgsql
  AS $$ BEGIN PERFORM evil.act('operator'); RETURN true; END $$;
CREATE OPERATOR evil.= (LEFTARG = name, RIGHTARG = text, FUNCTION = evil.equal);
ALTER DATABASE notes SET search_path = evil, pg_catalog, public;
"""
# What an owner may set for its database, and what it would do to a session that believed it.
SETTINGS = {
    "search_path": "evil, pg_catalog",
    "role": "notes",
    "session_authorization": "notes",
    "local_preload_libraries": "'evil'",
    "default_transaction_read_only": "on",
    "row_security": "on",
    "statement_timeout": "'1ms'",
    "transaction_timeout": "'1ms'",
    "standard_conforming_strings": "off",
    "client_min_messages": "debug5",
    "default_table_access_method": "'evil'",
    "client_encoding": "'SJIS'",
}
# What may be set and does no more than cost time or memory, or what nobody can set for others. All else is given.
HARMLESS = re.compile(
    r"enable_\w+|geqo\w*|jit\w*|cpu_\w+|parallel_\w+|max_parallel_\w+|min_parallel_\w+|vacuum_\w+|tcp_\w+|wal_\w+|trace_\w+"
    r"|icu_validation_level|\w+_collapse_limit|\w+_page_cost|\w+_io_concurrency|io_combine_limit|\w+_mem|\w+_mem_multiplier"
    r"|temp_buffers|effective_cache_size|cursor_tuple_fraction|commit_siblings|backend_flush_after|synchronize_seqscans"
    r"|client_connection_check_interval|debug_(?:parallel_query|pretty_print|logical_replication_streaming)"
    r"|force_parallel_mode|logical_decoding_\w+|gin_\w+|default_(?:statistics_target|text_search_config|toast_compression)"
    r"|stats_fetch_consistency|scram_iterations|recursive_worktable_factor|createrole_self_grant|synchronous_commit"
    r"|plan_cache_mode|restrict_nonsystem_relation_kind|transaction_(?:deferrable|isolation|read_only)|application_name"
)


class Server(NamedTuple):
    """A server in a container."""

    container: str

    def psql(self, script: str, role: str = "postgres", database: str = "notes") -> str:
        """What a plain session prints, both streams."""
        words = ["psql", "-XqAt", "--set=ON_ERROR_STOP=1", f"--username={role}", f"--dbname={database}"]
        return done(["docker", "exec", "-i", self.container, *words], script)

    def session(self, script: str, database: str = "postgres") -> str:
        words = ["psql", "-XqAt", "--set=ON_ERROR_STOP=1", f"--dbname={database}"]
        return done(session(self.container, "postgres", *words), script)

    def taken(self) -> bool:
        """Whether the owner is a superuser by now. It is none afterwards."""
        found = self.session("SELECT rolsuper FROM pg_roles WHERE rolname = 'notes'") == "t"
        self.session("ALTER ROLE notes NOSUPERUSER")
        return found


def done(command: list[str], given: str = "") -> str:
    ended = subprocess.run(
        command, input=given, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=240, check=False
    )
    assert ended.returncode == 0, f"{command[-4:]}: {ended.stdout}"
    return ended.stdout.strip()


def images() -> list[str]:
    named = ["docker", "images", "--format", "{{.Repository}}:{{.Tag}}", "flotilla-lab/postgres-17"]
    return subprocess.run(named, capture_output=True, text=True, timeout=30, check=True).stdout.split()


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Server]]:
    """An old and a new one, as an upgrade has them; with apps' roles in the old one, whose owner of `notes` logs in."""
    found = images()
    assert found, "there is no image of PostgreSQL here. Next: make images"
    where = tmp_path_factory.mktemp("servers")
    run = f"sessions-{where.stat().st_ino}-{time.time_ns() % 10**6}"
    pair = (Server(f"{run}-old"), Server(f"{run}-new"))
    (where / "pg_hba.conf").write_text(f"{ACCESS}local all all trust\n")
    for name in ("old", "new"):
        (where / name).mkdir()
        (where / name).chmod(0o777)
    try:
        for server, name in zip(pair, ("old", "new"), strict=True):
            mounts = [
                f"{SESSION}:/etc/postgresql/session.sh:ro",
                f"{where}/pg_hba.conf:/etc/pg_hba.conf:ro",
                f"{where}/{name}:/var/run/postgresql",
                f"{where}/old:/old:ro",
            ]
            words = ["docker", "run", "--detach", "--name", server.container, "--network", "none", "--user", "999:999"]
            words += [word for mount in mounts for word in ("--volume", mount)]
            words += ["--env", "POSTGRES_PASSWORD=x", "--env", "POSTGRES_INITDB_ARGS=--auth-local=peer"]
            done([*words, found[0], "postgres", "-c", "hba_file=/etc/pg_hba.conf", "-c", "fsync=off"])
        for server in pair:
            ready(server)
        old = pair[0]
        old.session("CREATE ROLE notes LOGIN; CREATE ROLE theirs; CREATE DATABASE notes OWNER notes")
        old.session(
            "CREATE EXTENSION hstore SCHEMA public;"
            "CREATE SCHEMA shared; GRANT CREATE, USAGE ON SCHEMA shared TO notes;"
            "CREATE TABLE shared.ours AS SELECT 1 AS x; CREATE SCHEMA theirs AUTHORIZATION theirs;"
            "CREATE TABLE theirs.t AS SELECT 1 AS x; ALTER TABLE theirs.t OWNER TO theirs",
            "notes",
        )
        provisioned(old)
        old.psql(PLANTED, "notes")
        yield pair
    finally:
        for server in pair:
            subprocess.run(["docker", "rm", "--force", "--volumes", server.container], capture_output=True, check=False)


def ready(server: Server) -> None:
    """Wait until it takes commands, and the one that the image's first start makes the cluster with is gone."""

    def answers() -> bool:
        log = subprocess.run(["docker", "logs", server.container], capture_output=True, text=True, check=False)
        asked = session(server.container, "postgres", "psql", "-XAtc", "SELECT 1")
        made = "init process complete" in log.stdout + log.stderr
        return made and subprocess.run(asked, capture_output=True, check=False).returncode == 0

    eventually(answers, why=f"{server.container} takes commands")


@pytest.fixture
def old(servers: tuple[Server, Server]) -> Iterator[Server]:
    """The old one, with what was planted, and without settings and superusers of an earlier test."""
    server = servers[0]
    yield server
    server.session("ALTER DATABASE notes RESET ALL; ALTER DATABASE notes ALLOW_CONNECTIONS true")
    server.session("ALTER ROLE notes NOSUPERUSER")


DECLARED = [{"name": "notes", "owner": "notes", "password": "secret"}]


def provisioned(server: Server) -> list[str]:
    """What provisioning does to a database that is declared; what it says it has changed."""
    state = server.session(flotilla_postgres_state_sql(DECLARED))
    found: dict[str, Any] = flotilla_postgres_changes(DECLARED, state, "superuser")
    if found["sql"]:
        server.session(found["sql"])
    return list(found["actions"])


def test_a_plain_session_runs_what_an_owner_calls_by_a_name_of_postgresqls(old: Server) -> None:
    old.psql("BEGIN; DROP SCHEMA IF EXISTS names CASCADE; COMMIT;" + NAMES, "notes")
    old.psql(flotilla_postgres_state_sql(DECLARED).replace("pg_catalog.", ""), database="postgres")
    assert old.taken()
    # The same words in the session that Flotilla opens.
    old.session(flotilla_postgres_state_sql(DECLARED).replace("pg_catalog.", ""))
    assert not old.taken()


@pytest.mark.parametrize("name", SETTINGS)
def test_provisioning_believes_no_setting_of_a_databases_owner(old: Server, name: str) -> None:
    if not old.session(f"SELECT 1 FROM pg_settings WHERE name = '{name}'") and name == "transaction_timeout":
        pytest.skip("this version has no such setting")
    # Not all of them may be set by the owner; none is believed.
    mine = [f"ALTER {whose} SET {name} = {SETTINGS[name]};" for whose in ("DATABASE notes", "ROLE postgres")]
    old.session("\n".join(["GRANT CREATE ON SCHEMA public TO PUBLIC;", *mine]), "notes")
    try:
        assert provisioned(old) == ["close the schema public of notes"]
    finally:
        old.session("ALTER ROLE postgres RESET ALL")


def test_provisioning_enters_a_database_that_its_owner_has_shut(old: Server) -> None:
    # From another database of its own.
    old.session("SET ROLE notes; ALTER DATABASE notes ALLOW_CONNECTIONS false")
    assert provisioned(old) == ["let logins into the database notes", "close the schema public of notes"]
    assert provisioned(old) == []


def test_each_setting_is_given_or_does_no_harm(old: Server) -> None:
    """A new version's settings are to be given in session.sh, or to be added to those that do no harm."""
    mine = old.session("SELECT name FROM pg_settings WHERE context = 'user' AND source <> 'client' AND name !~ '[.]'")
    assert [name for name in mine.splitlines() if not HARMLESS.fullmatch(name)] == []


def test_rows_are_counted_without_a_function_of_the_owner(old: Server) -> None:
    old.psql(INDEX, "notes")
    try:
        assert old.session("SELECT count(*) FROM public.notes", "notes") == "3"
        assert old.taken()
        counted = rows(old.container)
        assert not old.taken()
    finally:
        old.psql("DROP INDEX notes_id_idx", "notes")
    assert counted["notes.public.notes"] == 3
    assert counted['notes.public.odd ":name'] == 0
    assert counted["notes.public.empty"] == 1


def test_a_view_that_takes_a_tables_place_is_not_read(old: Server) -> None:
    """As between the list of tables and the count of one."""
    old.psql("CREATE VIEW public.swapped AS SELECT 1 AS x WHERE evil.act('swapped')", "notes")
    refused = subprocess.run(
        session(old.container, "postgres", "psql", "-Xc", "COPY public.swapped TO '/dev/null'", "notes"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert 'cannot copy from view "swapped"' in refused.stderr
    assert not old.taken()
    old.psql("DROP VIEW public.swapped", "notes")


def test_a_drill_checks_with_no_function_beside_amchecks_own(old: Server) -> None:
    old.session("CREATE EXTENSION amcheck SCHEMA public", "notes")
    old.psql(
        "CREATE FUNCTION public.bt_index_check(index oid, heapallindexed boolean) RETURNS void LANGUAGE plpgsql "
        "AS $$ BEGIN PERFORM evil.act('amcheck'); END $$",
        "notes",
    )
    done(session(old.container, "postgres", "pg_amcheck", "notes"))
    assert old.taken()
    amcheck(old.container)
    assert not old.taken()


def test_what_only_a_superuser_could_have_made_is_found_before_an_upgrade(old: Server) -> None:
    assert old.session(MISPLACED, "notes") == ""
    old.session(
        "CREATE FUNCTION public.fast(int) RETURNS int LANGUAGE internal IMMUTABLE STRICT AS 'int4abs';"
        "ALTER FUNCTION public.fast(int) OWNER TO notes",
        "notes",
    )
    assert old.session(MISPLACED, "notes") == "the function public.fast(integer) of notes"
    old.session("DROP FUNCTION public.fast(int)", "notes")


def test_an_owner_makes_no_event_trigger(old: Server) -> None:
    old.psql("CREATE FUNCTION evil.ended() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN END $$", "notes")
    with pytest.raises(AssertionError, match="permission denied to create event trigger"):
        old.psql("CREATE EVENT TRIGGER t ON ddl_command_end EXECUTE FUNCTION evil.ended()", "notes")


@pytest.mark.parametrize("extension", ["ltree", "pgcrypto", "pg_trgm", "btree_gist", "unaccent", "intarray"])
def test_an_extension_that_an_owner_makes_calls_nothing_of_its_own(old: Server, extension: str) -> None:
    """Its script runs as the superuser, whoever says CREATE EXTENSION, in a schema that the owner has filled."""
    old.psql("ALTER DATABASE notes SET search_path = evil, pg_catalog, public", "notes")
    old.psql(f"CREATE EXTENSION {extension} SCHEMA evil; DROP EXTENSION {extension}", "notes")
    assert not old.taken()


@pytest.mark.parametrize("way", IN_A_DUMP)
def test_a_plain_restore_runs_what_an_owner_has_planted_in_a_table(old: Server, way: str) -> None:
    old.psql(f"CREATE SCHEMA way; SET search_path = way; {IN_A_DUMP[way]}", "notes")
    plain = (
        "set -eo pipefail; createdb -U postgres plain; "
        "pg_dump -U postgres -Fc notes | pg_restore -U postgres --dbname=plain; dropdb -U postgres plain"
    )
    try:
        done(["docker", "exec", old.container, "bash", "-c", plain])
        assert old.taken()
    finally:
        old.psql("DROP SCHEMA way CASCADE", "notes")


def dumped(server: Server) -> str:
    """All of the database but the words that each dump has of its own."""
    text = done(session(server.container, "postgres", "pg_dump", "--create", "notes"))
    return re.sub(r"^\\(?:un)?restrict .*", "", text, flags=re.MULTILINE)


def test_an_upgrade_restores_as_the_owners_and_leaves_nothing_out(servers: tuple[Server, Server]) -> None:
    old, new = servers
    old.psql("; ".join([*IN_A_DUMP.values(), INDEX]) + ";" + OTHERS, "notes")
    old.session("REVOKE ALL ON DATABASE notes FROM PUBLIC; GRANT SELECT ON shared.ours TO notes", "notes")
    for name in ("search_path", "default_transaction_read_only", "statement_timeout", "role"):
        old.session(f"ALTER DATABASE notes SET {name} = {SETTINGS[name]}")
    before = rows(old.container)
    major = old.session("SELECT current_setting('server_version_num')::int / 10000")
    Copier(old.container, new.container, major).all(databases(old.container))
    assert not new.taken()
    assert difference(before, rows(new.container)) == []
    assert dumped(new) == dumped(old)
    left = new.session("SELECT json_object_agg(rolname, rolsuper) FROM pg_roles WHERE rolname !~ '^pg_'")
    assert json.loads(left) == {"notes": False, "postgres": True, "theirs": False}
    # By what the functions did before, the owner is none either: they ran as itself.
    assert not old.taken()
