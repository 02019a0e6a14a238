#!/usr/bin/env python3
"""Write the variables table of each role's README from its argument specs.

    tests/docs/role_tables.py            write the tables
    tests/docs/role_tables.py --check    change nothing; name what differs and exit 1

The table stands between two marks in roles/<role>/README.md. Before it is written, the specs are held against
defaults/main.yml: every default must be specified, with the same value.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROLES = Path(__file__).resolve().parents[2] / "roles"
BEGIN = "<!-- begin variables -->"
END = "<!-- end variables -->"
HEADER = ["| name | type | default | description |", "|---|---|---|---|"]


@dataclass(frozen=True)
class Role:
    """A role's face: what its files say about its variables."""

    path: Path
    options: dict[str, Any]
    defaults: dict[str, Any]

    @classmethod
    def read(cls, path: Path) -> Role:
        """Read the specs and the defaults of the role at `path`; either may be missing."""
        specs = _load(path / "meta" / "argument_specs.yml").get("argument_specs", {})
        options = specs.get("main", {}).get("options") or {}
        return cls(path, options, _load(path / "defaults" / "main.yml"))

    @property
    def readme(self) -> Path:
        return self.path / "README.md"


def disagreements(role: Role) -> Iterator[str]:
    """One sentence for each variable on which the specs and the defaults differ."""
    specs = role.path / "meta" / "argument_specs.yml"
    for name in sorted(role.defaults.keys() - role.options.keys()):
        yield f"{specs}: {name} stands in defaults/main.yml and is not specified"
    for name, option in role.options.items():
        if not str(option.get("description", "")).strip():
            yield f"{specs}: {name} has no description"
        if name not in role.defaults:
            if "default" in option:
                yield f"{specs}: {name} has a default here and none in defaults/main.yml"
        elif "default" not in option:
            yield f"{specs}: {name} has a default in defaults/main.yml and none here"
        elif option["default"] != role.defaults[name]:
            yield (
                f"{specs}: {name} defaults to {json.dumps(option['default'])} here"
                f" and to {json.dumps(role.defaults[name])} in defaults/main.yml"
            )


def table(options: dict[str, Any]) -> list[str]:
    """The table's lines, one row a variable, in the order of the specs; keys of a dictionary follow their variable."""
    return [*HEADER, *("| " + " | ".join(row) + " |" for row in _rows(options))]


def with_table(text: str, lines: list[str]) -> str:
    """`text` with `lines` between the marks. Raises ValueError when the marks are not there exactly once, in order."""
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(END) < text.index(BEGIN):
        raise ValueError(f"wants {BEGIN} and, after it, {END}, each once")
    head, rest = text.split(BEGIN)
    _, tail = rest.split(END)
    return "\n".join([head + BEGIN, *lines, END + tail])


def main() -> int:
    """Return 0, or 1 when something is wrong or, with --check, not up to date."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing, exit 1 when a table is not up to date")
    parser.add_argument("--roles", type=Path, default=ROLES, metavar="DIR", help="where the roles are")
    arguments = parser.parse_args()

    problems: list[str] = []
    for path in sorted(specs.parents[1] for specs in arguments.roles.glob("*/meta/argument_specs.yml")):
        role = Role.read(path)
        problems += disagreements(role)
        try:
            old = role.readme.read_text(encoding="utf-8")
            new = with_table(old, table(role.options))
        except (OSError, ValueError) as error:
            problems.append(f"{role.readme}: {error}")
            continue
        if new != old and arguments.check:
            problems.append(
                f"{role.readme}: its table is not that of the argument specs; run tests/docs/role_tables.py"
            )
        elif new != old:
            role.readme.write_text(new, encoding="utf-8")
            print(f"{role.readme}: written")
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


def _load(path: Path) -> dict[str, Any]:
    return (yaml.safe_load(path.read_text(encoding="utf-8")) or {}) if path.exists() else {}


def _rows(options: dict[str, Any], prefix: str = "") -> Iterator[list[str]]:
    for name, option in options.items():
        yield [f"`{prefix}{name}`", _type(option), _default(option), _cell(option.get("description", ""))]
        if "options" in option:
            below = "[]." if option.get("type") == "list" else "."
            yield from _rows(option["options"], prefix + name + below)


def _type(option: dict[str, Any]) -> str:
    kind = option.get("type", "str")
    if kind == "list" and "elements" in option:
        kind = f"list of {option['elements']}"
    if "choices" in option:
        kind += ": " + ", ".join(f"`{choice}`" for choice in option["choices"])
    return _cell(kind)


def _default(option: dict[str, Any]) -> str:
    if option.get("required"):
        return "**required**"
    if "default" not in option:
        return "unset"
    value = option["default"]
    return _cell(f"`{value}`" if isinstance(value, str) and value else f"`{json.dumps(value)}`")


def _cell(text: str | list[str]) -> str:
    joined = " ".join(text) if isinstance(text, list) else str(text)
    return " ".join(joined.split()).replace("|", "\\|")


if __name__ == "__main__":
    sys.exit(main())
