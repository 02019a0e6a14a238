"""One certificate for two balancers, with HAProxy and with faults. The tests build on each other."""

from __future__ import annotations

import os
import subprocess
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from roles.acme.molecule.server.acme_lab import DIRECTORY, EPHEMERAL, Edge, Server, Visitors, private_address_of
from roles.nginx.molecule.default.tests.edge_client import write
from tests.lab.waiting import eventually

ROOT = Path(__file__).resolve().parents[5]
SCENARIO = Path(__file__).resolve().parents[1]
JOURNAL = "journalctl --sync; journalctl --unit flotilla-acme.service --output cat"


def play(book: Path, *variables: str) -> Any:
    """Run a playbook over the scenario's hosts."""
    given = [argument for value in variables for argument in ("-e", value)]
    command = ["ansible-playbook", str(book), "-i", str(EPHEMERAL / "inventory"), "-i", str(EPHEMERAL / "lab/molecule")]
    return subprocess.run(
        [*command, *given],
        cwd=ROOT,
        env={
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_FORCE_COLOR": "0",
        },
        capture_output=True,
        text=True,
        timeout=1200,
    )


def served(edge: Edge) -> str:
    """SHA-256 of the certificate that is served; empty while nobody answers."""
    try:
        return edge.serves()
    except OSError:
        return ""


def test_both_serve_one_certificate_that_was_issued_once(first: Edge, second: Edge, server: Server) -> None:
    assert first.serves(server.root()) == second.serves(server.root(), "www.example.com")
    assert server.issued() == 1


def test_any_balancer_answers_a_challenge_of_the_other(first: Edge, second: Edge) -> None:
    answers = {edge.asks("/.well-known/acme-challenge/some_Token-1") for edge in (first, second)}
    assert len(answers) == 1
    ((status, body),) = answers
    assert (status, body.partition(".")[0]) == (200, "some_Token-1")
    assert first.asks("/about")[0] == 308


def test_the_first_renews_by_its_timer_and_the_second_takes_its_certificate(
    first: Edge, second: Edge, server: Server
) -> None:
    server.start(PEBBLE_WFE_NONCEREJECT=5)
    aged = first.age(days_left=29), second.age(days_left=29)
    with Visitors(first) as here, Visitors(second) as there:
        with first.timer_soon():
            eventually(lambda: first.serves() not in aged, why="the first has another")
            eventually(lambda: first.status()["due"] == "", why="its run ends")
        assert second.renew().rc == 0
        time.sleep(1)
    assert here.failures == there.failures == []
    assert first.serves(server.root()) == second.serves(server.root())
    assert server.issued() == 1


def test_without_the_first_the_second_waits_and_then_renews_by_itself(
    first: Edge, second: Edge, server: Server
) -> None:
    names = ("notes.example.com", "www.example.com")
    for name in names:
        server.leads(name, second.private_address())
    first.host.run_expect([0], "docker stop haproxy-haproxy-1")
    try:
        aged = second.age(days_left=29)
        assert second.renew().rc == 0
        assert second.serves() == aged
        second.age(days_left=26)
        assert second.renew().rc == 0
        assert second.serves(server.root())
    finally:
        first.host.run_expect([0], "docker start haproxy-haproxy-1")
        for name in names:
            server.leads(name, first.private_address(), second.private_address())
    eventually(partial(served, first), why="the first is back")
    assert first.renew().rc == 0
    assert first.serves(server.root()) == second.serves(server.root())


def test_a_restart_of_haproxy_serves_the_same(first: Edge) -> None:
    before = first.serves()
    first.host.run_expect([0], "docker restart haproxy-haproxy-1")
    assert eventually(partial(served, first), why="it serves") == before


# Of a hundred requests ten are taken, and each of the renewal's begins anew when it was not.
@pytest.mark.timeout(2700)
def test_a_server_that_refuses_nine_nonces_of_ten_gives_a_certificate_in_the_end(
    first: Edge, second: Edge, server: Server
) -> None:
    server.start(PEBBLE_WFE_NONCEREJECT=90)
    # Nothing that the first could take from there.
    second.age(days_left=10)
    aged = first.age(days_left=20)
    began = time.monotonic()
    with Visitors(first) as visitors:
        assert first.renew().rc == 0
    print(f"90 % of nonces refused: {time.monotonic() - began:.0f} s")
    assert visitors.failures == []
    assert first.serves(server.root()) != aged


def test_status_fails_below_the_limit_with_the_last_error(first: Edge, second: Edge, server: Server) -> None:
    # The lab gives its balancers a certificate; these have theirs by ACME.
    variables = (f"@{SCENARIO}/vars.yml", "haproxy_certificate=", "haproxy_certificate_key=")
    for edge in (first, second):
        edge.age(days_left=20)
    server.stop()
    assert first.renew().rc == 1
    assert first.serves()
    done = play(ROOT / "playbooks/status.yml", *variables)
    said = " ".join((done.stdout + done.stderr).split())
    assert done.returncode != 0
    assert "droplet: the certificate for notes.example.com, www.example.com ends: 20.0 days left, fewer than 21" in said
    assert "connect: connection refused" in said
    server.start()
    assert first.renew().rc == second.renew().rc == 0
    assert first.serves(server.root()) == second.serves(server.root())
    done = play(ROOT / "playbooks/status.yml", *variables)
    assert "90 days left" in done.stdout
    assert "the certificate for" not in done.stdout


def test_a_wildcard_comes_over_dns(first: Edge, second: Edge, server: Server) -> None:
    dns = f"http://{private_address_of(server.host)}:8055"
    # lego's provider `exec` calls a program; it wants a token, as a provider's API does.
    program = f"""#!/usr/bin/python3
import json, os, sys, urllib.request
verb, name, value = sys.argv[1:4]
assert os.environ["LAB_TOKEN"] == "t0ken-of-the-lab"
verb = "set-txt" if verb == "present" else "clear-txt"
urllib.request.urlopen("{dns}/" + verb, json.dumps({{"host": name, "value": value}}).encode(), timeout=9)
"""
    for edge in (first, second):
        write(edge.host, "/opt/lab-dns", program)
        edge.host.run_expect([0], "chmod 755 /opt/lab-dns")
    done = play(SCENARIO / "dns.yml", f"lab_dns={dns.split('//')[1].replace('8055', '8053')}")
    assert done.returncode == 0, done.stdout
    assert first.serves(server.root(), "anything.wild.example.com") == second.serves(server.root(), "wild.example.com")
    found = first.host.file(f"{DIRECTORY}/credentials.json")
    assert ("t0ken-of-the-lab" in found.content_string, found.mode) == (True, 0o600)
    for text in (done.stdout, first.host.check_output(JOURNAL)):
        assert "t0ken-of-the-lab" not in text


@pytest.mark.parametrize("name", ["first", "second"])
def test_the_files_are_private(name: str, request: pytest.FixtureRequest) -> None:
    edge: Edge = request.getfixturevalue(name)
    found = edge.host.file("/opt/flotilla/haproxy/certs/acme/current/tls.key")
    assert (found.uid, found.mode) == (99, 0o400)
