"""SCRAM-SHA-256 verifiers as PostgreSQL stores them (RFC 5803; `src/common/scram-common.c`, scram_build_secret).

Sent in place of a password, a verifier is stored as it is: the password reaches neither the server nor its log.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import re

ITERATIONS = 4096  # PostgreSQL's SCRAM_SHA_256_DEFAULT_ITERATIONS
SALT_BYTES = 16  # PostgreSQL's SCRAM_DEFAULT_SALT_LEN

VERIFIER = re.compile(r"SCRAM-SHA-256\$(\d{1,9}):([A-Za-z0-9+/=]+)\$([A-Za-z0-9+/=]+):([A-Za-z0-9+/=]+)")


def verifier(password: str, salt: bytes | None = None, iterations: int = ITERATIONS) -> str:
    """Return the verifier of password: `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`.

    Raises ValueError unless password is printable ASCII: only there every client's SASLprep leaves it alone.
    """
    if not password or not password.isascii() or not password.isprintable():
        raise ValueError("a password must be printable ASCII and not empty")
    salt = os.urandom(SALT_BYTES) if salt is None else salt
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    stored_key = hashlib.sha256(client_key).digest()
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    salt_text, stored_text, server_text = (base64.b64encode(b).decode() for b in (salt, stored_key, server_key))
    return f"SCRAM-SHA-256${iterations}:{salt_text}${stored_text}:{server_text}"


def matches(stored: str | None, password: str) -> bool:
    """Tell whether stored, as read from pg_authid.rolpassword, is a SCRAM verifier of password."""
    found = VERIFIER.fullmatch(stored or "")
    if found is None:
        return False
    try:
        salt = base64.b64decode(found[2], validate=True)
    except binascii.Error:
        return False
    return hmac.compare_digest(verifier(password, salt, int(found[1])), found[0])
