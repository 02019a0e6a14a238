"""plugins/scripts/acme_renewal.py: when a certificate is due, which ones are refused, what is swapped."""

from __future__ import annotations

import json
import os
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from flotilla.vault import new_key
from hypothesis import given
from hypothesis import strategies as st

from plugins.scripts import acme_renewal
from plugins.scripts.acme_renewal import DAY, AcmeError, Certificate, Keeper

NAMES = ("www.example.com", "example.com")
SERVER = "https://acme.example.com/dir"
NOW = 1_800_000_000.0
SERVED = Certificate(frozenset(NAMES), NOW, NOW + 90 * DAY, "key", "0" * 64)


def certificate(key: str, names: tuple[str, ...] = NAMES, *, days_old: float = 1, days_left: float = 89) -> str:
    """A certificate for a private key, signed by that key."""
    loaded = serialization.load_pem_private_key(key.encode(), None)
    assert isinstance(loaded, ec.EllipticCurvePrivateKey)
    now = datetime.now(UTC)
    subject = x509.Name([])
    return (
        x509.CertificateBuilder(subject, subject, loaded.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=days_old))
        .not_valid_after(now + timedelta(days=days_left))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
        .sign(loaded, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
        .decode()
    )


@pytest.mark.parametrize(
    ("days_left", "rank", "is_due"),
    [(31, 0, False), (29.9, 0, True), (29.9, 1, False), (26.9, 1, True), (26.9, 2, False), (14.9, 100, True)],
)
def test_a_certificate_is_due_with_a_third_of_its_life_left_and_later_on_later_hosts(
    days_left: float, rank: int, is_due: bool
) -> None:
    why = acme_renewal.due(SERVED, NAMES, "key", SERVER, SERVER, rank, SERVED.ends - days_left * DAY)
    assert why == ("it ends soon" if is_due else "")


@pytest.mark.parametrize(
    ("served", "changes", "why"),
    [
        (None, {}, "there is none yet"),
        (SERVED, {"names": NAMES[:1]}, "the names have changed"),
        (SERVED, {"key": "other"}, "the key has changed"),
        (SERVED, {"server": "https://other/dir"}, "the ACME server has changed"),
        (SERVED, {"names": tuple(reversed(NAMES))}, ""),
    ],
)
def test_what_has_changed_makes_a_certificate_due(
    served: Certificate | None, changes: dict[str, Any], why: str
) -> None:
    inputs: dict[str, Any] = {"names": NAMES, "key": "key", "server": SERVER, **changes}
    found = acme_renewal.due(served, inputs["names"], inputs["key"], SERVER, inputs["server"], 0, NOW)
    assert found == why


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({}, ""),
        ({"key": "other"}, "another key"),
        ({"names": frozenset({"evil.example.com"})}, "evil.example.com"),
        ({"ends": NOW - 1}, "has ended"),
    ],
)
def test_a_certificate_that_does_not_fit_is_refused(changes: dict[str, Any], word: str) -> None:
    found = acme_renewal.refusal(Certificate(**{**vars(SERVED), **changes}), NAMES, "key", NOW)
    assert word in found if word else not found


@pytest.mark.parametrize(("days", "limit"), [(90, 21), (6, 1.5)])
def test_status_has_a_limit_for_short_certificates_too(days: float, limit: float) -> None:
    one = Certificate(frozenset(NAMES), NOW, NOW + days * DAY, "key", "0")
    assert acme_renewal.limit_days(one, 21) == limit


def test_openssl_is_read() -> None:
    key = new_key()
    found = acme_renewal.read_certificate(certificate(key, ("a.example.com", "*.example.com")))
    assert found.names == {"a.example.com", "*.example.com"}
    assert found.lifetime == 90 * DAY
    assert found.key == acme_renewal.openssl("pkey", "-pubout", given=key).strip()
    assert len(found.fingerprint) == 64


@given(st.text())
def test_anything_else_is_refused_as_a_certificate(text: str) -> None:
    with pytest.raises(AcmeError):
        acme_renewal.parse_certificate(text)


@given(st.text())
def test_the_last_words_are_one_line_that_is_not_long(text: str) -> None:
    said = acme_renewal.last_words(text)
    assert said
    assert len(said) <= 600


