"""What changed paths affect: which unit tests, which roles' scenarios, which end-to-end tests.

A Python file is affected when it imports a changed one, whatever is between them. A role, a playbook or a test is when
its text names something that is: a path, a plugin, a filter. Rather too much than too little: the full run decides.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from tests.run.imports import graph, importers
from tests.run.jobs import ROOT

# What everything stands upon.
GROUND = ("ansible.cfg", "pyproject.toml", "requirements.lock", ".config", "tests/lab")
# What is under one of these is seen in these files first, beside those that name or import it.
E2E = {
    "roles/app": ("test_rolling_releases", "test_refusals"),
    "roles/preflight": ("test_refusals",),
    "roles/haproxy": ("test_balancer",),
    "roles/patch": ("test_balancer",),
    "roles/backup": ("test_restore",),
    "roles/restore": ("test_restore",),
    "compose/app": ("test_first_deploy", "test_rolling_releases"),
    "inventories/staging": ("test_first_deploy",),
    "inventories/production": ("test_fleet",),
    **dict.fromkeys(GROUND, ("test_first_deploy",)),
}
PROVISION, FIRST = "playbooks/provision.yml", "test_first_deploy"
# The whole file is `make thorough`'s.
THOROUGH = "\npytestmark = pytest.mark.thorough\n"
TEXTS = (".yml", ".yaml", ".j2", ".py", ".sh", ".cfg")


class PathError(Exception):
    """A path that is not there."""


@dataclass
class Affected:
    """What to run, and why: name → reason. all_units: every unit test, for a reason of its own."""

    units: set[Path] = field(default_factory=set)
    roles: dict[str, str] = field(default_factory=dict)
    e2e: dict[str, str] = field(default_factory=dict)
    all_units: bool = False

    def lines(self) -> list[str]:
        """What is run and why, in a handful of lines."""
        units = "all" if self.all_units else f"{len(self.units)} files"
        return [
            "lint and types: everything",
            f"units: {units}, which import or name what changed",
            f"molecule: {_told(self.roles)}",
            f"e2e: {_told(self.e2e)}",
            "The full run, `make test`, comes before a merge.",
        ]


def affected(paths: Sequence[str], root: Path = ROOT) -> Affected:
    """What to run after a change of these files and directories. PathError: one of them is not there."""
    changed = list(_changed(paths, root))
    names = [str(path.relative_to(root)) for path in changed]
    imports = graph(root)
    python = importers(imports, changed)
    words = {word for path in {*python, *changed} for word in _words(path, root)}
    found = Affected(all_units=any(_below(name, GROUND) for name in names))
    _add_roles(found, names, python, words, root)
    playbooks = [path for path in _playbooks(root) if path in changed or _names(path, words)]
    words |= {f"roles/{role}" for role, why in found.roles.items() if "scenario" not in why}
    words |= {str(path.relative_to(root)) for path in playbooks}
    named = {path for path in imports if _names(path, words)}
    for path in sorted(importers(imports, named) | python):
        if path.parent == root / "tests/unit" and path.name.startswith("test_"):
            found.units.add(path)
    _add_e2e(found, names, python, playbooks, root)
    return found


def _changed(paths: Iterable[str], root: Path) -> Iterator[Path]:
    for name in paths:
        path = root / name
        if not path.exists():
            raise PathError(f"PATHS: {name} does not exist")
        yield from (one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]


def _add_roles(found: Affected, names: Sequence[str], python: set[Path], words: set[str], root: Path) -> None:
    """Roles that changed, that name what changed, or whose scenario does; and those whose scenario has one of these."""
    roles = sorted(path.parents[2] for path in root.glob("roles/*/molecule/default/molecule.yml"))
    for role in roles:
        files = [path for path in _texts(role) if path.relative_to(role).parts[0] != "molecule"]
        own = f"roles/{role.name}/"
        if any(name.startswith(own) for name in names):
            found.roles[role.name] = "changed"
        elif any(_below(name, GROUND) for name in names):
            found.roles[role.name] = "the ground changed"
        elif word := next((word for path in files if (word := _names(path, words))), ""):
            found.roles[role.name] = f"names {word}"
        elif any(path.is_relative_to(role) for path in python):
            found.roles[role.name] = "its scenario imports it"
    begun = dict(found.roles)
    for role in roles:
        used = _used(role / "molecule/default", begun)
        if used and role.name not in found.roles:
            found.roles[role.name] = f"its scenario has {used}"


def _add_e2e(found: Affected, names: Sequence[str], python: set[Path], playbooks: Sequence[Path], root: Path) -> None:
    touched = [*names, *(f"roles/{role}/" for role, why in found.roles.items() if "scenario" not in why)]
    provision = (root / PROVISION).read_text()
    for path in sorted((root / "tests/e2e").glob("test_*.py")):
        text = path.read_text()
        if THOROUGH in text:
            continue
        if path in python:
            found.e2e[path.stem] = "changed, or imports it"
        for name in touched:
            for place, stems in E2E.items():
                if path.stem in stems and _below(name, (place,)):
                    found.e2e.setdefault(path.stem, f"is about {place}")
            role = re.match(r"roles/([^/]+)/", name)
            if path.stem == FIRST and role and re.search(rf"(role|name): {role[1]}\b", provision):
                found.e2e.setdefault(FIRST, f"{PROVISION} runs {role[1]}")
        for playbook in playbooks:
            if re.search(rf"\b{playbook.stem}\.yml\b|[\"']{playbook.stem}[\"']", text):
                found.e2e.setdefault(path.stem, f"names {playbook.name}")


def _words(path: Path, root: Path) -> Iterator[str]:
    """What a text has to have to name a file: its path, the role or stack it is in, its plugin's or filters' names."""
    name = path.relative_to(root)
    yield str(name)
    if name.parts[0] in ("roles", "compose") and len(name.parts) > 2 and "molecule" not in name.parts:
        yield from ("/".join(name.parts[:2]), f'"{name.parts[0]}"')
    if name.parts[0] == "plugins" and name.parts[1] != "module_utils" and name.suffix in (".py", ".sh"):
        yield path.stem
        yield from _filters(path) if name.parts[1] == "filter" else ()


def _filters(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef) and node.name == "filters":
            keys = [key for one in ast.walk(node) if isinstance(one, ast.Dict) for key in one.keys]
            yield from (str(key.value) for key in keys if isinstance(key, ast.Constant))


def _names(path: Path, words: Iterable[str]) -> str:
    """The first of the words that a file's text has, as a word; empty when it has none."""
    found = _pattern(frozenset(words)).search(_text(path))
    return found[0] if found else ""


@cache
def _pattern(words: frozenset[str]) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w)({'|'.join(map(re.escape, sorted(words)))})(?!\w)" if words else r"(?!)")


@cache
def _text(path: Path) -> str:
    return path.read_text(errors="replace")


def _texts(directory: Path) -> list[Path]:
    return [path for path in sorted(directory.rglob("*")) if path.suffix in TEXTS and path.is_file()]


def _playbooks(root: Path) -> list[Path]:
    return sorted([*root.glob("*.yml"), *root.glob("playbooks/*.yml")])


def _used(scenario: Path, roles: Iterable[str]) -> str:
    """The first of the roles that a scenario applies beside its own."""
    text = "\n".join(_text(path) for path in _texts(scenario))
    listed = ",".join(re.findall(r"molecule_prepare: \[(.*)\]", text)).replace(" ", "").split(",")
    return next((role for role in roles if role in listed or re.search(rf"_role:\s*\{{?\s*name: {role}\b", text)), "")


def _below(name: str, places: Iterable[str]) -> bool:
    return any(name == place or name.startswith(f"{place}/") for place in places)


def _told(chosen: Mapping[str, str]) -> str:
    return ", ".join(f"{name} ({why})" for name, why in chosen.items()) or "none"
