"""Throw-away authorities, requests and certificates for the tests of the role pki."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from flotilla.pki.requests import KEY_USAGE

NOW = datetime(2030, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
SIGNS = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
Key = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def private_pem(key: Key) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def sign(builder: x509.CertificateBuilder, key: Key) -> str:
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(key, algorithm).public_bytes(Encoding.PEM).decode()


def authority(
    begins: datetime = NOW - DAY, ends: datetime = NOW + 3650 * DAY, key: Key | None = None, usage: bool = True
) -> dict[str, str]:
    """One of `pki_authorities`, with its key."""
    key = key or new_key()
    subject = name(f"authority {x509.random_serial_number()}")
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(begins).not_valid_after(ends)
    builder = builder.add_extension(x509.BasicConstraints(usage, 0 if usage else None), critical=True)
    builder = builder.add_extension(SIGNS if usage else KEY_USAGE, critical=True)
    return {"certificate": sign(builder, key), "key": private_pem(key)}


@cache
def known(which: str) -> tuple[str, str]:
    made = authority()
    return made["certificate"], made["key"]


def named(which: str) -> dict[str, str]:
    """An authority that is the same for the whole run, by name: `old`, `new`, `foreign`."""
    certificate, key = known(which)
    return {"certificate": certificate, "key": key}


def alternative(text: str) -> x509.GeneralName:
    kind, value = text.split(":", 1)
    return x509.DNSName(value) if kind == "DNS" else x509.IPAddress(ipaddress.ip_address(value))


def request(
    common_name: str = "web",
    names: Sequence[str] = ("DNS:web.internal", "IP:10.0.0.1"),
    key: Any = None,
    authority: bool = False,
    key_usage: x509.KeyUsage = KEY_USAGE,
    usages: Sequence[x509.ObjectIdentifier] = (ExtendedKeyUsageOID.SERVER_AUTH,),
    more: Sequence[x509.ExtensionType] = (),
) -> str:
    builder = x509.CertificateSigningRequestBuilder().subject_name(name(common_name))
    builder = builder.add_extension(x509.BasicConstraints(authority, None), critical=True)
    builder = builder.add_extension(key_usage, critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage(list(usages)), critical=False)
    if names:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([alternative(one) for one in names]), critical=False
        )
    for extension in more:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(key or new_key(), hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def certificate(
    signer: dict[str, str],
    csr: str | None = None,
    begins: datetime = NOW - DAY,
    ends: datetime = NOW + 90 * DAY,
) -> str:
    """What the signer makes of a request: every extension of it is copied."""
    asked = x509.load_pem_x509_csr((csr or request()).encode())
    issuer = x509.load_pem_x509_certificate(signer["certificate"].encode())
    builder = x509.CertificateBuilder().subject_name(asked.subject).issuer_name(issuer.subject)
    builder = builder.public_key(asked.public_key()).serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(begins).not_valid_after(ends)
    for extension in asked.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    key = load_pem_private_key(signer["key"].encode(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return sign(builder, key)
