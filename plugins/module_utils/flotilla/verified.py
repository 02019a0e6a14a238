"""Which key of a host ssh verified, by ssh's own log."""

from __future__ import annotations

import re

# OpenSSH's sshconnect.c: verify_host_key(); of a certificate it is the fingerprint of its key.
VERIFIED = re.compile(r"^debug1: Server host (?:key|certificate): \S+ (SHA256:[A-Za-z0-9+/]+)", re.MULTILINE)


def key_of(log: str) -> str:
    """The fingerprint (`SHA256:…`) of the key in the session that `ssh -v -E` wrote this log of; empty where none is.

    And where there are two: ssh may have tried more than once, but a host can have lines written as well (messages of
    the protocol, with line ends in them), and would have to leave the true one there.
    """
    found = set(VERIFIED.findall(log))
    return str(found.pop()) if len(found) == 1 else ""
