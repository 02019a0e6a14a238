"""Ports: what is declared and for whom, what answers all the same; names and certificates that the internet sees."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from flotilla.exposure import allow_list
from flotilla.openings import admitted, declared, differences, ports_of
from flotilla.packet_filter import Rule
from flotilla.public_face import certificate_problems, dns_problems, names_of, table
from hypothesis import given
from hypothesis import strategies as st

NOW = datetime(2030, 1, 1, tzinfo=UTC)
GROUPS = {"app": ["app-1"], "loadbalancer": ["lb-1"], "postgres": ["db-1"]}
ADDRESSES = {"app-1": "10.0.0.11", "lb-1": "10.0.0.10", "db-1": "10.0.0.21"}
DEFAULTS = {
    "firewall_ssh_ports": [22],
    "firewall_allow_custom": [],
    "firewall_networks_default": {"cloudflare": ["198.51.100.0/24"]},
    "firewall_public_sources": ["any"],
    "firewall_metrics_sources": [],
}


def rules(group: str, **variables: object) -> tuple[Rule, ...]:
    return declared(variables, DEFAULTS, allow_list([group], variables, GROUPS, ADDRESSES))


@pytest.mark.parametrize(
    ("group", "source", "port", "yes"),
    [
        ("loadbalancer", "203.0.113.9", 443, True),
        ("app", "203.0.113.9", 443, False),
        ("app", "10.0.0.10", 443, True),
        ("postgres", "10.0.0.11", 5432, True),
        ("postgres", "10.0.0.10", 5432, False),
        ("postgres", "10.0.0.10", 22, True),
        ("postgres", "10.0.0.11", 9999, False),
        ("postgres", "not known", 9999, True),
    ],
)
def test_what_is_declared_for_whom(group: str, source: str, port: int, yes: bool) -> None:
    assert admitted(rules(group), source, port) is yes


def test_the_inventory_adds_to_it() -> None:
    mine = rules("postgres", firewall_allow_custom=[{"ports": ["9100-9110"], "sources": ["cloudflare"]}])
    assert admitted(mine, "198.51.100.7", 9105)
    assert not admitted(mine, "203.0.113.7", 9105)
    assert ports_of(mine) == [22, 5432]


def test_both_differences_are_told() -> None:
    said = [what for what, _ in differences(rules("postgres"), "10.0.0.11", "app-1", [22, 9999])]
    assert said == [
        "port 9999 answers app-1, and nothing declares it",
        "port 5432 is declared for app-1, and does not answer",
    ]


def test_names_lead_where_they_should() -> None:
    book = names_of("# mine\n203.0.113.10 www.example.com Example.com\n\n198.51.100.1 cdn.example.com #x\n")
    problems = list(
        dns_problems(
            ["www.example.com", "cdn.example.com", "gone.example.com"],
            ["203.0.113.0/28", "nonsense"],
            lambda name: book.get(name, []),
        )
    )
    assert [what for what, _ in problems] == [
        "cdn.example.com leads to 198.51.100.1, which is none of this environment's addresses",
        "gone.example.com does not resolve",
    ]
    assert book["example.com"] == ["203.0.113.10"]


@given(st.text())
def test_any_text_can_be_a_file_of_names(text: str) -> None:
    assert all(name and addresses for name, addresses in names_of(text).items())


@given(st.lists(st.text()), st.lists(st.text()), st.lists(st.text()))
def test_any_answer_can_be_judged(domains: list[str], expected: list[str], answers: list[str]) -> None:
    assert len(list(dns_problems(domains, expected, lambda _: answers))) <= len(domains)


def certificate(days: float, *names: str) -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW - timedelta(days=90))
        .not_valid_after(NOW + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(one) for one in names]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return built.public_bytes(serialization.Encoding.PEM).decode()


@pytest.mark.parametrize(
    ("days", "name", "said"),
    [
        (30, "www.example.com", None),
        (13.5, "www.example.com", "ends in 13 days, and should be good for 14"),
        (-2, "www.example.com", "ended 2 days ago"),
        (30, "a.shop.example.com", None),
        (30, "a.b.shop.example.com", "is for other names"),
        (30, "example.com", "is for other names"),
    ],
)
def test_certificates(days: float, name: str, said: str | None) -> None:
    served = certificate(days, "www.example.com", "*.shop.example.com")
    found = [what for what, _ in certificate_problems(name, served, NOW, 14, "")]
    assert (said is None and not found) or (said is not None and said in found[0])


@given(st.text())
def test_any_text_can_be_served(text: str) -> None:
    for served in (text, f"-----BEGIN CERTIFICATE-----\n{text}"):
        assert list(certificate_problems("www.example.com", served, NOW, 14, "next"))


def test_the_table_has_each_remedy_below_its_finding() -> None:
    rows = [{"host": "app-1", "about": "ports", "what": "port 1 answers", "next": "close it"}]
    assert table(rows) == [
        "host   about  finding",
        "app-1  ports  port 1 answers",
        "              Next: close it",
    ]
