# MIT License, see LICENSE at the root of the project.
"""Files below directories that a container, or any other account, can write to, for a program that runs as root.

Whoever owns a directory can put a link, a pipe or another account's file where root is going to look. So each component
below what root alone can change is opened relative to the one above, no link is followed there, and what is read or
written over is a regular file with one name that belongs to whom the directory belongs. Needs nothing but Linux and
Python's standard library: programs on hosts have it beside them, at /usr/local/lib/flotilla/flotilla/.
"""

from __future__ import annotations

import os
import secrets
import shutil
import stat
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

# What is read at once when nothing else is said, in bytes.
MOST = 1024 * 1024
# As many links as the kernel follows (path_resolution(7)).
MOST_LINKS = 40
# A program that walks by path, where no link below `$1/$2` leads anywhere and nothing there can be written: in a mount
# namespace of its own. Arguments: the directory above, the directory's name, the program.
SEEN_ALONE = """\
set -e
mount --bind "$1/$2" "$1/$2"
mount -o remount,bind,ro,nosymfollow "$1/$2"
cd "$1"
shift 2
exec "$@"
"""
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class StrangeError(OSError):
    """What is there is not what root may use. The message names the path."""


class LinkError(StrangeError):
    """It is a link."""


@dataclass(frozen=True)
class Place:
    """An open directory. owned: root alone can change what is in it, so that whatever is there was put there by root.

    Every name is that of an entry of the directory itself, without a slash.
    """

    descriptor: int
    path: Path
    owned: bool

    def stat(self) -> os.stat_result:
        """Its own owner and mode."""
        return os.fstat(self.descriptor)

    def names(self) -> list[str]:
        """What is in it, sorted."""
        with os.scandir(self.descriptor) as found:
            return sorted(one.name for one in found)

    def entry(self, name: str) -> os.stat_result | None:
        """What an entry is, a link being a link; None where there is none."""
        try:
            return os.stat(_plain(name), dir_fd=self.descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def open(self, name: str) -> BinaryIO:
        """A regular file to read. Never waits. Raises FileNotFoundError, StrangeError."""
        return os.fdopen(self._opened(name, os.O_RDONLY), "rb")

    def read(self, name: str, most: int = MOST) -> bytes:
        """The content of a regular file. Raises StrangeError for one with more than `most` bytes too."""
        with self.open(name) as stream:
            content = stream.read(most + 1)
        if len(content) > most:
            raise StrangeError(f"{self.path / name} has more than {most} bytes")
        return content

    def write(
        self,
        name: str,
        content: bytes,
        *,
        mode: int = 0o600,
        owner: int = -1,
        group: int = -1,
        over: bool = False,
        sync: bool = True,
    ) -> None:
        """Replace an entry by a new file, in one step.

        sync: it is on disk when this returns.  over: write over the regular file that is there; a container that has
        mounted the file alone goes on seeing it.
        """
        if over and self.entry(name):
            with os.fdopen(self._opened(name, os.O_WRONLY | os.O_TRUNC), "wb") as stream:
                stream.write(content)
                os.fchmod(stream.fileno(), mode)
            return
        new = f".{_plain(name)}.{secrets.token_hex(8)}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(new, flags, 0o600, dir_fd=self.descriptor), "wb") as stream:
            try:
                stream.write(content)
                stream.flush()
                os.fchown(stream.fileno(), owner, group)
                os.fchmod(stream.fileno(), mode)
                if sync:
                    os.fsync(stream.fileno())
                os.rename(new, name, src_dir_fd=self.descriptor, dst_dir_fd=self.descriptor)
            except BaseException:
                with suppress(OSError):
                    os.unlink(new, dir_fd=self.descriptor)
                raise
        if sync:
            os.fsync(self.descriptor)

    def remove(self, name: str) -> None:
        """Remove an entry, whatever it is; what a link leads to stays."""
        there = self.entry(name)
        if there is not None and stat.S_ISDIR(there.st_mode):
            shutil.rmtree(name, dir_fd=self.descriptor)
        elif there is not None:
            os.unlink(name, dir_fd=self.descriptor)

    @contextmanager
    def directory(self, name: str, *, make: int | None = None) -> Iterator[Place]:
        """The directory of that name in it. make: the mode to make it with where there is none. Raises StrangeError."""
        descriptor = self.descend(name, make)
        try:
            yield Place(descriptor, self.path / name, self.owned and _owned(os.fstat(descriptor)))
        finally:
            os.close(descriptor)

    def descend(self, name: str, make: int | None) -> int:
        """A descriptor of the directory of that name, for who closes it. Raises StrangeError."""
        made = False
        if make is not None:
            with suppress(FileExistsError):
                os.mkdir(_plain(name), 0o700, dir_fd=self.descriptor)
                made = True
        descriptor = self._descriptor(name, DIRECTORY)
        if made and make is not None:
            os.fchmod(descriptor, make)
        return descriptor

    def settle(self, name: str, owner: int, group: int, mode: int, *, look: bool = False) -> bool:
        """Give an entry, or without a name the place itself, these; whether it had others. look: change nothing.

        Raises StrangeError.
        """
        descriptor = self._descriptor(name, os.O_PATH) if name else os.dup(self.descriptor)
        try:
            found = os.fstat(descriptor)
            differs = (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) != (owner, group, mode)
            if differs and not stat.S_ISDIR(found.st_mode):
                self._look(name, found)
            if differs and not look:
                # In this order: another owner takes away what a mode may have given.
                os.chown(f"/proc/self/fd/{descriptor}", owner, group)
                Path(f"/proc/self/fd/{descriptor}").chmod(mode)
            return differs
        finally:
            os.close(descriptor)

    def link_to(self, name: str, other: Place) -> None:
        """A second name, in another place, for the very file that was looked at. Raises StrangeError."""
        descriptor = self._passed(name)
        try:
            os.link(f"/proc/self/fd/{descriptor}", name, dst_dir_fd=other.descriptor, follow_symlinks=True)
        finally:
            os.close(descriptor)

    def move_all(self, other: Place) -> None:
        """Every entry into another place of the same file system, as it is, and owner and mode of the place with it."""
        for name in self.names():
            os.rename(name, name, src_dir_fd=self.descriptor, dst_dir_fd=other.descriptor)
        mine = self.stat()
        os.fchown(other.descriptor, mine.st_uid, mine.st_gid)
        os.fchmod(other.descriptor, stat.S_IMODE(mine.st_mode))

    @contextmanager
    def socket(self, name: str) -> Iterator[str]:
        """A path to connect to the UNIX socket of that name, and to nothing that it leads to. Raises StrangeError."""
        descriptor = self._descriptor(name, os.O_PATH)
        try:
            found = os.fstat(descriptor).st_mode
            if not stat.S_ISSOCK(found):
                path = self.path / name
                raise LinkError(_link(path)) if stat.S_ISLNK(found) else StrangeError(f"{path} is no socket")
            yield f"/proc/self/fd/{descriptor}"
        finally:
            os.close(descriptor)

    def _opened(self, name: str, flags: int) -> int:
        """A regular file, opened after it was looked at: opening a pipe waits, and opening a device does something."""
        descriptor = self._passed(name)
        try:
            return os.open(f"/proc/self/fd/{descriptor}", flags | os.O_NONBLOCK | os.O_CLOEXEC)
        finally:
            os.close(descriptor)

    def _passed(self, name: str) -> int:
        descriptor = self._descriptor(name, os.O_PATH)
        try:
            self._look(name, os.fstat(descriptor))
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _descriptor(self, name: str, flags: int) -> int:
        """An entry itself, whatever it is. Raises StrangeError for a link where a directory is wanted."""
        try:
            return os.open(_plain(name), flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.descriptor)
        except OSError:
            if _target(self, name) is None:
                raise
            raise LinkError(_link(self.path / name)) from None

    def _look(self, name: str, found: os.stat_result) -> None:
        """Raises StrangeError for what is no file of the directory's own account.

        Not of root's either: a second name of such a file may be gone again by the time that its names are counted.
        """
        path = self.path / name
        if stat.S_ISLNK(found.st_mode):
            raise LinkError(_link(path))
        if not stat.S_ISREG(found.st_mode):
            raise StrangeError(f"{path} is no regular file")
        # Whatever root alone can put there is as root wants it.
        if self.owned:
            return
        if found.st_uid != self.stat().st_uid:
            raise StrangeError(f"{path} belongs to {found.st_uid}, and its directory to {self.stat().st_uid}")
        if found.st_nlink != 1:
            raise StrangeError(f"{path} has {found.st_nlink} names, and may be a file of somebody else")


@contextmanager
def opened(directory: Path, *, below: Path | None = None, make: int | None = None) -> Iterator[Place]:
    """An existing directory, or one that is made, with those above it, with the mode `make`.

    below: what is under this path is a container's, whoever owns it: a container's root owns its files as the host's
    does.  Without it a directory is root's as long as root owns it and no other account can write to it, and so are
    those above. Links are followed in what is root's alone. Raises FileNotFoundError, NotADirectoryError, StrangeError.
    """
    if not directory.is_absolute() or ".." in directory.parts:
        raise ValueError(f"{directory} is no absolute path")
    if below is not None and not directory.is_relative_to(below):
        raise ValueError(f"{directory} is not below {below}")
    # How many components are left when what is a container's begins.
    theirs = len(directory.relative_to(below).parts) if below is not None else -1
    left = deque(directory.parts[1:])
    place, links = Place(os.open("/", DIRECTORY), Path("/"), _owned(Path("/").stat()) and len(left) > theirs), 0
    try:
        while left:
            name = left.popleft()
            if place.owned and (target := _target(place, name)) is not None:
                links += 1
                if links > MOST_LINKS:
                    raise StrangeError(f"{directory} leads through more than {MOST_LINKS} links")
                left.extendleft(reversed(Path(os.path.normpath(place.path / target)).parts[1:]))
                os.close(place.descriptor)
                place = Place(os.open("/", DIRECTORY), Path("/"), _owned(Path("/").stat()))
                continue
            descriptor = place.descend(name, make)
            os.close(place.descriptor)
            owned = place.owned and _owned(os.fstat(descriptor)) and len(left) > theirs
            place = Place(descriptor, place.path / name, owned)
        yield place
    finally:
        os.close(place.descriptor)


def seen_alone(directory: Path) -> tuple[str, ...]:
    """Words to put before those of a program that is to walk a directory by path. It begins in the one above."""
    alone = ("unshare", "--mount", "--propagation", "private", "sh", "-c", SEEN_ALONE, "sh")
    return (*alone, str(directory.parent), directory.name)


def copy(source: Path, target: Path, *, below: Path) -> None:
    """A file of root's own, or a directory with all that is in it, to a path that a container may reach.

    What is there already is written over. Raises OSError, StrangeError among it.
    """
    with opened(target.parent, below=below, make=0o755) as place:
        _copy(source, place, target.name)


def _copy(source: Path, place: Place, name: str) -> None:
    mode = stat.S_IMODE(source.stat().st_mode)
    if not source.is_dir():
        place.write(name, source.read_bytes(), mode=mode, over=True, sync=False)
        return
    with place.directory(name, make=mode) as lower:
        for one in sorted(source.iterdir()):
            _copy(one, lower, one.name)


def _owned(found: os.stat_result) -> bool:
    """Whether root (or this process's own account) alone can change what is in a directory."""
    mine = found.st_uid in (0, os.geteuid())
    return mine and not found.st_mode & stat.S_IWOTH and not (found.st_mode & stat.S_IWGRP and found.st_gid != 0)


def _link(path: Path) -> str:
    return (
        f"{path} is a link, in a place that others than root can change, and is not followed. "
        f"Next: see who made it (ls -l {path}), and remove it"
    )


def _target(place: Place, name: str) -> str | None:
    """Where a link leads; None for anything else."""
    try:
        return os.readlink(name, dir_fd=place.descriptor)
    except OSError:
        return None


def _plain(name: str) -> str:
    if name in ("", ".", "..") or "/" in name:
        raise ValueError(f"{name!r} is no name of an entry")
    return name
