"""Image references, logins, log frames, and the sorting of registry errors."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from flotilla.draft import name_of
from flotilla.engine import End, Engine, EngineError, credentials_for, demultiplex, registry_of
from flotilla.ownership import uid_of
from flotilla.registry import ImageTrouble, classify


@pytest.mark.parametrize(
    ("reference", "registry"),
    [
        ("nginx:1.30", "docker.io"),
        ("team/app", "docker.io"),
        ("registry.example.com/team/app:1", "registry.example.com"),
        ("localhost/app", "localhost"),
        ("host:5000/app:1", "host:5000"),
    ],
)
def test_registry_of_a_reference(reference: str, registry: str) -> None:
    assert registry_of(reference) == registry


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("nginx", "nginx"),
        ("nginx:1.30", "nginx"),
        ("host:5000/app", "host:5000/app"),
        ("host:5000/app:1", "host:5000/app"),
    ],
)
def test_name_of_a_reference(reference: str, name: str) -> None:
    assert name_of(reference) == name


def test_a_login_is_found_by_registry(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    auth = base64.b64encode(b"me:pass:word").decode()
    config.write_text(json.dumps({"auths": {"registry.example.com": {"auth": auth}}}))
    expected = {"username": "me", "password": "pass:word", "serveraddress": "registry.example.com"}
    assert credentials_for("registry.example.com/team/app:1", config) == expected
    assert credentials_for("other.example.com/team/app:1", config) is None
    assert credentials_for("nginx", tmp_path / "absent") is None


def test_log_frames_are_joined_in_order() -> None:
    frames = b"\x01\0\0\0\0\0\0\x02a\n" + b"\x02\0\0\0\0\0\0\x02b\n"
    assert demultiplex(frames) == b"a\nb\n"


def test_a_terminal_s_log_has_no_frames() -> None:
    assert demultiplex(b"plain text, long enough") == b"plain text, long enough"


@pytest.mark.parametrize(
    ("status", "message", "trouble"),
    [
        (404, "manifest for registry.example.com/a:9 not found: manifest unknown", ImageTrouble.NOT_FOUND),
        (401, "unauthorized: authentication required", ImageTrouble.LOGIN),
        (500, "Head https://r/v2/a/manifests/1: no basic auth credentials", ImageTrouble.LOGIN),
        (403, "denied: requested access to the resource is denied", ImageTrouble.LOGIN),
        (500, "dial tcp: lookup registry.example.com: no such host", ImageTrouble.UNREACHABLE),
        (500, "dial tcp 10.0.0.1:443: connect: connection refused", ImageTrouble.UNREACHABLE),
        (
            500,
            "tls: failed to verify certificate: x509: unknown authority",
            ImageTrouble.UNREACHABLE,
        ),
        (0, "the Docker engine did not answer", ImageTrouble.UNREACHABLE),
    ],
)
def test_registry_errors_are_told_apart(status: int, message: str, trouble: ImageTrouble) -> None:
    assert classify(EngineError(status, message)) is trouble


def test_the_uid_of_a_named_user() -> None:
    passwd = "root:x:0:0::/root:/bin/sh\nnotes:x:10001:10001::/:/bin/false\n"
    assert uid_of("notes", passwd) == 10001
    assert uid_of("nobody-here", passwd) == 0


def happened(action: str, **attributes: str) -> str:
    return json.dumps({"Action": action, "Actor": {"Attributes": attributes}})


@pytest.mark.parametrize(
    ("events", "end"),
    [
        ([happened("oom"), happened("die", exitCode="137")], End(137, True)),
        ([happened("oom"), happened("die", exitCode="137"), happened("die", exitCode="3")], End(3, False)),
        ([happened("die", exitCode="137"), happened("oom")], End(137, True)),
        ([], None),
    ],
)
def test_the_engine_tells_how_a_container_ended(
    monkeypatch: pytest.MonkeyPatch, events: list[str], end: End | None
) -> None:
    monkeypatch.setattr(Engine, "call", lambda *_, **__: "\n".join(events).encode())
    assert Engine().last_end("c0ffee") == end
