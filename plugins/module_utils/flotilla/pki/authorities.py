"""The authorities of an environment: whether they can sign and be trusted. For the controller only.

The first one signs, all are trusted. A rotation is three states of that list: [old, new], [new, old], [new].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

VARIABLE = "pki_authorities"
Finding = tuple[str, str]
# What reading a certificate, a request or a key raises that is none, or none that can be used.
UNREADABLE = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)


@dataclass(frozen=True)
class Authority:
    """A certificate that others are verified with, and its PEM text with one newline at its end."""

    certificate: x509.Certificate
    pem: str

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Authority:
        """Read one of `pki_authorities`. Raises ValueError when there is not exactly one certificate in it."""
        try:
            found = x509.load_pem_x509_certificates(str(entry.get("certificate") or "").encode())
        except UNREADABLE as error:
            raise ValueError(str(error)) from None
        if len(found) != 1:
            raise ValueError(f"{len(found)} certificates")
        return cls(found[0], found[0].public_bytes(Encoding.PEM).decode())

    def signed(self, certificate: x509.Certificate) -> bool:
        """Whether the certificate is from this authority."""
        try:
            certificate.verify_directly_issued_by(self.certificate)
        except (InvalidSignature, *UNREADABLE):
            return False
        return True


def bundle(authorities: Sequence[Authority]) -> str:
    """The PEM text of all that are trusted, in their order."""
    return "".join(one.pem for one in authorities)


def problems(entries: Sequence[Mapping[str, Any]], now: datetime) -> list[Finding]:
    """What is wrong with `pki_authorities`, each as (variable, what). No text holds a key.

    entries: {certificate, key}, both PEM; only the first needs its key.
    """
    if not entries:
        return [(VARIABLE, "is empty: the environment has no authority that could sign")]
    found: list[Finding] = []
    seen: dict[str, int] = {}
    for index, entry in enumerate(entries):
        variable = f"{VARIABLE}[{index}]"
        try:
            authority = Authority.of(entry)
        except ValueError:
            found.append((f"{variable}.certificate", "is not one certificate in PEM"))
            continue
        if authority.pem in seen:
            found.append((variable, f"is the same as {VARIABLE}[{seen[authority.pem]}]"))
        seen.setdefault(authority.pem, index)
        found += [(f"{variable}.certificate", what) for what in _certificate_problems(authority, now)]
        if entry.get("key"):
            found += [(f"{variable}.key", what) for what in _key_problems(str(entry["key"]), authority)]
        elif index == 0:
            found.append((f"{variable}.key", "is missing, and the first authority is the one that signs"))
    return found


def _certificate_problems(authority: Authority, now: datetime) -> list[str]:
    certificate = authority.certificate
    if not isinstance(certificate.public_key(), (ec.EllipticCurvePublicKey, rsa.RSAPublicKey)):
        # With Ed25519, SCRAM's channel binding has no digest, and clients of Postgres give up (RFC 5929, section 4.1).
        return ["has a key that is neither ECDSA nor RSA; clients of Postgres cannot bind to what it signs"]
    found = []
    if not _may_sign(certificate):
        found.append("may not sign certificates (no CA:TRUE, or a key usage without keyCertSign)")
    if not authority.signed(certificate):
        found.append("is signed by another authority, so it alone proves nothing to those who trust it")
    if certificate.not_valid_after_utc <= now:
        found.append(f"ended on {certificate.not_valid_after_utc:%Y-%m-%d}")
    if certificate.not_valid_before_utc > now:
        found.append(f"is not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC")
    return found


def _may_sign(certificate: x509.Certificate) -> bool:
    try:
        if not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            return False
        return certificate.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    except (x509.ExtensionNotFound, *UNREADABLE):
        return False


def _key_problems(text: str, authority: Authority) -> list[str]:
    try:
        key = load_pem_private_key(text.encode(), password=None)
    except UNREADABLE:
        return ["is not a private key in PEM without a passphrase"]
    halves = [
        half.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        for half in (key.public_key(), authority.certificate.public_key())
    ]
    return [] if halves[0] == halves[1] else ["does not belong to the certificate beside it"]
