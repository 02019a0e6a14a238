"""The rules of the dev-sec Linux baseline that the other files do not hold, and that apply.

Left out: entropy and the kernel's settings, which are the machine's here (test_files.py reads what a machine gets at
boot); squashfs and vfat, which snap and the boot of a machine with EFI need; auditd, which a container has none of.
"""

from __future__ import annotations

import pytest
from testinfra.host import Host

# What Debian has with a set-user-id bit that the baseline does not list as needless; sudo is wanted.
SUID = {
    "/usr/bin/chfn",
    "/usr/bin/chsh",
    "/usr/bin/gpasswd",
    "/usr/bin/mount",
    "/usr/bin/newgrp",
    "/usr/bin/passwd",
    "/usr/bin/su",
    "/usr/bin/sudo",
    "/usr/bin/umount",
    "/usr/lib/dbus-1.0/dbus-daemon-launch-helper",
    "/usr/lib/openssh/ssh-keysign",
    "/usr/lib/polkit-1/polkit-agent-helper-1",
    # libpam-tmpdir makes a directory for each session.
    "/usr/libexec/pam-tmpdir/pam-tmpdir-helper",
}


@pytest.mark.parametrize("path", ["/etc/hosts.equiv", "/etc/shosts.equiv", "/root/.rhosts", "/root/.netrc"])
def test_no_host_is_trusted_by_its_name(host: Host, path: str) -> None:
    assert not host.file(path).exists


def test_nobody_has_a_file_that_lets_others_in(host: Host) -> None:
    assert host.check_output("find / -xdev \\( -name .rhosts -o -name .netrc -o -name .shosts \\) -print") == ""


@pytest.mark.parametrize("name", ["telnetd", "telnet", "rsh-server", "nis", "tftpd", "xinetd", "inetutils-inetd"])
def test_no_service_that_sends_passwords_in_clear(host: Host, name: str) -> None:
    assert not host.package(name).is_installed


def test_no_program_has_more_rights_than_its_caller_without_need(host: Host) -> None:
    found = host.check_output("find / -xdev -path /var/lib/docker -prune -o -type f -perm -4000 -print").split()
    assert set(found) <= SUID


def test_nothing_is_writable_by_everybody(host: Host) -> None:
    where = "-xdev -path /var/lib/docker -prune -o -path /proc -prune -o"
    assert host.check_output(f"find / {where} -type f -perm -0002 -print") == ""
    assert host.check_output(f"find / {where} -type d -perm -0002 ! -perm -1000 -print") == ""


def test_nothing_belongs_to_nobody(host: Host) -> None:
    assert host.check_output("find / -xdev -path /var/lib/docker -prune -o \\( -nouser -o -nogroup \\) -print") == ""


@pytest.mark.parametrize(("file", "column"), [("passwd", 0), ("passwd", 2), ("group", 0), ("group", 2)])
def test_no_two_accounts_or_groups_share_a_name_or_number(host: Host, file: str, column: int) -> None:
    values = [line.split(":")[column] for line in host.file(f"/etc/{file}").content_string.splitlines()]
    assert sorted(values) == sorted(set(values))


def test_roots_path_has_directories_of_root_alone(host: Host) -> None:
    path = host.check_output("bash -lc 'echo $PATH'").split(":")
    assert "." not in path and "" not in path
    assert {host.file(place).user for place in path if host.file(place).exists} == {"root"}


def test_logs_are_not_for_everybody(host: Host) -> None:
    assert host.check_output("find /var/log -type f -perm -0004 -name '*auth*'") == ""
    assert not host.file("/var/log/sudo.log").mode & 0o077
    assert host.file("/var/log").user == "root"


def test_the_journal_outlives_a_reboot(host: Host) -> None:
    assert host.file("/var/log/journal").is_directory
