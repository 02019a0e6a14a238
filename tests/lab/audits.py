"""Other people's judges, run on a droplet: ssh-audit, Lynis, testssl.sh, and section 5 of docker-bench-security.

The programs are Debian's; `lynis.prf` says what Lynis is not asked in a container, and why.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from testinfra.backend.base import CommandResult
from testinfra.host import Host

LYNIS_PROFILE = Path(__file__).with_name("lynis.prf")
LYNIS_WANTED = 90
LYNIS_SKIPPED_AT_MOST = 10
# Seconds. On a busy machine; it asks for some minutes on an idle one.
TESTSSL_SECONDS = 1500


def install(host: Host, *packages: str) -> None:
    """Judges that the droplet does not have yet."""
    names = " ".join(packages)
    # Others on the droplet may be at it: unattended upgrades, the test before.
    apt = "apt-get -qy -o DPkg::Lock::Timeout=300"
    host.run_expect([0], f"{apt} update && {apt} install --no-install-recommends {names}")


def ask_ssh(host: Host) -> CommandResult:
    """What ssh-audit says of the droplet's sshd. Each of its connections counts as a guess of a password there."""
    return host.run("ssh-audit --skip-rate-test --json 127.0.0.1")


def judge_ssh(done: CommandResult) -> None:
    """Fails where ssh-audit has a failure, a warning or advice."""
    said: dict[str, Any] = json.loads(done.stdout)
    notes = {
        f"{kind} {one['algorithm']}": {level: text for level, text in one.get("notes", {}).items() if level != "info"}
        for kind in ("kex", "key", "enc", "mac")
        for one in said[kind]
    }
    assert len(notes) > 10
    assert {name: note for name, note in notes.items() if note} == {}
    assert said["recommendations"] == {}
    assert said["additional_notes"] == said["cves"] == []
    assert done.rc == 0


def judge_host(host: Host) -> int:
    """Lynis' hardening index of the droplet; fails below what is wanted, with what Lynis would have changed."""
    profile = LYNIS_PROFILE.read_text(encoding="utf-8")
    assert len(re.findall(r"^skip-test=", profile, re.MULTILINE)) <= LYNIS_SKIPPED_AT_MOST
    host.check_output(f"cat > /root/flotilla.prf <<'EOF'\n{profile}\nEOF")
    host.run("cd /root && lynis audit system --quick --quiet --profile /root/flotilla.prf")
    report = host.file("/var/log/lynis-report.dat").content_string
    found = re.search(r"^hardening_index=(\d+)$", report, re.MULTILINE)
    assert found, report
    left = "\n".join(line for line in report.splitlines() if line.startswith(("suggestion", "warning")))
    assert int(found[1]) >= LYNIS_WANTED, f"{found[1]}\n{left}"
    return int(found[1])


def judge_tls(host: Host, name: str, address: str, authority: str) -> None:
    """Fails unless testssl.sh, on the droplet, gives `https://<name>` an A+ and finds no vulnerability.

    It trusts the authority (a file on the droplet) as a browser trusts a public one.
    """
    install(host, "testssl.sh", "bsdextrautils")
    host.run_expect([0], f"grep -q {name} /etc/hosts || echo {address} {name} >> /etc/hosts")
    command = f"testssl --quiet --color 0 --warnings batch --add-ca {authority} https://{name}"
    said = host.run(f"timeout {TESTSSL_SECONDS} {command}").stdout
    grades = [line.split()[-1] for line in said.splitlines() if line.strip().startswith("Overall Grade")]
    assert grades == ["A+"], said
    found = [line for line in said.splitlines() if line.startswith(" ") and "VULNERABLE" in line]
    assert [line for line in found if "not vulnerable" not in line.lower()] == []


Container = Mapping[str, Any]


def _settings(container: Container) -> Mapping[str, Any]:
    settings: Mapping[str, Any] = container["HostConfig"]
    return settings


def _mounts(container: Container) -> set[str]:
    return {mount["Source"].rstrip("/") or "/" for mount in container["Mounts"] if mount["Type"] == "bind"}


HOST_DIRECTORIES = {
    "/",
    "/boot",
    "/dev",
    "/etc",
    "/lib",
    "/proc",
    "/sys",
    "/usr",
    "/var/run/docker.sock",
    "/run/docker.sock",
}
# docker-bench-security's section 5, of a container as `docker inspect` has it. Not asked:
#   5.2      AppArmor: the lab's machine grants droplets none; a droplet's engine gives each container its profile.
#   5.3      SELinux: not Debian's.
#   5.8      ports below 1024: 80 and 443 are what an edge and a balancer are for.
#   5.9      whether each open port is needed: tests/e2e/strangers.py scans for the declared ones.
#   5.14     each port on one address: the edge's are for everybody; the firewall decides. Others: see below.
#   5.15     a restart at most 5 times: a service comes back whatever happens; readiness judges a new one.
#   5.19     limits of open files of a container's own: the engine's, which systemd sets, are wanted.
#   5.23 to 5.25, 5.28  what people do with `docker exec`, cgroups that are confirmed, tags: not a container's settings.
BENCH: Mapping[str, Callable[[Container], bool]] = {
    "5.4 has no capability but declared ones": lambda one: "ALL" in (_settings(one)["CapDrop"] or []),
    "5.5 is not privileged": lambda one: not _settings(one)["Privileged"],
    "5.6 mounts no directory of the system": lambda one: not _mounts(one) & HOST_DIRECTORIES,
    "5.10 has a network of its own": lambda one: _settings(one)["NetworkMode"] != "host",
    "5.11 has a limit of memory": lambda one: _settings(one)["Memory"] > 0,
    "5.12 has a share of the processor": lambda one: _settings(one)["NanoCpus"] + _settings(one)["CpuShares"] > 0,
    "5.13 has a root file system that is read only": lambda one: bool(_settings(one)["ReadonlyRootfs"]),
    "5.16 sees no process of the host": lambda one: _settings(one)["PidMode"] != "host",
    "5.17 shares no memory with the host": lambda one: _settings(one)["IpcMode"] != "host",
    "5.18 has no device of the host": lambda one: not _settings(one)["Devices"],
    "5.20 passes no mount on": lambda one: "shared" not in {mount.get("Propagation") for mount in one["Mounts"]},
    "5.21 has a host name of its own": lambda one: _settings(one)["UTSMode"] != "host",
    "5.22 has its system calls filtered": lambda one: (
        not any("seccomp" in option and "unconfined" in option for option in _settings(one)["SecurityOpt"] or [])
    ),
    "5.26 gets no new rights": lambda one: any(
        option.startswith("no-new-privileges") and not option.endswith("false")
        for option in _settings(one)["SecurityOpt"] or []
    ),
    "5.27 says whether it is well": lambda one: bool((one["State"].get("Health") or {}).get("Status")),
    "5.29 has a limit of processes": lambda one: (_settings(one)["PidsLimit"] or 0) > 0,
    "5.30 is not on the engine's default network": lambda one: "bridge" not in one["NetworkSettings"]["Networks"],
    "5.31 shares no users with the host": lambda one: _settings(one)["UsernsMode"] != "host",
    "5.32 has no socket of the engine": lambda one: not any("docker.sock" in source for source in _mounts(one)),
    "4.1 does not run as root": lambda one: one["Config"]["User"].partition(":")[0] not in ("", "0", "root"),
}


def running_containers(host: Host) -> list[Container]:
    """All of a droplet, as `docker inspect` has them."""
    found: list[Container] = json.loads(host.check_output("docker inspect $(docker ps --quiet)"))
    return found
