"""What programs of root's may do on a host, whether a timer, a playbook or a person starts them."""

from __future__ import annotations

import re
from pathlib import Path

import jinja2
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
# sshd starts this one for the account that may look, by a rule of sudo's; it reads what is root's alone.
BY_SSHD = "flotilla_observe.py"
ROLES = {"acme": "__acme", "backup": "__backup", "restore": "__restore"}
SANDBOX = {"NoNewPrivileges=yes", "PrivateTmp=yes", "ProtectSystem=strict", "UMask=0077"}


def variables(role: str) -> str:
    return (ROOT / "roles" / role / "vars" / "main.yml").read_text()


def rendered(role: str, name: str) -> str:
    prefix = ROLES[role]
    known = {f"{prefix}_program": "/usr/bin/python3 -I /program.py", f"{prefix}_sandbox": ["UMask=0077", "A=/b /c"]}
    source = (ROOT / "roles" / role / "templates" / name).read_text()
    return jinja2.Environment(trim_blocks=True, keep_trailing_newline=True).from_string(source).render(known)


def test_each_program_is_one_that_is_confined() -> None:
    """In /usr/local/sbin stands what starts it in the sandbox, and nothing else."""
    texts = "".join(variables(path.parents[1].name) for path in sorted((ROOT / "roles").glob("*/vars/main.yml")))
    placed = dict(re.findall(r"- path: (/usr/local/\S+)\n    content: (.*)\n", texts))
    programs = {path.name for path in (ROOT / "plugins" / "scripts").glob("*.py")} - {BY_SSHD}
    installed = {name.rpartition("/")[2]: content for name, content in placed.items() if name.endswith(".py")}
    assert programs <= installed.keys()
    started = [name for name in placed if name.startswith("/usr/local/sbin/") and "observe" not in name]
    assert {"flotilla-acme", "flotilla-backup", "flotilla-kept", "flotilla-restore", "flotilla-volumes"} <= {
        name.rpartition("/")[2] for name in started
    }
    for name in started:
        if any(program in placed[name] for program in programs):
            pytest.fail(f"{name} is the program itself: put it into /usr/local/lib/flotilla, and confined.j2 here")


@pytest.mark.parametrize("role", ROLES)
def test_the_sandbox_is_a_sandbox(role: str) -> None:
    found = yaml.safe_load(variables(role))
    named = found.get(f"{ROLES[role]}_sandbox") or found[f"{ROLES[role]}_limits"]
    assert set(named) >= SANDBOX
    assert {"ProtectHome=yes", "ProtectHome=read-only"} & set(named)


@pytest.mark.parametrize("role", ROLES)
def test_who_starts_it_by_hand_has_the_sandbox_of_the_units(role: str) -> None:
    words = rendered(role, "confined.j2").replace("\\\n", " ").splitlines()[-1].split("'")
    assert words[0].startswith("exec systemd-run --quiet --pipe --wait --collect ")
    assert words[1:4:2] == ["--property=UMask=0077", "--property=A=/b /c"]
    assert words[-1].split() == ["/usr/bin/python3", "-I", "/program.py", '"$@"']


def test_each_unit_that_runs_a_program_has_the_sandbox() -> None:
    units = [
        (role, path.name)
        for role in ROLES
        for path in sorted((ROOT / "roles" / role / "templates").iterdir())
        if f"{{{{ {ROLES[role]}_program }}}}" in path.read_text() and path.name != "confined.j2"
    ]
    assert len(units) == 7
    for role, name in units:
        assert "\nUMask=0077\nA=/b /c\n" in rendered(role, name), name
    for path in (ROOT / "roles").glob("*/templates/*.service*"):
        assert "ExecStart=/usr/local/sbin/flotilla-" not in path.read_text(), f"{path.name}: run the program, sandboxed"
