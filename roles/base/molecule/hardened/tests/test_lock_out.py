"""Nothing that the role or a person does by mistake locks the operator out: it is refused, or undone by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from subprocess import CompletedProcess

import pytest
from testinfra.host import Host

from tests.lab.waiting import eventually

Login = Callable[..., CompletedProcess[str]]
Provision = Callable[..., CompletedProcess[str]]

LIVE = "/etc/ssh/sshd_config.d/00-flotilla.conf"
FOREIGN = "/etc/ssh/sshd_config.d/10-foreign.conf"
KEYS = "/home/deploy/.ssh/authorized_keys"
WANTED = "/etc/flotilla/ssh"
STRANGER = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA nobody"


@pytest.fixture(autouse=True)
def unharmed(host: Host, login: Login) -> Iterator[None]:
    """After each attempt what is in place is what it was, and the deploy user gets in."""
    before = {path: host.file(path).content_string for path in (LIVE, KEYS)}
    yield
    assert {path: host.file(path).content_string for path in before} == before
    assert not host.file("/var/lib/flotilla/ssh-trial").exists
    assert login("deploy", "sudo -n id -un").stdout.strip() == "root"
    # What was wanted and refused is wanted until the role runs again.
    host.check_output(f"rm -f {FOREIGN}; cp {LIVE} {WANTED}/sshd_config; cp {KEYS} {WANTED}/authorized_keys")


@pytest.mark.parametrize(
    ("foreign", "said"),
    [
        ("Nonsense yes", "10-foreign.conf: line 1: Bad configuration option: Nonsense"),
        ("DenyUsers deploy", "deploy could not log in, whatever the key"),
    ],
)
def test_a_file_of_somebody_else_that_breaks_sshd_or_shuts_out_the_deploy_user_is_refused(
    host: Host, provision: Provision, foreign: str, said: str
) -> None:
    host.check_output(f"echo '{foreign}' > {FOREIGN}")
    done = provision(base_ssh_max_auth_tries=4)
    assert done.returncode != 0
    assert said in done.stdout
    assert "base_ssh_" in done.stdout
    assert "Next: ansible-playbook playbooks/provision.yml -i inventories/molecule" in done.stdout


def test_keys_without_the_one_that_ansible_has_are_undone(provision: Provision) -> None:
    done = provision(base_deploy_authorized_keys=[STRANGER])
    assert done.returncode != 0
    assert "the deploy user's keys are as they were" in done.stdout
    assert "base_deploy_authorized_keys must hold the public key that Ansible logs in with here" in done.stdout
    assert "Next: ssh deploy@" in done.stdout


def test_what_nobody_proves_is_undone_by_the_host_itself(host: Host) -> None:
    host.check_output(f"sed -i 's/^MaxAuthTries 3$/MaxAuthTries 9/' {WANTED}/sshd_config")
    assert host.check_output("FLOTILLA_UNDO_SECONDS=15 flotilla-ssh try deploy") == "changed"
    assert "maxauthtries 9" in host.check_output("/usr/sbin/sshd -T").splitlines()
    eventually(lambda: not host.file("/var/lib/flotilla/ssh-trial").exists, why="the trial ends by itself")
    assert "maxauthtries 3" in host.check_output("/usr/sbin/sshd -T").splitlines()


def test_a_person_on_the_console_can_undo_it_too(host: Host) -> None:
    host.check_output(f"sed -i 's/^MaxAuthTries 3$/MaxAuthTries 9/' {WANTED}/sshd_config")
    host.check_output("flotilla-ssh try deploy")
    assert host.check_output("flotilla-ssh undo").startswith("undone: ")
    assert host.run("systemctl is-active flotilla-ssh-undo.timer").rc != 0
    assert host.run("flotilla-ssh keep").rc != 0


def test_a_host_that_loses_power_in_a_trial_undoes_it_at_boot(host: Host) -> None:
    assert host.service("flotilla-ssh-undo").is_enabled
    assert "Before=ssh.service" in host.check_output("systemctl cat flotilla-ssh-undo").splitlines()


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"base_ssh_undo_seconds": 5}, "base_ssh_undo_seconds must be 60 at least"),
        ({"base_ssh_allow_users": ["a b"]}, "base_ssh_allow_users must hold names of accounts"),
        ({"base_blocked_kernel_modules_custom": ["overlay"]}, "must not hold what containers need"),
    ],
)
def test_wrong_input_is_refused_by_name(provision: Provision, variables: dict[str, object], said: str) -> None:
    done = provision(**variables)
    assert done.returncode != 0
    assert said in done.stdout
