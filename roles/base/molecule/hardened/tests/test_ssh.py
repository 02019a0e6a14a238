"""Who gets into a hardened droplet over SSH, and with what."""

from __future__ import annotations

import json
from collections.abc import Callable
from subprocess import CompletedProcess

import pytest
from testinfra.backend.base import CommandResult
from testinfra.host import Host

from tests.lab.audits import ask_ssh, judge_ssh

Login = Callable[..., CompletedProcess[str]]


def test_the_deploy_user_logs_in_by_key_and_becomes_root(login: Login) -> None:
    done = login("deploy", "id -un && sudo -n id -un")
    assert done.stdout.split() == ["deploy", "root"], done.stderr


def test_root_does_not_log_in(login: Login) -> None:
    done = login("root", "true")
    assert done.returncode == 255
    assert "Permission denied (publickey)" in done.stderr


def test_nobody_is_asked_for_a_password(login: Login) -> None:
    done = login(
        "deploy", "true", "-v", "-o", "PubkeyAuthentication=no", "-o", "BatchMode=no", "-o", "NumberOfPasswordPrompts=0"
    )
    assert done.returncode == 255
    assert "Authentications that can continue: publickey\n" in done.stderr.replace("\r", "")


@pytest.fixture(scope="module")
def audit(host: Host) -> CommandResult:
    """Asked once: each of its connections counts as a guess."""
    return ask_ssh(host)


def test_ssh_audit_finds_nothing_to_fail_or_warn_of(audit: CommandResult) -> None:
    judge_ssh(audit)


def test_the_banner_does_not_tell_the_version_of_the_package(audit: CommandResult) -> None:
    banner = json.loads(audit.stdout)["banner"]
    assert banner["comments"] is None
    assert "Debian" not in banner["raw"]


# The rules of the dev-sec SSH baseline that apply to a server of OpenSSH 10, and our own beyond.
@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("allowagentforwarding", "no"),
        ("allowstreamlocalforwarding", "no"),
        ("allowtcpforwarding", "no"),
        ("allowusers", "deploy"),
        ("authenticationmethods", "publickey"),
        ("banner", "none"),
        ("clientalivecountmax", "2"),
        ("clientaliveinterval", "300"),
        ("compression", "no"),
        ("disableforwarding", "yes"),
        ("gatewayports", "no"),
        ("gssapiauthentication", "no"),
        ("hostbasedauthentication", "no"),
        ("ignorerhosts", "yes"),
        ("ignoreuserknownhosts", "yes"),
        ("kbdinteractiveauthentication", "no"),
        ("logingracetime", "30"),
        ("loglevel", "VERBOSE"),
        ("maxauthtries", "3"),
        ("maxsessions", "4"),
        ("exposeauthinfo", "yes"),
        ("maxstartups", "10:30:60"),
        ("passwordauthentication", "no"),
        ("permitemptypasswords", "no"),
        ("permitrootlogin", "no"),
        ("permittunnel", "no"),
        ("permituserenvironment", "no"),
        ("permituserrc", "no"),
        ("printlastlog", "yes"),
        ("pubkeyauthentication", "yes"),
        ("requiredrsasize", "2048"),
        ("strictmodes", "yes"),
        ("tcpkeepalive", "no"),
        ("usedns", "no"),
        ("usepam", "yes"),
        ("x11forwarding", "no"),
    ],
)
def test_sshd_is_set_so_whatever_the_provider_wrote(sshd: dict[str, str], option: str, value: str) -> None:
    assert sshd[option] == value


def test_ed25519_comes_first_and_each_key_exchange_is_post_quantum(sshd: dict[str, str]) -> None:
    assert sshd["hostkeyalgorithms"].split(",")[0] == "ssh-ed25519"
    assert all(name.startswith(("mlkem768", "sntrup761")) for name in sshd["kexalgorithms"].split(","))
    assert all("etm" in name for name in sshd["macs"].split(","))


def test_no_short_prime_is_left(host: Host) -> None:
    lines = host.file("/etc/ssh/moduli").content_string.splitlines()
    sizes = [int(line.split()[4]) for line in lines if not line.startswith("#")]
    assert len(sizes) > 100
    assert min(sizes) >= 3071


def test_who_guesses_is_refused_for_a_while_and_others_are_not(host: Host, login: Login) -> None:
    options = "-F none -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
    guess = f"ssh {options} -i /root/guess root@127.0.0.1 true"
    host.check_output("test -e /root/guess || ssh-keygen -q -t ed25519 -N '' -f /root/guess")
    said = [host.run(guess).stderr for _ in range(16)]
    assert "Permission denied" in said[0]
    assert "Permission denied" not in said[-1]
    assert login("deploy", "true").returncode == 0
