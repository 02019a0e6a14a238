"""What the environment says, read once and checked before anything starts."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

LAST_PORT = 65535


class SettingsError(Exception):
    """A variable is missing or unusable; the message names it."""


@dataclass(frozen=True)
class Identity:
    """Who answers: shown on the page, in `/version` and beside every note."""

    app: str
    version: str
    release: str
    colour: str
    host: str

    def as_dict(self) -> dict[str, str]:
        return {
            "app": self.app,
            "version": self.version,
            "release": self.release,
            "colour": self.colour,
            "host": self.host,
        }


@dataclass(frozen=True)
class Settings:
    """The whole configuration. Passwords never appear in its representation.

    authorities: the file with the certificates of who is trusted about Postgres and Redis; empty: they are spoken to
    without TLS, which is for a laptop.
    redis_prefix: what its keys in Redis begin with, where others have keys too.
    """

    identity: Identity
    database_host: str
    database_port: int
    database_name: str
    database_user: str
    database_password: str
    redis_host: str
    redis_port: int
    redis_user: str
    redis_password: str
    redis_prefix: str
    authorities: str
    log_level: str
    rehearse: str

    def __repr__(self) -> str:
        return f"Settings({self.identity.app} {self.identity.version})"


def secret(environment: Mapping[str, str], name: str) -> str:
    """The value of NAME, or the content of the file that NAME_FILE names; the file wins."""
    path = environment.get(f"{name}_FILE", "")
    if not path:
        return environment.get(name, "")
    try:
        return Path(path).read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        raise SettingsError(f"{name}_FILE: cannot read {path}: {error.strerror}") from error


def authorities(environment: Mapping[str, str]) -> str:
    """The file that AUTHORITIES_FILE names, if any, in which there is a certificate at least."""
    path = environment.get("AUTHORITIES_FILE", "")
    if path:
        try:
            ssl.create_default_context(cafile=path)
        except OSError as error:
            raise SettingsError(f"AUTHORITIES_FILE: no certificate can be read in {path}: {error.strerror}") from error
    return path


def port(environment: Mapping[str, str], name: str, default: int) -> int:
    """A TCP port from the environment."""
    text = environment.get(name) or str(default)
    if not text.isdecimal() or not 0 < int(text) <= LAST_PORT:
        raise SettingsError(f"{name}: {text!r} is not a port")
    return int(text)


def load(environment: Mapping[str, str]) -> Settings:
    """Read the settings; an empty value counts as not given.

    Raises SettingsError.
    """

    def text(name: str, default: str) -> str:
        return environment.get(name) or default

    level = text("LOG_LEVEL", "info").lower()
    if level not in {"debug", "info", "warning", "error", "critical"}:
        raise SettingsError(f"LOG_LEVEL: {level!r} is none of debug, info, warning, error, critical")
    return Settings(
        identity=Identity(
            app="notes",
            version=text("APP_VERSION", "0.0.0"),
            release=text("FLOTILLA_RELEASE", "none"),
            colour=text("FLOTILLA_COLOUR", "none"),
            host=text("FLOTILLA_HOST", socket.gethostname()),
        ),
        database_host=text("DATABASE_HOST", "postgres"),
        database_port=port(environment, "DATABASE_PORT", 5432),
        database_name=text("DATABASE_NAME", "notes"),
        database_user=secret(environment, "DATABASE_USER") or "notes",
        database_password=secret(environment, "DATABASE_PASSWORD"),
        redis_host=text("REDIS_HOST", "redis"),
        redis_port=port(environment, "REDIS_PORT", 6379),
        redis_user=text("REDIS_USER", "default"),
        redis_password=secret(environment, "REDIS_PASSWORD"),
        redis_prefix=text("REDIS_PREFIX", "notes:"),
        authorities=authorities(environment),
        log_level=level,
        rehearse=text("REHEARSE", ""),
    )
