"""Who imports whom, among the Python files of this project: read from their text, nothing is imported."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

# Where modules are found, with the prefix that Ansible gives to those that it packs.
SOURCES = ("plugins/module_utils", "compose/app/src", ".")
PACKED = "ansible.module_utils."
TREES = ("plugins", "tests", "roles", "compose/app/src")


def graph(root: Path) -> dict[Path, set[Path]]:
    """File → the files of the project that it imports. A test imports the conftest.py beside it."""
    files = {path for tree in TREES for path in (root / tree).rglob("*.py")}
    return {path: {found for found in _imported(path, root) if found in files} for path in files}


def importers(imports: Mapping[Path, Iterable[Path]], seeds: Iterable[Path]) -> set[Path]:
    """The seeds, and every file that imports one of them, itself or through others."""
    importing: dict[Path, set[Path]] = {}
    for path, found in imports.items():
        for one in found:
            importing.setdefault(one, set()).add(path)
    reached: set[Path] = set()
    todo = list(seeds)
    while todo:
        path = todo.pop()
        if path not in reached:
            reached.add(path)
            todo += importing.get(path, ())
    return reached


def _imported(path: Path, root: Path) -> Iterator[Path]:
    if path.name.startswith("test_"):
        yield path.with_name("conftest.py")
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _files(alias.name, root)
        elif isinstance(node, ast.ImportFrom) and node.level:
            base = path.parents[node.level - 1].joinpath(*(node.module or "").split("."))
            yield from (base.with_suffix(".py"), base / "__init__.py")
            yield from (base / f"{alias.name}.py" for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                yield from _files(f"{node.module}.{alias.name}", root)


def _files(module: str, root: Path) -> Iterator[Path]:
    """The files that a dotted name may stand for: the module, what it is in, and the packages around it."""
    parts = module.removeprefix(PACKED).split(".")
    for source in SOURCES:
        for length in range(1, len(parts) + 1):
            base = root / source / "/".join(parts[:length])
            yield from (base.with_suffix(".py"), base / "__init__.py")
