"""What an operator sees on a droplet that the role base has been through. The values are those of converge.yml."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import paramiko
import pytest
import testinfra
from testinfra.backend.paramiko import ParamikoBackend
from testinfra.host import Host


@pytest.fixture
def as_deploy(host: Host) -> Host:
    """The same droplet, logged in to as the deploy user with the key that the role installed."""
    root = host.backend
    assert isinstance(root, ParamikoBackend)
    assert root.ssh_config is not None
    way = paramiko.SSHConfig.from_path(root.ssh_config).lookup(root.host.name)
    return testinfra.get_host(f"paramiko://deploy@{way['hostname']}", ssh_identity_file=way["identityfile"][0])


def test_the_host_goes_by_its_name_and_knows_it(host: Host) -> None:
    assert host.check_output("hostname") == "flotilla-base"
    assert host.file("/etc/hostname").content_string == "flotilla-base\n"
    assert "127.0.1.1" in host.check_output("getent ahostsv4 flotilla-base")


def test_local_time_is_that_of_the_zone(host: Host) -> None:
    assert host.check_output("date --date=@1735689600 +%H:%M%z") == "01:00+0100"


def test_the_time_servers_are_configured_and_the_daemon_starts_at_boot(host: Host) -> None:
    configuration = host.check_output("systemd-analyze cat-config systemd/timesyncd.conf")
    assert "NTP=0.pool.example.com 1.pool.example.com" in configuration.splitlines()
    assert host.service("systemd-timesyncd").is_enabled


def test_the_swap_is_described_and_not_switched_on_in_a_container(host: Host) -> None:
    unit = host.check_output("systemctl cat flotilla_swap.swap")
    assert "Swap file of 512 MiB" in unit
    assert "\nWhat=/flotilla_swap\n" in unit
    assert not host.file("/flotilla_swap").exists
    assert host.check_output("cat /proc/swaps").splitlines()[1:] == []


def test_the_swap_refuses_to_start_in_a_container(host: Host) -> None:
    host.run("systemctl start flotilla_swap.swap")
    state = host.check_output("systemctl show --property=ActiveState,ConditionResult flotilla_swap.swap")
    assert state.split() == ["ActiveState=inactive", "ConditionResult=no"]


def test_swappiness_is_set_at_boot(host: Host) -> None:
    settings = host.check_output("systemd-analyze cat-config sysctl.d")
    assert re.findall(r"^vm\.swappiness *= *(\d+)$", settings, re.MULTILINE)[-1] == "20"


def test_the_journal_is_kept_on_disk_within_its_limit(host: Host) -> None:
    said = host.check_output("journalctl --boot --unit=systemd-journald --grep='^System Journal'")
    assert "/var/log/journal/" in said
    assert re.search(r" max 64(\.0)?M, ", said.splitlines()[-1])


def test_only_security_fixes_are_installed_unattended(host: Host) -> None:
    plan = host.check_output("unattended-upgrade --dry-run --verbose").splitlines()
    codename = host.system_info.codename
    assert f"Allowed origins are: origin=Debian,codename={codename}-security,label=Debian-Security" in plan
    assert "Initial blacklist: postgresql-.*" in plan


def test_upgrades_run_daily_and_never_reboot(host: Host) -> None:
    assert host.service("apt-daily-upgrade.timer").is_enabled
    settings = host.check_output("apt-config dump").splitlines()
    assert 'APT::Periodic::Unattended-Upgrade "1";' in settings
    assert 'Unattended-Upgrade::Automatic-Reboot "false";' in settings


def test_the_deploy_user_logs_in_by_key_and_becomes_root_without_a_password(as_deploy: Host) -> None:
    assert as_deploy.check_output("whoami") == "deploy"
    assert as_deploy.check_output("sudo --non-interactive whoami") == "root"


def test_the_deploy_user_has_no_password_and_no_other_key(host: Host) -> None:
    assert host.user("deploy").password == "*"
    keys = host.file("/home/deploy/.ssh/authorized_keys").content_string.splitlines()
    assert len(keys) == 1


def test_the_sudoers_as_a_whole_are_valid(host: Host) -> None:
    assert host.run("visudo --check").rc == 0
    assert oct(host.file("/etc/sudoers.d/60-flotilla").mode) == "0o440"


# -- the read-only account ---------------------------------------------------------------------------

OBSERVE = "/usr/local/sbin/flotilla-observe"
KEYS = "/var/lib/flotilla/observer/.ssh/authorized_keys"


def observer(*words: str) -> subprocess.CompletedProcess[str]:
    """A new connection as the read-only account, with its own key."""
    scenario = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
    config = ["-F", str(scenario / "lab/ssh_config"), "-o", "BatchMode=yes", "-o", "ControlPath=none"]
    identity = ["-o", "IdentitiesOnly=yes", "-i", str(scenario / "observer"), "-l", "observer"]
    command = ["ssh", *config, *identity, *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, stdin=subprocess.DEVNULL)


def test_the_observer_may_look(host: Host) -> None:
    host.check_output("mkdir -p /opt/shop /opt/flotilla; chmod 700 /opt/shop")
    entry = '{"time": "T", "verb": "exec", "by": {"operator": "ada@laptop", "commit": "c0ffee"}}'
    host.check_output(f"echo '{{}}' > /opt/shop/state.json; umask 077; echo '{entry}' > /opt/flotilla/trail.jsonl")
    assert observer("droplet", "status").stdout == "shop: nothing serves\n"
    assert observer("droplet", "who").stdout == "T  exec  by ada@laptop (c0ffee)\n"
    assert "history [<app>]" in observer("droplet").stdout


@pytest.mark.parametrize(
    "command",
    [
        "id",
        "cat /etc/shadow",
        "sudo -n id",
        "status; id",
        "sh",
        "logs ../../etc",
        "history --help",
        "scp -f /etc/shadow",
    ],
)
def test_the_observer_may_do_nothing_else(command: str) -> None:
    done = observer("droplet", command)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("refused: ")


@pytest.mark.parametrize("way", [["-W", "localhost:22"], ["-s"]], ids=["forwarding", "sftp"])
def test_the_observer_gets_no_other_way_in(way: list[str]) -> None:
    done = observer(*way, "droplet", *(["sftp"] if way == ["-s"] else []))
    assert done.returncode != 0
    assert "SSH-2.0" not in done.stdout


@pytest.mark.parametrize(
    "attempt",
    [
        "cat /etc/shadow",
        "cat /opt/flotilla/trail.jsonl",
        "ls /opt/shop",
        f"sh -c 'echo key >> {KEYS}'",
        f"sh -c 'mv {KEYS} /tmp'",
        "sudo -n id",
        "sudo -n cat /etc/shadow",
        f"sudo -n {OBSERVE} status",
        f"sudo -n PYTHONPATH=/tmp {OBSERVE}",
        f"sudo -n -u deploy {OBSERVE}",
        f"sh -c 'echo x >> {OBSERVE}'",
    ],
)
def test_a_way_out_of_the_forced_command_would_lead_nowhere(host: Host, attempt: str) -> None:
    """What that account could do if somebody got a shell of it."""
    assert host.check_output(f"runuser -u observer -- sudo -n {OBSERVE}").startswith("status ")
    assert host.run(f"cd /; runuser -u observer -- {attempt}").rc != 0


def test_nobody_but_the_deploy_user_becomes_root_without_a_password(host: Host) -> None:
    rules = host.check_output("grep -rhE '^[^#]*NOPASSWD' /etc/sudoers /etc/sudoers.d").splitlines()
    assert sorted(rules) == ["deploy ALL=(ALL:ALL) NOPASSWD: ALL", f'observer ALL=(root) NOPASSWD: {OBSERVE} ""']