def test_the_last_words_are_those_of_the_error() -> None:
    info = "[INFO] [a.example.com] acme: Could not find solver for: tls-alpn-01"
    said = f"2026/01/01 10:00:00 {info}\n2026/01/01 10:00:01 Could not obtain:\n\terror: one\n\tacme: two\n"
    assert acme_renewal.last_words(said) == "Could not obtain: error: one acme: two"


LEGO = """#!/bin/sh
# Stands for lego: says what it is told, and hands out what lies in $HOME/next.
echo "$@" >> "$HOME/asked"
env | grep TOKEN >> "$HOME/environment"
while [ "$1" != --path ]; do shift; done
if [ -e "$HOME/fails" ]; then cat "$HOME/fails"; exit 1; fi
mkdir -p "$2/certificates" && cp "$HOME/next" "$2/certificates/www.example.com.crt"
"""


@pytest.fixture
def keeper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Keeper:
    """A host that serves its own certificate, with a lego of the test's."""
    directory, certs = tmp_path / "acme", tmp_path / "certs"
    for path in (directory, certs / "acme", certs / "selfsigned", tmp_path / "bin"):
        path.mkdir(parents=True)
    (certs / "acme/current").symlink_to("../selfsigned")
    (certs / "selfsigned/tls.crt").write_text(certificate(new_key()))
    settings = {
        "email": "operations@example.com",
        "server": SERVER,
        "challenge": "http",
        "names": NAMES,
        "provider": "",
        "resolvers": [],
        "propagation": True,
        "certificates": str(certs / "acme"),
        "owner": os.getuid(),
        "peers": [],
        "rank": 0,
        "warn_days": 21,
        "socket": "",
    }
    (directory / "settings.json").write_text(json.dumps(settings))
    (directory / "credentials.json").write_text('{"DO_AUTH_TOKEN": "t0ken"}')
    (directory / "account.key").write_text(new_key())
    lego = tmp_path / "bin/lego"
    lego.write_text(LEGO)
    lego.chmod(0o755)
    monkeypatch.setenv("PATH", f"{lego.parent}:{os.environ['PATH']}")
    return Keeper(directory)


def hand_out(keeper: Keeper, **more: Any) -> str:
    """Have lego give a certificate for the host's key."""
    keeper.key()
    text = certificate((keeper.directory / "certificate.key").read_text(), **more)
    (keeper.directory / "next").write_text(text)
    return text


def current(keeper: Keeper) -> str:
    return (keeper.place / "current/tls.crt").read_text()


def test_the_first_certificate_takes_the_place_of_the_hosts_own(keeper: Keeper) -> None:
    chain = hand_out(keeper)
    assert keeper.status()["issued"] is False
    # That of the service.
    umask = os.umask(0o077)
    try:
        assert keeper.renew()
    finally:
        os.umask(umask)
    assert current(keeper) == chain
    assert (keeper.place / "current/tls.key").read_text() == (keeper.directory / "certificate.key").read_text()
    assert (keeper.place / "current/tls.key").stat().st_mode & 0o777 == 0o400
    assert (keeper.place / "current/").stat().st_mode & 0o777 == 0o755
    assert keeper.status() | {"tried": ""} == {
        "names": list(NAMES),
        "issued": True,
        "days_left": 89.0,
        "limit_days": 21,
        "due": "",
        "error": "",
        "tried": "",
    }
    assert not keeper.renew()
    assert len((keeper.directory / "asked").read_text().splitlines()) == 1


def test_a_renewal_keeps_the_key_and_one_certificate_before(keeper: Keeper) -> None:
    for days_left in (10, 11, 12, 89):
        chain = hand_out(keeper, days_left=days_left, days_old=90 - days_left)
        assert keeper.renew()
        assert current(keeper) == chain
    assert len([path for path in keeper.place.iterdir() if not path.is_symlink()]) == 2
    assert len({path.read_text() for path in keeper.place.glob("*/tls.key")}) == 1


