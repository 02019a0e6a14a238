"""The trail: who did what to a host, when, from which commit. One append-only file, each line chained to the last.

Each entry carries a hash over itself, which covers the hash of the entry before it: a line that is changed, taken out
or put in breaks the chain. A chain that was rewritten as a whole is told by others: entries also carry the heads of
other hosts' chains (`heads`), as they were seen by the run that made them; see `witnesses.py`.

A line that a crash cut off stays, for the file can only be added to; the next entry names it (`torn`).
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from .host import detect_container
from .journal import sync_directory

FILE = Path("/opt/flotilla/trail.jsonl")
# Of the end of a trail, to find its last entry in.
LAST_BYTES = 65536
# What the first entry follows.
NOTHING = "0" * 64
# linux/fs.h: FS_IOC_GETFLAGS, FS_IOC_SETFLAGS (for a pointer to an int, whatever their type says), FS_APPEND_FL.
GET_FLAGS, SET_FLAGS, APPEND_ONLY = 0x80086601, 0x40086602, 0x20


class TrailError(Exception):
    """The trail cannot be written or read. The message is for a person."""


class Step(StrEnum):
    """begin: before anything is changed.  end: what came of it.  done: of what is over at once."""

    BEGIN = "begin"
    END = "end"
    DONE = "done"


@dataclass(frozen=True)
class Head:
    """The last entry of a chain, by its number (from 1; 0 for an empty chain) and hash."""

    number: int = 0
    hash: str = NOTHING

    def told(self) -> list[Any]:
        """As others are told it: number and hash."""
        return [self.number, self.hash]


@dataclass(frozen=True)
class Chain:
    """What a trail's text says.

    entries: all that can be read, oldest first.  problems: where the chain is broken.  notes: what is odd and no proof
    of anything.  torn: digests of the lines at the end that cannot be read.  ended: whether the last line is whole.
    """

    entries: tuple[Mapping[str, Any], ...] = ()
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    torn: tuple[str, ...] = ()
    ended: bool = True

    @property
    def head(self) -> Head:
        """Where the next entry goes on."""
        return Head(self.entries[-1]["n"], self.entries[-1]["hash"]) if self.entries else Head()

    def seen(self) -> list[dict[str, Any]]:
        """What the entries say of other hosts' chains: `host`, `number`, `hash`, and their own `time`.

        Earlier versions added what the other host said of its key; a host that lies says what it likes.
        """
        found: dict[tuple[str, int, str], dict[str, Any]] = {}
        for entry in self.entries:
            heads = entry.get("heads")
            for host, head in heads.items() if isinstance(heads, Mapping) else ():
                if isinstance(head, list) and len(head) in (2, 3) and isinstance(head[0], int):
                    key = (str(host), int(head[0]), str(head[1]))
                    told = dict(zip(("host", "number", "hash"), key, strict=True))
                    found.setdefault(key, {**told, "time": str(entry.get("time", ""))})
        return list(found.values())

    def environments(self) -> list[str]:
        """The environments that the entries name."""
        named = (entry["by"].get("environment") for entry in self.entries if isinstance(entry.get("by"), Mapping))
        return sorted({str(name) for name in named if name})


def seal(entry: Mapping[str, Any], previous: Head, torn: Sequence[str] = ()) -> str:
    """The line, without its end, of an entry that follows `previous`. torn: the broken lines between the two."""
    numbered = {**entry, "n": previous.number + 1, "previous": previous.hash, **({"torn": list(torn)} if torn else {})}
    return _canonical({**numbered, "hash": _digest(_canonical(numbered))})


def read_chain(text: str) -> Chain:
    """Read a trail and follow its chain from the first entry on. Never raises."""
    lines = text.split("\n")
    ended = lines[-1] == ""
    entries: list[Mapping[str, Any]] = []
    problems: list[str] = []
    notes: list[str] = []
    torn: list[str] = []
    head = Head()
    for number, line in enumerate(lines[:-1] if ended else lines, 1):
        entry = _entry(line)
        if entry is None:
            torn.append(_digest(line))
            continue
        if not _sealed(entry, line):
            problems.append(f"line {number} was changed after it was written")
        if (entry["n"], entry["previous"]) != (head.number + 1, head.hash):
            problems.append(f"line {number} does not follow the one before it: a line was taken out, put in or changed")
        if entry.get("torn", []) != torn:
            problems.append(f"before line {number} stand {len(torn)} broken lines, and not those that it names")
        elif torn:
            notes.append(f"before line {number} stands what a crash cut off; the chain goes on")
        torn = []
        entries.append(entry)
        head = Head(entry["n"], entry["hash"])
    if torn:
        notes.append("the last line cannot be read, as after a crash; the next entry says so")
    return Chain(tuple(entries), tuple(problems), tuple(notes), tuple(torn), ended)


def read_end(lines: Sequence[str]) -> tuple[Head | None, tuple[str, ...]]:
    """Where the next entry goes on, and the broken lines since; None where no line is an entry. Nothing is checked."""
    torn: list[str] = []
    for line in reversed(lines):
        if entry := _entry(line):
            return Head(entry["n"], entry["hash"]), tuple(reversed(torn))
        torn.append(_digest(line))
    return None, tuple(reversed(torn))


@dataclass(frozen=True)
class Trail:
    """The trail of one host."""

    path: Path = FILE
    contained: bool = field(default_factory=detect_container)

    def append(self, entry: Mapping[str, Any]) -> Head:
        """Add an entry, durably; its time is added. Raises `TrailError`."""
        try:
            return self._append(entry)
        except (OSError, ValueError, TypeError) as error:
            raise TrailError(f"{self.path} cannot be written: {error}") from error

    def _append(self, entry: Mapping[str, Any]) -> Head:
        self.path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        new = not self.path.exists()
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "r+b", buffering=0) as file:
            # Whoever waits here waits for a few file operations only.
            fcntl.flock(file, fcntl.LOCK_EX)
            head, torn, ended = _end(file)
            line = seal({"time": _now(), **entry}, head, torn)
            data = f"{'' if ended else chr(10)}{line}\n".encode()
            while data:
                data = data[file.write(data) or 0 :]
            os.fsync(file.fileno())
            if new:
                os.fchmod(file.fileno(), 0o600)
                sync_directory(self.path.parent)
                if not self.contained:
                    add_flag(file.fileno())
        return Head(head.number + 1, json.loads(line)["hash"])

    def read(self) -> Chain:
        """What is there; an empty chain where nothing is. Raises `TrailError`."""
        return read_chain(self.text())

    def text(self) -> str:
        """The file; empty where there is none. Raises `TrailError`."""
        try:
            return self.path.read_bytes().decode(errors="replace")
        except FileNotFoundError:
            return ""
        except OSError as error:
            raise TrailError(f"{self.path} cannot be read: {error}") from error

    def head(self) -> list[Any]:
        """Number and hash of the last entry; nothing where that cannot be said."""
        try:
            with self.path.open("rb", buffering=0) as file:
                return _end(file)[0].told()
        except FileNotFoundError:
            return Head().told()
        except OSError:
            return []

    def standing(self) -> tuple[list[str], list[str]]:
        """What is wrong with the file itself, and what is to be known of it."""
        if not self.path.exists():
            return [], []
        problems = []
        found = self.path.stat()
        if found.st_mode & 0o077 or found.st_uid != 0:
            mend = f"chown root: {self.path}; chmod 600 {self.path}"
            problems.append(f"{self.path} is not root's alone. Next, there: {mend}")
        if self.contained:
            return problems, [f"{self.path} is not marked append-only: the host is a container"]
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                marked = bool(flags(descriptor) & APPEND_ONLY)
            finally:
                os.close(descriptor)
        except OSError as error:
            return problems, [f"{self.path} cannot be marked append-only here: {error.strerror}"]
        if not marked:
            problems.append(f"{self.path} is not append-only any more. Next, there: chattr +a {self.path}")
        return problems, []


def flags(descriptor: int) -> int:
    """The attributes of an open file, as lsattr shows them. Raises OSError where its file system has none."""
    packed = fcntl.ioctl(descriptor, GET_FLAGS, struct.pack("l", 0))
    return int(struct.unpack("l", packed)[0])


def add_flag(descriptor: int, flag: int = APPEND_ONLY) -> bool:
    """Mark an open file append-only; whether that could be done."""
    try:
        fcntl.ioctl(descriptor, SET_FLAGS, struct.pack("l", flags(descriptor) | flag))
    except OSError:
        return False
    return True


def _end(file: io.FileIO) -> tuple[Head, tuple[str, ...], bool]:
    """The head of an open trail, the broken lines behind it, and whether its last line is whole."""
    size = os.fstat(file.fileno()).st_size
    for most in (LAST_BYTES, size):
        file.seek(max(0, size - most))
        lines = file.readall().decode(errors="replace").split("\n")
        ended = lines[-1] == ""
        # The first one may be a part of a line.
        head, torn = read_end(lines[1 if most < size else 0 : -1 if ended else None])
        if head:
            return head, torn, ended
    return Head(), torn, ended


def _entry(line: str) -> dict[str, Any] | None:
    """A line that has the shape of an entry."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(entry, dict) or isinstance(entry.get("n"), bool) or not isinstance(entry.get("n"), int):
        return None
    return entry if all(isinstance(entry.get(name), str) for name in ("previous", "hash")) else None


def _sealed(entry: Mapping[str, Any], line: str) -> bool:
    """Whether the entry is as it was written, to the letter."""
    bare = {name: value for name, value in entry.items() if name != "hash"}
    try:
        return _digest(_canonical(bare)) == entry["hash"] and _canonical(entry) == line
    except (ValueError, RecursionError):
        return False


def _canonical(entry: Mapping[str, Any]) -> str:
    return json.dumps(dict(entry), sort_keys=True, separators=(",", ":"), allow_nan=False)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
