"""Public certificates by ACME: which hosts have one, what is wrong with the inputs, what hosts say of theirs.

Pure functions, for the controller only.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from .frontage import is_address
from .problem import Problem
from .told import told

# Let's Encrypt's limit of names in a certificate.
MOST_NAMES = 100
PROVIDER = re.compile(r"[a-z0-9-]+")
EMAIL = re.compile(r"[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+")
ENVIRONMENT_NAME = re.compile(r"[A-Z][A-Z0-9_]*")
HTTP, DNS = "http", "dns"
NEXT = "docs/how-to/public-certificate.md"


def thumbprint(key: str) -> str:
    """The thumbprint of an account's key, which answers HTTP challenges. Source: RFC 8555, 8.3; RFC 7638.

    key: a private key of the curve P-256 in PEM. Raises ValueError, which does not quote it.
    """
    try:
        loaded = serialization.load_pem_private_key(key.encode(), password=None)
    except (TypeError, ValueError):
        loaded = None
    if not isinstance(loaded, ec.EllipticCurvePrivateKey) or not isinstance(loaded.curve, ec.SECP256R1):
        raise ValueError("is not a private key of the curve P-256 in PEM")
    numbers = loaded.public_key().public_numbers()
    jwk = {"crv": "P-256", "kty": "EC", "x": _base64(numbers.x), "y": _base64(numbers.y)}
    text = json.dumps(jwk, sort_keys=True, separators=(",", ":"))
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")


def _base64(number: int) -> str:
    return base64.urlsafe_b64encode(number.to_bytes(32, "big")).decode().rstrip("=")


def names_of(apps: Iterable[Mapping[str, Any]]) -> list[str]:
    """The domains of all apps, each once, in their order. Addresses are left out: no ACME server here signs them."""
    found = (str(domain) for app in apps for domain in app.get("domains") or [])
    return [name for name in dict.fromkeys(found) if not is_address(name)]


def edge_of(host: str, groups: Mapping[str, Sequence[str]]) -> str:
    """The role that ends public TLS on a host: `haproxy` on a balancer, `nginx` on an app host without one, or none."""
    if host in groups.get("loadbalancer", ()):
        return "haproxy"
    return "nginx" if host in groups.get("app", ()) and not groups.get("loadbalancer") else ""


def wanted(host: str, variables: Mapping[str, Any], groups: Mapping[str, Sequence[str]]) -> bool:
    """Whether a host's certificate comes by ACME: the inventory asks for it, and gives none of its own."""
    edge = edge_of(host, groups)
    return bool(edge and variables.get("acme_email") and not variables.get(f"{edge}_certificate"))


def wanted_hosts(hostvars: Mapping[str, Mapping[str, Any]], groups: Mapping[str, Sequence[str]]) -> list[str]:
    """All such hosts, by name."""
    hosts = sorted({*groups.get("loadbalancer", ()), *groups.get("app", ())})
    return [host for host in hosts if wanted(host, hostvars[host], groups)]


def peers(host: str, hostvars: Mapping[str, Mapping[str, Any]], groups: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """`peers` (address:port of the other hosts with the same certificate) and `rank` of this one, by name.

    Without `acme_certificate_key` each host has a key, and so a certificate, of its own: nobody has peers.
    """
    alike = [one for one in wanted_hosts(hostvars, groups) if hostvars[one].get("acme_certificate_key")]
    if host not in alike:
        return {"peers": [], "rank": 0}
    found = []
    for one in alike:
        address = str(hostvars[one].get("private_address", ""))
        port = hostvars[one].get(f"{edge_of(one, groups)}_https_port", 443)
        found.append(f"[{address}]:{port}" if ":" in address else f"{address}:{port}")
    rank = alike.index(host)
    return {"peers": found[:rank] + found[rank + 1 :], "rank": rank}


def problems(
    values: Mapping[str, Any], apps: Sequence[Mapping[str, Any]], place: Callable[[str], str], command: str
) -> list[Problem]:
    """All that is wrong with a host's `acme_…` variables and the domains of the apps.

    place: variable → file and line.  command: what makes missing secrets.
    """
    if not values.get("acme_email"):
        return []
    found: list[Problem] = []

    def refuse(variable: str, what: str, fix: str) -> None:
        found.append(Problem(place(variable), variable, what, fix))

    if not EMAIL.fullmatch(str(values["acme_email"])):
        refuse("acme_email", f"{values['acme_email']!r} is not an address", "correct it")
    secret = 'set it to "{{ vault_%s }}", then ' + command
    for variable in ("acme_account_key", "acme_certificate_key"):
        if not values.get(variable):
            if variable == "acme_account_key":
                refuse(variable, "is missing, and acme_email is there", secret % variable)
            continue
        try:
            thumbprint(str(values[variable]))
        except ValueError as error:
            refuse(variable, str(error), secret % variable)
    challenge, provider = str(values.get("acme_challenge", HTTP)), str(values.get("acme_dns_provider") or "")
    names = names_of(apps)
    wild = [name for name in names if name.startswith("*.")]
    if wild and challenge == HTTP:
        what = f"{', '.join(wild)}: a wildcard is only signed after a DNS challenge, and acme_challenge is http"
        refuse(
            "domains", what, f"set acme_challenge: dns and acme_dns_provider ({NEXT}), or name the domains one by one"
        )
    if challenge == DNS and not PROVIDER.fullmatch(provider):
        what = f"{provider!r} is not a DNS provider of lego" if provider else "is missing, and acme_challenge is dns"
        refuse("acme_dns_provider", what, "name one of those that `lego dnshelp` lists")
    for name in values.get("acme_dns_credentials") or {}:
        if not ENVIRONMENT_NAME.fullmatch(str(name)):
            what = f"{str(name)!r} is not the name of an environment variable of lego"
            refuse("acme_dns_credentials", what, f"`lego dnshelp -c {provider or '<provider>'}` lists them")
    server = str(values.get("acme_directory") or "https://")
    if not server.startswith("https://"):
        refuse("acme_directory", f"{server!r} does not begin with https://", "correct it, or remove it")
    if not names:
        refuse(
            "domains",
            "no app has a domain, and an address gets no certificate",
            "give an app a domain, or remove acme_email",
        )
    if len(names) > MOST_NAMES:
        what = f"{len(names)} names, and a certificate has at most {MOST_NAMES}"
        refuse(
            "domains", what, "use a wildcard, or bring your own certificate (docs/how-to/use-your-own-certificate.md)"
        )
    return found


def report(seen: Mapping[str, Mapping[str, Any]], command: str) -> dict[str, list[str]]:
    """`lines` and `problems`, from what `flotilla-acme status` told on each host (`said`), or Ansible (`msg`)."""
    return told("certificates", "its certificate", seen, _judge, command)


def _judge(_: str, said: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    names = ", ".join(said["names"][:3]) + (f" and {len(said['names']) - 3} more" if len(said["names"]) > 3 else "")
    left = f"{said['days_left']:.0f} days left" if said["issued"] else "none from an ACME server yet"
    error = f"last error ({said['tried']}): {said['error']}" if said["error"] else ""
    lines = [f"{names}: {left}", *([error] if error else [])]
    again = f"{error or 'nothing was tried'}. Next: on the host, systemctl start flotilla-acme.service; {NEXT}"
    if not said["issued"]:
        return lines, [f"a self-signed certificate serves {names}: {again}"]
    if said["days_left"] < said["limit_days"]:
        what = f"{said['days_left']:.1f} days left, fewer than {said['limit_days']:.4g}"
        return lines, [f"the certificate for {names} ends: {what}: {again}"]
    return lines, []
