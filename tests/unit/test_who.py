"""Who does it: what the controller says of itself, and what a host knows of the session it is asked in."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path

import pytest
from flotilla.processes import Identity
from flotilla.registered import heads
from flotilla.visitor import environment_of, fingerprint, visitor
from flotilla.who import UNSHOWN, arguments, by, checkout, secrets_of
from hypothesis import given
from hypothesis import strategies as st

KEY = "AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"
# What ssh-keygen -lf says of it.
FINGERPRINT = "SHA256:+DiY3wvvV6TuJJhbpZisF/zLDA0zPMSvHdkr4UvCOqU"


def git(directory: Path, *words: str) -> None:
    subprocess.run(["git", "-C", str(directory), *words], check=True, capture_output=True)


def test_the_commit_and_whether_it_is_all(tmp_path: Path) -> None:
    assert checkout(tmp_path)["commit"] == ""
    git(tmp_path, "init", "-q")
    git(tmp_path, "config", "user.name", "Ada Example")
    git(tmp_path, "config", "user.email", "ada@example.com")
    (tmp_path / "file").write_text("one")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "one")
    clean = checkout(tmp_path)
    assert len(clean["commit"]) == 40
    assert (clean["dirty"], clean["name"], clean["email"]) == (False, "Ada Example", "ada@example.com")
    (tmp_path / "file").write_text("two")
    assert checkout(tmp_path) == {**clean, "dirty": True}


def test_arguments_have_no_secrets(tmp_path: Path) -> None:
    extra = {"version": "1.1.0", "secrets_values": {"a": "b"}, "command": "login --password hunter22 x"}
    identity = Identity("t", "ada@laptop", "m", "1:2")
    who = by(identity, tmp_path, "staging", {**extra, "ansible_user": "me"}, "app-1", ["hunter22", "x"])
    assert who["operator"] == "ada@laptop"
    assert who["environment"] == "staging"
    assert who["arguments"] == {
        "command": "login --password ******** x",
        "limit": "app-1",
        "secrets_values": UNSHOWN,
        "version": "1.1.0",
    }


@given(st.dictionaries(st.sampled_from(["command", "version", "other"]), st.text()), st.text(min_size=4))
def test_no_secret_is_in_any_argument(extra: dict[str, str], secret: str) -> None:
    given_with = {**extra, "command": f"{extra.get('command', '')}{secret}", "other": secret}
    # A secret that is part of what stands in its place cannot be told from it.
    if secret not in UNSHOWN and not set(secret) <= {"*"}:
        assert not any(secret in value for value in arguments(given_with, [secret]).values())


def test_the_secrets_are_those_of_the_vault() -> None:
    assert secrets_of({"vault_a": ["one", {"k": "two"}], "b": "three"}) == ["one", "two"]


def session(proc: Path, number: int, parent: int, **environment: str) -> None:
    place = proc / str(number)
    place.mkdir(parents=True)
    (place / "stat").write_text(f"{number} (a (b) c) S {parent} 1 1 0")
    (place / "environ").write_bytes("".join(f"{k}={v}\0" for k, v in environment.items()).encode())


def test_the_session_is_found_above_sudo(tmp_path: Path) -> None:
    told = tmp_path / "auth"
    told.write_text(f"publickey ssh-ed25519 {KEY}\n")
    session(tmp_path, 40, 30, SUDO_USER="deploy", USER="root")
    session(tmp_path, 30, 20, USER="root")
    session(tmp_path, 20, 10, USER="deploy", SSH_CONNECTION="192.0.2.7 4711 192.0.2.1 22", SSH_USER_AUTH=str(told))
    assert visitor(40, tmp_path) == {"login": "deploy", "from": "192.0.2.7", "key": FINGERPRINT}


def test_without_a_session_nothing_is_said(tmp_path: Path) -> None:
    session(tmp_path, 40, 1, USER="root")
    assert visitor(40, tmp_path) == {}
    assert visitor(41, tmp_path) == {}


@pytest.mark.parametrize("said", ["", "password", "publickey ssh-ed25519"])
def test_no_key_has_no_fingerprint(said: str) -> None:
    assert fingerprint(said) == ""


@given(st.text(), st.binary())
def test_any_text_can_be_asked_for_a_key(text: str, raw: bytes) -> None:
    assert isinstance(fingerprint(text), str)
    assert fingerprint(f"publickey any {base64.b64encode(raw).decode()}x").startswith(("", "SHA256:"))
    assert isinstance(environment_of(text), dict)


def test_the_heads_are_the_newest_of_the_others() -> None:
    hostvars = {
        "a": {"asked": {"trail": [4, "a4", "A"]}, "prepared": {"trail": [5, "a5", "A"]}},
        "b": {"asked": {"trail": [9, "b9", "B"]}, "prepared": {"msg": "unreachable"}},
        "c": {"asked": {"trail": []}},
        "d": {},
    }
    assert heads(hostvars, hostvars, ["asked", "prepared"], "a") == {"b": [9, "b9", "B"]}
    assert heads(hostvars, hostvars, ["asked", "prepared"], "b") == {"a": [5, "a5", "A"]}
