"""What other people's judges say of a host that has everything: hardened, with all stacks and an app of ours on it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import testinfra
from testinfra.host import Host

from tests.e2e.fleet import DOMAIN, Environment, Lab
from tests.lab import audits

pytestmark = pytest.mark.thorough

LAB = Lab(versions=("1.0.0",))


@pytest.fixture(scope="module")
def host(served: Environment) -> Host:
    """The droplet after its first deploy, with the judges on it."""
    config = str(served.directory / "ssh_config")
    found: Host = testinfra.get_host(f"ssh://{served.host}", ssh_config=config, sudo=True)
    audits.install(found, "lynis", "ssh-audit")
    return found


def test_ssh_audit_finds_nothing_to_fail_or_warn_of(host: Host) -> None:
    audits.judge_ssh(audits.ask_ssh(host))


def test_lynis_gives_at_least_90(host: Host) -> None:
    print(f"\nhardening index {audits.judge_host(host)}")


def test_testssl_gives_the_best_grade(host: Host, served: Environment) -> None:
    host.run_expect([0], f"cat > /root/trusted.crt <<'EOF'\n{served.ca.read_text()}\nEOF")
    audits.judge_tls(host, DOMAIN, served.address, "/root/trusted.crt")


@pytest.fixture(scope="module")
def containers(host: Host) -> list[audits.Container]:
    found = audits.running_containers(host)
    projects = {one["Config"]["Labels"].get("com.docker.compose.project", "").partition("-")[0] for one in found}
    assert projects == {"nginx", "notes", "postgres", "redis"}
    return found


@pytest.mark.parametrize("rule", audits.BENCH.values(), ids=audits.BENCH.keys())
def test_docker_bench_has_nothing_to_say_of_any_container(
    containers: list[audits.Container], rule: Callable[[audits.Container], bool]
) -> None:
    assert [one["Name"] for one in containers if not rule(one)] == []
