"""What the internet sees of an environment: where its names lead, which certificates are served. For the controller."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime

from cryptography import x509

DNS_NEXT = "correct the record at your DNS provider, or environment_public_addresses if something stands in front"
Found = tuple[str, str]


def names_of(text: str) -> dict[str, list[str]]:
    """Name → addresses of a file of hosts(5), names in small letters."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        address, *names = line.partition("#")[0].split() or [""]
        for name in names:
            found.setdefault(name.lower(), []).append(address)
    return found


def resolve(name: str) -> list[str]:
    """The addresses of a name, as this machine resolves it; none when it does not."""
    try:
        return sorted({str(entry[4][0]) for entry in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)})
    except (OSError, UnicodeError):
        return []


def dns_problems(
    domains: Iterable[str], expected: Iterable[str], resolver: Callable[[str], list[str]]
) -> Iterator[Found]:
    """Domains that do not resolve, or lead elsewhere. expected: addresses and networks that they may lead to."""
    networks = [network for text in expected if (network := _network(text))]
    for domain in domains:
        addresses = resolver(domain)
        if not addresses:
            yield f"{domain} does not resolve", DNS_NEXT
        elif strangers := [one for one in addresses if not _within(one, networks)]:
            yield f"{domain} leads to {', '.join(strangers)}, which is none of this environment's addresses", DNS_NEXT


def certificate_problems(name: str, served: str, now: datetime, days: int, following: str) -> Iterator[Found]:
    """What is wrong with a served certificate, as PEM or as `error: …`. days: how many it must be good for at least."""
    if not served.startswith("-----BEGIN"):
        yield f"no certificate is served for {name} ({served.removeprefix('error: ') or 'nothing answers'})", following
        return
    try:
        certificate = x509.load_pem_x509_certificate(served.encode())
    except ValueError as error:
        yield f"the certificate for {name} cannot be read: {error}", following
        return
    left = days_left(certificate, now)
    if left < 0:
        yield f"the certificate for {name} ended {-left} days ago", following
    elif left < days:
        yield f"the certificate for {name} ends in {left} days, and should be good for {days}", following
    if not covers(certificate, name):
        yield f"the certificate that is served for {name} is for other names", following


def days_left(certificate: x509.Certificate, now: datetime) -> int:
    """Whole days until it ends; negative afterwards."""
    return (certificate.not_valid_after_utc - now.astimezone(UTC)).days


def covers(certificate: x509.Certificate, name: str) -> bool:
    """Whether the certificate is for a name; a `*` stands for one label. Source: RFC 6125, 6.4.3."""
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return False
    names = [one.lower() for one in extension.value.get_values_for_type(x509.DNSName)]
    _, _, parent = name.lower().partition(".")
    return name.lower() in names or f"*.{parent}" in names


def table(rows: Iterable[Mapping[str, str]]) -> list[str]:
    """Findings as lines of one table: host, topic, what, what to do."""
    lines = [("host", "about", "finding"), *((row["host"], row["about"], row["what"]) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(2)]
    texts = [f"{host:{widths[0]}}  {about:{widths[1]}}  {what}" for host, about, what in lines]
    remedies = ["", *(f"{'':{widths[0]}}  {'':{widths[1]}}  Next: {row['next']}" for row in rows)]
    return [text for pair in zip(texts, remedies, strict=True) for text in pair if text]


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


def _within(address: str, networks: Iterable[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> bool:
    try:
        one = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    return any(one.version == network.version and one in network for network in networks)
