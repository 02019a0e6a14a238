"""The files of a certificate on its host: reading them, and switching to a new version. Standard library alone.

    <directory>/current -> <version>
    <directory>/<version>/tls.key tls.crt chain.crt ca.crt

A version never changes after it was made current: whoever has read its certificate finds the key that belongs to it.
"""

from __future__ import annotations

import os
import re
import shutil
import ssl
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

CURRENT = "current"
KEY, CERTIFICATE, CHAIN, AUTHORITIES = "tls.key", "tls.crt", "chain.crt", "ca.crt"
# The time that it was made, in UTC, and a few random digits. No other entry of the directory is ever touched.
VERSION = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{6}")


class CertificateError(Exception):
    """A version that cannot be made the current one; the message names the file."""


@dataclass(frozen=True)
class Found:
    """What is on the host. `version` is empty, and so are the texts, where nothing is."""

    version: str = ""
    certificate: str = ""
    chain: str = ""
    authorities: str = ""
    key_matches: bool = False
    key_private: bool = False


def current_version(directory: Path) -> str:
    """The name of the version that `current` leads to; empty when it leads to none of ours."""
    try:
        version = os.readlink(directory / CURRENT)  # noqa: PTH115, the text of the link and not a path
    except OSError:
        return ""
    return version if VERSION.fullmatch(version) else ""


def read(directory: Path, uid: int, gid: int, mode: int) -> Found:
    """What `current` leads to, and whether its key is its own and has the owner and mode that it should have."""
    version = current_version(directory)
    if not version:
        return Found()
    at = directory / version
    return Found(
        version=version,
        certificate=_text(at / CERTIFICATE),
        chain=_text(at / CHAIN),
        authorities=_text(at / AUTHORITIES),
        key_matches=not pair_problem(at),
        key_private=_is(at / KEY, uid, gid, mode),
    )


def pair_problem(version: Path) -> str:
    """Why key and certificate of a version do not belong together; empty when they do."""
    # A key that wants a passphrase must not ask for it at a terminal.
    try:
        for name in (CERTIFICATE, CHAIN):
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(version / name, version / KEY, password=lambda: b"")
    except (OSError, ValueError) as error:
        return str(error)
    return ""


def activate(directory: Path, version: str) -> list[str]:
    """Make `version` the current one in one step; return the names of the older versions that were removed.

    The version before stays: a service may name it until it is reloaded. Raises CertificateError, with nothing changed,
    when key and certificate do not belong together.
    """
    if not VERSION.fullmatch(version):
        raise CertificateError(f"{directory}: {version!r} is no version")
    problem = pair_problem(directory / version)
    if problem:
        raise CertificateError(f"{directory / version}: key and certificate do not belong together: {problem}")
    before = current_version(directory)
    for path in (*sorted((directory / version).iterdir()), directory / version):
        _sync(path)
    link = directory / f".{CURRENT}.{version}"
    link.unlink(missing_ok=True)
    link.symlink_to(version)
    link.replace(directory / CURRENT)
    _sync(directory)
    return _prune(directory, keep=(version, before))


def _prune(directory: Path, keep: Sequence[str]) -> list[str]:
    gone = sorted(
        path.name
        for path in directory.iterdir()
        if VERSION.fullmatch(path.name) and path.name not in keep and path.is_dir() and not path.is_symlink()
    )
    for name in gone:
        shutil.rmtree(directory / name)
    return gone


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, ValueError):
        return ""


def _is(path: Path, uid: int, gid: int, mode: int) -> bool:
    try:
        there = path.lstat()
    except OSError:
        return False
    return stat.S_ISREG(there.st_mode) and (there.st_uid, there.st_gid, stat.S_IMODE(there.st_mode)) == (uid, gid, mode)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
