"""Files and directories that are to be on a host: what differs, without writing anything."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Wanted:
    """A file as it is to be, or a directory where `content` is None.

    owner, group: a name or a number.  mode: octal digits, such as "0644".  validate: a command with `%s` for the
    path of the new file.  in_place: write into the file that is there, which may be a mount.
    """

    path: Path
    content: bytes | None
    owner: str
    group: str
    mode: str
    validate: str = ""
    in_place: bool = False
    secret: bool = False


def wanted(
    directories: list[Mapping[str, Any]], files: list[Mapping[str, Any]], secrets: list[Mapping[str, Any]]
) -> list[Wanted]:
    """Everything in the order in which it is made: directories, secrets, files (which may be validated with both).

    Raises ValueError for a path that is not absolute, is given twice, or a mode that is not octal.
    """
    found = [_one(entry, secret=False, directory=True) for entry in directories]
    found += [_one(entry, secret=True) for entry in secrets]
    found += [_one(entry, secret=False) for entry in files]
    seen: set[Path] = set()
    for one in found:
        if not one.path.is_absolute():
            raise ValueError(f"{one.path} is not an absolute path")
        if one.path in seen:
            raise ValueError(f"{one.path} is given twice")
        if not one.mode or one.mode.strip("01234567"):
            raise ValueError(f"{one.path}: the mode {one.mode!r} is not octal digits")
        if one.validate and "%s" not in one.validate:
            raise ValueError(f"{one.path}: validate has no %s for the new file")
        seen.add(one.path)
    return found


def content_differs(one: Wanted) -> bool:
    """Whether the file must be written, or the directory made. Raises ValueError where something else is there."""
    try:
        there = one.path.stat().st_mode
    except FileNotFoundError:
        return True
    if one.content is None:
        if not stat.S_ISDIR(there):
            raise ValueError(f"{one.path} is to be a directory, and is something else")
        return False
    if stat.S_ISDIR(there):
        raise ValueError(f"{one.path} is to be a file, and is a directory")
    return one.path.is_symlink() or one.path.read_bytes() != one.content


def missing_parents(path: Path) -> list[Path]:
    """The directories above `path` that do not exist, outermost first."""
    return [parent for parent in reversed(path.parents) if not parent.exists()]


def difference(one: Wanted) -> dict[str, str]:
    """Before and after, for Ansible's --diff; a secret's content is left out."""
    if one.content is None:
        return {"before_header": str(one.path), "after_header": str(one.path), "before": "", "after": "a directory\n"}
    hidden = "(a secret)\n"
    before = one.path.read_bytes().decode(errors="replace") if one.path.is_file() else ""
    return {
        "before_header": str(one.path),
        "after_header": str(one.path),
        "before": (hidden if before else "") if one.secret else before,
        "after": "(another secret)\n" if one.secret else one.content.decode(errors="replace"),
    }


def _one(entry: Mapping[str, Any], *, secret: bool, directory: bool = False) -> Wanted:
    return Wanted(
        path=Path(entry["path"]),
        content=None if directory else str(entry["content"]).encode(),
        owner=str(entry["owner"]),
        group=str(entry["group"]),
        mode=str(entry["mode"]),
        validate=entry.get("validate") or "",
        in_place=bool(entry.get("in_place")),
        secret=secret,
    )