@pytest.mark.parametrize("fault", ["server", "name", "key", "end", "text"])
def test_a_failure_leaves_what_serves_and_is_told(keeper: Keeper, fault: str) -> None:
    chain = hand_out(keeper, days_left=10, days_old=80)
    keeper.renew()
    if fault == "server":
        (keeper.directory / "fails").write_text("Could not obtain certificates: no route to host\n")
    elif fault == "name":
        hand_out(keeper, names=("evil.example.com",))
    elif fault == "key":
        (keeper.directory / "next").write_text(certificate(new_key()))
    elif fault == "end":
        hand_out(keeper, days_old=9, days_left=-1)
    else:
        (keeper.directory / "next").write_text("no certificate")
    with pytest.raises(AcmeError):
        keeper.renew()
    assert current(keeper) == chain
    told = keeper.status()
    assert told["error"]
    assert told["due"] == "it ends soon"
    (keeper.directory / "fails").unlink(missing_ok=True)
    hand_out(keeper)
    assert keeper.renew()
    assert keeper.status()["error"] == ""


def test_a_server_that_refuses_most_nonces_is_asked_until_it_does_not(keeper: Keeper) -> None:
    hand_out(keeper)
    (keeper.directory / "fails").write_text(f"acme: error: 400 :: {acme_renewal.BAD_NONCE} :: no\n")
    lego = Path(os.environ["PATH"].split(":")[0]) / "lego"
    # From the ninth time on it succeeds.
    lego.write_text(LEGO.replace("if [ -e", '[ "$(wc -l < "$HOME/asked")" -lt 9 ] || rm -f "$HOME/fails"\nif [ -e'))
    assert keeper.renew()
    assert keeper.status()["issued"] is True
    assert (keeper.directory / "lego/certificates").is_dir()


def test_a_server_that_has_forgotten_the_account_is_told_of_it_again(keeper: Keeper) -> None:
    hand_out(keeper)
    (keeper.directory / "fails").write_text(f"acme: error: 400 :: {acme_renewal.NO_ACCOUNT} :: no\n")
    account = keeper.directory / "lego/accounts/acme.example.com/operations@example.com/account.json"
    lego = Path(os.environ["PATH"].split(":")[0]) / "lego"
    lego.write_text(LEGO.replace("if [ -e", f'[ -e "{account}" ] || rm -f "$HOME/fails"\nif [ -e'))
    account.parent.mkdir(parents=True)
    (account.parent / "keys").mkdir()
    key = acme_renewal.openssl("pkey", "-traditional", "-in", str(keeper.directory / "account.key"))
    (account.parent / "keys/operations@example.com.key").write_text(key)
    account.write_text("{}")
    assert keeper.renew()
    assert "EC PRIVATE KEY" in key


def test_credentials_are_in_the_environment_of_lego_alone(keeper: Keeper) -> None:
    hand_out(keeper)
    keeper.renew()
    assert (keeper.directory / "environment").read_text() == "DO_AUTH_TOKEN=t0ken\n"
    assert "t0ken" not in (keeper.directory / "asked").read_text()
    assert "t0ken" not in json.dumps(keeper.status())


def test_the_command_line_of_each_challenge(keeper: Keeper) -> None:
    http = acme_renewal.lego_command(keeper.settings, Path("/l"), Path("/r"), Path("/w"))
    assert http[-4:] == ["--http", "--http.webroot", "/w", "run"]
    settings = acme_renewal.Settings(
        **{
            **vars(keeper.settings),
            "challenge": "dns",
            "provider": "exec",
            "resolvers": ("a:53",),
            "propagation": False,
        }
    )
    dns = acme_renewal.lego_command(settings, Path("/l"), Path("/r"), Path("/w"))
    assert dns[-6:] == ["--dns", "exec", "--dns.disable-cp", "--dns.resolvers", "a:53", "run"]


def test_the_request_is_for_all_names(keeper: Keeper, tmp_path: Path) -> None:
    hand_out(keeper)
    lego = Path(os.environ["PATH"].split(":")[0]) / "lego"
    lego.write_text(
        LEGO.replace("while", f'while [ "$1" != --csr ]; do shift; done; cp "$2" {tmp_path}/csr; exit 1; while')
    )
    with pytest.raises(AcmeError):
        keeper.renew()
    request = x509.load_pem_x509_csr((tmp_path / "csr").read_bytes())
    alternatives = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert tuple(alternatives.get_values_for_type(x509.DNSName)) == NAMES


def test_an_unknown_verb_is_refused() -> None:
    script = Path(acme_renewal.__file__)
    beside = {**os.environ, "PYTHONPATH": str(script.parents[1] / "module_utils")}
    done = subprocess.run([str(script), "remove"], capture_output=True, text=True, env=beside)
    assert done.returncode == 2
    assert "usage: flotilla-acme renew|status" in done.stderr
