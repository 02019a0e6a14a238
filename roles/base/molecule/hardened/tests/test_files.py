"""Accounts, permissions and settings of a hardened droplet. Many are rules of the dev-sec Linux baseline."""

from __future__ import annotations

import re

import pytest
from testinfra.host import Host


def test_root_has_no_password_and_nobody_an_empty_one(host: Host) -> None:
    passwords = dict(line.split(":")[:2] for line in host.file("/etc/shadow").content_string.splitlines())
    assert passwords["root"] == "*"
    assert [name for name, password in passwords.items() if password == ""] == []


def test_system_accounts_have_no_shell(host: Host) -> None:
    lines = [line.split(":") for line in host.file("/etc/passwd").content_string.splitlines()]
    shells = {name: shell for name, _, uid, *_, shell in lines if 0 < int(uid) < 1000}
    assert shells.pop("sync") == "/bin/sync"
    assert shells["loose-daemon"] == "/usr/sbin/nologin"
    assert set(shells.values()) <= {"/usr/sbin/nologin", "/bin/false"}
    assert [name for name, _, uid, *_ in lines if uid == "0"] == ["root"]


def test_the_deploy_users_access_does_not_expire(host: Host) -> None:
    assert host.check_output("getent shadow deploy").split(":")[4] in ("", "-1", "99999")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PASS_MAX_DAYS", "60"),
        ("PASS_MIN_DAYS", "7"),
        ("PASS_WARN_AGE", "7"),
        ("UMASK", "027"),
        ("HOME_MODE", "0700"),
        ("ENCRYPT_METHOD", "YESCRYPT"),
        ("YESCRYPT_COST_FACTOR", "7"),
        ("SHA_CRYPT_MIN_ROUNDS", "640000"),
    ],
)
def test_new_accounts_are_made_so(host: Host, name: str, value: str) -> None:
    assert re.findall(rf"^{name}\s+(\S+)$", host.file("/etc/login.defs").content_string, re.MULTILINE) == [value]


def test_su_is_for_root_and_the_group_sudo(host: Host) -> None:
    lines = host.file("/etc/pam.d/su").content_string.splitlines()
    assert [line.split() for line in lines if line.startswith("auth")] == [
        ["auth", "sufficient", "pam_rootok.so"],
        ["auth", "required", "pam_wheel.so", "group=sudo"],
    ]


def test_pam_takes_no_empty_password_and_gives_each_session_its_own_tmp(host: Host) -> None:
    assert "nullok" not in host.file("/etc/pam.d/common-auth").content_string
    assert "pam_tmpdir.so" in host.file("/etc/pam.d/common-session").content_string


@pytest.mark.parametrize(
    ("path", "mode"),
    [
        ("/etc/cron.d", 0o700),
        ("/etc/cron.daily", 0o700),
        ("/etc/ssh/sshd_config", 0o600),
        ("/etc/ssh/sshd_config.d/00-flotilla.conf", 0o600),
        ("/etc/ssh/ssh_host_ed25519_key", 0o600),
        ("/etc/shadow", 0o640),
        ("/etc/passwd", 0o644),
        ("/etc/sudoers.d", 0o750),
        ("/home/deploy", 0o700),
        ("/home/visitor", 0o750),
        ("/root", 0o700),
    ],
)
def test_permissions(host: Host, path: str, mode: int) -> None:
    assert oct(host.file(path).mode) == oct(mode)
    assert host.file(path).user in ("root", path.rsplit("/", 1)[-1])


def test_what_is_done_as_root_is_written_down(host: Host) -> None:
    host.check_output("runuser -u deploy -- sudo -n /bin/echo written-down")
    assert "COMMAND=/bin/echo written-down" in re.sub(r"\s+", " ", host.file("/var/log/sudo.log").content_string)
    assert host.run("visudo --check").rc == 0
    assert "use_pty" in host.check_output("sudo -l -U deploy")


@pytest.mark.parametrize("path", ["/etc/issue", "/etc/issue.net"])
def test_strangers_are_told_that_they_are(host: Host, path: str) -> None:
    text = host.file(path).content_string
    assert "Access is restricted" in text
    assert "Debian" not in text


