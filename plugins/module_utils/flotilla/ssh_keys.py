"""Public keys as `authorized_keys` has them. The format: sshd(8), AUTHORIZED_KEYS FILE FORMAT."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass

# Options may hold blanks between double quotes, also what looks like a key. Without options is tried first.
_LINE = re.compile(
    r'(?:(?:[^\s"]|"(?:\\.|[^"\\])*")+[ \t]+)??'
    r"(?P<type>(?:ssh|ecdsa|sk)-[A-Za-z0-9@.-]+)[ \t]+(?P<blob>[A-Za-z0-9+/]+={0,2})(?:[ \t]+(?P<comment>.*))?"
)


@dataclass(frozen=True)
class Key:
    """A public key. fingerprint: as `ssh-keygen -lf` prints it.  blob: the key itself; whole line when it is none."""

    fingerprint: str
    blob: str
    comment: str = ""


def read_keys(text: str) -> list[Key]:
    """The keys of a text, one a line. A line that is no key (an address to fetch keys from, say) stands for itself."""
    lines = [line.strip() for line in text.splitlines()]
    return [_read(line) for line in lines if line and not line.startswith("#")]


def _read(line: str) -> Key:
    match = _LINE.fullmatch(line)
    if not match:
        return Key(line, line)
    return Key(fingerprint(match["blob"]), match["blob"], (match["comment"] or "").strip())


def fingerprint(blob: str) -> str:
    """`SHA256:` and the digest of a key, in base64 without its padding."""
    try:
        raw = base64.b64decode(blob, validate=True)
    except binascii.Error:
        raw = blob.encode()
    return "SHA256:" + base64.b64encode(hashlib.sha256(raw).digest()).decode().rstrip("=")
