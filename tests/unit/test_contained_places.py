"""Every place where what runs on hosts touches a file, and why no container can have put something else there.

A new one is written with `flotilla.contained`, or is put into the table with a reason.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PLUGINS = Path(__file__).resolve().parents[2] / "plugins"
UTILS = PLUGINS / "module_utils" / "flotilla"
WORDS = """
    chmod chown connect copy2 copyfile copytree extract extractall glob hardlink_to iterdir link link_to listdir mkdir
    mkfifo mkdtemp mkstemp move open read_bytes read_text rename rglob rmtree scandir symlink symlink_to touch truncate
    unlink utime walk write_bytes write_text NamedTemporaryFile TemporaryDirectory
"""
TOUCHES = frozenset(WORDS.split())


def imported(tree: ast.AST) -> Iterator[str]:
    """Modules of ours that a module imports, each as its file below module_utils/flotilla, without the end."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            name = node.module or ""
            of_ours = node.level or name.split(".")[0] == "flotilla" or name.startswith("ansible.module_utils.flotilla")
            if of_ours:
                base = name.removeprefix("ansible.module_utils.").removeprefix("flotilla").strip(".").replace(".", "/")
                yield base
                yield from (f"{base}/{one.name}".strip("/") for one in node.names)


def on_hosts() -> list[Path]:
    """The programs, the modules, and whatever those import."""
    found: list[Path] = []
    left = sorted([*(PLUGINS / "scripts").glob("*.py"), *(PLUGINS / "modules").glob("*.py")])
    while left:
        path = left.pop()
        if path in found:
            continue
        found.append(path)
        places = {UTILS, path.parent} if path.is_relative_to(UTILS) else {UTILS}
        for name in imported(ast.parse(path.read_text())):
            for place in places:
                left += [one for one in (place / f"{name}.py", place / name / "__init__.py") if one.is_file()]
    return sorted(found)


def touches(path: Path) -> set[str]:
    """The functions of a module in which a file is touched, each as `module.function`."""
    found: set[str] = set()

    def look(node: ast.AST, names: tuple[str, ...]) -> None:
        for child in ast.iter_child_nodes(node):
            inner = names
            if isinstance(child, ast.FunctionDef | ast.ClassDef):
                inner = (*names, child.name)
            if isinstance(child, ast.Call) and touched(child):
                found.add(".".join((path.stem, *names)))
            look(child, inner)

    look(ast.parse(path.read_text()), ())
    return found


def touched(call: ast.Call) -> bool:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    # A text's has two arguments.
    return name in TOUCHES or (name == "replace" and len(call.args) == 1 and not call.keywords)


