"""What an app keeps on a host: releases, secrets, history. Directories are 0700 and root's.

/opt/<app>/releases/<id>/   compose.json migration.json release.json router.conf files/ …
/opt/<app>/secrets/<version>/   /opt/<app>/shared/   state.json   history.jsonl
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import io
import json
import os
import secrets as random_source
import shutil
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from .journal import sync_directory, write_atomic


class Standing(StrEnum):
    """What became of a release on this host."""

    PREPARED = "prepared"
    LIVE = "live"
    PROVEN = "proven"
    REFUSED = "refused"
    REVERTED = "reverted"
    # It was proven and live, and people went back to the one before: a rollback never chooses it by itself.
    ROLLED_BACK = "rolled back"


@dataclass(frozen=True)
class Release:
    """The record of one release, `release.json`.

    images: service → `name@sha256:…`.  created, proven: ISO 8601, UTC.  migration: none, applied or failed.
    restore_point: of the database, set before the migration; empty where there is none.
    """

    id: str
    version: str
    fingerprint: str
    secrets_version: str
    images: Mapping[str, str]
    standing: Standing = Standing.PREPARED
    created: str = ""
    proven: str = ""
    migration: str = "none"
    restore_point: str = ""
    services: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Store:
    """One app's directory on a host, `/opt/<app>`."""

    base: Path

    @property
    def journal(self) -> Path:
        return self.base / "state.json"

    @property
    def shared(self) -> Path:
        return self.base / "shared"

    def directory(self, release: str) -> Path:
        return self.base / "releases" / release

    def secrets_directory(self, version: str) -> Path:
        return self.base / "secrets" / version

    def create(self) -> None:
        """Make the app's directories. The base is passable (0711): containers' users reach `shared` only."""
        self.base.mkdir(mode=0o711, parents=True, exist_ok=True)
        for name, mode in (("releases", 0o700), ("secrets", 0o700), ("shared", 0o711)):
            (self.base / name).mkdir(mode=mode, exist_ok=True)

    # -- releases -----------------------------------------------------------------------------

    def read(self, release: str) -> Release | None:
        """The record of a release, or None where the host has none."""
        try:
            data = json.loads((self.directory(release) / "release.json").read_text())
        except (FileNotFoundError, NotADirectoryError):
            return None
        return Release(**{**data, "standing": Standing(data["standing"])})

    def write(self, release: Release) -> None:
        """Replace the record of a release."""
        text = json.dumps(asdict(release), indent=1, sort_keys=True) + "\n"
        write_atomic(self.directory(release.id) / "release.json", text, mode=0o600)

    def mark(self, release: str, standing: Standing, **changes: Any) -> None:
        """Change the standing of a release; one that is not there any more is passed over."""
        if record := self.read(release):
            self.write(replace(record, standing=standing, **changes))

    def releases(self) -> list[Release]:
        """All releases with a readable record, oldest first (ids sort by time)."""
        return [record for name in self._names() if (record := self.read(name))]

    def unrecorded(self) -> list[str]:
        """The directories of releases without a record: what a prepare left that failed early or was cut short."""
        return [name for name in self._names() if not self.read(name)]

    def _names(self) -> list[str]:
        directory = self.base / "releases"
        return sorted(path.name for path in directory.iterdir()) if directory.is_dir() else []

    def remove(self, release: str) -> None:
        """Remove a release's directory."""
        shutil.rmtree(self.directory(release), ignore_errors=True)

    # -- secrets ------------------------------------------------------------------------------

    def secrets_version(self, values: Mapping[str, str]) -> str:
        """A name for a set of secret values that changes with them and tells nothing about them.

        It is keyed with 32 random bytes of this host, so that a weak secret cannot be guessed from it.
        """
        key_file = self.base / "secrets" / ".key"
        try:
            key = bytes.fromhex(key_file.read_text())
        except FileNotFoundError:
            key = random_source.token_bytes(32)
            if key_file.parent.is_dir():
                write_atomic(key_file, key.hex(), mode=0o600)
        canonical = json.dumps(dict(values), sort_keys=True).encode()
        return hmac.new(key, canonical, hashlib.sha256).hexdigest()[:16]

    def write_secrets(self, version: str, values: Mapping[str, str], files: Mapping[str, tuple[str, int]]) -> None:
        """Write one file a secret and user, 0400. files: file name → (secret, uid of its owner)."""
        directory = self.secrets_directory(version)
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name, (secret, uid) in files.items():
            write_atomic(directory / name, values[secret], mode=0o400)
            os.chown(directory / name, uid, -1)

    def reissue_secrets(self, values: Mapping[str, str]) -> int:
        """Give secrets another value in every version that is kept, and return how many files that were.

        For credentials that were rotated: a release of before, gone back to later, must not come with dead ones.
        Running containers have the old files until they are started anew. values: secret → value.
        """
        count = 0
        for path in sorted((self.base / "secrets").glob("*/*-*")):
            secret = path.name.rpartition("-")[0]
            if secret in values and path.read_bytes() != values[secret].encode():
                owner = path.stat().st_uid
                write_atomic(path, values[secret], mode=0o400)
                os.chown(path, owner, -1)
                count += 1
        return count

    # -- migrations that there is no way back from ------------------------------------------------

    def add_barrier(self, release: str, version: str) -> None:
        """Note, before it runs, a migration that releases before this one cannot live with. Never pruned."""
        self._append("migrations.jsonl", {"release": release, "version": version})

    def barriers(self) -> list[dict[str, str]]:
        """The releases with such a migration on this host (only one host of a fleet runs them), oldest first."""
        try:
            text = (self.base / "migrations.jsonl").read_text()
        except FileNotFoundError:
            return []
        # The last line may have been cut off by a power failure, before its migration began.
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    # -- history and pruning ------------------------------------------------------------------

    def record(self, entry: Mapping[str, Any]) -> None:
        """Append one line to the history."""
        self._append("history.jsonl", entry)

    def _append(self, name: str, entry: Mapping[str, Any]) -> None:
        descriptor = os.open(self.base / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "a") as file:
            file.write(json.dumps(dict(entry), sort_keys=True) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def prunable(self, keep: int, protected: Iterable[str]) -> list[Release]:
        """The releases that may go: all but the `keep` newest proven ones and the protected.

        One that was rolled back from stays as long as an older proven one does: the way forward again.
        """
        kept = set(protected)
        records = self.releases()
        proven = [record.id for record in records if record.standing in (Standing.PROVEN, Standing.LIVE)]
        kept.update(proven[-keep:] if keep > 0 else [])
        oldest = min(kept, default="")
        return [
            record
            for record in records
            if record.id not in kept and not (record.standing is Standing.ROLLED_BACK and record.id > oldest)
        ]

    def prune_secrets(self) -> None:
        """Remove secret versions that neither a release nor the shared services on this host use."""
        shared = self.base / "shared.json"
        in_shared = shared.read_text() if shared.exists() else ""
        used = {record.secrets_version for record in self.releases()} | {".key"}
        for path in (self.base / "secrets").iterdir():
            if path.name not in used and path.name not in in_shared:
                shutil.rmtree(path, ignore_errors=True)


def unpack(bundle: str, target: Path) -> None:
    """Unpack a base64 tar.gz of an app's source into a new directory, private to root.

    Raises ValueError for anything but plain files and directories below the target (`tarfile`'s
    own "data" filter does not exist in Debian 12's Python 3.11.2).
    """
    target.mkdir(mode=0o700, parents=True)
    with tarfile.open(fileobj=io.BytesIO(base64.b64decode(bundle)), mode="r:gz") as archive:
        members = archive.getmembers()
        for member in members:
            if not (member.isfile() or member.isdir()) or not (target / member.name).resolve().is_relative_to(
                target.resolve()
            ):
                raise ValueError(f"the bundle holds {member.name}, which is not a plain file below it")
        for member in members:
            archive.extract(member, target, set_attrs=False)
            (target / member.name).chmod(member.mode & 0o755)
    sync_directory(target)


def digest_of_files(paths: Iterable[Path]) -> str:
    """One sha256 over the names, modes and contents of files and directory trees."""
    total = hashlib.sha256()
    for root in paths:
        files = sorted(root.rglob("*")) if root.is_dir() else [root]
        for path in files:
            if path.is_file():
                total.update(f"{root.name}/{path.relative_to(root)}\0{path.stat().st_mode & 0o111:o}\0".encode())
                total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()
