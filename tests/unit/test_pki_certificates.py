"""Which declared certificates are wrong, which are due, and what a host may ask to have signed."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from flotilla.pki import requests
from flotilla.pki.authorities import Authority, bundle
from flotilla.pki.certificates import Declared, Rules, length_problems, outlives, problems, reasons
from flotilla.pki.names import address, is_dns_name
from hypothesis import given
from hypothesis import strategies as st

from tests.unit import pki_data as data

OLD, NEW = data.named("old"), data.named("new")
ENTRY: dict[str, Any] = {
    "name": "web",
    "directory": "/opt/web/certs",
    "dns_names": ["Web.internal"],
    "ip_addresses": ["10.0.0.1"],
}
WEB = Declared.of(ENTRY)


@pytest.mark.parametrize(
    "name", ["postgres", "db-1.internal", "*.apps.example.com", "3.pool.example.com", "xn--bcher-kva.example", "a" * 63]
)
def test_dns_names(name: str) -> None:
    assert is_dns_name(name)


@pytest.mark.parametrize(
    "name",
    [
        *(
            "",
            "a b",
            "a_b",
            "-a",
            "a-",
            "a..b",
            ".a",
            "a.",
            "*",
            "*.com",
            "a.*.com",
            "bücher.example",
            "a\n",
            "10.0.0.1",
        ),
        *("1", "a" * 64, ".".join(["a" * 63] * 4), "DNS:a", "a/b"),
    ],
)
def test_what_is_no_dns_name(name: str) -> None:
    assert not is_dns_name(name)


@given(st.text() | st.from_regex(r"[*a-zA-Z0-9.-]{1,70}", fullmatch=True))
def test_a_certificate_can_carry_every_dns_name(text: str) -> None:
    if is_dns_name(text):
        assert x509.DNSName(text).value == text
        assert address(text) is None


@given(st.ip_addresses())
def test_addresses_in_any_spelling_are_one(found: Any) -> None:
    assert {address(str(found)), address(found.exploded)} == {found}


@pytest.mark.parametrize("text", ["", "10.0.0", "10.0.0.1/24", "fe80::1%eth0", "::g", "web"])
def test_what_is_no_address(text: str) -> None:
    assert address(text) is None


def test_a_declaration_has_defaults_and_each_name_once() -> None:
    entry = ENTRY | {"dns_names": ["B.internal", "a.internal", "b.internal"], "ip_addresses": ["::1", "0:0::1"]}
    declared = Declared.of(entry)
    assert declared.alternatives() == ["DNS:b.internal", "DNS:a.internal", "IP:::1"]
    assert (declared.usages, declared.owner, declared.group, declared.mode) == (("server",), "root", "root", "0600")


@pytest.mark.parametrize(
    "entries",
    [
        [],
        [ENTRY],
        [{"name": "app.1_x", "directory": "/a", "usages": ["client"]}],
        [ENTRY, ENTRY | {"name": "b", "directory": "/opt/web/certs-b", "usages": ["client", "server"], "mode": "0440"}],
    ],
)
def test_valid_declarations(entries: list[dict[str, Any]]) -> None:
    assert problems(entries) == []


@pytest.mark.parametrize(
    ("change", "key", "what"),
    [
        ({"name": "Web"}, "name", "is 'Web'"),
        ({"name": "a" * 65}, "name", "1 to 64"),
        ({"name": "../x"}, "name", "a letter or digit first"),
        ({"directory": "certs"}, "directory", "absolute path"),
        ({"directory": "/opt/../etc"}, "directory", "absolute path"),
        ({"directory": "/opt//certs"}, "directory", "absolute path"),
        ({"directory": "/"}, "directory", "absolute path"),
        ({"directory": "/a b"}, "directory", "absolute path"),
        ({"dns_names": ["a_b"]}, "dns_names", "has 'a_b', which is no DNS name"),
        ({"dns_names": ["10.0.0.1"]}, "dns_names", "it belongs to ip_addresses"),
        ({"ip_addresses": ["web"]}, "ip_addresses", "has 'web', which is no IP address"),
        ({"dns_names": [], "ip_addresses": []}, "dns_names", "is empty, and so is ip_addresses"),
        ({"usages": ["sign"]}, "usages", "use `server`, `client` or both"),
        ({"mode": "0644"}, "mode", "is '0644'"),
        ({"mode": "0604"}, "mode", "is '0604'"),
        ({"mode": "0660"}, "mode", "is '0660'"),
    ],
)
def test_wrong_declarations_name_the_key(change: dict[str, Any], key: str, what: str) -> None:
    found = problems([ENTRY | change])
    assert [(variable, text) for variable, text in found if variable.endswith(f"[0].{key}") and what in text], found


@pytest.mark.parametrize(
    ("second", "what"),
    [
        ({"directory": "/b"}, "name `web` is there 2 times"),
        ({"name": "b"}, "directory `/opt/web/certs` is there 2 times"),
        ({"name": "b", "directory": "/opt/web/certs/b"}, "directory `/opt/web/certs/b` is inside `/opt/web/certs`"),
    ],
)
def test_two_certificates_do_not_meet(second: dict[str, Any], what: str) -> None:
    assert ("pki_certificates", what) in problems([ENTRY, ENTRY | second])


@pytest.mark.parametrize(
    ("days", "variable"), [((0, 0), "pki_valid_days"), ((10, 10), "pki_renew_days"), ((10, -1), "pki_renew_days")]
)
def test_days_that_make_no_sense(days: tuple[int, int], variable: str) -> None:
    assert [name for name, _ in length_problems(*days)] == [variable]


def rules(*authorities: dict[str, str], renew_days: int = 30) -> Rules:
    return Rules([Authority.of(entry) for entry in authorities], renew_days, 397, data.NOW)


def found(certificate: str, *trusted: dict[str, str], **changes: Any) -> dict[str, Any]:
    """What the host has: a certificate of the first of those trusted."""
    return {
        "certificate": certificate,
        "chain": certificate + trusted[0]["certificate"],
        "authorities": bundle([Authority.of(entry) for entry in trusted]),
        "key_matches": True,
        "key_private": True,
    } | changes


CURRENT = data.certificate(OLD)


def test_nothing_is_due_where_everything_is_right() -> None:
    assert reasons(WEB, found(CURRENT, OLD), rules(OLD)) == []


def ends(days: float) -> str:
    return data.certificate(OLD, ends=data.NOW + days * data.DAY)


@pytest.mark.parametrize(
    ("there", "reason"),
    [
        ({"certificate": ""}, "there is none"),
        (found("rubbish", OLD), "it cannot be read"),
        (found(CURRENT, OLD, key_matches=False), "its key does not belong to it"),
        (found(CURRENT, OLD, key_private=False), "its key is not root:root 0600"),
        (found(CURRENT, OLD, chain=CURRENT), "the trusted authorities are others"),
        (found(data.certificate(OLD, data.request("other")), OLD), "its names are others"),
        (found(data.certificate(OLD, data.request(names=["DNS:web.internal"])), OLD), "its names are others"),
        (found(data.certificate(OLD, data.request(names=[])), OLD), "its names are others"),
        (
            found(data.certificate(OLD, data.request(usages=[ExtendedKeyUsageOID.CLIENT_AUTH])), OLD),
            "its usages are others",
        ),
        (found(data.certificate(NEW), OLD), "another authority signed it"),
        (found(data.certificate(OLD, begins=data.NOW + data.DAY), OLD), "it is not valid yet"),
        (found(ends(0), OLD), "it has ended"),
        (found(ends(29.9), OLD), "it ends in 29 days"),
    ],
)
def test_a_certificate_is_due_and_why(there: dict[str, Any], reason: str) -> None:
    assert reasons(WEB, there, rules(OLD)) == [reason]


def test_a_certificate_with_as_many_days_left_stays() -> None:
    assert reasons(WEB, found(ends(30), OLD), rules(OLD, renew_days=30)) == []


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ([OLD], [OLD, NEW], ["the trusted authorities are others"]),
        ([OLD, NEW], [NEW, OLD], ["another authority signed it", "the trusted authorities are others"]),
        ([NEW, OLD], [NEW], ["the trusted authorities are others"]),
    ],
)
def test_each_step_of_a_rotation_makes_it_due_once(
    before: list[dict[str, str]], after: list[dict[str, str]], expected: list[str]
) -> None:
    assert reasons(WEB, found(data.certificate(before[0]), *before), rules(*after)) == expected
    assert reasons(WEB, found(data.certificate(after[0]), *after), rules(*after)) == []


def test_a_certificate_must_not_outlive_its_authority() -> None:
    short = data.authority(ends=data.NOW + 396 * data.DAY)
    assert outlives(rules(short, OLD)) == [
        ("pki_valid_days", "is 397, and the authority that signs ends in 396 days (2031-02-01)")
    ]
    assert outlives(rules(OLD, short)) == []


def test_a_request_for_what_was_declared_is_signed() -> None:
    assert requests.problems(data.request(), WEB) == []
    client = replace(WEB, dns_names=(), ip_addresses=(), usages=("client",))
    assert requests.problems(data.request(names=[], usages=[ExtendedKeyUsageOID.CLIENT_AUTH]), client) == []


SIGNING = x509.KeyUsage(True, False, False, False, False, True, False, False, False)
BOTH = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]


@pytest.mark.parametrize(
    ("asked", "what"),
    [
        ("rubbish", "it cannot be read"),
        (data.request("postgres"), "it has another subject"),
        (data.request(names=["DNS:web.internal", "IP:10.0.0.1", "DNS:postgres"]), "it has other names"),
        (data.request(names=["DNS:web.internal", "IP:10.0.0.2"]), "it has other names"),
        (data.request(names=[]), "it has other names"),
        (data.request(authority=True), "its extension 2.5.29.19 is another"),
        (data.request(key_usage=SIGNING), "its extension 2.5.29.15 is another"),
        (data.request(usages=BOTH), "it has other usages"),
        (data.request(more=[x509.OCSPNoCheck()]), "it has other extensions"),
        (data.request(key=ec.generate_private_key(ec.SECP384R1())), "its key is not of the curve P-256"),
    ],
)
def test_a_request_for_anything_else_is_not(asked: str, what: str) -> None:
    assert what in requests.problems(asked, WEB)


@given(st.integers(0, 200), st.integers(0, 255))
def test_a_request_that_was_tampered_with_is_not(place: int, byte: int) -> None:
    request = x509.load_pem_x509_csr(data.request().encode())
    raw = bytearray(request.public_bytes(Encoding.DER))
    if raw[place] != byte:
        raw[place] = byte
        text = base64.encodebytes(bytes(raw)).decode()
        pem = f"-----BEGIN CERTIFICATE REQUEST-----\n{text}-----END CERTIFICATE REQUEST-----\n"
        assert requests.problems(pem, WEB)
