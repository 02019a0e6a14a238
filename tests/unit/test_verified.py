"""Which key of a host ssh verified, by logs of OpenSSH 9.2 and by what its source prints of certificates."""

from __future__ import annotations

import pytest
from flotilla.verified import key_of

PLAIN = "debug1: Server host key: ssh-ed25519 SHA256:DiY3wvvV6TuJJhbpZisF/zLDA0zPMSvHdkr4UvCOqU+"
CERTIFICATE = (
    'debug1: Server host certificate: ssh-ed25519-cert-v01@openssh.com SHA256:abc+/9, serial 0 ID "a" '
    "CA ssh-ed25519 SHA256:other valid forever"
)


@pytest.mark.parametrize(
    ("log", "key"),
    [
        (f"debug1: a\r\n{PLAIN}\r\ndebug1: b", "SHA256:DiY3wvvV6TuJJhbpZisF/zLDA0zPMSvHdkr4UvCOqU+"),
        (CERTIFICATE, "SHA256:abc+/9"),
        (f"{PLAIN}\r\n{PLAIN}\r\n", "SHA256:DiY3wvvV6TuJJhbpZisF/zLDA0zPMSvHdkr4UvCOqU+"),
        (f"{PLAIN}\ndebug1: Remote: x\ndebug1: Server host key: ssh-ed25519 SHA256:forged", ""),
        ("debug1: Remote: Server host key: ssh-ed25519 SHA256:forged", ""),
        ("", ""),
    ],
)
def test_the_key_that_ssh_verified(log: str, key: str) -> None:
    assert key_of(log) == key
