"""What a judge that is not ours says of a hardened droplet."""

from __future__ import annotations

from testinfra.host import Host

from tests.lab.audits import judge_host


def test_lynis_gives_at_least_90(host: Host) -> None:
    judge_host(host)
