"""A certificate over HTTP, its renewal, and an ACME server that is away. The tests build on each other."""

from __future__ import annotations

import pytest

from roles.acme.molecule.server.acme_lab import DIRECTORY, Edge, Server, Visitors
from tests.lab.waiting import eventually

CERTIFICATES = "/opt/flotilla/nginx/certs/acme"


@pytest.mark.parametrize("name", ["notes.example.com", "www.example.com"])
def test_the_first_certificate_is_the_servers_and_has_all_names(edge: Edge, server: Server, name: str) -> None:
    assert edge.serves(server.root(), name)
    assert edge.status()["days_left"] == pytest.approx(90, abs=0.1)


def test_challenges_of_anybody_are_answered_for_our_account_alone(edge: Edge) -> None:
    status, body = edge.asks("/.well-known/acme-challenge/some_Token-1")
    assert status == 200
    token, _, thumbprint = body.partition(".")
    assert token == "some_Token-1"
    assert len(thumbprint) == 43
    assert edge.asks("/.well-known/acme-challenge/a%22b")[0] == 308
    assert edge.asks("/about")[0] == 308


@pytest.mark.parametrize("file", ["account.key", "certificate.key", "credentials.json"])
def test_what_is_secret_only_root_reads(edge: Edge, file: str) -> None:
    found = edge.host.file(f"{DIRECTORY}/{file}")
    assert (found.user, found.mode) == ("root", 0o600)
    assert edge.host.file(DIRECTORY).mode == 0o700


def test_the_edge_alone_reads_the_key_it_serves_with(edge: Edge) -> None:
    found = edge.host.file(f"{CERTIFICATES}/current/tls.key")
    assert (found.uid, found.mode) == (101, 0o400)


def test_the_timer_renews_and_no_request_fails(edge: Edge, server: Server) -> None:
    timer = edge.host.service("flotilla-acme.timer")
    assert timer.is_enabled and timer.is_running
    aged = edge.age(days_left=29)
    with Visitors(edge) as visitors, edge.timer_soon():
        eventually(lambda: edge.serves() != aged, why="another certificate serves")
    assert edge.serves(server.root())
    assert visitors.failures == []
    assert visitors.requests > 20
    eventually(lambda: edge.status()["due"] == "", why="the run ends")


def test_while_the_server_is_away_the_old_certificate_serves_and_status_complains(edge: Edge, server: Server) -> None:
    aged = edge.age(days_left=20)
    server.stop()
    service = edge.host.run("systemctl start flotilla-acme.service")
    assert service.rc != 0
    assert edge.serves() == aged
    told = edge.status()
    assert told["days_left"] < told["limit_days"]
    assert "connect" in told["error"]
    log = edge.host.check_output("journalctl --sync; journalctl --unit flotilla-acme.service --lines 5")
    assert "What serves is as it was" in log
    # It comes back, and knows nobody.
    server.start()
    assert edge.renew().rc == 0
    assert edge.serves(server.root())
    assert edge.status()["error"] == ""


def test_names_that_lead_elsewhere_leave_what_serves(edge: Edge, server: Server) -> None:
    aged = edge.age(days_left=29)
    server.leads("www.example.com", "127.0.0.1")
    try:
        assert edge.renew().rc == 1
        assert edge.serves() == aged
        assert "www.example.com" in edge.status()["error"]
    finally:
        server.leads("www.example.com", edge.private_address())


def test_the_key_of_the_account_is_in_no_log(edge: Edge) -> None:
    key = edge.host.file(f"{DIRECTORY}/account.key").content_string.splitlines()[1]
    assert key not in edge.host.check_output("journalctl --sync; journalctl --unit flotilla-acme.service --output cat")