def test_no_core_is_dumped_and_an_idle_shell_ends(host: Host) -> None:
    assert host.check_output("runuser -u deploy -- bash -lc 'ulimit -Hc; echo $TMOUT'").split() == ["0", "900"]
    assert "Storage=none" in host.check_output("systemd-analyze cat-config systemd/coredump.conf").splitlines()


@pytest.mark.parametrize("module", ["dccp", "sctp", "rds", "tipc", "cramfs", "usb-storage"])
def test_a_module_that_nobody_needs_cannot_be_loaded(host: Host, module: str) -> None:
    assert f"install {module} /bin/false" in host.file("/etc/modprobe.d/60-flotilla.conf").content_string.splitlines()


@pytest.mark.parametrize("module", ["overlay", "br_netfilter", "veth", "nf_tables"])
def test_what_containers_need_can_be(host: Host, module: str) -> None:
    assert f"install {module}" not in host.check_output("cat /etc/modprobe.d/*.conf")


@pytest.fixture(scope="module")
def kernel(host: Host) -> dict[str, str]:
    """The kernel's settings at the next boot of a machine: the last of each name counts."""
    text = host.check_output("systemd-analyze cat-config sysctl.d")
    return {
        name.lstrip("-"): value for name, value in re.findall(r"^(-?[a-z][\w.*-]+)\s*=\s*(\S+)$", text, re.MULTILINE)
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("fs.protected_fifos", "2"),
        ("fs.protected_hardlinks", "1"),
        ("fs.protected_regular", "2"),
        ("fs.protected_symlinks", "1"),
        ("fs.suid_dumpable", "0"),
        ("kernel.dmesg_restrict", "1"),
        ("kernel.kptr_restrict", "2"),
        ("kernel.perf_event_paranoid", "3"),
        ("kernel.randomize_va_space", "2"),
        ("kernel.sysrq", "0"),
        ("kernel.unprivileged_bpf_disabled", "1"),
        ("kernel.yama.ptrace_scope", "2"),
        ("net.core.bpf_jit_harden", "2"),
        ("net.ipv4.conf.all.accept_redirects", "0"),
        ("net.ipv4.conf.all.accept_source_route", "0"),
        ("net.ipv4.conf.all.log_martians", "1"),
        ("net.ipv4.conf.all.rp_filter", "2"),
        ("net.ipv4.conf.all.secure_redirects", "0"),
        ("net.ipv4.conf.all.send_redirects", "0"),
        ("net.ipv4.conf.default.rp_filter", "2"),
        ("net.ipv4.icmp_echo_ignore_broadcasts", "1"),
        ("net.ipv4.icmp_ignore_bogus_error_responses", "1"),
        ("net.ipv4.tcp_syncookies", "1"),
        ("net.ipv6.conf.all.accept_redirects", "0"),
        ("net.ipv6.conf.default.accept_source_route", "0"),
    ],
)
def test_a_machines_kernel_is_set_so_at_boot(kernel: dict[str, str], name: str, value: str) -> None:
    assert kernel[name] == value


def test_forwarding_stays_the_engines(kernel: dict[str, str]) -> None:
    assert [name for name in kernel if "forward" in name] == []


def test_a_container_sets_no_kernel_at_boot(host: Host) -> None:
    assert (
        "ConditionVirtualization=!container" in host.check_output("systemctl cat systemd-sysctl.service").splitlines()
    )


def test_logins_are_audited_on_a_machine_and_not_in_a_container(host: Host) -> None:
    rules = host.file("/etc/audit/rules.d/60-flotilla.rules").content_string
    assert "-w /var/log/btmp -p wa -k logins" in rules.splitlines()
    assert "-w /etc/sudoers.d/ -p wa -k sudo" in rules.splitlines()
    assert not host.package("auditd").is_installed


def test_services_with_old_libraries_are_named_and_not_restarted(host: Host) -> None:
    mode = "do shift; print $nrconf{restart}"
    assert host.check_output(f"perl -e '{mode}' /etc/needrestart/needrestart.conf") == "l"


def test_shared_memory_runs_no_programs_from_the_next_boot_on(host: Host) -> None:
    line = next(line.split() for line in host.file("/etc/fstab").content_string.splitlines() if "/dev/shm" in line)
    assert {"nosuid", "nodev", "noexec"} <= set(line[3].split(","))
