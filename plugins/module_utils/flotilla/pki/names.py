"""Names that a certificate may have: DNS names and addresses, as text."""

from __future__ import annotations

import ipaddress
import re

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
# RFC 1123, section 2.1; a wildcard is one label, and below it are two at least (RFC 6125, section 6.4.3).
DNS_NAME = re.compile(rf"(?:\*\.{LABEL}\.)?{LABEL}(?:\.{LABEL})*", re.IGNORECASE)
DNS_NAME_LENGTH = 253


def is_dns_name(text: str) -> bool:
    """Whether this is a DNS name that a certificate can carry; what reads as an IPv4 address is none."""
    if len(text) > DNS_NAME_LENGTH or DNS_NAME.fullmatch(text) is None:
        return False
    # RFC 3696, section 2: the last label is not all digits, or it could be an address.
    return not text.rpartition(".")[2].isdigit()


def address(text: str) -> Address | None:
    """The address that this text is; None when it is none, or one of a single link (with a zone)."""
    try:
        return None if "%" in text else ipaddress.ip_address(text)
    except ValueError:
        return None
