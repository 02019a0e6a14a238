"""A lab that comes from a snapshot is what provisioning and a deploy had made of it."""

from __future__ import annotations

import re

import pytest

from tests.e2e.facts import facts
from tests.e2e.fleet import HOST, STAGING_LAB, Environment
from tests.lab.containers import HOST_LABEL, LAB_LABEL, LabContainers

LAB = STAGING_LAB
# Something that a host may differ in, and how it is taken back.
DIFFERENCES = {
    "stamp": ("echo >> /opt/flotilla/stamp.json", "sed -i '$d' /opt/flotilla/stamp.json"),
    "unit": ("systemctl mask flotilla-other", "systemctl unmask flotilla-other"),
    "container": ("docker pause redis", "docker unpause redis"),
    "network": ("docker network create other", "docker network rm other"),
    "volume": ("docker volume create other", "docker volume rm other"),
    "rule": ("nft add chain inet flotilla other", "nft delete chain inet flotilla other"),
    "certificate": (
        "cp /opt/flotilla/redis/certs/current/tls.crt /opt/flotilla/redis/other.crt",
        "rm /opt/flotilla/redis/other.crt",
    ),
    "name": ("echo 192.0.2.1 other >> /etc/hosts", "sed '$d' /etc/hosts > /tmp/hosts && cat /tmp/hosts > /etc/hosts"),
    "account": ("useradd other", "userdel other"),
}


def test_it_is_as_it_was_provisioned(served: Environment, provisioned_facts: dict[str, list[str]]) -> None:
    assert provisioned_facts[HOST]
    assert facts(served) == provisioned_facts


def nobodys_volumes(lab: LabContainers) -> set[str]:
    """The volumes of the engine that have no name of their own, and that no container has."""
    found = {str(volume.name) for volume in lab.client.volumes.list(filters={"dangling": True})}
    return {name for name in found if re.fullmatch("[0-9a-f]{64}", name)}


def test_a_copy_leaves_nothing_else_behind(served: Environment) -> None:
    lab = LabContainers(served.name)
    containers = lab.all()
    host = next(one for one in containers if one.labels.get(HOST_LABEL) == HOST)
    before = nobodys_volumes(lab)
    source, target = (
        lab.client.volumes.create(f"{served.name}-{end}", labels={LAB_LABEL: served.name}) for end in ("from", "to")
    )
    try:
        lab.copy(str(source.name), str(target.name), str(host.attrs["Config"]["Image"]))
    finally:
        source.remove()
        target.remove()
    assert nobodys_volumes(lab) - before == set()
    assert [one.name for one in lab.all()] == [one.name for one in containers]


def test_a_deploy_provisions_nothing_and_changes_nothing(served: Environment) -> None:
    again = served.deploy("1.0.0").succeeded()
    assert again.recap[HOST].changed == 0
    assert "Write down who provisions the host" not in again.output


@pytest.mark.parametrize("kind", DIFFERENCES)
def test_a_difference_would_be_seen(served: Environment, provisioned_facts: dict[str, list[str]], kind: str) -> None:
    differ, undo = DIFFERENCES[kind]
    served.ssh(differ)
    try:
        found = set(facts(served)[HOST]) ^ set(provisioned_facts[HOST])
    finally:
        served.ssh(undo)
    assert {line.split()[0] for line in found} == {kind}
