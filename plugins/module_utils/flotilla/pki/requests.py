"""What a host asks to have signed, against what the inventory says it gets. For the controller only.

The signer copies the extensions of a request into the certificate. A host that somebody has taken over could ask for
the database's name, or for an authority of its own.
"""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from .authorities import UNREADABLE
from .certificates import USAGES, Declared, alternatives

KEY_USAGE = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=False,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)


def problems(pem: str, declared: Declared) -> list[str]:
    """What a request asks for and should not, or the reverse; empty when it is what was declared, to the letter."""
    try:
        request = x509.load_pem_x509_csr(pem.encode())
        key, extensions = request.public_key(), request.extensions
        asked = {extension.oid: extension for extension in extensions}
        names = alternatives(extensions)
        subject, signed = request.subject, request.is_signature_valid
    except UNREADABLE:
        return ["it cannot be read"]
    expected: dict[x509.ObjectIdentifier, tuple[x509.ExtensionType | None, bool]] = {
        x509.BasicConstraints.oid: (x509.BasicConstraints(ca=False, path_length=None), True),
        x509.KeyUsage.oid: (KEY_USAGE, True),
        x509.ExtendedKeyUsage.oid: (None, False),
    }
    if declared.alternatives():
        expected[x509.SubjectAlternativeName.oid] = (None, False)
    checks = {
        "it is not signed with its key": not signed,
        "its key is not of the curve P-256": not (
            isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1)
        ),
        "it has another subject": subject != x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, declared.name)]),
        "it has other names": names != set(declared.alternatives()),
        "it has other extensions": asked.keys() != expected.keys(),
    }
    found = [what for what, applies in checks.items() if applies]
    for oid, (value, critical) in expected.items():
        extension = asked.get(oid)
        if extension and (extension.critical != critical or value not in (None, extension.value)):
            found.append(f"its extension {oid.dotted_string} is another")
    usages = asked.get(x509.ExtendedKeyUsage.oid)
    if usages and set(usages.value) != {USAGES[usage] for usage in declared.usages}:
        found.append("it has other usages")
    return found
