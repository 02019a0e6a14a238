"""SCRAM verifiers: the server's own format, and a password is recognised in it."""

from __future__ import annotations

import base64
import hmac

import pytest
from flotilla import scram
from hypothesis import given, settings
from hypothesis import strategies as st

PASSWORDS = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1)

# RFC 7677, section 3: user `user`, password `pencil`. The server's signature of that exchange follows from ServerKey.
RFC_SALT = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
RFC_AUTH_MESSAGE = (
    b"n=user,r=rOprNGfwEbeRWgbNEkqO,"
    b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,"
    b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
)
RFC_SERVER_SIGNATURE = "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


def test_the_example_of_rfc_7677() -> None:
    server_key = base64.b64decode(scram.verifier("pencil", RFC_SALT).rpartition(":")[2])
    signature = hmac.digest(server_key, RFC_AUTH_MESSAGE, "sha256")
    assert base64.b64encode(signature).decode() == RFC_SERVER_SIGNATURE


@settings(max_examples=settings.default.max_examples // 2)
@given(PASSWORDS)
def test_a_password_matches_its_verifier(password: str) -> None:
    assert scram.matches(scram.verifier(password), password)


@settings(max_examples=settings.default.max_examples // 2)
@given(PASSWORDS, PASSWORDS)
def test_another_password_does_not(password: str, other: str) -> None:
    assert scram.matches(scram.verifier(password), other) == (password == other)


def test_two_verifiers_of_one_password_differ() -> None:
    assert scram.verifier("password") != scram.verifier("password")


@pytest.mark.parametrize("stored", [None, "", "md5" + "0" * 32, "SCRAM-SHA-256$4096:a$b:c", "password"])
def test_what_is_no_verifier_matches_nothing(stored: str | None) -> None:
    assert not scram.matches(stored, "password")


@pytest.mark.parametrize("password", ["", "pässword", "tab\t", "nul\0"])
def test_passwords_that_clients_prepare_differently_are_refused(password: str) -> None:
    with pytest.raises(ValueError, match="printable ASCII"):
        scram.verifier(password)
