"""Public certificates by ACME on the controller: who has one, what is refused, what status says."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from flotilla import acme
from flotilla.vault import KEYS, new_key, new_value

KEY = new_key()
APPS: list[dict[str, Any]] = [
    {"name": "notes", "domains": ["www.example.com", "example.com", "192.0.2.1"]},
    {"name": "wiki", "domains": ["wiki.example.com", "www.example.com", "2001:db8::1"]},
]
GOOD = {"acme_email": "operations@example.com", "acme_account_key": KEY}
GROUPS = {"loadbalancer": ["lb-1", "lb-2"], "app": ["app-1"]}
STATUS = {
    "names": ["www.example.com"],
    "issued": True,
    "days_left": 50.0,
    "limit_days": 21.0,
    "due": "",
    "error": "",
    "tried": "2026-01-01T00:00:00Z",
}


def refused(*apps: dict[str, Any], **values: Any) -> list[str]:
    found = acme.problems({**GOOD, **values}, apps or APPS, lambda name: f"group_vars/{name}.yml:7", "secrets.yml")
    return [str(problem) for problem in found]


def test_the_thumbprint_is_that_of_the_public_key() -> None:
    """RFC 7638, 3: the required members in the order of their names, without spaces."""
    loaded = serialization.load_pem_private_key(KEY.encode(), None)
    assert isinstance(loaded, ec.EllipticCurvePrivateKey)
    point = loaded.public_key().public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
    x, y = (base64.urlsafe_b64encode(part).decode().rstrip("=") for part in (point[1:33], point[33:]))
    text = f'{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}'
    assert json.loads(text)["kty"] == "EC"
    wanted = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")
    assert acme.thumbprint(KEY) == wanted


@pytest.mark.parametrize("key", ["", "secret words", KEY.replace("PRIVATE", "PUBLIC")])
def test_what_is_no_key_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(ValueError, match="P-256") as caught:
        acme.thumbprint(key)
    assert "secret words" not in str(caught.value)


def test_another_curve_is_refused() -> None:
    other = ec.generate_private_key(ec.SECP384R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with pytest.raises(ValueError, match="P-256"):
        acme.thumbprint(other.decode())


@pytest.mark.parametrize("name", sorted(KEYS))
def test_the_vault_gets_keys_and_no_random_text_for_them(name: str) -> None:
    assert acme.thumbprint(new_value(name))
    assert len(new_value("vault_something_else")) == 32


def test_names_are_the_domains_of_all_apps_without_addresses() -> None:
    assert acme.names_of(APPS) == ["www.example.com", "example.com", "wiki.example.com"]


@pytest.mark.parametrize(
    ("host", "groups", "edge"),
    [
        ("lb-1", GROUPS, "haproxy"),
        ("app-1", GROUPS, ""),
        ("app-1", {"app": ["app-1"]}, "nginx"),
        ("db-1", {"app": ["app-1"], "postgres": ["db-1"]}, ""),
    ],
)
def test_tls_ends_at_the_balancers_where_there_are_some(host: str, groups: dict[str, list[str]], edge: str) -> None:
    assert acme.edge_of(host, groups) == edge


@pytest.mark.parametrize(
    ("more", "wanted"),
    [
        ({}, True),
        ({"acme_email": ""}, False),
        ({"haproxy_certificate": "x"}, False),
        ({"nginx_certificate": "x"}, True),
    ],
)
def test_a_certificate_of_your_own_goes_first(more: dict[str, str], wanted: bool) -> None:
    assert acme.wanted("lb-1", {**GOOD, **more}, GROUPS) is wanted


def test_hosts_with_one_key_are_peers_and_the_first_by_name_renews() -> None:
    hostvars: dict[str, dict[str, Any]] = {
        "lb-2": {**GOOD, "acme_certificate_key": KEY, "private_address": "10.0.0.12"},
        "lb-1": {**GOOD, "acme_certificate_key": KEY, "private_address": "fd00::11", "haproxy_https_port": 8443},
        "app-1": GOOD,
    }
    assert acme.wanted_hosts(hostvars, GROUPS) == ["lb-1", "lb-2"]
    assert acme.peers("lb-1", hostvars, GROUPS) == {"peers": ["10.0.0.12:443"], "rank": 0}
    assert acme.peers("lb-2", hostvars, GROUPS) == {"peers": ["[fd00::11]:8443"], "rank": 1}
    alone = {host: {**one, "acme_certificate_key": ""} for host, one in hostvars.items()}
    assert acme.peers("lb-2", alone, GROUPS) == {"peers": [], "rank": 0}


def test_good_inputs_are_not_refused() -> None:
    assert refused() == []
    assert (
        refused(acme_challenge="dns", acme_dns_provider="digitalocean", acme_dns_credentials={"DO_AUTH_TOKEN": "x"})
        == []
    )
    assert refused({"domains": ["*.example.com"]}, acme_challenge="dns", acme_dns_provider="rfc2136") == []
    assert refused({"domains": ["*.example.com"]}, acme_email="") == []


@pytest.mark.parametrize(
    ("values", "variable", "word"),
    [
        ({"acme_email": "operations"}, "acme_email", "is not an address"),
        (
            {"acme_account_key": ""},
            "acme_account_key",
            'Next: set it to "{{ vault_acme_account_key }}", then secrets.yml',
        ),
        ({"acme_account_key": "x"}, "acme_account_key", "P-256"),
        ({"acme_certificate_key": "x"}, "acme_certificate_key", "vault_acme_certificate_key"),
        ({"acme_challenge": "dns"}, "acme_dns_provider", "is missing, and acme_challenge is dns"),
        ({"acme_challenge": "dns", "acme_dns_provider": "a b"}, "acme_dns_provider", "is not a DNS provider"),
        (
            {"acme_dns_credentials": {"do-token": "x"}},
            "acme_dns_credentials",
            "not the name of an environment variable",
        ),
        ({"acme_directory": "http://ca/dir"}, "acme_directory", "https://"),
    ],
)
def test_each_bad_input_is_refused_with_its_place_and_what_to_do(
    values: dict[str, Any], variable: str, word: str
) -> None:
    (problem,) = refused(**values)
    assert problem.startswith(f"group_vars/{variable}.yml:7: {variable}: ")
    assert word in problem
    assert ". Next: " in problem


def test_a_wildcard_needs_dns() -> None:
    (problem,) = refused({"domains": ["*.example.com", "example.com"]})
    assert problem.startswith("group_vars/domains.yml:7: domains: *.example.com: a wildcard is only signed after a DNS")
    assert "acme_challenge: dns" in problem


def test_too_many_names_and_no_name_are_refused() -> None:
    assert "at most 100" in refused({"domains": [f"a{number}.example.com" for number in range(101)]})[0]
    assert "no app has a domain" in refused({"domains": ["192.0.2.1"]})[0]


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({}, ""),
        # A failure long before the end is told, and fails nothing.
        ({"error": "no route to host"}, ""),
        ({"days_left": 20.9}, "lb-1: the certificate for www.example.com ends: 20.9 days left, fewer than 21"),
        ({"issued": False, "days_left": None}, "lb-1: a self-signed certificate serves www.example.com"),
    ],
)
def test_status_complains_below_the_limit_and_without_a_certificate(more: dict[str, Any], problem: str) -> None:
    told = acme.report({"lb-1": {"said": {**STATUS, **more}}}, "provision.yml")
    assert told["lines"][0] == "certificates"
    assert [one.startswith(problem) and ". Next: " in one for one in told["problems"]] == ([True] if problem else [])
    assert ("no route to host" in "\n".join(told["lines"])) is ("error" in more)


def test_a_host_that_cannot_be_asked_is_a_problem() -> None:
    told = acme.report({"lb-1": {"said": None, "msg": "No such file\nor directory"}}, "provision.yml -i x")
    assert told["lines"] == []
    assert told["problems"] == [
        "lb-1: its certificate cannot be looked at: No such file or directory. Next: provision.yml -i x"
    ]


def test_nothing_is_said_where_nothing_comes_by_acme() -> None:
    assert acme.report({}, "provision.yml") == {"lines": [], "problems": []}
