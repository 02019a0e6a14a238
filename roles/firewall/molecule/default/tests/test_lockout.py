"""Rules that would lock the operator out: refused where it can be known, undone by themselves where it cannot."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from testinfra.host import Host

from roles.firewall.molecule.default.tests.reach import ROOT, Droplet
from tests.lab.waiting import eventually

SCENARIO = Path(__file__).resolve().parents[1]
# The networks of somebody else.
ELSEWHERE = {"firewall_ssh_sources": ["192.0.2.0/24"], "firewall_undo_seconds": 8}


def ansible(command: str, lab: Path, *arguments: str, seconds: int = 60) -> subprocess.CompletedProcess[str]:
    settings = {
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_STDOUT_CALLBACK": "default",
        "ANSIBLE_NOCOLOR": "1",
    }
    settings |= {"ANSIBLE_FORCE_COLOR": "0", "ANSIBLE_LOAD_CALLBACK_PLUGINS": "0", "ANSIBLE_TIMEOUT": str(seconds)}
    options = ["-i", str(lab), "-u", "root", "-e", "ansible_python_interpreter=/usr/bin/python3"]
    return subprocess.run(
        [command, *options, *arguments],
        cwd=ROOT,
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        timeout=900,
    )


def apply(lab: Path, variables: Mapping[str, object], *, known: bool = True) -> str:
    """What Ansible says of a run of the role that must fail. known: sshd tells where the operator comes from."""
    playbook = lab.parent / "again.yml"
    environment = {} if known else {"SSH_CONNECTION": ""}
    role = {"name": "Apply the role", "ansible.builtin.include_role": {"name": "firewall"}}
    play = {"hosts": "droplet", "gather_facts": False, "environment": environment, "tasks": [role]}
    playbook.write_text(json.dumps([{**play, "vars_files": [str(SCENARIO / "vars.yml")]}]))
    # Where the operator is shut out, each attempt to connect has to be over before the rules are undone.
    seconds = 60 if known else 3
    done = ansible("ansible-playbook", lab, str(playbook), "-e", json.dumps(variables), seconds=seconds)
    assert done.returncode != 0, done.stdout
    return " ".join(done.stdout.split())


def rules(host: Host) -> str:
    """The rules that are loaded."""
    return str(host.check_output("nft --stateless list table inet flotilla"))


@pytest.fixture
def listing(host: Host) -> str:
    """The rules before."""
    return rules(host)


def test_rules_without_the_operators_address_are_refused_before_they_are_loaded(
    host: Host, lab: Path, listing: str
) -> None:
    said = apply(lab, ELSEWHERE)
    assert "firewall_ssh_sources: you are connected from 10.7" in said
    assert "would be locked out" in said
    assert rules(host) == listing


def test_every_problem_is_told_at_once(host: Host, lab: Path, listing: str) -> None:
    wrong = {"firewall_allow": [{"ports": ["http"]}, {"ports": [80], "sources": ["10.0.0.5/16"]}]}
    said = apply(lab, wrong)
    assert "firewall_allow[0].ports: 'http' is not a port" in said
    assert "did you mean 10.0.0.0/16?" in said
    assert "group_vars/all/firewall.yml" in said
    assert rules(host) == listing


def test_where_it_is_not_known_they_are_undone_by_themselves(
    host: Host, lab: Path, droplet: Droplet, listing: str
) -> None:
    began = time.monotonic()
    said = apply(lab, ELSEWHERE, known=False)
    assert time.monotonic() - began > 8
    assert "the old ones are in force" in said
    assert 'firewall_ssh_sources (["192.0.2.0/24"])' in said
    assert rules(host) == listing
    # Nor would a reload, or a reboot, load them.
    host.run_expect([0], "systemctl reload flotilla-firewall")
    assert rules(host) == listing
    assert droplet.from_here(droplet.public, 22)


def test_the_operator_is_out_while_they_are_on_trial(host: Host, lab: Path, droplet: Droplet, listing: str) -> None:
    """Else the test before this one would prove nothing."""
    lines = host.file("/opt/flotilla/firewall/firewall.nft").content_string.splitlines()
    without_ssh = "\n".join(line for line in lines if 'comment "SSH"' not in line) + "\n"
    arguments = {"state": "tried", "undo_seconds": 15, "rules": without_ssh}
    tried = ansible("ansible", lab, "droplet", "-m", "flotilla_firewall", "-a", json.dumps(arguments))
    assert "CHANGED" in tried.stdout, tried.stdout + tried.stderr
    assert not droplet.from_here(droplet.public, 22)
    # What is open stays open; this connection, too.
    assert rules(host) != listing
    eventually(lambda: droplet.from_here(droplet.public, 22), why="the rules are undone")
    assert rules(host) == listing


def test_rules_that_somebody_flushed_come_back_with_the_next_run(host: Host, lab: Path, listing: str) -> None:
    host.run_expect([0], "nft delete table inet flotilla")
    arguments = {"state": "tried", "rules": host.file("/opt/flotilla/firewall/firewall.nft").content_string}
    found = ansible("ansible", lab, "droplet", "--check", "-m", "flotilla_firewall", "-a", json.dumps(arguments))
    assert "CHANGED" in found.stdout, found.stdout
    host.run_expect([0], "systemctl reload flotilla-firewall")
    assert rules(host) == listing


def test_a_host_that_loads_rules_of_its_own_is_refused(host: Host, lab: Path, listing: str) -> None:
    host.run_expect([0], "cp -p /etc/nftables.conf /root/ && echo '# mine' >> /etc/nftables.conf")
    host.run_expect([0], "systemctl unmask nftables && systemctl enable nftables")
    try:
        said = apply(lab, {})
        assert "/etc/nftables.conf has rules of yours" in said
        assert rules(host) == listing
    finally:
        host.run_expect([0], "systemctl disable nftables && systemctl mask nftables && mv /root/nftables.conf /etc/")