# Why what is touched there is root's alone. A directory that a container mounts, if only to read, is named.
ROOTS_OWN = {
    "/opt/<app> itself, its releases and secrets; /opt/flotilla: mounted by nobody, or to be read": """
        admission._memory_problem edge.Edge.switch edge._touch journal.load journal.sync_directory journal.write_atomic
        preparation.Preparation._migrate preparation.Preparation._start_shared preparation.Preparation._write
        preparation.absent store.Store._append store.Store._names store.Store.barriers store.Store.create
        store.Store.prune_secrets store.Store.read store.Store.reissue_secrets store.Store.remove
        store.Store.secrets_version store.Store.write_secrets store.digest_of_files store.unpack trail.Trail._append
        trail.Trail.head trail.Trail.text trail.Trail.standing view.View._entries view.View.apps
        view.View.holder stack_images.Images._base_of addresses.read_slots zeros.read flotilla_host.main
        flotilla_host.read_drained flotilla_host.read_stamp flotilla_host.write_stamp flotilla_observe.Host._apps
        flotilla_observe._json flotilla_observe._rows flotilla_firewall.act
    """,
    "certs, conf and state of an edge: its container reads them": """
        balancing.Balancer._write balancing.Balancer.reload host._prune host._sync host._text host.activate
        acme_renewal.Keeper._tell_balancer acme_renewal.Keeper._use acme_renewal.Keeper.served
    """,
    "/opt/flotilla/acme, /opt/flotilla/postgres/backup itself, /opt/flotilla/volumes: mounted by nobody": """
        acme_renewal.Keeper._account acme_renewal.Keeper._obtain acme_renewal.Keeper._start acme_renewal.Keeper.renew
        acme_renewal.Keeper.state acme_renewal.Settings.read acme_renewal.crowd.one acme_renewal.write
        flotilla_backup.store flotilla_backup.stored flotilla_volumes.confirm flotilla_volumes.drill
        flotilla_volumes.drilled flotilla_volumes.status flotilla_volumes.store flotilla_volumes.stored
        flotilla_volumes.undo postgres_restore.confirm postgres_restore.drill postgres_restore.drill_ended
        postgres_restore.look postgres_restore.nothing_waits postgres_restore.place postgres_restore.point
        postgres_restore.points postgres_restore.read_state postgres_restore.remove postgres_restore.undo
        postgres_restore.write postgres_upgrade.check postgres_upgrade.confirm postgres_upgrade.state
        postgres_upgrade.undo
    """,
    "kept/ below backup_directory and /etc/flotilla/backup: no account of the backup host can reach or change them": """
        flotilla_kept.Keeper.alone flotilla_kept.put_back flotilla_kept.settings
    """,
    "the directory that the engine keeps a volume in, above what is mounted": """
        flotilla_volumes.adopt flotilla_volumes.backed_up flotilla_volumes.exchange flotilla_volumes.place
        flotilla_volumes.redis_files
    """,
    "/run/flotilla, and a module's own temporary directory": """
        admission.admit lease.LeaseFile._guarded lease.LeaseFile._remove lease.LeaseFile._write lease.LeaseFile.read
        journal.alone observation.Observation.last_place site.exclusive flotilla_files._draft flotilla_volumes.alone
        postgres_restore.alone postgres_upgrade.removed postgres_upgrade.started
    """,
    "/proc, /sys, /etc, /root, nftables' own files, the engine's socket": """
        engine._UnixConnection.connect engine.credentials_for host._read_bytes host._socket_inodes host.port_holders
        inspection.Inspection._modes inspection.Inspection._sudo inspection.Inspection._text
        rules_on_trial.Trial.keep rules_on_trial._read sockets.of_process visitor._read flotilla_host.check
        flotilla_tighten._edit flotilla_tighten._restrict flotilla_tighten._write flotilla_tighten.main
    """,
    "an archive in memory": "engine.Engine.file_of_image",
    "through a place of flotilla.contained": """
        balancing.Master.ask observation.Observation._logged_release traffic.AccessLog._read
        acme_renewal.Keeper._ask flotilla_backup.dropped flotilla_volumes._stage
    """,
}


def test_whatever_touches_files_on_hosts_is_known() -> None:
    known = {one for names in ROOTS_OWN.values() for one in names.split()}
    found = {one for path in on_hosts() if path.stem != "contained" for one in touches(path)}
    assert sorted(found - known) == [], (
        "these touch files on hosts: use flotilla.contained where a container can write to the directory, or any above "
        "it; else put the function into ROOTS_OWN with the reason"
    )
    assert sorted(known - found) == [], "these are there no longer: take them out of ROOTS_OWN"


def test_a_new_place_is_seen(tmp_path: Path) -> None:
    """What the table says of a program that reads as this one was written before."""
    program = tmp_path / "program.py"
    program.write_text("class A:\n    def b(self, path):\n        text = path.read_text().replace('a', 'b')\n")
    assert touches(program) == {"program.A.b"}
    program.write_text("import os\ndef c(path, new):\n    os.replace\n    new.replace(path)\n")
    assert touches(program) == {"program.c"}
    program.write_text("def d(place):\n    place.read('name')\n    'x'.replace('a', 'b')\n")
    assert touches(program) == set()


def test_all_programs_and_modules_are_looked_at() -> None:
    found = {path.relative_to(PLUGINS).as_posix() for path in on_hosts()}
    assert {"scripts/flotilla_backup.py", "modules/flotilla_files.py", "module_utils/flotilla/preparation.py"} <= found
    assert {"module_utils/flotilla/traffic.py", "module_utils/flotilla/pki/host.py"} <= found
