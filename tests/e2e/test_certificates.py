"""Certificates are renewed and their authority is rotated while people use the app: no request fails, nothing restarts.

The tests build on each other, in this order.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.e2e.fleet import DOMAIN, Environment, Lab, app_entry
from tests.e2e.load import BackgroundLoad, Kind, Mode, Plan, Result, Stream, Target
from tests.unit import pki_data

pytestmark = pytest.mark.thorough

LAB = Lab(versions=("1.0.0",), overlay={"apps": [app_entry()]})
STREAMS = (
    Stream(Kind.GET, Mode.KEEPALIVE, rate=10, path="/api/status"),
    Stream(Kind.GET, Mode.NEW, rate=5, path="/api/status"),
    Stream(Kind.POST, Mode.KEEPALIVE, rate=5),
    Stream(Kind.POST, Mode.NEW, rate=5),
)
PORTS = {"postgres": "5432 -starttls postgres", "redis": "6379"}
# A certificate of before is due, and the one that is made now is not.
RENEWING = ("-e", "pki_valid_days=398", "-e", "pki_renew_days=397")


@contextmanager
def load_on(served: Environment) -> Iterator[list[Result]]:
    """People who use the app during the block; what they saw is in the list after it."""
    seen: list[Result] = []
    plan = Plan(Target(served.url, DOMAIN, str(served.ca)), STREAMS, seconds=1800)
    with BackgroundLoad(plan) as load:
        yield seen
        seen.append(load.stop())


def nobody_noticed(seen: list[Result]) -> None:
    (result,) = seen
    print(f"\n{result.summary()}")
    assert result.requests > 100
    assert not result.failures, result.summary(shown=30)


def shown(served: Environment, stack: str) -> str:
    """The fingerprint of the certificate that new connections get."""
    connect = f"openssl s_client -connect 127.0.0.1:{PORTS[stack]} < /dev/null 2> /dev/null"
    return served.ssh(f"{connect} | openssl x509 -noout -fingerprint")


def began(served: Environment, stack: str) -> str:
    return served.ssh(f"docker inspect --format '{{{{.Id}}}} {{{{.State.StartedAt}}}}' {stack}")


def trusted(served: Environment, *, by: str) -> str:
    """Whom the app trusts, or a host's service would: the text of the file."""
    if by == "app":
        return served.ssh(f"docker exec notes-{served.live().colour}-api-1 cat /run/secrets/authorities")
    return served.ssh(f"cat /opt/flotilla/{by}/certs/current/ca.crt")


def test_certificates_are_renewed_under_load(served: Environment) -> None:
    before = {stack: (shown(served, stack), began(served, stack)) for stack in PORTS}
    release = served.live().release
    with load_on(served) as seen:
        served.playbook("playbooks/provision.yml", *RENEWING).succeeded()
    nobody_noticed(seen)
    for stack, (fingerprint, start) in before.items():
        assert shown(served, stack) != fingerprint
        assert began(served, stack) == start
    assert served.live().release == release


def test_a_list_that_skips_a_step_is_refused(served: Environment, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    other = pki_data.authority(now - timedelta(days=1), now + timedelta(days=3000))
    before = {stack: shown(served, stack) for stack in PORTS}
    run = served.over(tmp_path, {"pki_authorities": [other]}).playbook("playbooks/provision.yml")
    assert run.rc != 0
    assert "the certificate `postgres`: it does not trust yet who is to sign from now on" in run.text
    assert "playbooks/rotate-authority.yml" in run.text
    assert {stack: shown(served, stack) for stack in PORTS} == before


@pytest.mark.parametrize(
    ("limit", "why"),
    [("localhost,staging-1", "a host that is left out would be cut off"), ("staging-1", "without --limit")],
)
def test_a_step_for_some_hosts_alone_is_refused(served: Environment, limit: str, why: str) -> None:
    before = served.secrets()
    run = served.playbook("playbooks/rotate-authority.yml", "--limit", limit)
    assert run.rc != 0
    assert why in run.text
    assert served.secrets() == before


def test_the_authority_is_rotated_under_load(served: Environment) -> None:
    (old,) = served.authorities()
    start = {stack: began(served, stack) for stack in PORTS}
    with load_on(served) as seen:
        served.playbook("playbooks/rotate-authority.yml").succeeded()
        kept, new = served.authorities()
        assert kept == old
        assert trusted(served, by="app") == trusted(served, by="postgres") == old + new
        by_old = {stack: shown(served, stack) for stack in PORTS}
        release = served.live().release

        served.playbook("playbooks/rotate-authority.yml").succeeded()
        assert served.authorities() == [new, old]
        assert {stack: shown(served, stack) for stack in PORTS}.items().isdisjoint(by_old.items())
        # The app trusts both already.
        assert served.live().release == release

        served.playbook("playbooks/rotate-authority.yml").succeeded()
    nobody_noticed(seen)
    assert served.authorities() == [new]
    assert trusted(served, by="app") == trusted(served, by="postgres") == trusted(served, by="redis") == new
    assert {stack: began(served, stack) for stack in PORTS} == start
    served.playbook("playbooks/status.yml").succeeded()


def test_a_step_that_did_not_reach_everybody_is_repeated(served: Environment) -> None:
    # No such version: the hosts are provisioned, and the deploy is refused.
    (old,) = served.authorities()
    assert served.playbook("playbooks/rotate-authority.yml", "-e", "version=9.9.9").rc != 0
    both = served.authorities()
    assert both[0] == old
    run = served.playbook("playbooks/rotate-authority.yml").succeeded()
    assert "the last step has not reached all hosts and apps: it is repeated" in run.text
    assert served.authorities() == both
    assert trusted(served, by="app") == "".join(both)
