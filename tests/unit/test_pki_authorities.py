"""Which authorities can sign and be trusted, and that no message holds a key."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519
from flotilla.pki.authorities import Authority, bundle, problems
from hypothesis import given
from hypothesis import strategies as st

from tests.unit import pki_data as data

OLD, NEW = data.named("old"), data.named("new")


@pytest.mark.parametrize(
    "entries", [[OLD], [OLD, NEW], [NEW, OLD], [NEW, {"certificate": OLD["certificate"]}]], ids=len
)
def test_each_state_of_a_rotation_is_valid(entries: list[dict[str, str]]) -> None:
    assert problems(entries, data.NOW) == []


@pytest.mark.parametrize(
    ("entries", "variable", "what"),
    [
        ([], "pki_authorities", "is empty"),
        ([{"certificate": "x", "key": "y"}], "pki_authorities[0].certificate", "is not one certificate in PEM"),
        ([{**OLD, "certificate": OLD["certificate"] * 2}], "pki_authorities[0].certificate", "is not one certificate"),
        ([OLD, {"certificate": None}], "pki_authorities[1].certificate", "is not one certificate in PEM"),
        ([{"certificate": OLD["certificate"]}], "pki_authorities[0].key", "is missing"),
        ([{**OLD, "key": "secret"}], "pki_authorities[0].key", "is not a private key in PEM without a passphrase"),
        ([{**OLD, "key": NEW["key"]}], "pki_authorities[0].key", "does not belong to the certificate beside it"),
        ([OLD, {**NEW, "key": OLD["key"]}], "pki_authorities[1].key", "does not belong to the certificate beside it"),
        ([OLD, OLD], "pki_authorities[1]", "is the same as pki_authorities[0]"),
        ([data.authority(ends=data.NOW)], "pki_authorities[0].certificate", "ended on 2030-01-01"),
        ([OLD, data.authority(ends=data.NOW)], "pki_authorities[1].certificate", "ended on 2030-01-01"),
        (
            [data.authority(begins=data.NOW + data.DAY)],
            "pki_authorities[0].certificate",
            "is not valid before 2030-01-02",
        ),
        ([data.authority(usage=False)], "pki_authorities[0].certificate", "may not sign certificates"),
        (
            [data.authority(key=ed25519.Ed25519PrivateKey.generate())],
            "pki_authorities[0].certificate",
            "has a key that is neither ECDSA nor RSA",
        ),
        (
            [{"certificate": data.certificate(OLD), "key": OLD["key"]}],
            "pki_authorities[0].certificate",
            "is signed by another authority",
        ),
    ],
)
def test_what_cannot_sign_or_be_trusted_is_refused(entries: list[dict[str, Any]], variable: str, what: str) -> None:
    found = problems(entries, data.NOW)
    assert [(name, text) for name, text in found if name == variable and text.startswith(what)], found


@given(st.text(), st.text(), st.integers(0, 9))
def test_whatever_is_given_is_judged_and_a_key_never_repeated(certificate: str, key: str, cut: int) -> None:
    damaged = OLD["key"][: -40 - cut] + key
    for entry in ({"certificate": certificate, "key": key}, {**OLD, "key": damaged}):
        found = problems([entry], data.NOW)
        assert found
        assert not any(line in str(found) for line in OLD["key"].splitlines())


def test_the_bundle_has_all_in_their_order() -> None:
    text = bundle([Authority.of(NEW), Authority.of(OLD)])
    assert text == NEW["certificate"] + OLD["certificate"]
    assert len(x509.load_pem_x509_certificates(text.encode())) == 2


def test_only_its_own_certificates_are_from_an_authority() -> None:
    made = x509.load_pem_x509_certificate(data.certificate(OLD).encode())
    assert Authority.of(OLD).signed(made)
    assert not Authority.of(NEW).signed(made)
