"""What the distribution left looser than it should be: what differs, without writing anything."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

NOLOGIN = "/usr/sbin/nologin"
# Login shells that let nobody in. `sync`, `halt` and `shutdown` run that command and nothing else.
NO_SHELLS = frozenset(
    {NOLOGIN, "/sbin/nologin", "/bin/false", "/usr/bin/false", "/bin/sync", "/sbin/halt", "/sbin/shutdown"}
)
# Numbers below belong to the system (UID_MIN in Debian's login.defs), the last ones to `nobody` and the like.
FIRST_HUMAN, LAST_HUMAN = 1000, 59999


@dataclass(frozen=True)
class Account:
    """A line of /etc/passwd with the password field of /etc/shadow."""

    name: str
    uid: int
    home: str
    shell: str
    password: str

    @property
    def human(self) -> bool:
        return FIRST_HUMAN <= self.uid <= LAST_HUMAN


@dataclass(frozen=True)
class Change:
    """A change of an account: the command that makes it, and what it is in words."""

    command: tuple[str, ...]
    what: str


def edited(text: str, pattern: str, line: str | None, *, append: bool = True) -> str:
    """`text` with `line` in place of the first line that fits `pattern`, and without the others that do.

    A line fits as a whole; `line` may refer to its groups (`\\1`). Where none fits, `line` goes to the end if `append`;
    None only takes away.
    """
    wanted = re.compile(pattern)
    kept = []
    missing = line is not None
    for old in text.splitlines():
        match = wanted.fullmatch(old)
        if match is None:
            kept.append(old)
        elif missing and line is not None:
            kept.append(match.expand(line))
            missing = False
    if missing and append and line is not None:
        kept.append(line)
    return "".join(f"{one}\n" for one in kept)


def tightened(mode: int, most: int) -> int:
    """The permission bits of `mode` that `most` allows: nothing is opened by it."""
    return mode & most


def accounts(passwd: str, shadow: str) -> list[Account]:
    """The accounts of /etc/passwd and /etc/shadow, both as text; one without a line in the latter counts as locked."""
    passwords = {fields[0]: fields[1] for fields in _fields(shadow, 2)}
    return [
        Account(name=name, uid=int(uid), home=home, shell=shell, password=passwords.get(name, "*"))
        for name, _, uid, _, _, home, shell in _fields(passwd, 7)
        if re.fullmatch("[0-9]{1,10}", uid)
    ]


def account_changes(found: Collection[Account], keep_shells: Collection[str]) -> Iterator[Change]:
    """What to change: no password for root, none that is empty, and no login shell for the system's own accounts.

    keep_shells: names of system accounts that log in all the same.
    """
    for one in found:
        if one.password == "" or (one.uid == 0 and not one.password.startswith(("!", "*"))):
            # No password fits `*`, and unlike a locked account (`!`) it may log in by key.
            yield Change(("usermod", "--password", "*", one.name), f"{one.name}: no password fits any more")
        if 0 < one.uid < FIRST_HUMAN and one.shell not in NO_SHELLS and one.name not in keep_shells:
            yield Change(("usermod", "--shell", NOLOGIN, one.name), f"{one.name}: shell {one.shell} -> {NOLOGIN}")


def homes(found: Collection[Account]) -> list[str]:
    """Home directories of people below /home."""
    return [one.home for one in found if one.human and one.home.startswith("/home/")]


def _fields(text: str, count: int) -> Iterator[list[str]]:
    for line in text.splitlines():
        fields = line.split(":")
        if len(fields) >= count and not line.startswith(("#", "+", "-")):
            yield fields[:count]
