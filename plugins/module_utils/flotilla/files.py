"""Files and directories that are to be on a host: what differs, without writing anything."""

from __future__ import annotations

import errno
import grp
import pwd
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .contained import LinkError, StrangeError, opened


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
        if one.content is None:
            with opened(one.path):
                return False
        with opened(one.path.parent) as place:
            there = place.entry(one.path.name)
            if there is None or stat.S_ISLNK(there.st_mode):
                return True
            if stat.S_ISDIR(there.st_mode):
                raise ValueError(f"{one.path} is to be a file, and is a directory")
            if not stat.S_ISREG(there.st_mode):
                raise ValueError(f"{one.path} is no regular file. Next: see who made it, and remove it")
            return place.read(one.path.name, len(one.content) + 1) != one.content
    except FileNotFoundError:
        return True
    except NotADirectoryError:
        if one.content is None:
            raise ValueError(f"{one.path} is to be a directory, and is something else") from None
        raise ValueError(f"{one.path} is to be a file, and something above it is no directory") from None
    except LinkError as error:
        raise ValueError(str(error)) from None
    except StrangeError:
        # Longer than it is to be, or another account's: a new file takes its place.
        return True


def write(one: Wanted) -> None:
    """Make the file, or the directory for root alone until `settle` says more, and those above it.

    Raises OSError, and ValueError for an account that there is not.
    """
    with opened(one.path.parent, make=0o755) as place:
        if one.content is None:
            with place.directory(one.path.name, make=0o700):
                return
        owner, group = _account(one)
        try:
            place.write(one.path.name, one.content, mode=int(one.mode, 8), owner=owner, group=group, sync=False)
        except OSError as error:
            # A mount in a container has no other file put in its place.
            if not one.in_place or error.errno not in (errno.EBUSY, errno.EXDEV):
                raise
            place.write(one.path.name, one.content, over=True)


def settle(one: Wanted, *, look: bool) -> bool:
    """Give it its owner, group and mode; whether it had others, or is not there. look: change nothing.

    Raises OSError, and ValueError for an account that there is not.
    """
    try:
        if one.content is None:
            with opened(one.path) as place:
                return place.settle("", *_account(one), int(one.mode, 8), look=look)
        with opened(one.path.parent) as place:
            there = place.entry(one.path.name)
            if there is None or (look and stat.S_ISLNK(there.st_mode)):
                return False
            return place.settle(one.path.name, *_account(one), int(one.mode, 8), look=look)
    except FileNotFoundError:
        return False


def _account(one: Wanted) -> tuple[int, int]:
    try:
        owner = int(one.owner) if one.owner.isdecimal() else pwd.getpwnam(one.owner).pw_uid
        group = int(one.group) if one.group.isdecimal() else grp.getgrnam(one.group).gr_gid
    except KeyError as error:
        raise ValueError(f"{one.path}: there is no such account: {error.args[0]}") from None
    return owner, group


def difference(one: Wanted) -> dict[str, str]:
    """Before and after, for Ansible's --diff; a secret's content is left out."""
    if one.content is None:
        return {"before_header": str(one.path), "after_header": str(one.path), "before": "", "after": "a directory\n"}
    hidden = "(a secret)\n"
    before = _present(one)
    return {
        "before_header": str(one.path),
        "after_header": str(one.path),
        "before": (hidden if before else "") if one.secret else before,
        "after": "(another secret)\n" if one.secret else one.content.decode(errors="replace"),
    }


def _present(one: Wanted) -> str:
    """What is in the file; nothing of what a link leads to."""
    try:
        with opened(one.path.parent) as place:
            return place.read(one.path.name).decode(errors="replace")
    except OSError:
        return ""


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
