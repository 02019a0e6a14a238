"""Certificates of a host: what is declared, what is wrong with that, and which are due. For the controller only."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import PurePosixPath
from typing import Any

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from .authorities import UNREADABLE, Authority, bundle
from .names import Address, address, is_dns_name

VARIABLE = "pki_certificates"
# A common name has 64 characters at most (RFC 5280, appendix A.1).
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
DIRECTORY = re.compile(r"(/[A-Za-z0-9._-]+)+")
MODE = re.compile(r"0?[46][04]0")
USAGES = {"server": ExtendedKeyUsageOID.SERVER_AUTH, "client": ExtendedKeyUsageOID.CLIENT_AUTH}
# What community.crypto calls them.
EXTENDED_KEY_USAGES = {"server": "serverAuth", "client": "clientAuth"}
Finding = tuple[str, str]


@dataclass(frozen=True)
class Declared:
    """One of `pki_certificates`, with defaults."""

    name: str
    directory: str
    dns_names: tuple[str, ...]
    ip_addresses: tuple[Address, ...]
    usages: tuple[str, ...]
    owner: str
    group: str
    mode: str

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Declared:
        """Read an entry in which `problems` finds nothing; each name once, in the order given."""
        addresses = [found for text in entry.get("ip_addresses") or [] if (found := address(str(text)))]
        return cls(
            name=str(entry["name"]),
            directory=str(entry["directory"]),
            dns_names=tuple(dict.fromkeys(str(text).lower() for text in entry.get("dns_names") or [])),
            ip_addresses=tuple(dict.fromkeys(addresses)),
            usages=tuple(usage for usage in USAGES if usage in (entry.get("usages") or ["server"])),
            owner=str(entry.get("owner") or "root"),
            group=str(entry.get("group") or "root"),
            mode=str(entry.get("mode") or "0600"),
        )

    def alternatives(self) -> list[str]:
        """The subject alternative names as `DNS:…` and `IP:…`."""
        return [f"DNS:{name}" for name in self.dns_names] + [f"IP:{found}" for found in self.ip_addresses]


def problems(entries: Sequence[Mapping[str, Any]]) -> list[Finding]:
    """What is wrong with `pki_certificates`, each as (variable, what)."""
    found: list[Finding] = []
    for index, entry in enumerate(entries):
        found += [(f"{VARIABLE}[{index}].{key}", what) for key, what in _entry_problems(entry)]
    for key in ("name", "directory"):
        counts = Counter(str(entry.get(key)) for entry in entries)
        found += [(VARIABLE, f"{key} `{text}` is there {count} times") for text, count in counts.items() if count > 1]
    places = sorted({PurePosixPath(str(entry.get("directory"))) for entry in entries})
    found += [
        (VARIABLE, f"directory `{inner}` is inside `{outer}`")
        for outer in places
        for inner in places
        if outer in inner.parents
    ]
    return found


def _entry_problems(entry: Mapping[str, Any]) -> Iterable[Finding]:
    if not NAME.fullmatch(str(entry.get("name"))):
        yield "name", f"is {entry.get('name')!r}: use 1 to 64 of a-z, 0-9, '.', '_', '-', a letter or digit first"
    directory = str(entry.get("directory"))
    if not DIRECTORY.fullmatch(directory) or {".", ".."} & set(directory.split("/")):
        yield "directory", f"is {directory!r}: give an absolute path of letters, digits, '.', '_', '-'"
    for text in entry.get("dns_names") or []:
        if not is_dns_name(str(text)):
            where = ", but an address: it belongs to ip_addresses" if address(str(text)) else ""
            yield "dns_names", f"has {str(text)!r}, which is no DNS name{where}"
    for text in entry.get("ip_addresses") or []:
        if not address(str(text)):
            yield "ip_addresses", f"has {str(text)!r}, which is no IP address"
    usages = entry.get("usages") or ["server"]
    if set(usages) - USAGES.keys():
        yield "usages", f"is {usages!r}: use `server`, `client` or both"
    elif "server" in usages and not entry.get("dns_names") and not entry.get("ip_addresses"):
        yield "dns_names", "is empty, and so is ip_addresses: a server's certificate without a name serves nobody"
    if not MODE.fullmatch(str(entry.get("mode") or "0600")):
        yield (
            "mode",
            f"is {entry['mode']!r}: a key is for its owner, at most for its group: 0400, 0440, 0600 or 0640",
        )


@dataclass(frozen=True)
class Rules:
    """By what a certificate is judged. The first authority signs, all are trusted; days of validity."""

    authorities: Sequence[Authority]
    renew_days: int
    valid_days: int
    now: datetime


def length_problems(valid_days: int, renew_days: int) -> list[Finding]:
    """What is wrong with the days, each as (variable, what)."""
    if valid_days < 1:
        return [("pki_valid_days", f"is {valid_days}, and must be 1 at least")]
    if not 0 <= renew_days < valid_days:
        return [
            (
                "pki_renew_days",
                f"is {renew_days}, and must be 0 or more, and less than pki_valid_days ({valid_days})",
            )
        ]
    return []


def outlives(rules: Rules) -> list[Finding]:
    """Whether a certificate that is made now would be valid longer than the one who signs it."""
    end = rules.authorities[0].certificate.not_valid_after_utc
    left = f"{days_left(end, rules.now)} days ({end:%Y-%m-%d})"
    if rules.now + timedelta(days=rules.valid_days) <= end:
        return []
    return [("pki_valid_days", f"is {rules.valid_days}, and the authority that signs ends in {left}")]


def days_left(end: datetime, now: datetime) -> int:
    """Whole days until `end`; negative when it has passed."""
    return (end - now) // timedelta(days=1)


def reasons(declared: Declared, found: Mapping[str, Any], rules: Rules) -> list[str]:
    """Why a new certificate is due, in words; empty when the one on the host may stay.

    found: what the module `flotilla_certificates` found: `certificate`, `chain`, `authorities` (PEM texts, empty where
    there is no file), `key_matches`, `key_private`.
    """
    if not found.get("certificate"):
        return ["there is none"]
    try:
        certificate = x509.load_pem_x509_certificate(str(found["certificate"]).encode())
        names, usages, common_name = _contents(certificate)
    except UNREADABLE:
        return ["it cannot be read"]
    signer, end = rules.authorities[0], certificate.not_valid_after_utc
    checks = {
        "its key does not belong to it": not found.get("key_matches"),
        f"its key is not {declared.owner}:{declared.group} {declared.mode}": not found.get("key_private"),
        "its names are others": names != set(declared.alternatives()) or common_name != declared.name,
        "its usages are others": usages != {USAGES[usage] for usage in declared.usages},
        "another authority signed it": not signer.signed(certificate),
        "the trusted authorities are others": found.get("authorities") != bundle(rules.authorities)
        or found.get("chain") != f"{found['certificate']}{signer.pem}",
        "it is not valid yet": certificate.not_valid_before_utc > rules.now,
        "it has ended": end <= rules.now,
        f"it ends in {days_left(end, rules.now)} days": rules.now < end < rules.now + timedelta(days=rules.renew_days),
    }
    return [reason for reason, applies in checks.items() if applies]


def _contents(certificate: x509.Certificate) -> tuple[set[str], set[x509.ObjectIdentifier], str]:
    """Alternative names, extended key usages, the one common name. Raises ValueError where it cannot be read."""
    common_names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if len(common_names) != 1:
        raise ValueError("common name")
    try:
        usages = set(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except x509.ExtensionNotFound:
        usages = set()
    return alternatives(certificate.extensions), usages, str(common_names[0].value)


def alternatives(extensions: x509.Extensions) -> set[str]:
    """The subject alternative names as `DNS:…` and `IP:…`; one of another kind as what it is called in Python."""
    try:
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    prefixes: dict[type[x509.GeneralName], str] = {x509.DNSName: "DNS:", x509.IPAddress: "IP:"}
    return {prefixes.get(type(name), f"{type(name).__name__}:") + str(name.value) for name in names}
