"""The keys and certificates of a lab: made once, kept while they hold, each in a file of the lab's directory."""

from __future__ import annotations

import base64
import hashlib
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

REGISTRY = "registry.example.com"
# Who the lab's certificate is of, besides the addresses of its droplets.
NAMES = (REGISTRY, "localhost", "example.com", "*.example.com")
AUTHORITY_DAYS = 3650
# What today's clients accept, and how much of it has to be left.
SERVER_DAYS = 365
LEFT_DAYS = 30


@dataclass(frozen=True)
class Identity:
    """What the rest of the lab has to know of it: the SSH key's public line and fingerprint, and the certificate."""

    public_key: str
    fingerprint: str
    certificate: str


def keep(path: Path, content: str, mode: int = 0o644) -> None:
    """Let a file have this content. It never has it with more open permissions than these."""
    if not path.exists() or path.read_text() != content:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode)
        path.chmod(mode)
        path.write_text(content)


def ssh_key(path: Path, comment: str) -> str:
    """Return the public line of the SSH key in `path`, which is made when it is not there."""
    if path.exists():
        key = serialization.load_ssh_private_key(path.read_bytes(), None)
    else:
        key = ed25519.Ed25519PrivateKey.generate()
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption())
        keep(path, key.private_bytes(*form).decode(), 0o600)
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    line = f"{public.decode()} {comment}"
    keep(path.with_name(f"{path.name}.pub"), f"{line}\n")
    return line


def fingerprint(public_key: str) -> str:
    """Return the fingerprint of a public line, as ssh-keygen prints it."""
    digest = hashlib.sha256(base64.b64decode(public_key.split()[1])).digest()
    return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"


def private_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Return the private key in `path`, which is made when it is not there."""
    if path.exists():
        found = serialization.load_pem_private_key(path.read_bytes(), None)
        assert isinstance(found, ec.EllipticCurvePrivateKey)
        return found
    key = ec.generate_private_key(ec.SECP256R1())
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())
    keep(path, key.private_bytes(*form).decode(), 0o600)
    return key


def kept_certificate(path: Path, key: ec.EllipticCurvePrivateKey) -> x509.Certificate | None:
    """Return the certificate in `path` if it is this key's and holds for a while."""
    if not path.exists():
        return None
    found = x509.load_pem_x509_certificate(path.read_bytes())
    left = found.not_valid_after_utc - datetime.now(UTC)
    return found if found.public_key() == key.public_key() and left > timedelta(days=LEFT_DAYS) else None


def _begun(
    name: str, key: ec.EllipticCurvePrivateKey, issuer: x509.Name | None, signer: ec.EllipticCurvePrivateKey, days: int
) -> x509.CertificateBuilder:
    """Return what every certificate of the lab begins with."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer or subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )


def _signed(builder: x509.CertificateBuilder, signer: ec.EllipticCurvePrivateKey, path: Path) -> x509.Certificate:
    certificate = builder.sign(signer, hashes.SHA256())
    keep(path, certificate.public_bytes(serialization.Encoding.PEM).decode())
    return certificate


def authority(path: Path, key: ec.EllipticCurvePrivateKey, name: str) -> x509.Certificate:
    """Return the certificate of the lab's authority."""
    kept = kept_certificate(path, key)
    if kept:
        return kept
    usage = dict.fromkeys(
        (
            *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
            *("encipher_only", "decipher_only"),
        ),
        False,
    )
    builder = (
        _begun(name, key, None, key, AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.KeyUsage(key_cert_sign=True, crl_sign=True, **usage), critical=True)
    )
    return _signed(builder, key, path)


def server_certificate(
    path: Path,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Certificate,
    signer: ec.EllipticCurvePrivateKey,
    addresses: Sequence[str],
) -> None:
    """Let `path` hold a certificate of the lab's names and these addresses, issued by its authority."""
    names = x509.SubjectAlternativeName(
        [
            *(x509.DNSName(name) for name in NAMES),
            *(x509.IPAddress(ipaddress.ip_address(address)) for address in ("127.0.0.1", *addresses)),
        ]
    )
    kept = kept_certificate(path, key)
    if (
        kept
        and kept.issuer == issuer.subject
        and kept.extensions.get_extension_for_class(x509.SubjectAlternativeName).value == names
        and kept.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
        == x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    ):
        return
    builder = (
        _begun(REGISTRY, key, issuer.subject, signer, SERVER_DAYS)
        .add_extension(names, critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    )
    _signed(builder, signer, path)


def identity(directory: Path, name: str, addresses: Sequence[str], login: str) -> Identity:
    """Return the identity of a lab, with its files made.

    Args:
        directory: the lab's. In it are `id_ed25519`, `ca.key` and `ca.crt`, what the registry reads in `registry/`, and
            what droplets start with in `seed/`.
        name: the lab's.
        addresses: of its droplets.
        login: `name:password` of its registry.
    """
    for part in ("seed", "registry"):
        (directory / part).mkdir(mode=0o700, parents=True, exist_ok=True)
    public_key = ssh_key(directory / "id_ed25519", f"flotilla-lab-{name}")
    signer, key = private_key(directory / "ca.key"), private_key(directory / "registry/tls.key")
    issuer = authority(directory / "ca.crt", signer, f"Flotilla lab {name}")
    server_certificate(directory / "registry/tls.crt", key, issuer, signer, addresses)
    user, _, password = login.partition(":")
    keep(directory / "registry/htpasswd", f"{user}:{{PLAIN}}{password}\n")
    keep(directory / "seed/authorized_keys", f"{public_key}\n")
    keep(directory / "seed/ca.crt", (directory / "ca.crt").read_text())
    return Identity(public_key, fingerprint(public_key), (directory / "registry/tls.crt").read_text())
